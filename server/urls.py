"""The app's addresses, to be included under any prefix: the API under api/, and the pages."""

from __future__ import annotations

from django.urls import include, path

app_name = "crunch"
urlpatterns = [
    path("api/", include("server.api.urls")),
    path("", include("server.pages.urls")),
]

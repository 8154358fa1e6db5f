"""The app's addresses, to be included under any prefix: the API under api/, what operators ask, and the pages."""

from __future__ import annotations

from django.urls import include, path

from server.operations import health, metrics

app_name = "crunch"
urlpatterns = [
    path("api/", include("server.api.urls")),
    path("healthz/", health.healthz, name="healthz"),
    path("readyz/", health.readyz, name="readyz"),
    path("metrics/", metrics.Metrics.as_view(), name="metrics"),
    path("", include("server.pages.urls")),
]

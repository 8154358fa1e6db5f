"""Where the pages are. The addresses of projects, datasets and items are django-crunch's."""

from __future__ import annotations

from django.urls import path

from server.pages import account, actions, datasets, downloads, items, projects

PROJECT = "projects/<str:project>/"
DATASET = f"{PROJECT}datasets/<str:dataset>"

urlpatterns = [
    path("", projects.ProjectList.as_view(), name="projects"),
    path(PROJECT, projects.ProjectPage.as_view(), name="project"),
    path(f"{PROJECT}retry", actions.RetryFailed.as_view(), name="retry-failed"),
    path(DATASET, datasets.DatasetPage.as_view(), name="dataset"),
    path(f"{DATASET}/cancel", actions.Cancel.as_view(), name="cancel"),
    path(f"{DATASET}/retry", actions.Retry.as_view(), name="retry"),
    path(f"{DATASET}/hold", actions.Hold.as_view(), name="hold"),
    path(f"{DATASET}/let-go", actions.LetGo.as_view(), name="let-go"),
    path(f"{DATASET}/files/<path:path>", downloads.Download.as_view(), name="file"),
    path("items/<str:item>/", items.ItemPage.as_view(), name="item"),
    path("account/", account.Account.as_view(), name="account"),
]

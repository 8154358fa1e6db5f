"""Where the pages are. The addresses of projects, datasets and items are django-crunch's."""

from __future__ import annotations

from django.urls import path

from server.pages import (
    account,
    actions,
    attributes,
    bulk,
    catalogue,
    datasets,
    deleting,
    downloads,
    failures,
    history,
    items,
    maps,
    people,
    previews,
    projects,
    reference,
    uploads,
    webhooks,
)
from server.services.bulk import Operation

PROJECT = "projects/<str:project>/"
DATASET = f"{PROJECT}datasets/<str:dataset>"

urlpatterns = [
    path("", projects.ProjectList.as_view(), name="projects"),
    path("new-project", catalogue.NewProject.as_view(), name="new-project"),
    path(PROJECT, projects.ProjectPage.as_view(), name="project"),
    path(f"{PROJECT}edit", catalogue.EditProject.as_view(), name="edit-project"),
    path(f"{PROJECT}delete", deleting.DeleteProject.as_view(), name="delete-project"),
    path(f"{PROJECT}new-dataset", catalogue.NewDataset.as_view(), name="new-dataset"),
    path(f"{PROJECT}failures", failures.FailuresPage.as_view(), name="failures"),
    path(f"{PROJECT}retry", bulk.BulkAct.as_view(operation=Operation.RETRY), name="retry-failed"),
    path(f"{PROJECT}reset", bulk.BulkAct.as_view(operation=Operation.RESET), name="reset-datasets"),
    path(f"{PROJECT}hold", bulk.BulkAct.as_view(operation=Operation.HOLD), name="hold-datasets"),
    path(f"{PROJECT}let-go", bulk.BulkAct.as_view(operation=Operation.LET_GO), name="let-go-datasets"),
    path(f"{PROJECT}pause", actions.Pause.as_view(), name="pause"),
    path(f"{PROJECT}resume", actions.Resume.as_view(), name="resume"),
    path(f"{PROJECT}members", people.Members.as_view(), name="members"),
    path(f"{PROJECT}webhooks", webhooks.Webhooks.as_view(), name="webhooks"),
    path(f"{PROJECT}map", maps.Map.as_view(), name="map"),
    path(f"{PROJECT}map/places", maps.FurtherPlaces.as_view(), name="further-places"),
    path(f"{PROJECT}changes", history.Changes.as_view(), name="changes"),
    path(f"{PROJECT}workflows", history.Workflows.as_view(), name="workflows"),
    path(f"{PROJECT}workflows/<int:pk>", history.Workflow.as_view(), name="workflow"),
    path(DATASET, datasets.DatasetPage.as_view(), name="dataset"),
    path(f"{DATASET}/edit", catalogue.EditDataset.as_view(), name="edit-dataset"),
    path(f"{DATASET}/delete", deleting.DeleteDataset.as_view(), name="delete-dataset"),
    path(f"{DATASET}/cancel", actions.Cancel.as_view(), name="cancel"),
    path(f"{DATASET}/retry", actions.Retry.as_view(), name="retry"),
    path(f"{DATASET}/hold", actions.Hold.as_view(), name="hold"),
    path(f"{DATASET}/let-go", actions.LetGo.as_view(), name="let-go"),
    path(f"{DATASET}/files/<path:path>", downloads.Download.as_view(), name="file"),
    path(f"{DATASET}/look/<path:path>", previews.Preview.as_view(), name="preview"),
    path(f"{DATASET}/image/<path:path>", previews.Image.as_view(), name="image"),
    path(f"{DATASET}/upload/<path:path>", uploads.Upload.as_view(), name="upload"),
    path(f"{DATASET}/begin-upload/<path:path>", uploads.Begin.as_view(), name="begin-upload"),
    path(f"{DATASET}/end-upload/<path:path>", uploads.End.as_view(), name="end-upload"),
    path("items/<str:item>/", items.ItemPage.as_view(), name="item"),
    path("items/<str:item>/delete", deleting.DeleteItem.as_view(), name="delete-item"),
    path("items/<str:item>/new-attribute", attributes.NewAttribute.as_view(), name="new-attribute"),
    path("items/<str:item>/attributes/<int:pk>/edit", attributes.EditAttribute.as_view(), name="edit-attribute"),
    path("items/<str:item>/attributes/<int:pk>/delete", deleting.DeleteAttribute.as_view(), name="delete-attribute"),
    path("items/<str:item>/edit", catalogue.EditItem.as_view(), name="edit-item"),
    path("items/<str:item>/new-item", catalogue.NewItem.as_view(), name="new-item"),
    path("reference/", reference.Reference.as_view(), name="reference"),
    path("account/", account.Account.as_view(), name="account"),
]

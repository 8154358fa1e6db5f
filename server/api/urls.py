"""The API's addresses."""

from __future__ import annotations

from django.urls import path, re_path, register_converter
from django.urls.converters import PathConverter
from drf_spectacular.views import SpectacularAPIView
from rest_framework.routers import SimpleRouter

from server.api import (
    attributes,
    bulk_create,
    catalogue,
    claims,
    files,
    members,
    places,
    progress,
    selections,
    statuses,
    webhooks,
)
from server.api.base import NothingHere

app_name = "api"


class FilePath(PathConverter):
    """The rest of the address, whatever is in it: what no file can be called has an answer of the API too."""

    regex = "(?s:.+)"


register_converter(FilePath, "file")

router = SimpleRouter()
router.register("projects", catalogue.ProjectViews, basename="project")
router.register("datasets", catalogue.DatasetViews, basename="dataset")
router.register("items", catalogue.ItemViews, basename="item")
for kind, views in attributes.VIEWS.items():
    router.register(f"attributes/{kind}", views, basename=f"attribute-{kind}")

urlpatterns = [
    path("next/", claims.NextView.as_view(), name="next"),
    path("projects/<str:slug>/next/", claims.NextView.as_view(), name="project-next"),
    path("projects/<str:slug>/datasets/bulk/", bulk_create.BulkViews.as_view({"post": "bulk"}), name="project-bulk"),
    path("claims/", claims.ClaimsView.as_view(), name="claims"),
    path("claims/<int:pk>/heartbeat/", claims.HeartbeatView.as_view(), name="claim-heartbeat"),
    path("claims/<int:pk>/release/", claims.ReleaseView.as_view(), name="claim-release"),
    path("claims/<int:pk>/cancel/", claims.CancelView.as_view(), name="claim-cancel"),
    path("datasets/<str:slug>/files/", files.FilesView.as_view(), name="files"),
    path("datasets/<str:slug>/files/<file:path>", files.FileView.as_view(), name="file"),
    path("datasets/<str:slug>/log/", progress.LogView.as_view(), name="log"),
    path("datasets/<str:slug>/uploads/", files.BeginView.as_view(), name="begin-upload"),
    path("datasets/<str:slug>/uploads/end/", files.EndView.as_view(), name="end-upload"),
    path("projects/<str:slug>/members/", members.MembersView.as_view(), name="members"),
    path("projects/<str:slug>/members/<str:username>/", members.MemberView.as_view(), name="member"),
    path("projects/<str:slug>/changes/", members.ChangesView.as_view(), name="changes"),
    path("progress/", progress.ProjectsProgressView.as_view(), name="projects-progress"),
    path("projects/<str:slug>/progress/", progress.ProjectProgressView.as_view(), name="progress"),
    path("projects/<str:slug>/workflows/", members.WorkflowVersionsView.as_view(), name="workflows"),
    path("projects/<str:slug>/places/", places.PlacesView.as_view(), name="places"),
    path("projects/<str:slug>/failures/", selections.FailuresView.as_view(), name="failures"),
    path("projects/<str:slug>/operations/", selections.OperationsView.as_view(), name="operations"),
    path("projects/<str:slug>/webhooks/", webhooks.WebhooksView.as_view(), name="webhooks"),
    path("projects/<str:slug>/webhooks/<int:pk>/", webhooks.WebhookView.as_view(), name="webhook"),
    path("projects/<str:slug>/deliveries/", webhooks.DeliveriesView.as_view(), name="deliveries"),
    path("projects/<str:slug>/deliveries/<int:pk>/again/", webhooks.AgainView.as_view(), name="send-again"),
    path("tokens/", members.TokensView.as_view(), name="tokens"),
    path("tokens/<int:pk>/", members.TokenView.as_view(), name="token"),
    path("statuses/", statuses.StatusesView.as_view(), name="statuses"),
    path("schema/", SpectacularAPIView.as_view(), name="schema"),
    *router.urls,
    # Also with a line end in it, which a dot does not match.
    re_path(r"^[\s\S]*/$", NothingHere.as_view(), name="nothing-here"),
]

"""Datasets: what is claimed and processed. Their life (state, fence, lease) is changed by `server.services` alone."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.utils import timezone

from crunch_tasks.contract import DatasetState, Stage, State
from crunch_tasks.needs import NEEDS_LENGTH
from server.models.failures import Failure
from server.models.fields import NeedsField, PlainCharField
from server.models.items import SLUG_LENGTH, Item
from server.models.projects import Project

if TYPE_CHECKING:
    from server.models.statuses import Status

LIFE_FIELDS = frozenset(
    {
        "state",
        "fence",
        "attempt",
        "lease_owner",
        "lease_expires",
        "claim",
        "progress",
        "manifest_sha256",
        "manifest_fence",
        "stage",
        "stage_state",
        "updated",
        "failure",
    }
)
"""The columns that only `server.services` writes."""

BASE_PATH_LENGTH = 1023


class DatasetQuerySet(models.QuerySet["Dataset"]):
    def unprocessed(self) -> DatasetQuerySet:
        return self.filter(state=DatasetState.UNPROCESSED.value)

    def running(self) -> DatasetQuerySet:
        return self.filter(state=DatasetState.RUNNING.value)

    def completed(self) -> DatasetQuerySet:
        return self.filter(state=DatasetState.COMPLETED.value)

    def failed(self) -> DatasetQuerySet:
        return self.filter(state=DatasetState.FAILED.value)

    def claimable(self) -> DatasetQuerySet:
        """Unprocessed and not held: what the next claim takes, besides expired leases."""
        return self.unprocessed().filter(locked=False)

    def expired(self, now: dt.datetime) -> DatasetQuerySet:
        """Running, but the holder has not been heard of in time."""
        return self.running().filter(lease_expires__isnull=False, lease_expires__lte=now)


class Dataset(Item):
    item_ptr = models.OneToOneField(Item, models.CASCADE, parent_link=True, primary_key=True, related_name="as_dataset")
    project = models.ForeignKey(Project, models.CASCADE, related_name="datasets", db_index=False, editable=False)
    base_file_path = models.CharField(max_length=BASE_PATH_LENGTH, unique=True, help_text="Its folder in the storage.")
    key = PlainCharField(
        max_length=SLUG_LENGTH, editable=False, help_text="The last part of its slug, to find it by within its project."
    )
    locked = models.BooleanField(default=False, help_text="Held: nobody claims it until it is let go.")
    priority = models.IntegerField(default=0, help_text="Higher ones are claimed first.")
    needs = NeedsField(
        max_length=NEEDS_LENGTH,
        blank=True,
        default="",
        db_default="",
        help_text="What it asks of a machine, in place of what its project asks; `none` asks nothing.",
    )

    state = models.CharField(
        max_length=16,
        choices=[(word.value, word.value) for word in DatasetState],
        default=DatasetState.UNPROCESSED.value,
        editable=False,
    )
    fence = models.BigIntegerField(default=0, editable=False)
    attempt = models.PositiveIntegerField(default=0, editable=False, help_text="Leases that were lost by expiry.")
    lease_owner = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.SET_NULL, null=True, editable=False, related_name="+"
    )
    lease_expires = models.DateTimeField(null=True, editable=False)
    claim = models.ForeignKey("server.Claim", models.SET_NULL, null=True, editable=False, related_name="+")
    progress = models.JSONField(null=True, editable=False)
    manifest_sha256 = models.CharField(max_length=64, blank=True, default="", editable=False)
    manifest_fence = models.BigIntegerField(
        default=0, editable=False, help_text="The last commit's fence; attempts up to it are history."
    )
    stage = models.PositiveSmallIntegerField(
        choices=[(word.value, word.name.capitalize()) for word in Stage],
        null=True,
        editable=False,
        help_text="How far its run is or came: of the last status that counts. None before the first.",
    )
    stage_state = models.PositiveSmallIntegerField(
        choices=[(word.value, word.name.capitalize()) for word in State], null=True, editable=False
    )
    updated = models.DateTimeField(
        default=timezone.now, editable=False, help_text="When its last status came that counts, or its life changed."
    )
    failure = models.ForeignKey(
        Failure,
        models.SET_NULL,
        null=True,
        editable=False,
        db_index=False,
        related_name="datasets",
        help_text="What it failed of, while it is failed.",
    )

    objects = DatasetQuerySet.as_manager()  # type: ignore[misc]
    statuses: models.Manager[Status]

    class Meta:
        ordering = ("pk",)
        # The claim index holds only what can be claimed, so that a claim costs the same however many are done.
        indexes = [
            models.Index(
                fields=["project", "needs", "-priority", "item_ptr"],
                name="server_claim_by_needs",
                condition=Q(state=DatasetState.UNPROCESSED.value, locked=False),
            ),
            models.Index(
                fields=["lease_expires"], name="server_lease_expires", condition=Q(lease_expires__isnull=False)
            ),
            models.Index(fields=["project", "state", "item_ptr"], name="server_project_state"),
            # What the project's page lists, in the orders that it has.
            models.Index(fields=["project", "key"], name="server_dataset_key"),
            models.Index(fields=["project", "state", "key"], name="server_dataset_state_key"),
            models.Index(fields=["project", "-updated", "-item_ptr"], name="server_dataset_updated"),
            models.Index(fields=["project", "state", "-updated", "-item_ptr"], name="server_state_updated"),
            models.Index(
                fields=["project", "failure", "key"],
                name="server_dataset_failure",
                condition=Q(failure__isnull=False),
            ),
            models.Index(fields=["project", "item_ptr"], name="server_project_datasets"),
            # Those that are held are counted, and are few as a rule.
            models.Index(fields=["project", "state", "key"], name="server_dataset_held", condition=Q(locked=True)),
        ]

    def save(self, *args: Any, **kwargs: Any) -> None:
        # An edit that began before a claim must not write the old state, fence or lease back.
        if not self._state.adding and kwargs.get("update_fields") is None:
            fields = (field.name for field in self._meta.concrete_fields if not field.primary_key)
            kwargs["update_fields"] = [name for name in fields if name != "id" and name not in LIFE_FIELDS]
        super().save(*args, **kwargs)

    @property
    def lease_expired(self) -> bool:
        """Whether the run's holder has not been heard of in time, so that the next claim may take the dataset."""
        running = self.state == DatasetState.RUNNING.value
        return running and (self.lease_expires is None or self.lease_expires <= timezone.now())

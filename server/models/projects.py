"""Projects: datasets that go through the same workflow, under the same limits."""

from __future__ import annotations

from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models

from crunch_tasks.contract import LEASE_SECONDS, MAX_ATTEMPTS, Visibility, WorkflowType
from crunch_tasks.needs import EXAMPLE, NEEDS_LENGTH
from server.models.fields import NeedsField
from server.models.items import Item

WEEK_SECONDS = 7 * 24 * 3600


class Project(Item):
    # Named, because its default name would be in the way of Dataset.project.
    item_ptr = models.OneToOneField(Item, models.CASCADE, parent_link=True, primary_key=True, related_name="as_project")
    workflow = models.TextField(
        blank=True, default="", help_text="The script or Snakefile, kept byte for byte, or one http(s) address of it."
    )
    workflow_type = models.CharField(
        max_length=16, choices=[(word.value, word.value) for word in WorkflowType], default=WorkflowType.SCRIPT.value
    )
    lease_seconds = models.PositiveIntegerField(
        default=LEASE_SECONDS,
        validators=[MinValueValidator(1), MaxValueValidator(WEEK_SECONDS)],
        help_text="A client that is not heard of for so many seconds may lose its dataset to another.",
    )
    max_attempts = models.PositiveIntegerField(
        default=MAX_ATTEMPTS,
        validators=[MinValueValidator(1), MaxValueValidator(1000)],
        help_text="After so many lost clients a dataset counts as failed.",
    )
    workflow_timeout_s = models.PositiveIntegerField(
        null=True, blank=True, validators=[MinValueValidator(1)], help_text="Seconds until a workflow is ended, if any."
    )
    needs = NeedsField(
        max_length=NEEDS_LENGTH,
        blank=True,
        default="",
        db_default="",
        help_text=f"What its datasets ask of a machine, such as `{EXAMPLE}`: only a client that has it gets them.",
    )
    visibility = models.CharField(
        max_length=16,
        choices=[(word.value, word.value) for word in Visibility],
        default=Visibility.PRIVATE.value,
        help_text="A public project's pages can be seen by anyone.",
    )
    paused = models.BooleanField(
        default=False, help_text="No dataset of it is claimed; those that are being processed go on to their end."
    )

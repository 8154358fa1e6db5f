"""Statuses: immutable records of one stage reaching one state, with what the client told of its machine."""

from __future__ import annotations

from django.conf import settings
from django.db import models

from crunch_tasks.contract import Stage, State
from server.models.claims import Claim
from server.models.datasets import Dataset

DIAGNOSTIC_LENGTH = 255


def _text() -> models.CharField[str, str]:
    return models.CharField(max_length=DIAGNOSTIC_LENGTH, blank=True, default="")


def _size() -> models.BigIntegerField[int | None, int | None]:
    return models.BigIntegerField(null=True, blank=True, help_text="bytes")


class Diagnostics(models.Model):
    """The columns of `crunch_tasks.contract.DIAGNOSTICS`."""

    agent_user = _text()
    version = _text()
    revision = _text()
    system = _text()
    system_release = _text()
    system_version = _text()
    machine = _text()
    hostname = _text()
    ip_address = _text()
    mac_address = _text()
    memory_total = _size()
    memory_free = _size()
    disk_total = _size()
    disk_free = _size()

    class Meta:
        abstract = True


class Refusal(models.TextChoices):
    """Why a status changed nothing."""

    FENCE = "fence", "a later claim or a reset came first"
    CLAIM_ENDED = "claim_ended", "its claim had ended"
    FINAL = "final", "the dataset was completed or failed already"
    BACKWARDS = "backwards", "the run was further already"
    NO_RUN = "no_run", "no run without a claim was going on"


class Status(Diagnostics):
    dataset = models.ForeignKey(Dataset, models.CASCADE, related_name="statuses")
    site_user = models.ForeignKey(settings.AUTH_USER_MODEL, models.SET_NULL, null=True, related_name="+")
    claim = models.ForeignKey(Claim, models.SET_NULL, null=True, related_name="statuses")
    fence = models.BigIntegerField()
    event_id = models.CharField(max_length=100, null=True, unique=True)
    stage = models.PositiveSmallIntegerField(choices=[(word.value, word.name.capitalize()) for word in Stage])
    state = models.PositiveSmallIntegerField(choices=[(word.value, word.name.capitalize()) for word in State])
    note = models.TextField(blank=True, default="")
    flow_run_id = models.CharField(max_length=64, blank=True, default="")
    manifest_sha256 = models.CharField(max_length=64, blank=True, default="")
    effective = models.BooleanField()
    refusal = models.CharField(max_length=16, choices=Refusal.choices, blank=True, default="")
    payload_sha256 = models.CharField(max_length=64, blank=True, default="")
    created = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ("id",)
        verbose_name_plural = "statuses"
        indexes = [models.Index(fields=["dataset", "fence", "id"], name="server_status_history")]

    def __str__(self) -> str:
        return f"{self.get_stage_display()} {self.get_state_display()}"

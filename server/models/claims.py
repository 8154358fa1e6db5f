"""Claims: who had the right to process a dataset, from when to when, and how it ended."""

from __future__ import annotations

from django.conf import settings
from django.db import models

from server.models.datasets import Dataset


class ClaimEnd(models.TextChoices):
    COMPLETED = "completed"
    FAILED = "failed"
    RELEASED = "released"
    EXPIRED = "expired", "lease expired"
    CANCELLED = "cancelled"
    RESET = "reset"


class Claim(models.Model):
    dataset = models.ForeignKey(Dataset, models.CASCADE, related_name="claims")
    user = models.ForeignKey(settings.AUTH_USER_MODEL, models.SET_NULL, null=True, related_name="+")
    fence = models.BigIntegerField()
    request_id = models.CharField(max_length=100)
    client = models.CharField(max_length=255, blank=True, default="", help_text="What the client calls itself.")
    flow_run_id = models.CharField(max_length=64, blank=True, default="")
    flow_run_url = models.CharField(max_length=1023, blank=True, default="")
    was_completed = models.BooleanField(
        default=False, help_text="A person's run of a completed dataset: given back, it is completed as before."
    )
    begun = models.BooleanField(
        default=False, help_text="A heartbeat or status came since it was granted or last taken up again."
    )
    resumed = models.PositiveIntegerField(
        default=0, help_text="How often its client died and took it up again, by the same request_id."
    )
    created = models.DateTimeField(auto_now_add=True)
    ended = models.DateTimeField(null=True)
    end_reason = models.CharField(max_length=16, choices=ClaimEnd.choices, blank=True, default="")
    end_note = models.CharField(max_length=1023, blank=True, default="")
    cancelled_by = models.ForeignKey(settings.AUTH_USER_MODEL, models.SET_NULL, null=True, related_name="+")
    cancelled_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ("-id",)
        constraints = [models.UniqueConstraint(fields=["user", "request_id"], name="server_claim_request")]

    def __str__(self) -> str:
        return f"claim {self.pk} on {self.dataset_id} (fence {self.fence})"

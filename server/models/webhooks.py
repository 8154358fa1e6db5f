"""Webhooks: addresses that are told when a dataset of a project is completed or failed, and what they answered."""

from __future__ import annotations

from django.conf import settings
from django.db import models
from django.db.models import Q

from server.models.projects import Project

URL_LENGTH = 2000


class WebhookEvent(models.TextChoices):
    """What a webhook can be told of."""

    COMPLETED = "completed"
    FAILED = "failed"


class Webhook(models.Model):
    """The secret is kept as it is: each delivery is signed with it."""

    project = models.ForeignKey(Project, models.CASCADE, related_name="webhooks")
    url = models.CharField(max_length=URL_LENGTH)
    secret = models.CharField(max_length=64, editable=False)
    events = models.JSONField(help_text="Some of: completed, failed.")
    active = models.BooleanField(default=True)
    created_by = models.ForeignKey(settings.AUTH_USER_MODEL, models.SET_NULL, null=True, related_name="+")
    created = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ("id",)

    def __str__(self) -> str:
        return self.url


class WebhookDelivery(models.Model):
    """One event for one webhook: to be sent at `next_try`, else delivered, or given up (neither of the two times)."""

    webhook = models.ForeignKey(Webhook, models.CASCADE, related_name="deliveries")
    event = models.CharField(max_length=16, choices=WebhookEvent.choices)
    dataset = models.CharField(max_length=255, help_text="Its slug.")
    body = models.TextField(help_text="The JSON, byte for byte.")
    attempts = models.PositiveIntegerField(default=0)
    next_try = models.DateTimeField(null=True)
    answer = models.PositiveIntegerField(null=True, help_text="The status code that came last.")
    problem = models.CharField(max_length=255, blank=True, default="", help_text="Why the last attempt was none.")
    created = models.DateTimeField(auto_now_add=True)
    delivered_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ("-id",)
        verbose_name_plural = "webhook deliveries"
        indexes = [
            models.Index(fields=["next_try"], condition=Q(next_try__isnull=False), name="server_webhooks_due"),
            models.Index(fields=["webhook", "-id"], name="server_webhook_history"),
        ]

    def __str__(self) -> str:
        return f"{self.event} {self.dataset}"

    @property
    def given_up(self) -> bool:
        return self.next_try is None and self.delivered_at is None

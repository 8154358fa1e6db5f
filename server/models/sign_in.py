"""Attempts to sign in that failed, or are going on, kept for minutes so that nobody can guess passwords in a row."""

from __future__ import annotations

import datetime as dt

from django.db import models
from django.utils import timezone

WINDOW = dt.timedelta(minutes=5)
"""How long an attempt counts."""


class SignInAttempt(models.Model):
    """One attempt under a name or from an address; `who` is a keyed sum of it, as people type passwords for names."""

    who = models.CharField(max_length=64)
    at = models.DateTimeField(default=timezone.now)

    class Meta:
        indexes = [
            models.Index(fields=["who", "at"], name="server_sign_in_who"),
            models.Index(fields=["at"], name="server_sign_in_at"),
        ]

    def __str__(self) -> str:
        return f"attempt at {self.at:%H:%M:%S}"

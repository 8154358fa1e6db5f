"""This server's own identity, so that a workspace of another server's dataset is not taken for one of this."""

from __future__ import annotations

import functools
import uuid

from django.db import models


class Installation(models.Model):
    """One row, made by a migration."""

    site = models.UUIDField(default=uuid.uuid4, editable=False)

    def __str__(self) -> str:
        return str(self.site)

    @classmethod
    @functools.cache
    def site_id(cls) -> str:
        """It never changes, so a process asks once."""
        return str(cls.objects.get(pk=1).site)

"""The last lines that a workflow wrote, told by heartbeats: a row for each dataset that runs, and no history."""

from __future__ import annotations

from django.db import models
from django.utils import timezone

from server.models.datasets import Dataset


class LogTail(models.Model):
    """Apart from the dataset's row, which is read and written often and should stay short."""

    dataset = models.OneToOneField(Dataset, models.CASCADE, primary_key=True, related_name="log_tail")
    text = models.TextField(blank=True)
    at = models.DateTimeField()

    def __str__(self) -> str:
        return f"the last lines of {self.dataset_id}"

    @staticmethod
    def keep(dataset: Dataset, text: str) -> None:
        """These are the last lines now; one statement, whether there were some before or not."""
        row = LogTail(dataset=dataset, text=text, at=timezone.now())
        LogTail.objects.bulk_create(
            [row], update_conflicts=True, unique_fields=["dataset"], update_fields=["text", "at"]
        )

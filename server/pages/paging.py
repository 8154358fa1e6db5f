"""Splitting long lists into pages."""

from __future__ import annotations

from django.core.paginator import Paginator
from django.db.models import QuerySet

from server.models import Dataset

ROWS = 50
HISTORY_ROWS = 25
FILE_ROWS = 100


def counted(datasets: QuerySet[Dataset], count: int) -> Paginator[Dataset]:
    """A paginator that is told how many datasets there are, where a query for it was made already."""
    paginator = Paginator(datasets, ROWS)
    # What Django's cached property would ask the database for.
    vars(paginator)["count"] = count
    return paginator

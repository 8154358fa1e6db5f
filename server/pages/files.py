"""The files of a dataset's page: one page of their list as a tree, and Crunch's own records."""

from __future__ import annotations

from dataclasses import dataclass

from django.core.paginator import Page, Paginator

from crunch_tasks.errors import CrunchError, Refused
from server.models import Dataset
from server.pages.paging import FILE_ROWS
from server.pages.trees import Folder, tree
from server.services.files import File, Listing, listing, trouble

RECORDS = 200
"""The most records that a page shows."""

FEW = 20
"""So many files, or fewer, are shown with their folders open."""


@dataclass(frozen=True)
class ListingPage:
    """The part of a listing that one page shows; `trouble` says why there is none, `problem` what the storage said."""

    listing: Listing
    page: Page[File]
    problem: str = ""
    trouble: Refused | None = None

    @property
    def tree(self) -> Folder:
        return tree(self.listing.files, self.page.object_list)

    @property
    def records(self) -> Folder:
        return tree(self.listing.records, self.listing.records[:RECORDS])

    @property
    def opened(self) -> bool:
        """Whether to show what is in the folders at once: where it is little."""
        return len(self.page.object_list) <= FEW


def page(dataset: Dataset, number: str | None) -> ListingPage:
    """The page with this number of the dataset's files; of a storage that cannot be reached one with a problem."""
    found, why = Listing(), None
    try:
        found = listing(dataset)
    except CrunchError as error:
        why = error
    shown = Paginator(found.files, FILE_ROWS).get_page(number)
    return ListingPage(found, shown) if why is None else ListingPage(found, shown, str(why), trouble(why))


def version(dataset: Dataset) -> str:
    """Another one when its files may be others: a run got on, somebody sent files or decided something."""
    return f"{dataset.state} {dataset.fence} {dataset.manifest_sha256} {dataset.modified.timestamp()}"

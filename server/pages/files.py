"""The files of a dataset's page: one page of their list as a tree, and Crunch's own records."""

from __future__ import annotations

from dataclasses import dataclass

from django.core.paginator import Page, Paginator

from server.pages.paging import FILE_ROWS
from server.pages.trees import Folder, tree
from server.services.files import File, Listing

RECORDS = 200
"""The most records that a page shows."""

FEW = 20
"""So many files, or fewer, are shown with their folders open."""


@dataclass(frozen=True)
class ListingPage:
    """The part of a listing that one page shows."""

    listing: Listing
    page: Page[File]

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


def page(listing: Listing, number: str | None) -> ListingPage:
    """The page with this number of the listing."""
    return ListingPage(listing, Paginator(listing.files, FILE_ROWS).get_page(number))

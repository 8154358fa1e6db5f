"""The line to the server of a command that no run is about."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from crunch_tasks.errors import UsageError
from crunch_tasks.settings import ClientSettings
from flows.prompt import ask_for_missing

if TYPE_CHECKING:
    from collections.abc import Iterator

    from crunch_tasks.link.client import CrunchClient


@contextmanager
def connected(settings: ClientSettings, *also: str) -> Iterator[tuple[CrunchClient, ClientSettings]]:
    """A client of the server, and the settings with all that is needed: server, token and what is in `also`."""
    from crunch_tasks.link.client import CrunchClient

    complete = ask_for_missing(settings, "url", "token", *also)
    with CrunchClient(complete.url, complete.token.get_secret_value(), patience_s=complete.server_patience_s) as client:
        yield client, complete


def check_directory_of_runs(client: CrunchClient, settings: ClientSettings) -> None:
    """For commands about what lies in the --directory: what they say is true only of one that is there, and only if the
    server is there too and knows us. Raises UsageError, ServerError.
    """
    if not settings.directory.is_dir():
        raise UsageError(f"There is no directory {settings.directory}. Give the one of the runs as --directory.")
    client.next()

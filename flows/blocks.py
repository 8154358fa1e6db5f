"""Server, token and storage kept in Prefect's blocks, for flow runs on machines whose environment does not have them.

The Crunch server block has the address; two of Prefect's own Secret blocks have the token and the storage's settings,
which Prefect encrypts in its database, and shows nobody in its pages. A flow run reads them itself: they are in no
parameter, no job variable and no environment.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from prefect.blocks.core import Block
from prefect.blocks.system import Secret
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.exceptions import ObjectNotFound
from pydantic import Field, SecretStr

from crunch_tasks.settings import ClientSettings

SERVER, TOKEN, STORAGE = "crunch", "crunch-token", "crunch-storage"
"""The names of the three blocks."""


class CrunchServer(Block):
    """The Crunch server of the flow runs here. The Secret blocks crunch-token and crunch-storage belong to it."""

    _block_type_name = "Crunch server"
    _block_type_slug = "crunch-server"

    url: str = Field(description="The server's address, such as https://crunch.example.org")


def save_blocks(settings: ClientSettings) -> list[str]:
    """Keep the settings, in place of what is there; returns what was saved, as TYPE/NAME. A Prefect server is needed.

    Raises SettingsError for a storage file that is wrong.
    """
    storage = {"STORAGES": {"default": settings.storage_config()}}
    saved: dict[str, Block] = {
        TOKEN: Secret(value=settings.token),
        STORAGE: Secret(value=SecretStr(json.dumps(storage))),
        # Last: nobody looks for the others before it is there.
        SERVER: CrunchServer(url=settings.url),
    }
    for name, block in saved.items():
        block.save(name, overwrite=True)
    return [f"{block.get_block_type_slug()}/{name}" for name, block in saved.items()]


@contextmanager
def with_blocks(settings: ClientSettings) -> Iterator[ClientSettings]:
    """`settings` with what they lack taken from the blocks, if those are there; the storage's in a file until the end.

    What the environment says goes first. The token is for the address that it was saved with: it is sent to no other.
    """
    found: dict[str, Any] = {}
    with ExitStack() as stack:
        if not settings.token.get_secret_value() or not settings.storage_settings:
            client = stack.enter_context(get_client(sync_client=True))
            url = str(_read(client, "crunch-server", SERVER).get("url") or "")
            if url and not settings.token.get_secret_value() and settings.url in ("", url):
                token = str(_read(client, "secret", TOKEN).get("value") or "")
                found |= {"url": url, "token": SecretStr(token)}
            if not settings.storage_settings and (storage := _read(client, "secret", STORAGE).get("value")):
                # Of mode 0700: for this user only.
                folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="crunch-"))
                found["storage_settings"] = Path(folder) / "storage.json"
                found["storage_settings"].write_text(str(storage))
        yield settings.model_copy(update=found)


def _read(client: SyncPrefectClient, slug: str, name: str) -> Mapping[str, Any]:
    """What the block holds; nothing when it is not there."""
    try:
        return client.read_block_document_by_name(name, slug, include_secrets=True).data
    except ObjectNotFound:
        return {}

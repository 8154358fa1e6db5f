"""What the tests of the pages do to a dataset, and how they read what a page says."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Any

from django.contrib.auth.models import User

from crunch_tasks.contract import ClaimRequest, DatasetState, Stage, State, published_manifest
from crunch_tasks.files.manifest import Entry, Manifest, PublishedManifest
from crunch_tasks.files.plan import staged_path
from server.models import Dataset
from server.services import claims, statuses
from server.services.statuses import Event

STEPS = [(stage, state) for stage in Stage for state in (State.START, State.SUCCESS)]


def address(dataset: Dataset, rest: str = "") -> str:
    return f"/projects/{dataset.project.slug}/datasets/{dataset.slug}{rest}"


def take(user: User, dataset: Dataset, steps: int, **values: Any) -> Any:
    """Claim the dataset and report the first `steps` updates of a good run; `fail` makes the last a Fail."""
    fail = values.pop("fail", "")
    request = ClaimRequest(request_id=f"{dataset.pk}-{dataset.fence}", dataset=dataset.slug, **values)
    taken = claims.claim(user, request)
    assert taken is not None
    claim = taken[0]
    for number, (stage, state) in enumerate(STEPS[:steps], start=1):
        last = fail and number == steps
        event = Event(
            dataset=dataset.pk,
            stage=stage,
            state=State.FAIL if last else state,
            note=fail if last else "",
            claim=claim.pk,
            fence=claim.fence,
            event_id=f"{claim.pk}-{number}",
            manifest_sha256="0" * 64 if (stage, state) == STEPS[-1] else "",
            diagnostics={"hostname": "node-7", "mac_address": "aa:bb:cc:dd:ee:ff"},
        )
        statuses.record(user, event)
    dataset.refresh_from_db()
    return claim


def publish(folder: Path, dataset: Dataset, modified: tuple[str, ...] = (), **contents: bytes) -> None:
    """A completed dataset, and what its Upload leaves, with the names in `modified` not promoted yet."""
    entries = {name: Entry(hashlib.md5(data).hexdigest(), len(data), 0) for name, data in contents.items()}
    manifest = PublishedManifest(4, dataset.pk, Manifest(entries), modified)
    for name, data in contents.items():
        place = folder / (staged_path(4, name) if name in modified else name)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(data)
    (folder / ".crunch").mkdir(exist_ok=True)
    (folder / published_manifest(4)).write_bytes(manifest.to_bytes())
    sha256 = hashlib.sha256(manifest.to_bytes()).hexdigest()
    Dataset.objects.update(state=DatasetState.COMPLETED.value, manifest_fence=4, manifest_sha256=sha256)
    dataset.refresh_from_db()


def words(response: Any) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", response.content.decode()))

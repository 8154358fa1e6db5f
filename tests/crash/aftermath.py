"""What must be right once the chaos is over: each dataset, the storage, and what clients leave in their directories."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from crunch_tasks.durable import TEMPORARY
from crunch_tasks.files.reading import list_files
from tests.crash.population import results
from tests.support.seaweed import SeaweedS3
from tests.support.site import Site


def of_storage(s3: SeaweedS3, bucket: str) -> list[str]:
    """Parts of uploads that nobody completed."""
    uploads = s3._boto3().list_multipart_uploads(Bucket=bucket).get("Uploads", ())
    return [f"left over: parts of {upload['Key']}" for upload in uploads]


def of_directory(site: Site, machine: Path) -> list[str]:
    """In which clients worked: what cannot be delivered from there, and what should be gone."""
    done = site.crunch("sync", "--directory", str(machine), code=None)
    found = [f"{machine.name}: {done.stderr}"] if done.returncode else []
    return found + [f"left over: {path}" for path in _temporary_files(machine)]


def _temporary_files(machine: Path) -> list[Path]:
    """What is there while somebody works: half files, and requests of claims."""
    state = machine / ".state"
    found = [*machine.rglob(f"*{TEMPORARY}"), *state.glob("*/*/partial/*"), *state.glob("claims/*")]
    return [path for path in found if path.is_file()]


def of_dataset(site: Site, dataset: dict[str, Any]) -> list[str]:
    slug = dataset["slug"]
    return [f"{slug}: {problem}" for problem in _problems_of(site, slug, dataset)]


def _problems_of(site: Site, slug: str, dataset: dict[str, Any]) -> list[str]:
    if dataset["state"] != "completed":
        return [f"{dataset['state']}: {site.notes(slug)[-1:]}"]
    storage = site.storage
    files = {path: storage.read(source.key) for path, source in list_files(storage, dataset).files.items()}
    wanted = results(slug)
    found = [f"wrong {path!r}" for path in wanted if files.get(path) != wanted[path]]
    found += [f"too many {path!r}" for path in files.keys() - wanted.keys()]
    if site.files(slug) != wanted:
        found.append("its objects are not its files")
    statuses = site.statuses(slug)
    if statuses.count((3, 2)) != 1 or statuses[-1] != (3, 2):
        found.append(f"the statuses {statuses}")
    prefix = f"{dataset['base_file_path']}/.crunch/attempts/"
    left = [info.key for info in storage.list_objects(prefix) if "/logs/" not in info.key]
    return found + [f"left over: {key}, and {dataset['manifest_fence']} was committed" for key in left]

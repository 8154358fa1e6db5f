"""`make demo`: real datasets from claim to commit on this machine, with both web interfaces to look at them.

Everything is below `.demo` in the current folder, made anew each time.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console

from crunch_tasks.errors import CrunchError
from crunch_tasks.files.opening import open_storage
from crunch_tasks.files.storage import Storage
from crunch_tasks.link.client import CrunchClient
from crunch_tasks.storage_settings import load_storage_settings
from deployments.demo.data import DemoProject, projects
from deployments.local import (
    add_superuser,
    crunch_server,
    folder_storage,
    free_port,
    manage,
    prefect_server,
    server_environment,
    token_of,
)

USER = PASSWORD = "demo"  # noqa: S105 - on loopback, and printed
console = Console(highlight=False)


def main() -> int:
    parser = argparse.ArgumentParser(prog="make demo", description=__doc__)
    parser.add_argument("--exit", action="store_true", help="stop at the end instead of leaving the servers up")
    stop_at_end = parser.parse_args().exit
    for ending in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(ending, lambda number, _: sys.exit(128 + number))
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with _own_folder(Path(".demo").absolute()) as folder:
            return run_demo(folder, stop_at_end)
    except CrunchError as error:
        console.print(f"[bold red]{error}[/]")
        return error.exit_code
    except KeyboardInterrupt:
        console.print("Stopped.")
        return 0


def run_demo(folder: Path, stop_at_end: bool) -> int:
    """The whole of it; 0 when exactly the expected datasets completed."""
    storage_settings = folder_storage(folder / "storage.toml", folder / "storage")
    port, prefect_port = free_port(), free_port()
    url, prefect_url = f"http://127.0.0.1:{port}", f"http://127.0.0.1:{prefect_port}"
    environment = server_environment(folder / "server", storage_settings)
    with (
        console.status("Starting a Prefect server and a Crunch server") as status,
        prefect_server(folder / "prefect", prefect_port) as prefect,
    ):
        token = _prepare(environment)
        with crunch_server(folder / "server", storage_settings, port) as crunch:
            crunch.wait()
            status.update("Adding projects, datasets and their files")
            expected = _fill(url, token, open_storage(load_storage_settings(storage_settings)))
            status.update("Waiting for the Prefect server")
            prefect.wait()
            status.stop()
            console.print(f"Crunch   {url}  (user {USER}, password {PASSWORD})\nPrefect  {prefect_url}\n")
            code = _loop(folder, url, token, storage_settings, prefect_url)
            completed = _completed(url, token)
            _say_result(folder, url, prefect_url, expected, completed)
            if not stop_at_end:
                console.print("\nBoth stay up until Ctrl-C.")
                signal.pause()
            # The dataset that fails on purpose makes the loop's exit code 1.
            return 0 if completed == expected and code == 1 else 1


def _prepare(environment: dict[str, str]) -> str:
    """A migrated database with a superuser; returns the user's token."""
    manage(environment, "migrate", "--verbosity", "0")
    add_superuser(environment, USER, PASSWORD)
    return token_of(environment, USER)


def _fill(url: str, token: str, storage: Storage) -> set[str]:
    """Projects, datasets, attributes and files; returns the slugs that should complete."""
    expected = set()
    with CrunchClient(url, token) as client:
        for project in projects():
            slug = _add_project(client, project)
            for dataset in project.datasets:
                made = client.create_dataset(parent=slug, name=dataset.name, description=dataset.description)
                for kind, key, values in dataset.attributes:
                    client.create_attribute(kind, item=made["slug"], key=key, **values)
                for name, content in dataset.files.items():
                    storage.write(f"{made['base_file_path']}/{name}", content)
                if not dataset.should_fail:
                    expected.add(str(made["slug"]))
    return expected


def _add_project(client: CrunchClient, project: DemoProject) -> str:
    made = client.create_project(
        name=project.name,
        description=project.description,
        details=project.details,
        workflow=project.workflow,
        workflow_type=project.workflow_type,
    )
    return str(made["slug"])


def _loop(folder: Path, url: str, token: str, storage_settings: Path, prefect_url: str) -> int:
    """`crunch loop`, as a user would call it; its exit code."""
    environment = {
        **os.environ,
        "CRUNCH_URL": url,
        "CRUNCH_TOKEN": token,
        "CRUNCH_STORAGE_SETTINGS": str(storage_settings),
        "PREFECT_API_URL": f"{prefect_url}/api",
        "PREFECT_HOME": str(folder / "prefect"),
        "DO_NOT_TRACK": "1",
    }
    command = [str(Path(sys.executable).with_name("crunch")), "loop", "--directory", str(folder / "work")]
    return subprocess.run(command, env=environment, check=False).returncode


def _completed(url: str, token: str) -> set[str]:
    with CrunchClient(url, token) as client:
        return {str(dataset["slug"]) for dataset in client.pages("api/datasets/") if dataset["state"] == "completed"}


def _say_result(folder: Path, url: str, prefect_url: str, expected: set[str], completed: set[str]) -> None:
    console.print()
    if completed == expected:
        console.print(f"[green]✓[/] {len(completed)} datasets completed; the one that had to fail did.")
    for slug in sorted(expected - completed):
        console.print(f"[red]✗[/] {slug} should have completed and did not.")
    for slug in sorted(completed - expected):
        console.print(f"[red]✗[/] {slug} should have failed and completed.")
    console.print(f"Results  {folder / 'storage'}", soft_wrap=True)
    console.print(f"Crunch   {url}  (user {USER}, password {PASSWORD})\nPrefect  {prefect_url}")


@contextmanager
def _own_folder(folder: Path) -> Iterator[Path]:
    """An empty folder for this demo. Raises CrunchError while another demo runs in it."""
    folder.mkdir(exist_ok=True)
    with (folder / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise CrunchError(f"A demo is running in {folder}. Stop it first (Ctrl-C there).") from None
        for entry in folder.iterdir():
            if entry.is_dir():
                shutil.rmtree(entry)
            elif entry.name != "lock":
                entry.unlink()
        yield folder


if __name__ == "__main__":
    sys.exit(main())

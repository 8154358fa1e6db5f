"""The local stack without its servers: which process is ours, what may change, and what is refused in one sentence."""

from __future__ import annotations

import os
import signal
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from crunch_tasks.errors import CrunchError, SettingsError, UsageError
from deployments.local import Service, free_port, last_lines, prefect_server
from deployments.stack import admin, databases, process
from deployments.stack.down import down
from deployments.stack.folder import EMBEDDED, StackFolder, StackSettings, Wanted, decide, write_exports
from deployments.stack.services import Stack
from deployments.stack.status import status
from deployments.stack.up import up
from flows import cli
from tests.support.disk import mounted_tiny_disk
from tests.support.site import until


def started(home: Path, *, code: str = "import time; time.sleep(600)") -> subprocess.Popen[str]:
    """A process of the stack with this PREFECT_HOME, in a session of its own; it has said a line."""
    child = subprocess.Popen(
        [sys.executable, "-u", "-c", f"print('up')\n{code}"],
        env=os.environ | {"PREFECT_HOME": str(home)},
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert child.stdout is not None
    assert child.stdout.readline() == "up\n"
    return child


def test_a_record_is_of_one_process_and_of_no_later_one_with_its_pid(tmp_path: Path) -> None:
    path = tmp_path / "run" / "one.json"
    assert process.running(path) is None
    child = started(tmp_path)
    record = process.remember(path, child.pid)
    assert process.running(path) == record
    assert stat.S_IMODE(path.stat().st_mode) == 0o600

    # As after a restart of the machine: the pid is there, and another's.
    later = process.Record(child.pid, "another-start/1", record.since)
    assert not later.is_alive
    process.end(later, tmp_path)
    assert child.poll() is None

    process.end(record, tmp_path)
    # A zombie until we ask for it, and dead all the same.
    assert process.running(path) is None
    assert child.wait() == -signal.SIGTERM
    for torn in ("", "{", '{"pid": 1}', "[]"):
        path.write_text(torn)
        assert process.running(path) is None


def test_what_a_killed_service_left_in_its_session_is_ended(tmp_path: Path) -> None:
    spawns = "import subprocess, sys; print(subprocess.Popen(['sleep', '600']).pid); import time; time.sleep(600)"
    child = started(tmp_path, code=spawns)
    assert child.stdout is not None
    left = int(child.stdout.readline())
    record = process.remember(tmp_path / "one.json", child.pid)
    child.kill()
    child.wait()
    assert process.birth(left)

    process.end_session(record, tmp_path / "another stack")
    assert process.birth(left)
    process.end_session(record, tmp_path)
    until(lambda: not process.birth(left), 10, "the end of the leftover")


def test_a_service_that_ends_at_once_shows_the_end_of_its_log(tmp_path: Path) -> None:
    service = Service("Broken server", ["no_such_module_here"], {}, lambda: False, tmp_path / "broken.log")
    service.start()
    with pytest.raises(CrunchError, match=r"(?s)The Broken server does not start.*No module named no_such_module_here"):
        service.wait()


def test_of_a_long_log_its_last_lines_are_told_whole() -> None:
    lines = [f"{number} full words" for number in range(500)]
    assert last_lines("\n".join(lines) + "\n\n") == "\n".join(lines[-8:])
    assert last_lines("x" * 5000) == "x" * 300 + "…"


def test_up_on_a_full_disk_says_that_it_is_full(tmp_path: Path) -> None:
    with mounted_tiny_disk(tmp_path / "tiny") as place:
        with pytest.raises(OSError, match="No space left"):
            (place / "filler").write_bytes(b"x" * 2_000_000)
        with pytest.raises(CrunchError, match=f"The disk of {place} is full: 0 bytes are free. Make room, or .*--data"):
            up(StackFolder(place), Wanted(port=free_port(), prefect_port=free_port()), lambda _: None)


def test_the_first_up_decides_and_a_later_one_may_change_what_holds_no_data() -> None:
    first = decide(None, Wanted())
    assert first == StackSettings(8000, 4200, True, "", "", "")
    made = decide(None, Wanted(port=1, worker=False, storage_settings="/s.toml", database=EMBEDDED))
    assert made == StackSettings(1, 4200, False, "/s.toml", EMBEDDED, "")
    assert decide(made, Wanted()) == made
    assert decide(made, Wanted(port=2, prefect_port=3, worker=True)) == StackSettings(
        2, 3, True, "/s.toml", EMBEDDED, ""
    )
    assert decide(made, Wanted(storage_settings="/s.toml", database=EMBEDDED)) == made
    with pytest.raises(UsageError, match=r"another storage.*--data"):
        decide(made, Wanted(storage_settings="/other.toml"))
    with pytest.raises(UsageError, match=r"another database.*--data") as refused:
        decide(made, Wanted(database="postgresql://u:secret@h/n"))
    assert "secret" not in str(refused.value)


def test_the_password_is_shown_once_by_the_first_up_that_comes_to_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    users: dict[str, str] = {}

    def add_superuser(environment: dict[str, str], name: str, password: str) -> None:
        if environment.get("CRUNCH_DATABASE_URL", "") in users:
            raise CrunchError("python -m server createsuperuser failed: CommandError: That username is already taken.")
        users[environment.get("CRUNCH_DATABASE_URL", "")] = password

    monkeypatch.setattr(admin, "add_superuser", add_superuser)
    monkeypatch.setattr(admin, "token_of", lambda environment, name: "a token")
    folder = StackFolder(tmp_path)
    first, second = Stack(folder, StackSettings()), Stack(folder, StackSettings(database="postgresql://h/second"))

    # Neither of these comes to its end.
    assert admin.add_admin(first).settings.token == "a token"
    assert stat.S_IMODE(folder.passwords.stat().st_mode) == 0o600
    admin.add_admin(second)
    made = admin.add_admin(first)
    assert folder.load() is None
    assert admin.take_password(made) == users[""]
    assert admin.take_password(admin.add_admin(made)) == ""
    assert not folder.passwords.exists()
    # A site that was there before: nobody knows the password of its admin here.
    users["postgresql://h/site"] = "its own"
    site = Stack(folder, StackSettings(database="postgresql://h/site"))
    assert admin.take_password(admin.add_admin(site)) == ""


def test_what_an_up_that_was_killed_left_on_is_told_with_its_settings(tmp_path: Path) -> None:
    folder = StackFolder(tmp_path)
    folder.make()
    begun = StackSettings(port=free_port(), prefect_port=free_port(), worker=False)
    folder.save_begun(begun)
    # Once nothing of it runs it decides nothing.
    assert (folder.in_force(), status(folder).services) == (None, [])
    child = started(folder.prefect)
    process.remember(folder.run / "prefect.json", child.pid)
    assert folder.in_force() == begun
    found = status(folder)
    assert [(one.name, one.running, one.address) for one in found.services] == [
        ("Prefect server", True, f"http://127.0.0.1:{begun.prefect_port}"),
        ("Crunch server", False, f"http://127.0.0.1:{begun.port}"),
    ]
    assert (found.unfinished, found.is_well) == (True, False)
    with pytest.raises(UsageError, match="The Prefect server runs at port"):
        up(folder, Wanted(prefect_port=free_port()), lambda _: None)
    assert down(folder, lambda _: None) == ["Prefect server"]
    child.wait()
    assert folder.load_begun() is None


def test_what_runs_without_a_word_of_how_it_was_set_up_is_told_by_all(tmp_path: Path) -> None:
    folder = StackFolder(tmp_path)
    folder.make()
    child = started(folder.prefect)
    process.remember(folder.run / "prefect.json", child.pid)
    for look in (lambda: status(folder), lambda: up(folder, Wanted(), lambda _: None)):
        with pytest.raises(UsageError, match=r"nobody knows how it was set up. `crunch down` first"):
            look()
    assert down(folder, lambda _: None) == ["Prefect server"]
    child.wait()


def test_prefects_database_is_beside_crunchs() -> None:
    def told(url: str) -> str:
        service = prefect_server(Path("home"), 1, database=databases.prefect_address(url))
        return service.environment["PREFECT_SERVER_DATABASE_CONNECTION_URL"]

    assert told("postgresql://u:p@h:5/crunch") == "postgresql+asyncpg://u:p@h:5/crunch_prefect"
    assert told("postgres://h/a?sslmode=require&host=/run/pg") == (
        "postgresql+asyncpg://h/a_prefect?ssl=require&host=/run/pg"
    )


def test_what_a_shell_sources_gives_the_values_back(tmp_path: Path) -> None:
    file = tmp_path / "a b" / "client.env"
    write_exports(file, {"ONE": "it's $HOME `x`", "TWO": "a\nb"})
    script = f'source \'{file}\'; printf %s\\| "$ONE" "$TWO"'
    said = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True)
    assert said.stdout == "it's $HOME `x`|a\nb|"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def refused(*words: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> str:
    """What `crunch WORDS` says in one sentence when it ends with exit code 2."""
    monkeypatch.setattr(cli.signal, "signal", lambda *_: None)
    monkeypatch.setattr(sys, "argv", ["crunch", *words])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    said = capsys.readouterr().err
    assert ended.value.code == 2, said
    assert "Traceback" not in said
    return said


def test_wrong_use_is_told_in_a_sentence_and_starts_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "data"

    def said(*words: str, folder: Path = data) -> str:
        return refused("up", "--data", str(folder), *words, monkeypatch=monkeypatch, capsys=capsys)

    (tmp_path / "file").write_text("in the way")
    in_the_way = tmp_path / "file" / "data"
    assert f"{in_the_way} cannot be made" in said(folder=in_the_way)
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        assert f"Port {port} of the Crunch server is taken. Choose another with --port." in said("--port", str(port))
        words = ("--port", str(port + 1), "--prefect-port", str(port))
        assert f"Port {port} of the Prefect server is taken. Choose another with --prefect-port." in said(*words)
    assert "--port and --prefect-port are both 1234. Give each" in said("--port", "1234", "--prefect-port", "1234")
    assert "--port and --prefect-port are both 4200. Give each" in said("--port", "4200")
    assert "Give one of them" in said("--postgres", "--postgres-url", "postgresql://h/n")
    for url in ("mysql://h/n", "postgresql://h", "secret words"):
        told = said("--postgres-url", url)
        assert "--postgres-url is not the address of a PostgreSQL database" in told and url not in told
    assert "there is no such storage settings file" in said("--storage-settings", str(tmp_path / "none.toml"))

    assert StackFolder(data).load() is None
    assert list((data / "run").glob("*.json")) == []
    (data / "stack.json").write_text('{"port": 8000, "colour": 1}')
    assert "stack.json cannot be read" in said()


def test_a_folder_without_a_stack(tmp_path: Path) -> None:
    folder = StackFolder(tmp_path / "none")
    assert down(folder, lambda _: None) == []
    found = status(folder)
    assert not found.is_well and found.services == []
    assert not folder.path.exists()


def test_a_postgresql_that_others_could_use_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match=r"too long for PostgreSQL's socket.*--data"):
        databases.start_embedded(tmp_path / ("x" * 100))
    closed = tmp_path / "closed"
    closed.mkdir(0o700)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(databases, "LONGEST_SOCKET", 1000)
    with pytest.raises(UsageError, match=r"does not run as root.*cannot enter .*--data"):
        databases.start_embedded(closed / "data" / "postgres")
    assert not (closed / "data").exists()


def test_a_server_that_does_not_let_us_in(tmp_path: Path) -> None:
    folder = StackFolder(tmp_path)
    with pytest.raises(UsageError, match="PostgreSQL does not let us in") as error:
        databases.connect("postgresql://u:secret@127.0.0.1:1/n")
    assert "secret" not in str(error.value)
    with pytest.raises(SettingsError):
        up(
            folder,
            Wanted(port=free_port(), prefect_port=free_port(), storage_settings=str(tmp_path / "none")),
            lambda _: None,
        )


def test_the_embedded_postgresql_is_looked_for_without_a_word_of_its_packages(tmp_path: Path) -> None:
    look = f"""
from pathlib import Path
from deployments.stack import databases
try:
    databases.embedded_address(Path({str(tmp_path)!r}))
except databases.CrunchError as error:
    print(error)
"""
    environment = {name: value for name, value in os.environ.items() if name != "XDG_RUNTIME_DIR"}
    done = subprocess.run([sys.executable, "-c", look], env=environment, capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == (f"No PostgreSQL server runs in {tmp_path}.\n", "")

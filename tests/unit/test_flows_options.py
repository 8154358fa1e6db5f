"""One options model: each of its fields is an option of every command that runs something, and checked alike."""

from __future__ import annotations

from pathlib import Path

import pytest
import typer
from typer.main import get_command
from typer.testing import CliRunner

from crunch_tasks.contract import WorkflowType
from crunch_tasks.errors import SettingsError, UsageError
from crunch_tasks.settings import ClientSettings, RunOptions
from flows import cli
from flows.prompt import ask_for_missing

COMMANDS = get_command(cli.app).commands
NOT_OPTIONS = {"server_patience_s", "low_water"}
OF_ANY_DATASET = {"labels", "until"}


@pytest.mark.parametrize("command", ["run", "next", "loop"])
def test_each_field_of_the_models_is_an_option(command: str) -> None:
    options = {flag for parameter in COMMANDS[command].params for flag in (*parameter.opts, *parameter.secondary_opts)}
    for name, field in RunOptions.model_fields.items():
        assert f"--{name.replace('_', '-')}" in options
        assert (f"--no-{name.replace('_', '-')}" in options) == (field.annotation is bool)
    expected = ClientSettings.model_fields.keys() - NOT_OPTIONS
    if command == "run":
        expected -= OF_ANY_DATASET
    assert {f"--{name.replace('_', '-')}" for name in expected} <= options
    assert ("--project" in options) == (command != "run")


def called_with(monkeypatch: pytest.MonkeyPatch, *words: str) -> tuple[ClientSettings, RunOptions]:
    """What `crunch next WORDS` would run with."""
    seen = []

    class Outcome:
        exit_code = 0

        def as_json(self) -> dict[str, object]:
            return {"exit_code": 0}

    def process_next(settings: ClientSettings, options: RunOptions, project: str) -> Outcome:
        seen.append((settings, options, project))
        return Outcome()

    monkeypatch.setattr("flows.next.process_next", process_next)
    answer = CliRunner().invoke(cli.app, ["next", *words], catch_exceptions=False)
    assert answer.exit_code == 0, answer.output
    [(settings, options, _)] = seen
    return settings, options


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    for name in ("URL", "TOKEN", "STORAGE_SETTINGS", "DIRECTORY"):
        monkeypatch.delenv(f"CRUNCH_{name}", raising=False)
    monkeypatch.setenv("CRUNCH_URL", "http://from.environment")
    monkeypatch.setenv("CRUNCH_TOKEN", "t")
    monkeypatch.setenv("CRUNCH_STORAGE_SETTINGS", "storage.toml")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_options_come_before_the_environment_and_defaults_are_the_models(
    monkeypatch: pytest.MonkeyPatch, environment: Path
) -> None:
    settings, options = called_with(monkeypatch)
    assert options == RunOptions()
    assert (settings.url, settings.directory) == ("http://from.environment", environment / "tmp")
    assert settings.storage_settings == environment / "storage.toml"

    (environment / "mine.smk").touch()
    settings, options = called_with(
        monkeypatch,
        *("--url", "http://given", "--directory", "elsewhere", "--cores", "3", "--workflow", "snakemake"),
        *("--path", "mine.smk", "--no-download", "--no-upload", "--cleanup", "--allow-empty"),
    )
    assert (settings.url, settings.directory) == ("http://given", environment / "elsewhere")
    assert options == RunOptions(
        cores=3,
        workflow=WorkflowType.SNAKEMAKE,
        path=environment / "mine.smk",
        download=False,
        upload=False,
        cleanup=True,
        allow_empty=True,
    )


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--cores", "0"], "--cores"),
        (["--cores", "many"], "--cores"),
        (["--workflow", "perl"], "--workflow"),
        (["--path", "/no/such/file"], "--path"),
        (["--url", "nonsense"], "--url"),
        (["--until", "2020-01-01"], "--until: 2020-01-01 is over. Give a time that is ahead"),
        (["--colour", "red"], "--colour"),
    ],
)
def test_a_wrong_value_names_its_option(environment: Path, words: list[str], said: str) -> None:
    answer = CliRunner().invoke(cli.app, ["next", *words])
    problem = answer.exception
    if isinstance(problem, UsageError):
        assert problem.exit_code == 2
        assert said in str(problem)
    else:
        assert answer.exit_code == 2
        assert said in answer.output


def test_a_variable_of_a_time_that_is_over_hinders_nobody(monkeypatch: pytest.MonkeyPatch, environment: Path) -> None:
    monkeypatch.setenv("CRUNCH_UNTIL", "2020-01-01")
    settings, _ = called_with(monkeypatch)
    assert settings.seconds_left() == 0


def test_the_workers_of_a_loop_share_the_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("crunch_tasks.settings.available_cores", lambda: 8)
    assert RunOptions().processors == 8
    assert [RunOptions().parted(workers).processors for workers in (1, 3, 4, 100)] == [8, 2, 2, 1]
    assert RunOptions(cores=6).parted(4).processors == 6


@pytest.mark.parametrize(("option", "value"), [("--workers", "100000"), ("--prefetch", "99999999"), ("--workers", "0")])
def test_a_number_beyond_all_machines_is_refused(environment: Path, option: str, value: str) -> None:
    answer = CliRunner().invoke(cli.app, ["loop", option, value])
    assert isinstance(answer.exception, UsageError)
    assert str(answer.exception).startswith(f"{option}: Input should be ")


@pytest.mark.parametrize("size", ["x", "5 pigs", "-1"])
def test_a_size_that_is_none_is_told_how_to_write_it(environment: Path, size: str) -> None:
    answer = CliRunner().invoke(cli.app, ["loop", "--max-disk", size])
    assert str(answer.exception) == "--max-disk: write a size such as 200G or 500MB."


def test_without_a_terminal_what_is_missing_is_an_error(monkeypatch: pytest.MonkeyPatch, environment: Path) -> None:
    monkeypatch.delenv("CRUNCH_TOKEN")
    with pytest.raises(SettingsError, match="--token"):
        ask_for_missing(ClientSettings())


@pytest.mark.parametrize("command", ["list", "export", "next", "loop", "dispatch"])
def test_a_project_without_its_option_is_told_of_it(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.end_well(cli.app, [command, "birds"], "crunch")
    assert ended.value.code == 2
    assert "Did you mean --project birds?" in " ".join(capsys.readouterr().err.split())


def test_ctrl_c_in_a_command_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    app = typer.Typer()

    @app.command()
    def waits() -> None:
        raise KeyboardInterrupt

    with pytest.raises(SystemExit) as ended:
        cli.end_well(app, [], "crunch")
    assert (ended.value.code, capsys.readouterr().err) == (130, "crunch: interrupted\n")


def test_an_exit_code_of_a_command_is_no_interrupt(capsys: pytest.CaptureFixture[str]) -> None:
    app = typer.Typer()

    @app.command()
    def ends() -> None:
        raise typer.Exit(130)

    with pytest.raises(SystemExit) as ended:
        cli.end_well(app, [], "crunch")
    assert (ended.value.code, capsys.readouterr().err) == (130, "")

"""The documentation says what is there: settings, commands, words, links, examples."""

from __future__ import annotations

import importlib.util
import re
import shlex
from pathlib import Path

import pytest
import typer

from crunch_tasks.settings import ClientSettings
from crunch_tasks.storage_settings import BACKENDS, backend_named, load_storage_settings
from flows.cli import app

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted([*DOCS.glob("*.md"), *ROOT.glob("*.md")])
PACKAGES = ("crunch_tasks", "flows", "server", "deployments", "snakemake_logger_plugin_crunch")
COMMANDS = typer.main.get_command(app).commands  # type: ignore[attr-defined]

WORDS = """project dataset item attribute slug claim lease heartbeat release expire fence hold run attempt stage state
status outbox storage key prefix workspace state_folder manifest diff transfer verify commit promote flow task
deployment work_pool worker block artifact hook"""


def text(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def settings_in_code() -> set[str]:
    """Every CRUNCH_ variable that the code reads, asks for or hands to a workflow."""
    files = [path for package in PACKAGES for path in (ROOT / package).rglob("*.py")]
    texts = [path.read_text(encoding="utf-8") for path in files]
    found = {name for text in texts for name in re.findall(r"CRUNCH_[A-Z_]*[A-Z]", text)}
    constants = {name for text in texts for name in re.findall(r"^(CRUNCH_\w+) = ", text, re.MULTILINE)}
    return (found - constants) | {f"CRUNCH_{name.upper()}" for name in ClientSettings.model_fields}


def code_lines(page: str) -> list[str]:
    """The lines of a page's indented code blocks, continued ones joined."""
    lines = [line.strip() for line in page.splitlines() if line.startswith("    ")]
    return "\n".join(lines).replace("\\\n", " ").splitlines()


def test_every_setting_is_documented() -> None:
    found = settings_in_code()
    assert {"CRUNCH_URL", "CRUNCH_DATABASE_URL", "CRUNCH_CORES"} <= found
    documented = set(re.findall(r"^\| `(CRUNCH_[A-Z_]+)` \|", text("docs/settings.md"), re.MULTILINE))
    assert documented == found


def test_the_pages_that_are_made_from_code_are_current() -> None:
    spec = importlib.util.spec_from_file_location("generate", DOCS / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    generate = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(generate)
    assert text("docs/permissions.md") == generate.permissions_page(), "run `make docs`"
    written = text("docs/command-line.md")
    assert written == generate.page(), "run `make docs`"
    for name, command in COMMANDS.items():
        section = written.partition(f"### {name}\n")[2].partition("\n### ")[0]
        for parameter in command.params:
            for word in [*parameter.opts, *parameter.secondary_opts]:
                assert word.lower() in section.lower(), f"{word} of {name}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        linked = (page.parent / path).resolve() if path else page
        assert linked.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.+)$", linked.read_text(encoding="utf-8"), re.MULTILINE)
            anchors = {re.sub(r"[^\w\- ]", "", heading).lower().replace(" ", "-") for heading in headings}
            assert anchor in anchors, target


def test_every_page_is_in_the_index() -> None:
    index = text("docs/index.md")
    assert [page.name for page in DOCS.glob("*.md") if page.name != "index.md" and f"({page.name})" not in index] == []


def test_every_word_is_in_the_glossary() -> None:
    glossary = text("docs/glossary.md")
    words = [word.replace("_", " ") for word in WORDS.split()]
    assert [word for word in words if f"**{word}**" not in glossary] == []


def test_every_file_of_the_recipes_is_there() -> None:
    recipes = text("CONTRIBUTING.md").partition("## Recipes")[2].partition("## How the tests")[0]
    files = re.findall(r"`((?:crunch_tasks|server|tests|docs)/[\w/.-]+)`", recipes)
    assert len(files) >= 9
    assert [name for name in files if not (ROOT / name).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_examples_call_commands_and_options_that_exist(page: Path) -> None:
    targets = re.findall(r"^([a-z-]+):", text("Makefile"), re.MULTILINE)
    for line in code_lines(page.read_text(encoding="utf-8")):
        words = shlex.split(line.replace("...", ""), comments=True) if re.match(r"make\b|\S*crunch ", line) else []
        if words and words[0] == "make":
            assert set(words[1:2]) <= set(targets), line
        elif len(words) > 1 and words[0] in ("crunch", ".venv/bin/crunch"):
            assert words[1] in COMMANDS, line
            options = {word for parameter in COMMANDS[words[1]].params for word in parameter.opts}
            assert {word for word in words if word.startswith("--")} <= options, line


def test_the_readme_calls_what_is_installed_and_what_is_in_the_repository() -> None:
    readme = text("README.md")
    lines = code_lines(readme)
    # What `make install` puts into .venv, and what comes with Django and the token app.
    assert {tool for line in lines for tool in re.findall(r"\.venv/bin/(\w+)", line)} == {
        "crunch",
        "prefect",
        "python",
        "uvicorn",
    }
    called = {name for line in lines for name in re.findall(r"python -m server (\w+)", line)}
    assert called == {"migrate", "createsuperuser", "drf_create_token", "runserver"}
    assert set(re.findall(r"crunch/(\w+)`? ", readme)) <= {"run", "next", "loop"}


def storage_examples() -> list[str]:
    blocks = re.findall(r"(?:^(?: {4}.*)?\n)+", text("docs/settings.md"), re.MULTILINE)
    plain = [re.sub(r"^ {4}", "", block, flags=re.MULTILINE) for block in blocks]
    return [block for block in plain if re.search("STORAGE|MEDIA_ROOT", block)]


def test_the_storage_examples_are_read_in_both_styles_for_every_backend(tmp_path: Path) -> None:
    file = tmp_path / "storage.toml"
    seen = []
    for example in storage_examples():
        file.write_text(example, encoding="utf-8")
        backend = backend_named(load_storage_settings(file)["BACKEND"])
        assert backend is not None
        seen.append((backend.dotted, "BACKEND" in example))
    assert sorted(seen) == sorted((backend.dotted, new) for backend in BACKENDS for new in (True, False))


def test_the_picture_is_one_that_pages_can_show() -> None:
    picture = text("docs/images/journey.svg")
    assert "<text" in picture
    assert "prefers-color-scheme: dark" in picture
    assert "<script" not in picture


def test_every_test_that_the_guarantees_name_is_there() -> None:
    named = set(re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", text("docs/guarantees.md")))
    assert len(named) > 40
    missing = [f"{file}::{name}" for file, name in sorted(named) if f"def {name}(" not in text(file)]
    assert missing == []
    cases = set(re.findall(r"\b[CNSK]\d+\b", text("docs/guarantees.md")))
    assert cases == {
        f"{letter}{n}" for letter, most in zip("CNSK", (14, 10, 12, 8), strict=True) for n in range(1, most + 1)
    }

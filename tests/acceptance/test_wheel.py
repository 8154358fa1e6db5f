"""The built wheel, alone in an environment and away from any checkout."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w", str(folder)]
    subprocess.run([*command, str(ROOT)], check=True, timeout=120)
    [built] = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def away(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel's own installation folder, from where it runs with the dependencies of this environment."""
    target = tmp_path_factory.mktemp("installed")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", str(target)]
    subprocess.run([*command, str(wheel)], check=True, timeout=120)
    return target


def run(away: Path, folder: Path, *words: str) -> str:
    """`python WORDS` in `folder`, with the wheel and the dependencies, without the checkout; its output."""
    # -S: the checkout comes into this environment through a .pth file; the folders are given by name instead.
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("CRUNCH_", "DJANGO_", "PYTHON"))
    }
    environment["PYTHONPATH"] = os.pathsep.join([str(away), sysconfig.get_path("purelib")])
    environment["CRUNCH_DATA"] = str(folder / "data")
    done = subprocess.run(
        [sys.executable, "-S", *words],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, f"{words}\n{done.stdout}{done.stderr}"
    return done.stdout


def test_the_packages_are_inside_whole_and_nothing_else(wheel: Path) -> None:
    inside = set(zipfile.ZipFile(wheel).namelist())
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split(
        "\n"
    )
    packages = ("crunch_tasks/", "flows/", "server/", "deployments/", "snakemake_logger_plugin_crunch/")
    shipped = {name for name in listed if name.startswith(packages) and (ROOT / name).exists()}
    assert shipped <= inside
    extra = {name for name in inside - shipped if ".dist-info/" not in name}
    assert all((ROOT / name).exists() for name in extra), extra
    assert not any(part in name for name in inside for part in ("tests/", "__pycache__", ".pyc", ".sqlite3", ".demo"))


def test_it_runs_away_from_the_checkout(away: Path, tmp_path: Path) -> None:
    where = run(away, tmp_path, "-c", "import crunch_tasks, server, flows, deployments; print(server.__file__)")
    assert where.startswith(str(away))
    assert "Usage: crunch" in run(away, tmp_path, str(away / "bin" / "crunch"), "--help")
    assert "Usage: crunch next" in run(away, tmp_path, "-m", "flows.next", "--help")
    assert "make demo" in run(away, tmp_path, "-m", "deployments.demo", "--help")
    assert "no issues" in run(away, tmp_path, "-m", "server", "check")
    run(away, tmp_path, "-m", "server", "migrate", "--verbosity", "0")
    assert "No changes" in run(away, tmp_path, "-m", "server", "makemigrations", "--check", "--dry-run")
    assert str(away) in run(away, tmp_path, "-m", "server", "findstatic", "server/crunch.css")
    demo = "from deployments.demo.data import projects; print(sum(len(p.datasets) for p in projects()))"
    assert int(run(away, tmp_path, "-c", demo)) >= 12
    plugin = (
        "from snakemake_interface_logger_plugins.registry import LoggerPluginRegistry as R;"
        "import snakemake.logging; r = R(); r.collect_plugins(); print(r.get_plugin('crunch').name)"
    )
    assert run(away, tmp_path, "-c", plugin).strip() == "crunch"


def test_its_pages_are_served_with_their_templates_and_styles(away: Path, tmp_path: Path) -> None:
    ask = """
import django
django.setup()
from django.core.management import call_command
call_command("migrate", verbosity=0)
from django.test import Client
for path in ("/accounts/login/", "/", "/static/server/crunch.css", "/api/next/"):
    answer = Client().get(path, headers={"host": "localhost"})
    print(path, answer.status_code)
"""
    (tmp_path / "data").mkdir()
    said = run(away, tmp_path, "-c", f"import os; os.environ['DJANGO_SETTINGS_MODULE'] = 'server.site.settings'\n{ask}")
    assert said.split("\n")[0] == "/accounts/login/ 200"
    assert "/static/server/crunch.css 200" in said and "/api/next/ 401" in said

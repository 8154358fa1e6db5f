"""The files for other machines are what the tools that read them accept."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from compose_spec import PyCompose
from hatchling.builders.wheel import WheelBuilder
from kubernetes_validate import validate
from pathspec import GitIgnoreSpec

from crunch_tasks.storage_settings import load_storage_settings

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deployments"
BIN = Path(sys.executable).parent
SCRIPTS = sorted((FOLDER / "slurm").iterdir())
UNITS = sorted((FOLDER / "systemd").iterdir())
MANIFESTS = sorted(path for path in (FOLDER / "kubernetes").glob("*.yaml") if path.name != "kustomization.yaml")


def check(*words: str | Path) -> None:
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def compose() -> dict[str, Any]:
    return dict(yaml.safe_load((FOLDER / "compose.yaml").read_text()))


def resources() -> list[dict[str, Any]]:
    return [found for path in MANIFESTS for found in yaml.safe_load_all(path.read_text())]


def test_shell_scripts() -> None:
    assert len(SCRIPTS) == 2
    for script in SCRIPTS:
        check("bash", "-n", script)
        assert script.stat().st_mode & 0o111
    check(BIN / "shellcheck", *SCRIPTS)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_slurm_gives_a_client_all_the_processors_of_its_job(script: Path, tmp_path: Path) -> None:
    (tmp_path / ".config" / "crunch").mkdir(parents=True)
    (tmp_path / ".config" / "crunch" / "client.env").touch()
    srun = tmp_path / "srun"
    srun.write_text('#!/bin/bash\nprintf "%s\\n" "$@"\n')
    srun.chmod(0o755)
    environment = {
        "HOME": str(tmp_path),
        "PATH": f"{tmp_path}:/usr/bin:/bin",
        "TMPDIR": str(tmp_path),
        "SLURM_CPUS_PER_TASK": "8",
        "SLURM_JOB_ID": "1",
    }
    done = subprocess.run(["bash", script, "words"], env=environment, capture_output=True, text=True, check=True)
    words = done.stdout.split("\n")
    assert words.index("--cpus-per-task=8") < words.index("crunch" if script.stem == "loop" else "prefect")


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="there is no systemd here")
def test_systemd_units(tmp_path: Path) -> None:
    for unit in UNITS:
        # A unit for each instance is verified as one of them, and programs are where they are here.
        name = unit.name.replace("@.", "@some-project.")
        (tmp_path / name).write_text(unit.read_text().replace("/opt/crunch/.venv/bin", str(BIN)))
    check("systemd-analyze", "verify", *sorted(tmp_path.iterdir()))


def test_the_servers_processes_count_in_a_folder_that_systemd_makes_anew() -> None:
    unit = (FOLDER / "systemd" / "crunch-server.service").read_text()
    settings = dict(re.findall(r"^(RuntimeDirectory|Environment=PROMETHEUS_MULTIPROC_DIR)=(.+)$", unit, re.MULTILINE))
    made = settings["RuntimeDirectory"]
    assert settings["Environment=PROMETHEUS_MULTIPROC_DIR"] == f"/run/{made}"
    assert "RuntimeDirectoryPreserve" not in unit
    assert f"RuntimeDirectory={made}`" in (ROOT / "docs" / "operations.md").read_text()


def test_dockerfile_and_what_it_copies() -> None:
    dockerfile = FOLDER / "Dockerfile"
    check(BIN / "hadolint", dockerfile)
    lines = dockerfile.read_text().splitlines()
    copied = [name for line in lines if re.match(r"COPY (?!--from)", line) for name in line.split()[1:-1]]
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert set(copied) == allowed
    assert [name for name in copied if not (ROOT / name).exists()] == []
    assert [line for line in lines if line.startswith("USER")] == ["USER 10001"]


def secret_files() -> list[str]:
    """What the README says to write below this folder, which is for the machine on which it is written only."""
    generated = yaml.safe_load((FOLDER / "kubernetes" / "kustomization.yaml").read_text())["secretGenerator"]
    names = {name for secret in generated for name in [*secret.get("envs", ()), *secret.get("files", ())]}
    assert {"server.env", "client.env", "storage.toml"} <= names
    return ["deployments/.env", *(f"deployments/kubernetes/{name}" for name in sorted(names))]


def test_secrets_get_neither_into_git_nor_into_the_image() -> None:
    names = secret_files()
    command = ["git", "check-ignore", "--no-index", *names, "deployments/compose/storage.toml"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == names
    # As Docker reads them: the last that matches counts, and each begins at the root.
    lines = [re.sub("^!?", r"\g<0>/", line) for line in (ROOT / ".dockerignore").read_text().splitlines()]
    ignored = GitIgnoreSpec.from_lines(lines)
    assert [name for name in names if not ignored.match_file(name)] == []
    assert not ignored.match_file("deployments/slurm/loop.sh")


def test_secrets_do_not_get_into_a_wheel_that_is_built_without_git(tmp_path: Path) -> None:
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    kept = ["deployments/__init__.py", "deployments/compose/storage.toml"]
    for name in [*kept, *secret_files()]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    built = WheelBuilder(str(tmp_path)).recurse_included_files()
    assert sorted(file.distribution_path for file in built) == kept


def test_compose_file() -> None:
    # The reader knows no merge keys, which YAML's own resolves.
    services = PyCompose.from_json(json.dumps(compose())).service_names()
    assert {"database", "storage", "server", "prefect", "worker"} <= set(services)


def test_what_compose_mounts_is_there_and_its_ports_are_this_machines() -> None:
    for name, service in compose()["services"].items():
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            assert (FOLDER / source).is_file() if source.startswith(".") else source in compose()["volumes"], name
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", [])), name
        assert set(service.get("depends_on", ())) <= set(compose()["services"]), name
    options = load_storage_settings(FOLDER / "compose" / "storage.toml")["OPTIONS"]
    assert options["access_key"] == compose()["services"]["storage"]["environment"]["AWS_ACCESS_KEY_ID"]


@pytest.mark.parametrize("manifest", MANIFESTS, ids=lambda path: path.stem)
def test_kubernetes_manifests(manifest: Path) -> None:
    for resource in yaml.safe_load_all(manifest.read_text()):
        validate(resource, "1.37", strict=True)


def test_kubernetes_names_fit_together() -> None:
    kustomization = yaml.safe_load((FOLDER / "kubernetes" / "kustomization.yaml").read_text())
    assert sorted(kustomization["resources"]) == [path.name for path in MANIFESTS]
    pods = [found["spec"]["template"] for found in resources() if found["kind"] == "Deployment"]
    assert len(pods) == 3
    texts = json.dumps(pods)
    made = {secret["name"] for secret in kustomization["secretGenerator"]}
    assert set(re.findall(r'"secret(?:Name|Ref|KeyRef)": (?:\{"name": )?"([\w-]+)"', texts)) == made
    hosts = set(re.findall(r'"http://([\w-]+):', texts))
    assert hosts == {found["metadata"]["name"] for found in resources() if found["kind"] == "Service"}
    for pod in pods:
        assert pod["spec"]["securityContext"]["runAsNonRoot"]

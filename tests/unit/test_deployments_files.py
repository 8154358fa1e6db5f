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
from kubernetes_validate import validate

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


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="there is no systemd here")
def test_systemd_units(tmp_path: Path) -> None:
    for unit in UNITS:
        # A unit for each instance is verified as one of them, and programs are where they are here.
        name = unit.name.replace("@.", "@some-project.")
        (tmp_path / name).write_text(unit.read_text().replace("/opt/crunch/.venv/bin", str(BIN)))
    check("systemd-analyze", "verify", *sorted(tmp_path.iterdir()))


def test_dockerfile_and_what_it_copies() -> None:
    dockerfile = FOLDER / "Dockerfile"
    check(BIN / "hadolint", dockerfile)
    lines = dockerfile.read_text().splitlines()
    copied = [name for line in lines if re.match(r"COPY (?!--from)", line) for name in line.split()[1:-1]]
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert set(copied) == allowed
    assert [name for name in copied if not (ROOT / name).exists()] == []
    assert [line for line in lines if line.startswith("USER")] == ["USER 10001"]


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

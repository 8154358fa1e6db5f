"""The environment of a workflow: the user's own, without Crunch's settings and secrets."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

OURS = ("CRUNCH_", "PREFECT_")
"""Variables that begin so belong to Crunch and its engine: they hold tokens, and a `crunch` or Prefect that a workflow
starts must not take itself for a part of this run."""

WORKSPACE = "CRUNCH_WORKSPACE"
"""The variable that tells a workflow its folder, and us later which processes are its."""

SHORT_SECRET = 8
"""A secret of fewer characters is only looked for as a whole value: inside others it would be found by chance."""


def workflow_environment(
    environ: Mapping[str, str],
    *,
    dataset: str = "",
    project: str = "",
    workspace: str = "",
    cores: int | None = None,
    secrets: Iterable[str] = (),
) -> dict[str, str]:
    """What a workflow gets of `environ`, plus CRUNCH_DATASET, CRUNCH_PROJECT, CRUNCH_WORKSPACE and CRUNCH_CORES.

    Dropped are Crunch's and Prefect's variables, and each whose value holds one of `secrets` (the token, the
    storage's keys). The commands beside this Python, such as `snakemake`, come first on PATH.
    """
    hidden = [secret for secret in secrets if secret]
    kept = {
        name: value
        for name, value in environ.items()
        if not name.startswith(OURS) and not any(_holds(value, secret) for secret in hidden)
    }
    tools = str(Path(sys.executable).parent)
    kept["PATH"] = os.pathsep.join([tools, kept.get("PATH") or os.defpath])
    told = {
        "CRUNCH_DATASET": dataset,
        "CRUNCH_PROJECT": project,
        WORKSPACE: workspace,
        "CRUNCH_CORES": "" if cores is None else str(cores),
    }
    kept.update({name: value for name, value in told.items() if value})
    return kept


def _holds(value: str, secret: str) -> bool:
    return secret in value if len(secret) >= SHORT_SECRET else value == secret

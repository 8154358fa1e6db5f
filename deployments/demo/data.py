"""The demo's data: the Palmer penguins, cut into datasets.

Measurements and field records of three penguin species on three islands, 2007 to 2009, collected by K. Gorman with the
Palmer Station Long Term Ecological Research program; released under CC0, shipped by the `palmerpenguins` package.
"""

from __future__ import annotations

import csv
import importlib.resources
import io
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent

# Latitude and longitude in decimal degrees, to a few kilometres.
ISLANDS = {"Torgersen": (-64.7667, -64.0833), "Biscoe": (-65.4333, -65.5), "Dream": (-64.7333, -64.2333)}


@dataclass(frozen=True)
class DemoDataset:
    """One dataset: its files by name, and its attributes as (kind, key, values)."""

    name: str
    description: str
    files: dict[str, bytes]
    attributes: tuple[tuple[str, str, dict[str, Any]], ...] = ()
    should_fail: bool = False


@dataclass(frozen=True)
class DemoProject:
    name: str
    description: str
    details: str
    workflow: str
    workflow_type: str
    datasets: list[DemoDataset] = field(default_factory=list)


def projects() -> list[DemoProject]:
    """The two projects, with their datasets' bytes."""
    measurements, records = _rows("penguins.csv"), _rows("penguins-raw.csv")
    populations = DemoProject(
        "Penguin populations",
        "Flipper length and body mass, population by population (Snakemake).",
        "Measurements of the **Palmer penguins** (K. Gorman, Palmer Station LTER; CC0).\n\n"
        "Each dataset is one species on one island; the workflow cleans, summarises and plots it.",
        (HERE / "penguins.smk").read_text(),
        "snakemake",
        [
            DemoDataset(
                f"{species} {island}",
                f"{species} penguins on {island}",
                {"penguins.csv": _csv(rows)},
                (*_where(island), ("char", "species", {"value": species}), ("int", "birds", {"value": len(rows)})),
            )
            for (species, island), rows in _groups(measurements, lambda row: (row["species"], row["island"]))
        ],
    )
    seasons = DemoProject(
        "Nesting seasons",
        "Clutches and laying dates, island by island and season by season (bash).",
        "Field records of the **Palmer penguins** (K. Gorman, Palmer Station LTER; CC0).\n\n"
        "One dataset lost a column on its way. It fails on purpose: see its status history.",
        (HERE / "seasons.sh").read_text(),
        "script",
        [
            DemoDataset(
                f"{island} {study}",
                f"Nests on {island} in season {study[3:5]}/{study[5:]}",
                {"nests.csv": _csv(rows)},
                (*_where(island), ("char", "season", {"value": study}), ("int", "records", {"value": len(rows)})),
            )
            for (island, study), rows in _groups(records, lambda row: (row["Island"], row["studyName"]))
        ],
    )
    shortened = [{name: row[name] for name in ("studyName", "Species", "Island")} for row in records]
    broken = DemoDataset(
        "Damaged record", "A record that lost most of its columns", {"nests.csv": _csv(shortened)}, should_fail=True
    )
    seasons.datasets.insert(4, broken)
    return [seasons, populations]


def _rows(name: str) -> list[dict[str, str]]:
    text = (importlib.resources.files("palmerpenguins") / "data" / name).read_text()
    return list(csv.DictReader(io.StringIO(text)))


def _groups(
    rows: list[dict[str, str]], key: Callable[[dict[str, str]], tuple[str, str]]
) -> list[tuple[tuple[str, str], list[dict[str, str]]]]:
    groups: dict[tuple[str, str], list[dict[str, str]]] = {}
    for row in rows:
        groups.setdefault(key(row), []).append(row)
    return sorted(groups.items())


def _csv(rows: Iterable[dict[str, str]]) -> bytes:
    rows = list(rows)
    file = io.StringIO()
    writer = csv.DictWriter(file, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return file.getvalue().encode()


def _where(island: str) -> tuple[tuple[str, str, dict[str, Any]], ...]:
    latitude, longitude = ISLANDS[island]
    return (("lat-long", "location", {"latitude": latitude, "longitude": longitude}),)

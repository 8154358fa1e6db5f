"""What datasets ask of the machine that processes them, and what a machine has: cores, memory, GPUs and labels.

Pure. Its text, which projects, datasets and files of rows have, is words such as `cores=8 memory=16GB gpus=1 avx512`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any

NEEDS_LENGTH = 255
NOTHING = "none"
"""The text of asking for nothing; an empty text leaves it to the project."""

MOST_OF_A_KIND = 1_000_000
MOST_BYTES = 2**60

EXAMPLE = "cores=8 memory=16GB gpus=1 avx512"

_UNITS: dict[str, int] = {unit: 1000**power for power, unit in enumerate(("B", "KB", "MB", "GB", "TB"))} | {
    unit: 1024**power for power, unit in enumerate(("KIB", "MIB", "GIB", "TIB"), 1)
}
_SHOWN = (("TiB", 2**40), ("TB", 10**12), ("GiB", 2**30), ("GB", 10**9), ("MiB", 2**20), ("MB", 10**6), ("B", 1))
_MEMORY = re.compile(r"([0-9]{1,19})([A-Z]*)", re.ASCII | re.IGNORECASE)
_COUNT = re.compile(r"[0-9]{1,7}", re.ASCII)
_AMOUNT = re.compile(r"[0-9]+([kmgt]i?b|b|cores?|gpus?|cpus?)?|cores?|memory|gpus?", re.ASCII)
"""What is meant as a number of something, not as a label, which no machine would ever have."""
_LABEL = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}", re.ASCII)


@dataclass(frozen=True)
class Resources:
    """What is asked for, or what there is; `memory` is in bytes."""

    cores: int = 0
    memory: int = 0
    gpus: int = 0
    labels: frozenset[str] = frozenset()

    def __str__(self) -> str:
        """The one text of these resources, which `parse` understands."""
        memory = _memory_text(self.memory) if self.memory else ""
        counts = {"cores": self.cores, "memory": memory, "gpus": self.gpus}
        words = [f"{name}={value}" for name, value in counts.items() if value]
        return " ".join([*words, *sorted(self.labels)]) or NOTHING

    def lacks(self, needs: Resources) -> Resources:
        """Those of `needs` that are not here; nothing when all are."""
        return Resources(
            cores=needs.cores if needs.cores > self.cores else 0,
            memory=needs.memory if needs.memory > self.memory else 0,
            gpus=needs.gpus if needs.gpus > self.gpus else 0,
            labels=needs.labels - self.labels,
        )

    def to_wire(self) -> dict[str, Any]:
        return {**asdict(self), "labels": sorted(self.labels)}

    @classmethod
    def from_wire(cls, body: Mapping[str, Any]) -> Resources:
        return cls(**{**body, "labels": frozenset(body.get("labels", ()))})


@lru_cache(maxsize=1024)
def parse(text: str) -> Resources:
    """The resources of a text, in any order, words apart by blanks or commas. Raises ValueError with a sentence."""
    found: dict[str, int] = {}
    labels = set()
    for word in text.replace(",", " ").split():
        name, equals, value = word.lower().partition("=")
        if equals:
            if name not in ("cores", "memory", "gpus"):
                raise ValueError(f"{word!r} is not known: what can be asked for looks like {EXAMPLE!r}.")
            if name in found:
                raise ValueError(f"{name} is there twice.")
            found[name] = _bytes(word, value) if name == "memory" else _count(word, value)
        elif name != NOTHING:
            labels.add(label(word))
    made = Resources(**found, labels=frozenset(labels))
    if len(str(made)) > NEEDS_LENGTH:
        raise ValueError(f"That is too long: at most {NEEDS_LENGTH} characters.")
    return made


def canonical(text: str) -> str:
    """The one text that means the same; an empty one stays empty. Raises ValueError as `parse` does."""
    return str(parse(text)) if text.replace(",", " ").strip() else ""


def label(word: str) -> str:
    """The label that a word is, in small letters. Raises ValueError with a sentence."""
    if _AMOUNT.fullmatch(word.lower()):
        raise ValueError(
            f"{word!r} is no label: a number goes with the name of what it counts, in one word, such as cores=1000, "
            "gpus=2 or memory=16GB."
        )
    if not _LABEL.fullmatch(word.lower()):
        raise ValueError(
            f"{word!r} is no label: a label is a word of letters, digits, dots, hyphens and underscores. "
            f"What can be asked for looks like {EXAMPLE!r}."
        )
    return word.lower()


def _count(word: str, value: str) -> int:
    if not _COUNT.fullmatch(value) or int(value) > MOST_OF_A_KIND:
        raise ValueError(f"{word!r}: a whole number is needed, at most {MOST_OF_A_KIND}.")
    return int(value)


def _bytes(word: str, value: str) -> int:
    match = _MEMORY.fullmatch(value)
    unit = _UNITS.get((match[2] or "B").upper()) if match else None
    if match is None or unit is None or int(match[1]) * unit > MOST_BYTES:
        raise ValueError(f"{word!r}: a whole number of bytes, or with a unit, such as memory=16GB or memory=512MiB.")
    return int(match[1]) * unit


def _memory_text(size: int) -> str:
    unit, factor = next((unit, factor) for unit, factor in _SHOWN if size % factor == 0)
    return f"{size // factor}{unit}"

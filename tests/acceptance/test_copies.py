"""`crunch push`, `pull` and `verify` as a person uses them, around a run."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from crunch_tasks.errors import StorageError
from crunch_tasks.files import copies
from tests.acceptance.conftest import Answer
from tests.support.site import Site

Crunch = Callable[..., Answer]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    (folder / "sub").mkdir(parents=True)
    (folder / "text.txt").write_text("many words make a text\n")
    (folder / "sub" / "sample#1.gz").write_bytes(b"\x1f\x8b no gzip at all")
    return folder


@pytest.mark.parametrize("storage_settings", ["folder", "s3"], indirect=True)
def test_a_dataset_is_pushed_processed_pulled_and_verified(
    site: Site, crunch: Crunch, data: Path, tmp_path: Path
) -> None:
    site.add_project("p", "#!/bin/bash\nwc -w < text.txt > words.txt\necho changed >> text.txt\n")
    crunch("add-dataset", "p", "d")
    code, out, err = crunch("push", "p:d", str(data))
    assert (code, out) == (0, "") and "2 files sent" in err
    assert json.loads(crunch("push", "p:d", str(data), "--json")[1])["skipped"] == 2
    assert crunch("verify", "p:d", str(data))[:2] == (0, "= sub/sample#1.gz\n= text.txt\n")
    assert crunch("verify", "p:d")[0] == 2
    assert not site.dataset("p:d")["locked"]

    site.crunch("run", "p:d")
    assert crunch("verify", "p:d")[:2] == (0, "= sub/sample#1.gz\n= text.txt\n= words.txt\n")
    code, out, err = crunch("verify", "p:d", str(data))
    assert (code, out) == (1, "= sub/sample#1.gz\n* text.txt\n- words.txt\n")
    assert "1 same, 1 missing here, 1 differs" in err

    results = tmp_path / "results"
    assert json.loads(crunch("pull", "p:d", str(results), "--json")[1])["fetched"] == 3
    assert (results / "words.txt").read_text() == "5\n"
    assert crunch("verify", "p:d", str(results))[0] == 0
    assert {row["sign"] for row in json.loads(crunch("verify", "p:d", str(results), "--json")[1])} == {"="}
    code, _, err = crunch("pull", "p:d", str(data))
    assert code == 1 and "--overwrite" in err
    code, _, err = crunch("push", "p:d", str(data))
    assert code == 1 and "published another file" in err
    assert not site.dataset("p:d")["locked"]
    assert crunch("pull", "p:d", str(data), "--overwrite")[0] == 0
    assert crunch("verify", "p:d", str(data))[0] == 0


def test_a_dataset_is_held_until_all_of_it_is_there(
    site: Site, crunch: Crunch, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.add_project("p", "true\n")
    crunch("add-dataset", "p", "d")
    real = copies.upload

    def full(storage: object, sends: dict[str, str], *arguments: object, **options: object) -> None:
        real(storage, dict(list(sends.items())[:1]), *arguments, **options)  # type: ignore[arg-type]
        raise StorageError("The storage is full")

    monkeypatch.setattr(copies, "upload", full)
    code, _, err = crunch("push", "p:d", str(data))
    assert code == 1 and "full" in err and "Push again" in err
    assert site.dataset("p:d")["locked"] and site.client.next("p") == ""
    monkeypatch.setattr(copies, "upload", real)
    assert json.loads(crunch("push", "p:d", str(data), "--json")[1])["sent"] == 1
    assert site.client.next("p") == "p:d"
    # A person's hold stays.
    site.client.hold("p:d", locked=True)
    assert crunch("push", "p:d", str(data))[0] == 0
    assert site.dataset("p:d")["locked"]


def test_what_cannot_be_copied_says_why(site: Site, crunch: Crunch, data: Path, tmp_path: Path) -> None:
    site.add_project("p", "true\n")
    crunch("add-dataset", "p", "d")
    for words, code, said in (
        (("push", "p:none", str(data)), 2, "p:none"),
        (("push", "p:d", str(tmp_path / "nowhere")), 2, "nowhere"),
        (("pull", "p:d", str(data / "text.txt")), 2, "text.txt"),
        (("pull", "p:d", str(tmp_path / "new")), 1, "no files under"),
        (("verify", "p:d", str(tmp_path / "nowhere")), 2, "nowhere"),
    ):
        answer = crunch(*words)
        assert answer[0] == code and said in answer[2].replace("\n", ""), words

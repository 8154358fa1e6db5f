"""What a command asks the server for."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from crunch_tasks.errors import CrunchError, NothingFits
from crunch_tasks.link.claims import Claims
from crunch_tasks.settings import client_settings
from crunch_tasks.testing import FakeServer
from flows.report import Report
from flows.session import Session
from flows.standing import check_answers


def test_a_named_dataset_must_fit_the_machine_only_where_a_schedule_named_it(tmp_path: Path) -> None:
    fake = FakeServer()
    fake.add_project("p")
    fake.add_dataset("p", "huge", needs="memory=900TB gpus=8 nowhere")
    fake.add_dataset("p", "small", needs="cores=1")
    settings = client_settings(directory=tmp_path)
    with fake.client() as client, Report() as report:
        session = Session(settings, client, {}, [], Claims(tmp_path, fake.url), report)
        with pytest.raises(NothingFits, match="memory=900TB"):
            session.claim(dataset="p:huge", only_waiting=True)
        leases = [session.claim(dataset="p:small", only_waiting=True, cores=1), session.claim(dataset="p:huge")]
        assert [lease.claim.slug for lease in leases if lease] == ["p:small", "p:huge"]
        for lease in leases:
            assert lease is not None
            lease.release("seen")


def test_a_prefect_server_that_is_away_is_named_with_what_to_do() -> None:
    away: Any = SimpleNamespace(api_healthcheck=lambda: OSError("refused"))
    with pytest.raises(CrunchError) as said:
        check_answers(away, "http://h:4200/api")
    assert "http://h:4200/api, which PREFECT_API_URL names, does not answer (refused)" in str(said.value)
    assert str(said.value).index("`crunch up`") < str(said.value).index("`prefect server start`")

"""When Prefect's server is taken for one that will come back."""

from __future__ import annotations

import httpx
import pytest
from prefect.exceptions import PrefectHTTPStatusError

from flows.kept_client import is_away

REQUEST = httpx.Request("POST", "http://prefect/api/flow_runs/")


@pytest.mark.parametrize(
    ("problem", "away"),
    [
        (httpx.ConnectError("refused"), True),
        (httpx.ReadTimeout("silent"), True),
        (RuntimeError("Failed to reach API at http://prefect/api"), True),
        *((status, True) for status in (429, 502, 503, 504)),
        *((status, False) for status in (400, 401, 404, 409, 422, 500)),
        (ValueError("a bug"), False),
    ],
)
def test_away_is_what_does_not_answer_or_asks_for_patience(problem: Exception | int, away: bool) -> None:
    if isinstance(problem, int):
        answer = httpx.HTTPStatusError("so it said", request=REQUEST, response=httpx.Response(problem, request=REQUEST))
        problem = PrefectHTTPStatusError.from_httpx_error(answer)
    assert is_away(problem) is away

"""A process works on some requests at once and lets the others wait, so that PostgreSQL's connections are enough."""

from __future__ import annotations

import threading

import pytest
from django.http import HttpRequest, HttpResponse
from django.test import RequestFactory

from server.operations import at_once
from server.operations.at_once import AT_ONCE, PAGES_AT_ONCE, AtOnce


def test_as_many_requests_as_may_are_answered_at_once_and_the_others_after_them() -> None:
    inside, most = 0, 0
    lock = threading.Lock()
    # Opens when so many have come together: fewer at once would never be answered.
    together = threading.Barrier(AT_ONCE, timeout=30)

    def view(_: HttpRequest) -> HttpResponse:
        nonlocal inside, most
        with lock:
            inside += 1
            most = max(most, inside)
        together.wait()
        with lock:
            inside -= 1
        return HttpResponse("done")

    answer, answers = AtOnce(view), []

    def ask() -> None:
        answers.append(answer(RequestFactory().get("/api/")).status_code)

    threads = [threading.Thread(target=ask) for _ in range(3 * AT_ONCE)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [200] * (3 * AT_ONCE)
    assert most == AT_ONCE


@pytest.mark.parametrize("path", ["/", "/api/datasets/birds:one/files/", "/api/datasets/birds:one/uploads/end/"])
def test_what_waits_for_a_storage_leaves_turns_to_the_clients(path: str) -> None:
    waiting, done = threading.Semaphore(0), threading.Event()

    def view(request: HttpRequest) -> HttpResponse:
        if request.path == path:
            waiting.release()
            assert done.wait(30)
        return HttpResponse("done")

    answer = AtOnce(view)
    pages = [threading.Thread(target=lambda: answer(RequestFactory().get(path))) for _ in range(2 * AT_ONCE)]
    for page in pages:
        page.start()
    for _ in range(PAGES_AT_ONCE):
        assert waiting.acquire(timeout=30)
    try:
        assert answer(RequestFactory().get("/api/next/")).content == b"done"
    finally:
        done.set()
        for page in pages:
            page.join()


@pytest.mark.parametrize(("path", "kind"), [("/api/next/", "application/json"), ("/", "text/html; charset=utf-8")])
def test_what_had_no_turn_in_time_is_refused_until_there_is_one(
    monkeypatch: pytest.MonkeyPatch, path: str, kind: str
) -> None:
    monkeypatch.setattr(at_once, "AT_ONCE", 1)
    monkeypatch.setattr(at_once, "TURN_S", 0.05)
    meanwhile: list[HttpResponse] = []

    def view(_: HttpRequest) -> HttpResponse:
        if not meanwhile:
            meanwhile.append(answer(RequestFactory().get(path)))
        return HttpResponse("done")

    answer = AtOnce(view)
    assert answer(RequestFactory().get(path)).content == b"done"
    [busy] = meanwhile
    assert (busy.status_code, busy["Content-Type"]) == (503, kind)
    assert int(busy["Retry-After"]) >= 0
    assert b"more requests than it can answer" in busy.content
    assert answer(RequestFactory().get(path)).content == b"done"

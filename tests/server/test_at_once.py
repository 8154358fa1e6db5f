"""A process works on some requests at once and lets the others wait, so that PostgreSQL's connections are enough."""

from __future__ import annotations

import threading

from django.http import HttpRequest, HttpResponse
from django.test import RequestFactory

from server.operations.at_once import AT_ONCE, AtOnce


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
        answers.append(answer(RequestFactory().get("/")).status_code)

    threads = [threading.Thread(target=ask) for _ in range(3 * AT_ONCE)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [200] * (3 * AT_ONCE)
    assert most == AT_ONCE

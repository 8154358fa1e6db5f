"""Calls to the API that many tests of the server make, and the passing of time."""

from __future__ import annotations

import json
from datetime import timedelta
from itertools import count
from typing import Any

from django.contrib.auth.models import User
from django.utils import timezone
from rest_framework.authtoken.models import Token
from rest_framework.test import APIClient

from crunch_tasks.contract import Stage, State
from server.models import Dataset

MANIFEST = "ab" * 32
_numbers = count()


def signed_in(user: User) -> APIClient:
    """A client with the user's token."""
    return APIClient(HTTP_AUTHORIZATION=f"Token {Token.objects.get_or_create(user=user)[0].key}")


def expire(dataset_id: int) -> None:
    """Let the lease run out, if there is one."""
    Dataset.objects.filter(pk=dataset_id).exclude(lease_expires=None).update(
        lease_expires=timezone.now() - timedelta(seconds=1)
    )


def post_json(api: APIClient, path: str, body: Any) -> Any:
    """A POST of any JSON, also such as the test client's own renderer refuses."""
    return api.post(path, json.dumps(body), content_type="application/json")


def claim(api: APIClient, **body: Any) -> Any:
    """The answer to a claim with a request_id of its own, unless `body` has one."""
    return post_json(api, "/api/claims/", {"request_id": f"r{next(_numbers)}", "client": "node1", **body})


def status(api: APIClient, claimed: dict[str, Any], stage: Stage, state: State, **body: Any) -> Any:
    """The answer to a status of the claim, with an event_id of its own, unless `body` has one."""
    event = {
        "dataset": claimed["dataset"]["id"],
        "claim": claimed["claim"],
        "fence": claimed["fence"],
        "event_id": f"e{next(_numbers)}",
        "stage": int(stage),
        "state": int(state),
    }
    if (stage, state) == (Stage.UPLOAD, State.SUCCESS):
        event["manifest_sha256"] = MANIFEST
    return post_json(api, "/api/statuses/", {**event, **body})


def heartbeat(api: APIClient, claimed: dict[str, Any], **body: Any) -> Any:
    """The answer to a renewal of the claim."""
    return post_json(api, f"/api/claims/{claimed['claim']}/heartbeat/", {"fence": claimed["fence"], **body})


def release(api: APIClient, claimed: dict[str, Any], fence: int | None = None) -> Any:
    """The answer to giving the claim back, with its own fence or another."""
    body = {"fence": fence or claimed["fence"], "reason": "SIGTERM"}
    return post_json(api, f"/api/claims/{claimed['claim']}/release/", body)


def cancel(api: APIClient, claimed: dict[str, Any]) -> Any:
    """The answer to a person's Cancel."""
    return api.post(f"/api/claims/{claimed['claim']}/cancel/")

"""Forms on the pages, filled in and sent as a browser would, and whose project they are of."""

from __future__ import annotations

import html
import re
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client

from server.models import Membership, Project
from server.services import catalogue


@pytest.fixture
def owner(db: None) -> User:
    return User.objects.create_user("owner")


@pytest.fixture
def project(owner: User) -> Project:
    return catalogue.create_project(owner, name="Birds", workflow="#!/bin/bash\r\necho hi\n", details="old")


def browser(user: User) -> Client:
    client = Client()
    client.force_login(user)
    return client


@pytest.fixture
def owners(owner: User) -> Client:
    return browser(owner)


def member(project: Project, role: str, **values: Any) -> Client:
    user = User.objects.create_user(role)
    Membership.objects.create(project=project, user=user, role=role, **values)
    return browser(user)


def fields(page: str) -> dict[str, str]:
    """What a browser would send of the page's form: with CRLF, and without what is disabled."""
    form = page[page.index('class="card editor"') :]
    found = {}
    for tag, attributes, text in re.findall(r"<(input|textarea)\b([^>]*)>(?:\n?([^<]*)</textarea>)?", form):
        name = re.search(r'name="([^"]*)"', attributes)
        value = re.search(r'value="([^"]*)"', attributes)
        is_choice = "checkbox" in attributes or "radio" in attributes
        if name and " disabled" not in attributes and (not is_choice or " checked" in attributes):
            sent = text if tag == "textarea" else value[1] if value else "on" if is_choice else ""
            found[name[1]] = re.sub(r"\r\n|\r|\n", "\r\n", html.unescape(sent))
    for name, options in re.findall(r'<select name="(\w+)"[^>]*>(.*?)</select>', form, re.DOTALL):
        chosen = re.search(r'value="([^"]*)" selected', options) or re.search(r'value="([^"]*)"', options)
        found[name] = chosen[1] if chosen else ""
    return found


def send(client: Client, path: str, **changes: str) -> Any:
    """Open the form, change these fields, and send it."""
    return client.post(path, {**fields(client.get(path).content.decode()), **changes})

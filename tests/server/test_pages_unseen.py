"""Characters that deceive the eye are shown by their numbers, in every text, and forms keep them as they are."""

from __future__ import annotations

import re

import pytest
from django.contrib.auth.models import User
from django.test import Client

from server.models import Project, Status
from server.pages.visible import visible
from server.services import catalogue
from tests.support.calls import signed_in


@pytest.mark.parametrize(
    ("html", "shown"),
    [
        ("a\u202egnp.exe", "a[U+202E]gnp.exe"),
        ("<b>\u2066x\u2069</b>\u200b\ufeff", "<b>[U+2066]x[U+2069]</b>[U+200B][U+FEFF]"),
        ('<a title="\u202e &gt;">\u200e</a>', '<a title="\u202e &gt;">[U+200E]</a>'),
        ("<textarea x>\n\u202e</textarea>\u202e", "<textarea x>\n\u202e</textarea>[U+202E]"),
        ("so\u200dng \u200c!", "so[U+200D]ng [U+200C]!"),
        # Persian, a family, Hebrew: letters that need such characters, or none of them.
        ("می\u200cشود 👩\u200d👧 שלום", "می\u200cشود 👩\u200d👧 שלום"),
    ],
)
def test_unseen_characters_of_text_are_shown(html: str, shown: str) -> None:
    assert visible(html) == shown


def test_names_notes_and_diagnostics_deceive_nobody(alice: User, project: Project) -> None:
    """X7. In names, descriptions, details, notes and what a client says of its machine."""
    evil = "a\u202ecod.exe"
    fields = {"name": evil, "description": evil, "details": evil}
    dataset = catalogue.create_dataset(project, **fields)
    catalogue.create_item(dataset, **fields)
    body = {"dataset": dataset.pk, "stage": 1, "note": evil, "hostname": evil, "agent_user": evil}
    for state in (1, 3):
        assert signed_in(alice).post("/api/statuses/", {**body, "state": state}, format="json").status_code == 201
    assert Status.objects.filter(note=evil).count() == 2
    browser = Client()
    browser.force_login(alice)
    whole = f"/projects/{project.slug}/"
    for path in (whole, f"{whole}failures", f"{whole}retry", f"{whole}datasets/{dataset.slug}"):
        page = browser.get(path).content.decode()
        text = re.sub(r"<[^>]*>", "", page)
        assert "\u202e" not in text, path
        assert "a[U+202E]cod.exe" in text or "retry" in path
    form = browser.get(f"{whole}datasets/{dataset.slug}/edit").content.decode()
    assert f'value="{evil}"' in form and f"\n{evil}</textarea>" in form

"""X7. Text stays text on every page, whatever it holds, and browsers are told to run none of it."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import quote

import pytest
from django.contrib.auth.models import User
from django.test import Client

from server.models import Attribute, Dataset, Status
from server.services import catalogue
from tests.support.pages import address, take

pytestmark = pytest.mark.usefixtures("storage_folder")


EVIL = "<script>alert(1)</script><img src=x onerror=alert(2)>\"'><svg onload=alert(3)>"
MARKDOWN = (
    f"{EVIL}\n\n[a](javascript:alert(4)) ![b](http://evil.example/pixel.png) <javascript:alert(5)>\n\n"
    "[c](data:text/html,x) [d](JaVaScRiPt&colon;alert(6)) <a href='javascript:alert(7)'>e</a>\n\n[f](https://good.example)"
)


class Live(HTMLParser):
    """Gathers whatever could run, or load from elsewhere."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        if tag in ("script", "img", "iframe", "object", "embed", "base", "style"):
            own = (values.get("src") or "").startswith("/static/server/")
            if not (tag == "script" and own):
                self.found.append(self.get_starttag_text() or tag)
        for name, value in attrs:
            address = re.sub(r"[\s\x00-\x1f]", "", value or "").lower()
            scheme = address.split(":", 1)[0] if ":" in address.split("/", 1)[0] else ""
            linked = name in ("href", "src", "action", "formaction", "xlink:href")
            if name.startswith("on") or name == "style" or (linked and scheme not in ("", "http", "https", "mailto")):
                self.found.append(self.get_starttag_text() or tag)


def live(page: str) -> list[str]:
    parser = Live()
    parser.feed(page)
    return parser.found


def test_no_text_becomes_live_html(browser: Client, alice: User, storage_folder: Path) -> None:
    fields = {"name": EVIL, "description": EVIL, "details": MARKDOWN}
    project = catalogue.create_project(**fields, workflow=EVIL)
    dataset = catalogue.create_dataset(project, **fields)
    item = catalogue.create_item(dataset, **fields)
    for owner in (project, dataset, item):
        Attribute.objects.create(item=owner, kind="char", key=EVIL, text=EVIL)
        for bad in ("javascript:alert(8)", " javascript:alert(9)", "data:text/html,<script>", "//evil", "http://[bad"):
            Attribute.objects.create(item=owner, kind="url", key="u", text=bad)
    folder = storage_folder / dataset.base_file_path
    folder.mkdir(parents=True)
    for name in (
        "<script>alert(10)<",
        '" onclick="alert(11)',
        "javascript:alert(12)",
        "new\nline<img src=x>",
        "a?b#c%41",
    ):
        (folder / name).write_text("x")
    take(alice, dataset, 4, fail=EVIL, client=EVIL, flow_run_url="javascript:alert(13)")
    Status.objects.update(hostname=EVIL, agent_user=EVIL, version=EVIL)
    User.objects.filter(pk=alice.pk).update(username="<script>alert(14)")
    whole = f"/projects/{project.slug}/"
    acts = [f"{whole}failures", f"{whole}retry", f"{whole}hold?q={quote(EVIL)}", f"{whole}?q={quote(EVIL)}"]
    acts += [f"{whole}edit", f"{whole}new-dataset", address(dataset, "/edit"), address(dataset, "/delete")]
    for rest in ("edit", "delete", "new-attribute", f"attributes/{item.attributes.all()[0].pk}/edit"):
        acts.append(f"/items/{item.slug}/{rest}")
    acts.append(f"/items/{item.slug}/attributes/{item.attributes.all()[0].pk}/delete")
    for path in ("/", whole, *acts, address(dataset), f"/items/{item.slug}/", "/account/"):
        page = browser.get(path)
        assert page.status_code == 200
        assert live(page.content.decode()) == []
        assert "alert(" in page.content.decode()
    page = browser.get(address(dataset)).content.decode()
    assert 'href="https://good.example"' in page
    assert "cannot be used: it has a control character" in page
    for name in ("<script>alert(10)<", '" onclick="alert(11)', "javascript:alert(12)", "a?b#c%41"):
        (link,) = [
            link for link in re.findall(r'href="([^"]*)" download', page) if unescaped(link).endswith("/files/" + name)
        ]
        assert browser.get(link).getvalue() == b"x"


def unescaped(link: str) -> str:
    from html import unescape
    from urllib.parse import unquote

    return unquote(unescape(link))


def test_every_answer_has_the_policy(browser: Client, visitor: Client, dataset: Dataset) -> None:
    for path in ("/", address(dataset), "/accounts/login/", "/nowhere/", "/admin/login/", "/api/projects/"):
        policy = visitor.get(path).headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy

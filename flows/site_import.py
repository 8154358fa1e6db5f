"""The command that brings a django-crunch site over, through the API that both have.

What was completed there is completed here, and what failed has failed: its statuses are posted again, in their order,
while the dataset is held. To post the first of a run it has to be let go for a moment; so that nobody claims it then,
the project is paused until all is here, and stays so when the command does not get that far. All of it can be repeated:
what is here already is left as it is.
"""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Any

import typer

from crunch_tasks.contract import ATTRIBUTE_KINDS, DIAGNOSTICS, AttributeKind, Stage, State
from crunch_tasks.errors import Refused
from crunch_tasks.settings import ClientSettings
from flows.connection import connected
from flows.options import takes_settings
from flows.terminal import console, shown

if TYPE_CHECKING:
    from crunch_tasks.link.client import CrunchClient

Body = Mapping[str, Any]
TEXTS = ("name", "description", "details")
NO_LONGER = frozenset({400, 404})


@takes_settings("url", "token")
def import_site(
    source: Annotated[str, typer.Argument(help="The other site's address", metavar="SOURCE")],
    settings: ClientSettings,
    from_token: Annotated[
        str, typer.Option(help="Your token on the other site", envvar="CRUNCH_FROM_TOKEN", show_envvar=True)
    ],
) -> None:
    """Bring over a django-crunch site: projects, datasets, items, attributes and statuses.

    What was completed there is completed here. Repeat it if it was interrupted, or to bring over what came since:
    what is here already stays as it is. Its projects are paused here until all is here. If the command is interrupted,
    they stay paused: repeat it, then resume them on their pages. Files are not touched: copy a dataset's files to its
    folder here (`base_file_path`), unless both sites have one storage and the same folders.
    """
    from crunch_tasks.link.answers import Options
    from crunch_tasks.link.client import CrunchClient

    options = Options("SOURCE", "CRUNCH_FROM_TOKEN or --from-token")
    with (
        connected(settings) as (here, complete),
        CrunchClient(source, from_token, patience_s=complete.server_patience_s, options=options) as there,
    ):
        move = Move(there, here)
        try:
            move.all()
        finally:
            _say(*move.problems, *move.notes)
            _say(*(f"{slug} stays paused: not all of it is here. Repeat this command." for slug in move.paused))
    _say("Added here: " + ", ".join(f"{number} {what}" for what, number in move.added.items()) + ".")
    if move.problems:
        raise typer.Exit(1)


def _say(*sentences: str) -> None:
    for sentence in sentences:
        console(stderr=True).print(shown(sentence), soft_wrap=True)


def is_running_after(statuses: Sequence[Body]) -> bool:
    """Whether somebody is at work on a dataset of which these are the statuses."""
    if not statuses:
        return False
    stage, state = _words(statuses)[-1]
    return state != State.FAIL and (stage, state) != (Stage.UPLOAD, State.SUCCESS)


@dataclass
class Move:
    """From the site `there` to the site `here`. `added` counts; `problems` and `notes` are sentences for a person."""

    there: CrunchClient
    here: CrunchClient
    added: dict[str, int] = field(
        default_factory=lambda: dict.fromkeys(("projects", "datasets", "items", "attributes", "statuses"), 0)
    )
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    slugs: dict[str, str] = field(default_factory=dict)
    """A slug there and the one here."""
    paused: list[str] = field(default_factory=list)
    """The projects here that are to go on when all is here."""

    def all(self) -> None:
        projects = [self._project(project) for project in self.there.pages("api/projects/")]
        datasets = list(self.there.pages("api/datasets/"))
        for old, new in projects:
            self._datasets(new, [dataset for dataset in datasets if dataset["parent"] == old])
        self._items()
        self._attributes()
        histories: dict[int, list[Body]] = {}
        for status in self.there.pages("api/statuses/"):
            histories.setdefault(status["dataset"], []).append(status)
        for dataset in datasets:
            if dataset["slug"] in self.slugs:
                self._statuses(self.slugs[dataset["slug"]], _in_order(histories.get(dataset["id"], [])))
        while self.paused:
            self.here.pause(self.paused[-1], paused=False)
            self.paused.pop()

    def _project(self, old: Body) -> tuple[str, str]:
        new = self._find(self.here.get_project, old["slug"])
        if new is None:
            new = self.here.create_project(**{name: old[name] for name in (*TEXTS, "workflow")})
            self.added["projects"] += 1
        if new["paused"]:
            self.notes.append(f"{new['slug']} is paused; resume it on its page.")
        else:
            self.here.pause(new["slug"], paused=True)
            self.paused.append(new["slug"])
        self.slugs[old["slug"]] = new["slug"]
        return old["slug"], new["slug"]

    def _datasets(self, project: str, found: list[Body]) -> None:
        """Held until their statuses are here, so that nobody processes them again."""
        known = {dataset["name"]: dataset["slug"] for dataset in self.here.pages("api/datasets/", project=project)}
        for old in found:
            if old["name"] not in known:
                new = self._dataset(project, old)
                if new is None:
                    continue
                known[old["name"]] = new["slug"]
                self.added["datasets"] += 1
            self.slugs[old["slug"]] = known[old["name"]]

    def _dataset(self, project: str, old: Body) -> Body | None:
        values = {name: old[name] for name in TEXTS}
        path = old.get("base_file_path", "")
        for place in (path, "") if path else ("",):
            try:
                return self.here.create_dataset(parent=project, locked=True, base_file_path=place, **values)
            except Refused as error:
                if place and isinstance(error.body, dict) and list(error.body) == ["base_file_path"]:
                    self.problems.append(f"{old['slug']}: its folder {path!r} cannot be its folder here: {error}")
                    continue
                self.problems.append(f"{old['slug']}: {error}")
        return None

    def _items(self) -> None:
        found = [item for item in self.there.pages("api/items/") if item["slug"] not in self.slugs]
        # Those above come first.
        for old in sorted(found, key=lambda item: str(item["slug"]).count(":")):
            parent = self.slugs.get(old["parent"] or "")
            if parent is None:
                self.problems.append(f"{old['slug']}: what it is below is not here.")
                continue
            known = {item["name"]: item["slug"] for item in self.here.pages("api/items/", parent=parent)}
            if old["name"] not in known:
                made = self.here.create_item(parent=parent, **{name: old[name] for name in TEXTS})
                known[old["name"]] = made["slug"]
                self.added["items"] += 1
            self.slugs[old["slug"]] = known[old["name"]]

    def _attributes(self) -> None:
        for kind in ATTRIBUTE_KINDS:
            of_item: dict[str, list[Body]] = {}
            for old in self.there.pages(f"api/attributes/{kind.name}/"):
                of_item.setdefault(old["item"], []).append(old)
            for slug, found in of_item.items():
                if slug in self.slugs:
                    self._attributes_of(kind, self.slugs[slug], found)

    def _attributes_of(self, kind: AttributeKind, item: str, found: Iterable[Body]) -> None:
        """One item may have several of one key, and even several that are the same."""
        known = [_said(kind, one) for one in self.here.pages(f"api/attributes/{kind.name}/", item=item)]
        for old in found:
            if _said(kind, old) in known:
                known.remove(_said(kind, old))
                continue
            values = {name: old[name] for name in kind.fields}
            try:
                self.here.create_attribute(kind.name, item=item, key=old["key"], **values)
                self.added["attributes"] += 1
            except Refused as error:
                self.problems.append(f"{old['item']}: the attribute {old['key']}: {error}")

    def _statuses(self, slug: str, history: Sequence[Body]) -> None:
        """Post those of the dataset that are not here yet, and let it go when all are."""
        new = self.here.get_dataset(slug)
        done = _in_order(self.here.pages("api/statuses/", dataset=str(new["id"])))
        processed_here = any(status["claim"] for status in done)
        if processed_here or _words(done) != _words(history[: len(done)]):
            if _words(done[: len(history)]) != _words(history):
                self.problems.append(f"{slug}: it was processed here; its statuses there stay there.")
            return
        left = history[len(done) :]
        if not left and done and new["locked"]:
            self.notes.append(f"{slug} is held here. Let it go on its page when its files are there.")
            return
        for number, status in enumerate(left, len(done)):
            if status["state"] == State.START and not is_running_after(history[:number]):
                begun = self._begin(new, status, again=number > 0)
                if not begun:
                    self.problems.append(f"{slug}: somebody processes it here; its statuses there stay there.")
                    return
            else:
                self.here.post_bare_status(self._posted(status, new["id"]))
            self.added["statuses"] += 1
        if is_running_after(history):
            # Whoever was at work there is not at work here.
            self.here.reset(slug)
        if new["locked"] or left:
            self.here.hold(slug, locked=False)

    def _begin(self, dataset: Body, status: Body, *, again: bool) -> bool:
        """Post the first status of a run, which only goes through while the dataset is not held."""
        if again:
            self.here.hold(dataset["slug"], locked=True)
            self.here.reset(dataset["slug"])
        self.here.hold(dataset["slug"], locked=False)
        kept = self.here.post_bare_status(self._posted(status, dataset["id"]))
        self.here.hold(dataset["slug"], locked=True)
        return bool(kept["effective"])

    def _posted(self, status: Body, dataset: int) -> dict[str, Any]:
        """As it is posted here, always with the same event_id, so that none is there twice."""
        told = {name: status[name] for name in DIAGNOSTICS if status.get(name) not in (None, "")}
        site = hashlib.sha256(self.there.url.encode()).hexdigest()[:16]
        values = {"dataset": dataset, "stage": status["stage"], "state": status["state"]}
        return {**told, **values, "note": status.get("note") or "", "event_id": f"import-{site}-{status['id']}"}

    def _find(self, get: Any, slug: str) -> Body | None:
        try:
            found: Body = get(slug)
        except Refused as error:
            if error.status in NO_LONGER:
                return None
            raise
        return found


def _in_order(statuses: Iterable[Body]) -> list[Body]:
    return sorted(statuses, key=lambda status: int(status["id"]))


def _words(statuses: Iterable[Body]) -> list[tuple[int, int]]:
    return [(int(status["stage"]), int(status["state"])) for status in statuses]


def _said(kind: AttributeKind, attribute: Body) -> list[Any]:
    """The key and values of an attribute, the same however the two sites write them."""
    return [attribute["key"], *(_plain(kind.name, attribute[name]) for name in kind.fields)]


def _plain(kind: str, value: Any) -> Any:
    try:
        if kind == "datetime":
            moment = dt.datetime.fromisoformat(value)
            return (moment if moment.tzinfo else moment.replace(tzinfo=dt.UTC)).astimezone(dt.UTC)
        if kind == "lat-long":
            return round(Decimal(value), 9)
    except (ArithmeticError, TypeError, ValueError):
        pass  # what cannot be read is compared as it is
    return value


def add_commands(app: typer.Typer) -> None:
    """Put this file's command on `app`."""
    app.command(name="import-site")(import_site)

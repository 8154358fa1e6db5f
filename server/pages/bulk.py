"""Acts on many datasets at once: first the page shows what one would do to the selection, then a button does it."""

from __future__ import annotations

from typing import Any, ClassVar

from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.views.generic import TemplateView

from server.models import Project
from server.pages import find, grid
from server.permissions import Act, actor_of
from server.services import bulk
from server.services.bulk import Operation, Outcome
from server.services.selection import Selection

TITLES = {
    Operation.RETRY: "Retry failed datasets",
    Operation.RESET: "Reset datasets",
    Operation.HOLD: "Hold datasets",
    Operation.LET_GO: "Let datasets go",
}
BUTTONS = {Operation.RETRY: "Retry", Operation.RESET: "Reset", Operation.HOLD: "Hold", Operation.LET_GO: "Let go"}
NOTHING = {
    Operation.RETRY: "has failed",
    Operation.RESET: "was processed or is being processed",
    Operation.HOLD: "is without a hold",
    Operation.LET_GO: "is held",
}


class BulkAct(TemplateView):
    """Asks before it acts: shows how many datasets and which they are. The address names the selection."""

    template_name = "server/bulk.html"
    operation = Operation.RETRY
    acts: ClassVar = {"get": Act.STEER, "post": Act.STEER}

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        project = find.project(self.request, kwargs.pop("project"), self.acts["get"])
        chosen = _chosen(self.request, project)
        would = bulk.perform(chosen, self.operation, dry_run=True)
        return super().get_context_data(
            project=project,
            chosen=chosen,
            failure=grid.failure(chosen),
            title=TITLES[self.operation],
            button=f"{BUTTONS[self.operation]} {datasets(would.count, more=would.more)}",
            dangerous=self.operation == Operation.RESET,
            sentences=foretold(self.operation, would),
            nothing="" if would.count else _nothing(self.operation, chosen),
            would=would,
            more=would.count - len(would.slugs),
            **kwargs,
        )

    def post(self, request: HttpRequest, project: str) -> HttpResponse:
        found = find.project(request, project, self.acts["post"])
        chosen = _chosen(request, found)
        done = bulk.perform(chosen, self.operation, actor=actor_of(request))
        messages.success(request, told(self.operation, done.count))
        return redirect("crunch:project", project)


def _chosen(request: HttpRequest, project: Project) -> Selection:
    """The selection. A filter that is not understood (404) must not widen it, as it does on the project's page."""
    chosen = grid.selection(project, request.GET)
    understood = {"state": chosen.state, "failure": chosen.failure, "q": True}
    if any(value and not understood.get(name) for name, value in request.GET.items()):
        raise Http404
    return chosen


def _nothing(operation: Operation, chosen: Selection) -> str:
    """Why there is nothing to do."""
    where = "project" if chosen == Selection(chosen.project) else "selection"
    if not chosen.rows().exists():
        return f"This {where} is empty."
    return f"No dataset of this {where} {NOTHING[operation]}."


def datasets(count: int, *, more: bool = False) -> str:
    return f"more than {count:,} datasets" if more else f"{count} dataset{'' if count == 1 else 's'}"


def foretold(operation: Operation, would: Outcome) -> list[str]:
    """What the act would do, in sentences."""
    one = would.count == 1
    them, they = ("it", "it is") if one else ("them", "they are")
    whole = datasets(would.count, more=would.more)
    begun = f"{whole[0].upper()}{whole[1:]}"
    least = "At least " if would.more else ""
    if operation == Operation.HOLD:
        return [f"Nobody claims {whole} until {they} let go. Runs that are going on are not touched."]
    if operation == Operation.LET_GO:
        return [f"{begun} {'is' if one else 'are'} held. Let go, {'it' if one else 'they'} can be claimed again."]
    if operation == Operation.RETRY:
        retried = f"{they} unprocessed again and claimed by the next clients. The status history stays."
        found = [f"{begun} {'has' if one else 'have'} failed. Retried, {retried}"]
    else:
        found = [f"{begun} would start over, whatever became of {them}. Files and the status history stay."]
    if would.running:
        running = f"{least}{would.running} of them {'is' if would.running == 1 else 'are'} being processed now"
        found.append(f"{running}: those runs are lost.")
    if would.held:
        waits = "is held and waits until it is" if would.held == 1 else "are held and wait until they are"
        found.append(f"{least}{would.held} of them {waits} let go.")
    return found


def told(operation: Operation, count: int) -> str:
    """What the act did."""
    are = f"dataset{' is' if count == 1 else 's are'}"
    match operation:
        case Operation.RETRY:
            return f"{count} failed {are} unprocessed again."
        case Operation.RESET:
            return f"{count} {are} unprocessed again."
        case Operation.HOLD:
            return f"{count} {are} held."
        case Operation.LET_GO:
            return f"{count} {are} let go."

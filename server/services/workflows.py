"""The versions of a project's workflow: each is kept, and what changed between two can be seen."""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Iterator

from django.contrib.auth.models import AnonymousUser, User

from server.models import Project, WorkflowVersion


def keep_version(project: Project, author: User | AnonymousUser | None) -> WorkflowVersion | None:
    """Keep the project's workflow as it is, in the transaction that changed it; None when it is the newest already."""
    newest = project.workflow_versions.first()
    if newest is not None and (newest.text, newest.type) == (project.workflow, project.workflow_type):
        return None
    if newest is None and not project.workflow:
        return None
    return WorkflowVersion.objects.create(
        project=project,
        text=project.workflow,
        type=project.workflow_type,
        sha256=hashlib.sha256(project.workflow.encode()).hexdigest(),
        author=author if isinstance(author, User) else None,
    )


def changed_lines(before: str, after: str) -> Iterator[tuple[str, str]]:
    """The difference as lines, each with its sign: "+", "-", " ", or "@" where lines that are the same are left out."""
    lines = difflib.unified_diff(before.splitlines(), after.splitlines(), lineterm="", n=3)
    for number, line in enumerate(lines):
        # The first two name the files.
        if number >= 2:
            yield line[:1], "" if line.startswith("@@") else line[1:]

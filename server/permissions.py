"""Who may do what: one table of acts, which the API, the pages and `docs/permissions.md` are all made from.

A private project is not there (404) for whoever is no member. A public one is seen by anyone; all else needs a role.
"""

from __future__ import annotations

from enum import StrEnum
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

from django.contrib.auth.models import AnonymousUser
from django.core.exceptions import PermissionDenied
from django.db.models import Q, QuerySet, Value
from django.db.models.functions import Concat, Left, StrIndex
from django.http import Http404, HttpRequest

from crunch_tasks.contract import Visibility
from server.models import AccessToken, Attribute, Claim, Dataset, Item, Membership, Project, Role, Status

if TYPE_CHECKING:
    from django.contrib.auth.models import User

    Person = User | AnonymousUser


class Act(StrEnum):
    """What can be done; each route names one for each of its methods."""

    # On the site.
    VISIT = "visit the site"
    SIGN_IN = "use the API"
    CREATE_PROJECT = "make a project"
    OWN_TOKENS = "make and end one's own tokens"
    WATCH = "read the site's metrics"
    # In a project; who may do one of them may do those before it.
    SEE = "see the pages, the catalogue and the files"
    SEE_MACHINES = "see who ran and changed what, and on which machine"
    RUN = "claim and process datasets"
    STEER = "cancel, retry, reset, hold, pause"
    EDIT = "edit the catalogue"
    EDIT_WORKFLOW = "edit the workflow"
    MANAGE = "manage members, visibility and limits, delete the project"


class Need(NamedTuple):
    """What an act needs. In a project: `role`, and with `own_right` also the right of its own.

    On the site: nothing, `signed_in`, a `whole` person (not by a token of narrower scope), or one of the `staff`.
    """

    role: Role | None = None
    public: bool = False
    own_right: bool = False
    signed_in: bool = True
    whole: bool = False
    staff: bool = False


NEEDS = {
    Act.VISIT: Need(signed_in=False),
    Act.SIGN_IN: Need(),
    Act.CREATE_PROJECT: Need(whole=True),
    Act.OWN_TOKENS: Need(whole=True),
    Act.WATCH: Need(whole=True, staff=True),
    Act.SEE: Need(Role.VIEWER, public=True, signed_in=False),
    Act.SEE_MACHINES: Need(Role.VIEWER),
    Act.RUN: Need(Role.RUNNER),
    Act.STEER: Need(Role.RUNNER),
    Act.EDIT: Need(Role.EDITOR),
    Act.EDIT_WORKFLOW: Need(Role.EDITOR, own_right=True),
    Act.MANAGE: Need(Role.MANAGER),
}
"""The matrix. A manager has the rights of their own too; a member of the site's staff is a manager of every project."""

CHANGES_OF: dict[type[Item], dict[str, Act]] = {
    Project: {
        "workflow": Act.EDIT_WORKFLOW,
        "workflow_type": Act.EDIT_WORKFLOW,
        "paused": Act.STEER,
        "visibility": Act.MANAGE,
        "lease_seconds": Act.MANAGE,
        "max_attempts": Act.MANAGE,
        "workflow_timeout_s": Act.MANAGE,
        "needs": Act.MANAGE,
    },
    Dataset: {"locked": Act.STEER},
}
"""The acts that changes of these fields of a project or a dataset are; of any other field it is EDIT."""


class Actor:
    """Somebody who asks for something: a person, perhaps with a token that may do less than they."""

    def __init__(self, user: Person, token: Any = None) -> None:
        self.user = user
        self.token = token if isinstance(token, AccessToken) else None

    @cached_property
    def _memberships(self) -> dict[int, Membership]:
        if not self.user.is_authenticated:
            return {}
        return {found.project_id: found for found in Membership.objects.filter(user=self.user.pk)}

    def role(self, project: Project) -> Role | None:
        """The role in the project, as far as the token goes."""
        if self.token is not None and self.token.project_id not in (None, project.pk):
            return None
        if self.user.is_staff:
            role = Role.MANAGER
        elif member := self._memberships.get(project.pk):
            role = Role(member.role)
        else:
            return None
        return role if self.token is None else min(role, Role(self.token.role), key=lambda one: one.rank)

    def may(self, act: Act, project: Project | None = None) -> bool:
        """Whether the act is allowed, in the project where it is one in a project.

        Without a project, an act in one is for the staff: what belongs to no project.
        """
        need = NEEDS[act]
        if need.role is None:
            return self._may_on_site(need)
        if project is None:
            return self.user.is_staff and self.is_whole
        if need.public and project.visibility == Visibility.PUBLIC.value:
            return True
        role = self.role(project)
        if role is None or role.rank < need.role.rank:
            return False
        return not need.own_right or role is Role.MANAGER or self._edits_workflow(project)

    def _may_on_site(self, need: Need) -> bool:
        if not need.signed_in:
            return True
        is_enough = (self.is_whole or not need.whole) and (self.user.is_staff or not need.staff)
        return self.user.is_authenticated and is_enough

    def _edits_workflow(self, project: Project) -> bool:
        # Of a manager with a token for less, the right is as the token says: it has none of its own.
        member = self._memberships.get(project.pk)
        return member is not None and member.edits_workflow

    @property
    def is_whole(self) -> bool:
        """Whether no token narrows what the person may do."""
        return self.token is None or not self.token.is_scoped

    def require(self, act: Act, project: Project | None = None) -> None:
        """Raises Http404 when the project is not there for the actor, PermissionDenied when the act is not allowed."""
        if self.may(act, project):
            return
        if NEEDS[act].role is not None and not self.may(Act.SEE, project):
            raise Http404
        raise PermissionDenied(self._refusal(act, project))

    def _refusal(self, act: Act, project: Project | None) -> str:
        need = NEEDS[act]
        if project is None or need.role is None:
            return f"You may not {act} with a token of narrower scope." if self.token else f"You may not {act}."
        role = self.role(project)
        least = f"the role {need.role}" + (" with the right to edit its workflow" if need.own_right else "")
        return f"To {act} in {project.slug} needs {least}; yours is {role or 'none'}. Ask one of its managers."

    def projects(self, act: Act) -> QuerySet[Project]:
        """The projects in which the actor may do this."""
        need = NEEDS[act]
        rows = Project.objects.all()
        public = Q(visibility=Visibility.PUBLIC.value) if need.public else Q(pk__in=[])
        if self.token is not None and self.token.project_id is not None:
            rows = rows.filter(public | Q(pk=self.token.project_id))
        if self._token_is_too_low(need):
            return rows.filter(public)
        if self.user.is_staff:
            return rows
        enough = [role.value for role in Role if need.role is None or role.rank >= need.role.rank]
        own = Q(user=self.user.pk, role__in=enough)
        if need.own_right:
            own &= Q(edits_workflow=True) | Q(role=Role.MANAGER.value)
        return rows.filter(public | Q(pk__in=Membership.objects.filter(own).values("project")))

    def _token_is_too_low(self, need: Need) -> bool:
        return self.token is not None and need.role is not None and Role(self.token.role).rank < need.role.rank

    def items(self, rows: QuerySet[Any], act: Act, path: str = "") -> QuerySet[Any]:
        """Those of `rows` whose item belongs to a project in which the actor may do this; `path` leads to the item."""
        if self.may(act, None):
            return rows
        # A slug begins with that of the project: no walk up the tree.
        slug = Concat(f"{path}slug", Value(":"))
        rows = rows.alias(top=Left(slug, StrIndex(slug, Value(":")) - 1))
        return rows.filter(top__in=self.projects(act).values("slug"))


def actor_of(request: HttpRequest) -> Actor:
    """Who sent this request; kept with it, as memberships are read once."""
    found = getattr(request, "crunch_actor", None)
    if found is None:
        found = Actor(request.user, getattr(request, "auth", None))
        request.crunch_actor = found  # type: ignore[attr-defined]
    return found


def project_of(thing: Any) -> Project | None:
    """The project that something of the catalogue belongs to; None for an item outside of all projects."""
    if isinstance(thing, Project):
        return thing
    if isinstance(thing, Dataset):
        return thing.project
    if isinstance(thing, Claim | Status):
        return thing.dataset.project
    if isinstance(thing, Attribute):
        return project_of(thing.item)
    if isinstance(thing, Item):
        return Project.objects.filter(slug=thing.slug.split(":", maxsplit=1)[0]).first()
    raise TypeError(f"{type(thing).__name__} belongs to no project")

"""Who may do what. Anyone who signed in may read and write everything; others see the pages of public projects."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.contrib.auth.models import AnonymousUser
from django.db.models import QuerySet

from crunch_tasks.contract import Visibility
from server.models import Project

if TYPE_CHECKING:
    from django.contrib.auth.models import User

    Person = User | AnonymousUser


def visible_projects(user: Person) -> QuerySet[Project]:
    """The projects whose pages `user` may see."""
    if user.is_authenticated:
        return Project.objects.all()
    return Project.objects.filter(visibility=Visibility.PUBLIC.value)


def may_edit(user: Person) -> bool:
    """Whether `user` may change anything: the catalogue, a hold, a reset, a cancel."""
    return user.is_authenticated


def may_see_machines(user: Person) -> bool:
    """Whether `user` may see who ran a dataset, and on which machine."""
    return user.is_authenticated

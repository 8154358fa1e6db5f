"""Making projects, datasets and items: their slugs, and where a dataset's files are."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from typing import Any, TypeVar

from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.db import IntegrityError, connection, transaction
from django.db.models import Q

from crunch_tasks.contract import DatasetState
from crunch_tasks.slugs import slug_part
from server.models import Change, Dataset, Item, Membership, Project, Role
from server.models.datasets import BASE_PATH_LENGTH
from server.models.items import SLUG_LENGTH
from server.services import counts, life, queue, workflows

SEGMENT_BYTES = 255

Node = TypeVar("Node", bound=Item)


def create_project(manager: User | None = None, /, **values: Any) -> Project:
    """A project from its fields, with its first manager; without one it is the staff's alone.

    Raises ValidationError when its slug is taken or its name has no letter or digit, and when somebody else deleted a
    project of this slug: its files may be in the storage still.
    """
    with transaction.atomic():
        made = _create(Project(**values))
        if manager is not None:
            _refuse_files_of_others(made.slug, manager)
            Membership.objects.create(project=made, user=manager, role=Role.MANAGER.value)
        workflows.keep_version(made, manager)
    return made


def create_item(parent: Item, **values: Any) -> Item:
    """An item below any other; raises ValidationError as `create_project` does."""
    return _create(Item(parent=parent, **values))


def create_dataset(project: Project, base_file_path: str = "", **values: Any) -> Dataset:
    """A dataset of the project. Without a path of its own it gets `PROJECT-SLUG/DATASET-NAME-SLUG`.

    Raises ValidationError as `create_project` does, and for a path that `check_base_path` refuses.
    """
    with transaction.atomic():
        # Of two paths set at once, the second sees the first.
        Project.objects.select_for_update(of=("self",)).get(pk=project.pk)
        made = _create(Dataset(parent=project, base_file_path=base_file_path, **values))
    counts.fold_in_turn(project.pk, made.pk)
    return made


def prepare(node: Item) -> None:
    """Give a new node its slug, and a dataset its project and path. Raises ValidationError as `create_...` do."""
    if isinstance(node, Dataset):
        node.project = Project.objects.get(item_ptr=node.parent)
    node.plain = not isinstance(node, Dataset | Project)
    node.slug = slug_below(node.parent, node.name)
    if Item.objects.filter(slug=node.slug).exists():
        raise taken(node.slug)
    if isinstance(node, Dataset):
        node.key = key_of(node.slug)
        node.base_file_path = node.base_file_path or free_path(node.project, usual_path(node.slug))
        check_base_path(node.project, node.base_file_path)
        queue.check_kinds(node.project, [node.needs])


def set_base_path(dataset: Dataset, path: str) -> None:
    """Point the dataset at another folder of its project. Raises ValidationError as `check_move` does."""
    with transaction.atomic():
        check_move(dataset, path)
        Dataset.objects.filter(pk=dataset.pk).update(base_file_path=path)
        dataset.base_file_path = path


def check_move(dataset: Dataset, path: str) -> None:
    """Raises ValidationError as `check_base_path` does, and while the dataset is running, its lease live or not.

    What it found stays true until the caller's transaction ends.
    """
    Project.objects.select_for_update(of=("self",)).get(pk=dataset.project_id)
    check_base_path(dataset.project, path, dataset)
    # The holder of an expired lease may come back, and would commit to the folder that it was told.
    if life.locked_row(dataset.pk).state == DatasetState.RUNNING.value:
        raise ValidationError({"base_file_path": "The dataset is running. Wait, or cancel or reset its run first."})


def key_of(slug: str) -> str:
    """What a dataset is found by within its project: the last part of its slug."""
    return slug.rpartition(":")[2]


def check_base_path(project: Project, path: str, dataset: Dataset | None = None) -> None:
    """Raises ValidationError unless `path` is a folder below the project's own that shares nothing with another's.

    `dataset` is the one whose path it is to be, if it exists already.
    """
    if problem := path_problem(project, path):
        raise ValidationError({"base_file_path": problem})
    others = project.datasets.exclude(pk=dataset.pk) if dataset else project.datasets.all()
    if other := others.filter(_overlaps(path)).first():
        raise ValidationError(
            {"base_file_path": f"{path!r} would share files with {other.slug}, which is at {other.base_file_path!r}."}
        )


def _refuse_files_of_others(slug: str, maker: User) -> None:
    deleted = Change.objects.filter(act="delete", target=slug).exclude(user=maker)
    if not maker.is_staff and deleted.exists():
        told = f"There was a project {slug!r}, whose files may be in the storage still. Choose another name."
        raise ValidationError({"name": told})


def _create(node: Node) -> Node:
    prepare(node)
    try:
        with transaction.atomic():
            node.save(force_insert=True)
    except IntegrityError:
        # Somebody made it between the look and the save.
        if Item.objects.filter(slug=node.slug).exists():
            raise taken(node.slug) from None
        raise
    return node


def slug_below(parent: Item | None, name: str) -> str:
    """The slug of something with this name, free or not; raises ValidationError when there can be none."""
    part = slug_part(name)
    if not part:
        raise ValidationError({"name": "The name needs a letter or a digit, to make its address from."})
    prefix = f"{parent.slug}:" if parent else ""
    part = part[: SLUG_LENGTH - len(prefix)]
    if not part:
        raise ValidationError({"parent": "The tree is too deep here for another address. Choose a parent higher up."})
    return prefix + part


def taken(slug: str) -> ValidationError:
    return ValidationError({"name": f"There is {slug!r} already. Choose another name."})


def path_problem(project: Project, path: str) -> str:
    """Why no dataset of the project may have this path, others left aside; empty when it may."""
    segments = path.split("/")
    if len(path) > BASE_PATH_LENGTH or any(len(segment.encode()) > SEGMENT_BYTES for segment in segments):
        return (
            f"The path is too long: at most {BASE_PATH_LENGTH} characters, {SEGMENT_BYTES} bytes between two slashes."
        )
    if "\\" in path or any(unicodedata.category(character).startswith("C") for character in path):
        return "The path may not have backslashes or control characters."
    if not all(segments) or {".", ".."} & set(segments):
        return "The path may not be absolute, end in a slash, or have empty, '.' or '..' segments."
    if segments[0] != project.slug or len(segments) < 2:
        return f"The path has to be below the project's folder: {project.slug}/..."
    return ""


def _overlaps(path: str) -> Q:
    """Datasets at this path, above it or below it."""
    segments = path.split("/")
    above = ["/".join(segments[:count]) for count in range(2, len(segments) + 1)]
    if connection.vendor == "sqlite":
        # SQLite's LIKE uses no index and takes A for a; "0" is the character after "/".
        return Q(base_file_path__in=above) | Q(base_file_path__gt=f"{path}/", base_file_path__lt=f"{path}0")
    return Q(base_file_path__in=above) | Q(base_file_path__startswith=f"{path}/")


def usual_path(slug: str) -> str:
    """The folder of the dataset with this slug, if nobody decides otherwise."""
    return slug.replace(":", "/")


def free_path(project: Project, path: str, is_promised: Callable[[str], bool] = lambda _: False) -> str:
    """The path, numbered when an editor has put another dataset there, or it is promised to one."""
    candidate, number = path, 1
    while is_promised(candidate) or project.datasets.filter(_overlaps(candidate)).exists():
        number += 1
        candidate = f"{path}-{number}"
    return candidate

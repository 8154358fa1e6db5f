"""Items: everything that has a name, a place in the tree, and attributes. Projects and datasets are items too."""

from __future__ import annotations

from collections.abc import Iterable

from django.db import models

NAME_LENGTH = 1023
SLUG_LENGTH = 255


class Item(models.Model):
    """A node of the tree. Its slug is made once, by `server.services.catalogue`, and never changes."""

    name = models.CharField(max_length=NAME_LENGTH)
    slug = models.CharField(max_length=SLUG_LENGTH, unique=True, editable=False)
    parent = models.ForeignKey("self", models.CASCADE, null=True, blank=True, related_name="children", db_index=False)
    description = models.CharField(max_length=NAME_LENGTH, blank=True, default="", help_text="A sentence about it.")
    details = models.TextField(blank=True, default="", help_text="A longer description, in Markdown.")
    plain = models.BooleanField(default=True, editable=False, help_text="Neither a project nor a dataset.")
    created = models.DateTimeField(auto_now_add=True)
    modified = models.DateTimeField(auto_now=True)

    class Meta:
        ordering = ("id",)
        indexes = [
            models.Index(fields=["parent", "id"], name="server_item_children"),
            # A project's own items, which would be few among very many datasets.
            models.Index(fields=["parent", "id"], name="server_item_plain", condition=models.Q(plain=True)),
        ]

    def __str__(self) -> str:
        return self.name


def descendants(items: Iterable[Item]) -> dict[int, list[Item]]:
    """The trees below `items`: the children of each item by its id, in order, with attributes and parents at hand.

    One query per level of the tree, and one for the attributes of each level, however many items there are.
    """
    tree: dict[int, list[Item]] = {}
    level = {item.pk: item for item in items}
    while level:
        children = list(Item.objects.filter(parent__in=level).prefetch_related("attributes"))
        for child in children:
            parent = level[child.parent_id or 0]
            child.parent = parent
            tree.setdefault(parent.pk, []).append(child)
        level = {child.pk: child for child in children}
    return tree

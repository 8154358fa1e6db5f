"""Fills what the project's page lists, for the datasets that were there before: from their slugs and statuses."""

from django.db import migrations, transaction
from django.db.models import OuterRef, Subquery
from django.db.models.functions import Coalesce, Substr

from server.signatures import signature, telling

BATCH = 10_000


def fill(apps, schema_editor):
    """In batches, each a transaction of its own: it can be ended at any time, and run again."""
    alias = schema_editor.connection.alias
    apps.get_model("server", "Item").objects.using(alias).exclude(as_project=None).update(plain=False)
    for project in apps.get_model("server", "Project").objects.using(alias).all():
        rows = apps.get_model("server", "Dataset").objects.using(alias).filter(project=project).order_by("pk")
        last = 0
        while pks := list(rows.filter(pk__gt=last).values_list("pk", flat=True)[:BATCH]):
            with transaction.atomic(using=alias):
                _fill(apps, project, rows.filter(pk__gt=last, pk__lte=pks[-1]).order_by())
            last = pks[-1]


def _fill(apps, project, rows):
    items = apps.get_model("server", "Item").objects
    own = items.filter(pk=OuterRef("pk"))
    key = own.values(part=Substr("slug", len(project.slug) + 2))
    rows.update(key=Subquery(key), updated=Coalesce(_last(apps, "created"), Subquery(own.values("created"))))
    items.using(rows.db).filter(pk__in=rows.values("pk")).update(plain=False)
    rows.filter(state="completed").update(stage=3, stage_state=2)
    rows.filter(state="failed").update(stage=_last(apps, "stage"), stage_state=_last(apps, "state"))
    of_run = {"fence": OuterRef("fence")}
    rows.filter(state="running").update(stage=_last(apps, "stage", of_run), stage_state=_last(apps, "state", of_run))
    for failure, pks in _failures(apps, project, rows).items():
        rows.filter(pk__in=pks).update(failure=failure)


def _last(apps, column, limits=None):
    """A column of a dataset's last effective status."""
    rows = apps.get_model("server", "Status").objects.filter(dataset=OuterRef("pk"), effective=True, **(limits or {}))
    return Subquery(rows.order_by("-fence", "-id").values(column)[:1])


def _failures(apps, project, rows):
    """The datasets of each failure, by their numbers."""
    failed = rows.filter(state="failed").annotate(note=_last(apps, "note"), was_in=_last(apps, "stage"))
    kinds = apps.get_model("server", "Failure").objects.using(rows.db)
    found = {}
    for pk, slug, key, name, stage, note in failed.values_list("pk", "slug", "key", "name", "was_in", "note"):
        if stage is not None:
            text = signature(note, (slug, key, name))
            example = {"example": telling(note)}
            kind, _ = kinds.get_or_create(project=project, stage=stage, signature=text, defaults=example)
            found.setdefault(kind.pk, []).append(pk)
    return found


class Migration(migrations.Migration):
    atomic = False
    dependencies = [("server", "0005_grid")]
    operations = [migrations.RunPython(fill, migrations.RunPython.noop)]

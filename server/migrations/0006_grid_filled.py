"""Fills what the project's page lists, for the datasets that were there before: from their slugs and statuses."""

from django.db import migrations, transaction
from django.db.models import OuterRef, Subquery

from server.signatures import signature, telling

BATCH = 1000


def fill(apps, schema_editor):
    """In batches, each a transaction of its own: it can be ended at any time, and run again."""
    datasets = apps.get_model("server", "Dataset").objects.using(schema_editor.connection.alias)
    items = apps.get_model("server", "Item").objects.using(schema_editor.connection.alias)
    items.exclude(as_project=None).update(plain=False)
    last_pk = 0
    while batch := list(_with_last_status(apps, datasets.filter(pk__gt=last_pk).order_by("pk"))[:BATCH]):
        with transaction.atomic(using=schema_editor.connection.alias):
            _fill(apps, schema_editor.connection.alias, batch)
        last_pk = batch[-1].pk


def _with_last_status(apps, datasets):
    last = apps.get_model("server", "Status").objects.filter(dataset=OuterRef("pk"), effective=True)
    return datasets.annotate(last_status=Subquery(last.order_by("-fence", "-id").values("pk")[:1]))


def _fill(apps, alias, batch):
    rows = apps.get_model("server", "Status").objects.using(alias)
    statuses = rows.in_bulk([dataset.last_status for dataset in batch if dataset.last_status])
    for dataset in batch:
        status = statuses.get(dataset.last_status)
        dataset.key = dataset.slug.rpartition(":")[2]
        dataset.updated = status.created if status else dataset.created
        if dataset.state == "completed":
            dataset.stage, dataset.stage_state = 3, 2
        elif status and (dataset.state == "failed" or (dataset.state == "running" and status.fence == dataset.fence)):
            dataset.stage, dataset.stage_state = status.stage, status.state
        if status and dataset.state == "failed":
            dataset.failure = _failure(apps, alias, dataset, status)
    items = apps.get_model("server", "Item").objects.using(alias)
    items.filter(pk__in=[dataset.pk for dataset in batch]).update(plain=False)
    names = ["key", "updated", "stage", "stage_state", "failure"]
    apps.get_model("server", "Dataset").objects.using(alias).bulk_update(batch, names, batch_size=200)


def _failure(apps, alias, dataset, status):
    return apps.get_model("server", "Failure").objects.using(alias).get_or_create(
        project_id=dataset.project_id,
        stage=status.stage,
        signature=signature(status.note, (dataset.slug, dataset.key, dataset.name)),
        defaults={"example": telling(status.note)},
    )[0]


class Migration(migrations.Migration):
    atomic = False
    dependencies = [("server", "0005_grid")]
    operations = [migrations.RunPython(fill, migrations.RunPython.noop)]

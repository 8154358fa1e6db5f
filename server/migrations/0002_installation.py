"""Gives the server its own identity."""

import uuid

from django.db import migrations


def create(apps, schema_editor):
    apps.get_model("server", "Installation").objects.get_or_create(pk=1, defaults={"site": uuid.uuid4()})


class Migration(migrations.Migration):
    dependencies = [("server", "0001_initial")]
    operations = [migrations.RunPython(create, migrations.RunPython.noop)]

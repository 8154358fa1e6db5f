"""Datasets are counted by what they failed of too: the triggers are made anew after this, and count once."""

from __future__ import annotations

from django.db import migrations, models

from server import triggers


class Migration(migrations.Migration):
    dependencies = [("server", "0011_webhooks")]

    operations = [
        migrations.RunPython(triggers.remove, triggers.remove),
        migrations.RemoveIndex(model_name="statecount", name="server_state_count"),
        migrations.AddField(model_name="statecount", name="failure", field=models.BigIntegerField(null=True)),
        migrations.AddIndex(
            model_name="statecount",
            index=models.Index(fields=["project", "state", "failure", "delta"], name="server_counts"),
        ),
    ]

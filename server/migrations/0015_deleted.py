"""Who deleted what is looked for when a project is made."""

from __future__ import annotations

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("server", "0014_past_runs")]

    operations = [
        migrations.AddIndex(
            "change",
            models.Index(fields=["target"], name="server_changes_deleted", condition=models.Q(act="delete")),
        )
    ]

"""Indexes for the API's lists: datasets of a project, items below another, and slugs byte by byte."""

import django.db.models.deletion
from django.db import migrations, models


# A database's own collation may sort otherwise; SQLite compares bytes anyway.
def index_slugs(apps, schema_editor):
    if schema_editor.connection.vendor == "postgresql":
        schema_editor.execute('CREATE INDEX server_item_place ON server_item (slug COLLATE "C")')


def forget_slugs(apps, schema_editor):
    if schema_editor.connection.vendor == "postgresql":
        schema_editor.execute("DROP INDEX server_item_place")


class Migration(migrations.Migration):

    dependencies = [
        ('server', '0008_sign_in_attempts'),
    ]

    operations = [
        migrations.AlterField(
            model_name='item',
            name='parent',
            field=models.ForeignKey(blank=True, db_index=False, null=True, on_delete=django.db.models.deletion.CASCADE, related_name='children', to='server.item'),
        ),
        migrations.AddIndex(
            model_name='dataset',
            index=models.Index(fields=['project', 'item_ptr'], name='server_project_datasets'),
        ),
        migrations.AddIndex(
            model_name='item',
            index=models.Index(fields=['parent', 'id'], name='server_item_children'),
        ),
        migrations.RunPython(index_slugs, forget_slugs),
    ]

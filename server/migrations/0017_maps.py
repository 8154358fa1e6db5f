"""Places know on whose map they are, so that a map is read from one index, in order."""

import django.db.models.deletion
from django.db import migrations, models
from django.db.models import OuterRef, Q, Subquery


def fill(apps, schema_editor):
    alias = schema_editor.connection.alias
    places = apps.get_model("server", "Attribute").objects.using(alias).filter(kind="lat-long")
    whole = places.filter(latitude__isnull=False, longitude__isnull=False)
    dataset = apps.get_model("server", "Dataset").objects.filter(pk=OuterRef("item"))
    whole.filter(item__as_dataset__isnull=False).update(place_in=Subquery(dataset.values("project")))


class Migration(migrations.Migration):

    dependencies = [
        ('server', '0016_held'),
    ]

    operations = [
        migrations.AddField(
            model_name='attribute',
            name='place_in',
            field=models.ForeignKey(db_index=False, editable=False, help_text='The project on whose map it is, if it is the place of a dataset.', null=True, on_delete=django.db.models.deletion.CASCADE, related_name='places', to='server.project'),
        ),
        migrations.RemoveIndex(model_name='attribute', name='server_attribute_place'),
        migrations.AddIndex(
            model_name='attribute',
            index=models.Index(fields=['place_in', 'item', 'id'], name='server_attribute_place', condition=Q(place_in__isnull=False)),
        ),
        # At the end: PostgreSQL alters no table in which it has rows still to check.
        migrations.RunPython(fill, migrations.RunPython.noop),
    ]

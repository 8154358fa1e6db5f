"""The datasets that are held, by state and name: how many an act on a whole project changes."""

from django.db import migrations, models
from django.db.models import Q


class Migration(migrations.Migration):

    dependencies = [
        ('server', '0015_deleted'),
    ]

    operations = [
        migrations.AddIndex(
            model_name='dataset',
            index=models.Index(fields=['project', 'state', 'key'], name='server_dataset_held', condition=Q(locked=True)),
        ),
    ]

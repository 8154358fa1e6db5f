"""Keeps the last lines of a running workflow's output, and finds places for maps at once."""


import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('server', '0009_lists'),
    ]

    operations = [
        migrations.CreateModel(
            name='LogTail',
            fields=[
                ('dataset', models.OneToOneField(on_delete=django.db.models.deletion.CASCADE, primary_key=True, related_name='log_tail', serialize=False, to='server.dataset')),
                ('text', models.TextField(blank=True)),
                ('at', models.DateTimeField()),
            ],
        ),
        migrations.AddIndex(
            model_name='attribute',
            index=models.Index(condition=models.Q(('kind', 'lat-long')), fields=['item', 'id'], name='server_attribute_place'),
        ),
    ]

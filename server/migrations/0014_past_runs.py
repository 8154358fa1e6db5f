"""How long the last completed runs of a project took: what a client with an end can be given."""

import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('server', '0013_needs'),
    ]

    operations = [
        migrations.CreateModel(
            name='PastRun',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('seconds', models.FloatField()),
                ('project', models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name='+', to='server.project')),
            ],
            options={
                'indexes': [models.Index(fields=['project', '-id'], name='server_past_runs')],
            },
        ),
    ]

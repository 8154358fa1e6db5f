"""Keeps with each dataset what the page of its project lists: its key, how far its run came, when, and its failure."""

import django.db.models.deletion
import django.utils.timezone
import server.models.datasets
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('server', '0004_rights'),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.AddField(
            model_name='item',
            name='plain',
            field=models.BooleanField(default=True, editable=False, help_text='Neither a project nor a dataset.'),
        ),
        migrations.AddIndex(
            model_name='item',
            index=models.Index(condition=models.Q(('plain', True)), fields=['parent', 'id'], name='server_item_plain'),
        ),
        migrations.AddField(
            model_name='dataset',
            name='key',
            field=server.models.datasets.PlainCharField(default='', editable=False, help_text='The last part of its slug, to find it by within its project.', max_length=255),
            preserve_default=False,
        ),
        migrations.AddField(
            model_name='dataset',
            name='stage',
            field=models.PositiveSmallIntegerField(choices=[(1, 'Setup'), (2, 'Workflow'), (3, 'Upload')], editable=False, help_text='How far its run is or came: of the last status that counts. None before the first.', null=True),
        ),
        migrations.AddField(
            model_name='dataset',
            name='stage_state',
            field=models.PositiveSmallIntegerField(choices=[(1, 'Start'), (2, 'Success'), (3, 'Fail')], editable=False, null=True),
        ),
        migrations.AddField(
            model_name='dataset',
            name='updated',
            field=models.DateTimeField(default=django.utils.timezone.now, editable=False, help_text='When its last status came that counts, or its life changed.'),
        ),
        migrations.CreateModel(
            name='Failure',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('stage', models.PositiveSmallIntegerField(choices=[(1, 'Setup'), (2, 'Workflow'), (3, 'Upload')])),
                ('signature', models.CharField(help_text='Made by server.signatures.', max_length=200)),
                ('example', models.CharField(help_text='What the first of them said.', max_length=500)),
                ('project', models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name='failures', to='server.project')),
            ],
        ),
        migrations.AddField(
            model_name='dataset',
            name='failure',
            field=models.ForeignKey(db_index=False, editable=False, help_text='What it failed of, while it is failed.', null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='datasets', to='server.failure'),
        ),
        migrations.AddIndex(
            model_name='dataset',
            index=models.Index(fields=['project', 'key'], name='server_dataset_key'),
        ),
        migrations.AddIndex(
            model_name='dataset',
            index=models.Index(fields=['project', 'state', 'key'], name='server_dataset_state_key'),
        ),
        migrations.AddIndex(
            model_name='dataset',
            index=models.Index(fields=['project', '-updated', '-item_ptr'], name='server_dataset_updated'),
        ),
        migrations.AddIndex(
            model_name='dataset',
            index=models.Index(fields=['project', 'state', '-updated', '-item_ptr'], name='server_state_updated'),
        ),
        migrations.AddIndex(
            model_name='dataset',
            index=models.Index(condition=models.Q(('failure__isnull', False)), fields=['project', 'failure', 'key'], name='server_dataset_failure'),
        ),
        migrations.AddConstraint(
            model_name='failure',
            constraint=models.UniqueConstraint(fields=('project', 'stage', 'signature'), name='server_failure_signature'),
        ),
    ]

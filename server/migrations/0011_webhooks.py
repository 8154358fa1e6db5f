"""Webhooks of projects, and what is and was to be sent to them."""

import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('server', '0010_log_tail'),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name='Webhook',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('url', models.CharField(max_length=2000)),
                ('secret', models.CharField(editable=False, max_length=64)),
                ('events', models.JSONField(help_text='Some of: completed, failed.')),
                ('active', models.BooleanField(default=True)),
                ('created', models.DateTimeField(auto_now_add=True)),
                ('created_by', models.ForeignKey(null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='+', to=settings.AUTH_USER_MODEL)),
                ('project', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='webhooks', to='server.project')),
            ],
            options={
                'ordering': ('id',),
            },
        ),
        migrations.CreateModel(
            name='WebhookDelivery',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('event', models.CharField(choices=[('completed', 'Completed'), ('failed', 'Failed')], max_length=16)),
                ('dataset', models.CharField(help_text='Its slug.', max_length=255)),
                ('body', models.TextField(help_text='The JSON, byte for byte.')),
                ('attempts', models.PositiveIntegerField(default=0)),
                ('next_try', models.DateTimeField(null=True)),
                ('answer', models.PositiveIntegerField(help_text='The status code that came last.', null=True)),
                ('problem', models.CharField(blank=True, default='', help_text='Why the last attempt was none.', max_length=255)),
                ('created', models.DateTimeField(auto_now_add=True)),
                ('delivered_at', models.DateTimeField(null=True)),
                ('webhook', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='deliveries', to='server.webhook')),
            ],
            options={
                'verbose_name_plural': 'webhook deliveries',
                'ordering': ('-id',),
                'indexes': [models.Index(condition=models.Q(('next_try__isnull', False)), fields=['next_try'], name='server_webhooks_due'), models.Index(fields=['webhook', '-id'], name='server_webhook_history')],
            },
        ),
    ]

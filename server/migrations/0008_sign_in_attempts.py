"""Keeps attempts to sign in for some minutes, so that nobody can guess passwords in a row."""

import django.utils.timezone
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('server', '0007_claim_counts'),
    ]

    operations = [
        migrations.CreateModel(
            name='SignInAttempt',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('who', models.CharField(max_length=64)),
                ('at', models.DateTimeField(default=django.utils.timezone.now)),
            ],
            options={
                'indexes': [models.Index(fields=['who', 'at'], name='server_sign_in_who'), models.Index(fields=['at'], name='server_sign_in_at')],
            },
        ),
    ]

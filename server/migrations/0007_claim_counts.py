"""Keeps how many claims were granted, and how they ended."""

from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('server', '0006_grid_filled'),
    ]

    operations = [
        migrations.CreateModel(
            name='ClaimCount',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('event', models.CharField(max_length=16)),
                ('delta', models.BigIntegerField()),
            ],
            options={
                'indexes': [models.Index(fields=['event', 'delta'], name='server_claim_count')],
            },
        ),
    ]

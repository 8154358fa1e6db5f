"""What datasets ask of a machine. The claim index has it too, so that a claim finds what fits."""

import server.models.fields
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('server', '0012_failure_counts'),
    ]

    operations = [
        migrations.RemoveIndex(
            model_name='dataset',
            name='server_claim_in_project',
        ),
        migrations.AddField(
            model_name='dataset',
            name='needs',
            field=server.models.fields.NeedsField(blank=True, db_default='', default='', help_text='What it asks of a machine, in place of what its project asks; `none` asks nothing.', max_length=255),
        ),
        migrations.AddField(
            model_name='project',
            name='needs',
            field=server.models.fields.NeedsField(blank=True, db_default='', default='', help_text='What its datasets ask of a machine, such as `cores=8 memory=16GB gpus=1 avx512`: only a client that has it gets them.', max_length=255),
        ),
        migrations.AddIndex(
            model_name='dataset',
            index=models.Index(condition=models.Q(('locked', False), ('state', 'unprocessed')), fields=['project', 'needs', '-priority', 'item_ptr'], name='server_claim_by_needs'),
        ),
    ]

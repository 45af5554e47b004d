from importlib import import_module

from django.db import migrations, models

from pgembedding_django.operations import ReplaceView

BEFORE = import_module("pgembedding_django.migrations.0005_partitions").INDEX_STATUS

# As before, with IVFFlat indexes among them, and what kind each one is.
INDEX_STATUS = BEFORE.replace("m.amname = 'hnsw'", "m.amname IN ('hnsw', 'ivfflat')").replace(
    "AS label\nFROM", "AS label,\n    m.amname::text AS method\nFROM"
)


class Migration(migrations.Migration):

    dependencies = [
        ("pgembedding_django", "0005_partitions"),
    ]

    operations = [
        migrations.AddField("hnswindexstatus", "method", models.TextField(default="hnsw")),
        ReplaceView("pgembedding_hnsw_index", INDEX_STATUS, BEFORE),
    ]

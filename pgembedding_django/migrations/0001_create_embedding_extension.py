from django.db import migrations

from pgembedding_django import CreateEmbeddingExtension


class Migration(migrations.Migration):
    initial = True

    dependencies = []

    operations = [CreateEmbeddingExtension()]

from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('pgembedding_django', '0003_index_label'),
    ]

    operations = [
        migrations.CreateModel(
            name='EmbedClaim',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('field', models.TextField()),
                ('keys', models.JSONField(default=list)),
                ('pid', models.IntegerField()),
                ('until', models.DateTimeField()),
            ],
            options={
                'default_permissions': (),
            },
        ),
    ]

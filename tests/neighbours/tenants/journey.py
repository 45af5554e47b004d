"""Set up two tenants, fill the shop of each place that has one, and print what is found there as JSON."""

import json
import sys
from io import StringIO

import django
from django.core.management import call_command


def main():
    django.setup()
    from django.conf import settings
    from django_tenants.utils import schema_context

    from tests.neighbours.tenants.customers.models import Client

    call_command("migrate_schemas", shared=True, verbosity=0)
    for name in ("acme", "bolt"):
        Client.objects.create(schema_name=name, name=name)
    places = {"shared": ["public"], "tenant": ["acme", "bolt"], "both": ["public", "acme", "bolt"]}[settings.PLACE]
    found = {}
    for schema in places:
        with schema_context(schema):
            found[schema] = search(schema)
    if settings.PLACE == "shared":
        with schema_context("acme"):
            found["acme"] = look()
    sys.stdout.write("\n" + json.dumps(found))


def search(schema):
    from tests.neighbours.tenants.shop.models import Ware

    Ware.objects.bulk_load(Ware(title=f"{schema} {i}", embedding=[i, 0, 1]) for i in range(30))
    Ware.objects.create(title="new")
    Ware.objects.embed()
    return look()


def look():
    from tests.neighbours.tenants.shop.models import Ware

    listed = StringIO()
    call_command("hnsw_indexes", json=True, stdout=listed)
    return {
        "nearest": list(Ware.objects.nearest([0, 0, 1], 2, exact=False).values_list("title", flat=True)),
        "stale": Ware.objects.stale().count(),
        "listed": listed.getvalue(),
    }


if __name__ == "__main__":
    main()

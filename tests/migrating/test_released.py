"""A project whose migrations 0.1.0 wrote: they run, and an upgrade writes no new one."""

import pytest

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.pgvector]


def manage(database, *args):
    process = database.start(*args, DJANGO_SETTINGS_MODULE="tests.released.settings")
    output, errors = process.communicate(timeout=120)
    return process.returncode, output + errors


def test_migrations_of_0_1_0_run_and_need_no_new_one(fresh_database):
    assert manage(fresh_database, "migrate", "--verbosity=0") == (0, "")
    assert set(fresh_database.indexes()) == {
        "shop_product_l2",
        "shop_product_cosine",
        "shop_product_binary",
        "shop_product_ip",
    }
    status, output = manage(fresh_database, "makemigrations", "--check", "--dry-run")
    assert (status, output.strip()) == (0, "No changes detected")


def test_indexes_of_0_1_0_are_those_that_the_models_declare(fresh_database):
    manage(fresh_database, "migrate", "--verbosity=0")
    status, output = manage(fresh_database, "check", "--database=default")
    assert (status, output.strip()) == (0, "System check identified no issues (0 silenced).")


def test_migrations_of_0_1_0_run_backwards(fresh_database):
    manage(fresh_database, "migrate", "--verbosity=0")
    assert manage(fresh_database, "migrate", "shop", "zero", "--verbosity=0") == (0, "")
    assert fresh_database.indexes() == {}

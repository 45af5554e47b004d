"""A project of django-tenants: the shop is shared, in each tenant, or both, as TENANTS_SHOP says."""

import environ

env = environ.Env()
PLACE = env.str("TENANTS_SHOP")

SECRET_KEY = "tests"
USE_TZ = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
DATABASES = {"default": {**env.db("DATABASE_URL"), "ENGINE": "django_tenants.postgresql_backend"}}
DATABASE_ROUTERS = ["django_tenants.routers.TenantSyncRouter"]
TENANT_MODEL, TENANT_DOMAIN_MODEL = "customers.Client", "customers.Domain"

OURS = ["pgembedding_django", "tests.neighbours.tenants.shop"]
SHARED_APPS = ["django_tenants", "tests.neighbours.tenants.customers", "django.contrib.contenttypes"]
SHARED_APPS += OURS if PLACE in ("shared", "both") else []
TENANT_APPS = ["django.contrib.contenttypes", *(OURS if PLACE in ("tenant", "both") else [])]
INSTALLED_APPS = list(dict.fromkeys([*SHARED_APPS, *TENANT_APPS]))
PGEMBEDDING = {
    "EMBEDDERS": {
        "default": {"BACKEND": "pgembedding_django.embedders.dummy.DummyEmbedder", "OPTIONS": {"dimensions": 3}}
    }
}

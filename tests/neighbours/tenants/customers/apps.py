from django.apps import AppConfig


class CustomersConfig(AppConfig):
    name = "tests.neighbours.tenants.customers"
    label = "customers"

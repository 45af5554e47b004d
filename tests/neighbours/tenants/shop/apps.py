from django.apps import AppConfig


class ShopConfig(AppConfig):
    name = "tests.neighbours.tenants.shop"
    label = "shop"

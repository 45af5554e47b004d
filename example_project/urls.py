"""The addresses of the example."""

from django.contrib import admin
from django.urls import path

from example_project.pydocs import views

urlpatterns = [
    path("", views.search_page, name="search"),
    path("search.json", views.search_json, name="search-json"),
    path("admin/", admin.site.urls),
]

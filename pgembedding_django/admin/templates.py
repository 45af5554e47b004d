"""Extends the pages of the admin, whichever templates the project gave them."""

from __future__ import annotations

from typing import Any

from django.http import HttpResponseBase
from django.template.response import TemplateResponse

__all__ = ["extend"]


def extend(response: HttpResponseBase, template: str, **context: Any) -> None:
    """
    Render a page by a template that extends `page`, the template which the page has by itself.

    A response that is no page, such as a redirect, stays as it is.
    """
    if isinstance(response, TemplateResponse) and response.context_data is not None:
        response.context_data |= {"page": response.resolve_template(response.template_name), **context}
        response.template_name = template

"""The search page, and the same search as JSON."""

from django.http import JsonResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe

from example_project.pydocs.forms import SearchForm
from example_project.pydocs.models import Section
from example_project.pydocs.passage import prose
from example_project.pydocs.search import search
from example_project.pydocs.snippets import pattern_of, snippet
from pgembedding_django.embedders import EmbeddingError

EXAMPLES = [
    "how do I catch an exception?",
    "pick a random element from a list",
    "what does yield do?",
    "parse command line arguments",
    "join the parts of a path",
    "open a web page in the browser",
]

#: Topics that the page offers.
TOPICS = 6


@require_safe
def search_page(request):
    """Answer `?q=` or `?like=` with a page of sections; without either, suggest questions."""
    form = SearchForm(request.GET)
    context = {"form": form, "parts": form.fields["part"].choices, "examples": EXAMPLES}
    context["count"] = Section.objects.count()
    if "q" in request.GET or "like" in request.GET:
        context |= _answer(form, counts=True)
    return render(request, "pydocs/search.html", context, status=context.get("status", 200))


@require_safe
def search_json(request):
    """Answer `?q=&part=&k=` with the nearest sections, or with {"error": a sentence} and 400 (503: OpenAI is away)."""
    answer = _answer(SearchForm(request.GET))
    if "error" in answer:
        return JsonResponse({"error": answer["error"]}, status=answer["status"])
    return JsonResponse(
        {
            "query": str(answer["query"]),
            "milliseconds": round(answer["milliseconds"], 2),
            "results": [_as_json(section) for section in answer["sections"]],
        }
    )


def _answer(form, *, counts=False):
    """Return the part of the context that a question adds: what was found, or the error."""
    if not form.is_valid():
        return {"error": form.sentence(), "status": 400}
    asked = form.cleaned_data
    query = asked["like"] or asked["q"]
    try:
        answer = search(query, part=asked["part"], topic=asked["topic"], k=asked["k"], counts=counts)
    except ValueError as error:
        return {"error": str(error), "status": 503 if isinstance(error, EmbeddingError) else 400}
    _add_snippets(answer.sections, "" if asked["like"] else query)
    return {"query": query, **answer._asdict(), "topics": list(answer.topics.items())[:TOPICS]}


def _add_snippets(sections, question):
    pattern = pattern_of(question)
    for section in sections:
        section.snippet = snippet(prose(section.text), pattern)
        # Distance 0 fills the bar, distance 1 leaves it empty.
        section.nearness = round(100 * max(0, 1 - section.distance), 1)


def _as_json(section):
    shown = ("name", "part", "topic", "title", "url", "text", "distance")
    return {name: getattr(section, name) for name in shown}

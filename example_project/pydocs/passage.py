"""Prepares a section's text for the embedder."""

#: Characters of text that go into a vector. The more, the more the vector becomes an average of everything:
#: with 1,000 a question finds the section that begins with its answer, with 3,000 the longest section around.
LENGTH = 1000

#: Marks of what is no English: grammar in BNF, and interpreter sessions.
CODE = ("::=", ">>>")


def passage(topic: str, title: str, text: str) -> str:
    """
    Return what to embed: the headings, then the beginning of the prose.

    The enclosing heading is what tells "except clause" that it is about the try statement.
    """
    return f"{topic}: {title}\n\n{prose(text)[:LENGTH]}"


def prose(text: str) -> str:
    """Return the paragraphs that are neither grammar nor an interpreter session; the whole text if all are."""
    paragraphs = [paragraph for paragraph in text.split("\n\n") if not any(mark in paragraph for mark in CODE)]
    return "\n\n".join(paragraphs) or text

"""Keeps keys and passwords out of messages, logs and crash reports."""

from __future__ import annotations

import base64
import logging
from collections.abc import Iterator
from urllib.parse import parse_qsl, quote, unquote, urlsplit

__all__ = ["Address", "Secrets"]

#: What stands in place of a secret.
MASK = b"***"

#: What an address asks for beside a path and is no secret.
API_VERSION = "api-version"


class Secrets:
    """What no message may repeat: each secret as it is, quoted as in an address, and in Base64 as in a header."""

    def __init__(self, *secrets: str) -> None:
        forms = {form for secret in secrets for form in _forms(secret) if len(form) > len(MASK)}
        # The longest first: one may hold another.
        self._forms = sorted(forms, key=len, reverse=True)

    def mask(self, content: bytes) -> bytes:
        """Return a server's words without any secret that it repeats."""
        for form in self._forms:
            content = content.replace(form, MASK)
        return content


class Address:
    """
    The address of a server, and apart from it what it may carry.

    public: scheme, host, port and path, all that messages and logs may name. query: sent with each request.
    login: user and password, as a header takes them, "" where there are none.
    """

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        login, _, host = parts.netloc.rpartition("@")
        self.public: str = f"{parts.scheme}://{host}{parts.path}"
        self.query: dict[str, str] = dict(parse_qsl(parts.query, keep_blank_values=True))
        self.login: str = unquote(login)

    @property
    def version(self) -> str:
        """The version of the API that Azure's older addresses ask for, or ""."""
        return self.query.get(API_VERSION, "")

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Basic {_base64(self.login)}"} if self.login else {}

    @property
    def secrets(self) -> list[str]:
        in_query = [value for name, value in self.query.items() if name != API_VERSION]
        return [*in_query, self.login, *self.login.split(":", 1)[1:]]

    def hide_query(self) -> None:
        """Let the HTTP client log the address without its query, where that may be a key."""
        if self.query.keys() - {API_VERSION}:
            hidden.add(self.public)
            for name in ("httpx", "httpx2"):
                logging.getLogger(name).addFilter(_without_query)


#: The addresses whose query is not logged.
hidden: set[str] = set()


def _without_query(record: logging.LogRecord) -> bool:
    if isinstance(record.args, tuple):
        record.args = tuple(_shown(each) for each in record.args)
    return True


def _shown(value: object) -> object:
    address, query, _ = str(value).partition("?")
    return address if query and any(address.startswith(each) for each in hidden) else value


def _forms(secret: str) -> Iterator[bytes]:
    yield secret.encode("utf-8", "surrogatepass")
    yield quote(secret, safe="", errors="surrogatepass").encode()
    yield _base64(secret).encode()


def _base64(text: str) -> str:
    return base64.b64encode(text.encode("utf-8", "surrogatepass")).decode()

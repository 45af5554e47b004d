"""A real HTTP server on 127.0.0.1 with a /rerank endpoint, which misbehaves on command."""

import json
import threading
import time
from collections import deque
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest


def score_of(text):
    """What the server holds for the relevance of a text: exact, and easy to write down in a test."""
    return len(text) / 64


def results_of(texts):
    """Return the results as Cohere sends them, the best first."""
    found = [{"index": index, "relevance_score": score_of(text)} for index, text in enumerate(texts)]
    return sorted(found, key=lambda result: -result["relevance_score"])


class RerankServer:
    """Answers each request by the next of `answers`: (status, body), a function of the texts, or, with none, well."""

    def __init__(self):
        self.answers, self.requests, self.keys = deque(), [], []
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                server.requests.append((self.path, body))
                server.keys.append(self.headers.get("authorization"))
                texts = body.get("documents", body.get("texts"))
                answer = server.answers.popleft() if server.answers else (200, {"results": results_of(texts)})
                if callable(answer):
                    answer = answer(texts)
                if answer == "hang up":
                    self.close_connection = True
                    return
                status, reply = answer
                data = reply.encode() if isinstance(reply, str) else json.dumps(reply).encode()
                self.send_response(status)
                self.send_header("content-length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *args):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.base_url = f"http://127.0.0.1:{self._server.server_port}/v1"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def stop(self):
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def rerank_server(monkeypatch):
    """The server; nobody waits between two attempts."""
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    server = RerankServer()
    yield server
    server.stop()

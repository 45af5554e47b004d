"""A real HTTP server on 127.0.0.1 that speaks the embeddings endpoint of OpenAI."""

import base64
import json
import struct
import threading
from collections import deque
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


def vector_of(text):
    """What the server holds for a text's embedding: exact in float32 and easy to write down in a test."""
    return [float(len(text)), float(ord(text[0])), 0.5]


def as_base64(numbers):
    return base64.b64encode(struct.pack(f"<{len(numbers)}f", *numbers)).decode()


def data_of(texts, encode=as_base64):
    return [
        {"object": "embedding", "index": index, "embedding": encode(vector_of(text))}
        for index, text in enumerate(texts)
    ]


class EmbeddingsServer:
    """
    Answer each request from `answers`, in order, and rightly once they are used up.

    An answer is (status, body, headers); a body that is a list is the "data" of a good answer, and one that is a
    function makes that list of the texts. `requests` keeps what came: (path, headers, JSON body).
    """

    def __init__(self):
        self.answers, self.requests = deque(), []

    def answer(self, body=data_of, *, status=200, content_type="application/json", **headers):
        headers = {name.replace("_", "-"): value for name, value in headers.items()}
        self.answers.append((status, body, {"content-type": content_type, **headers}))

    def __enter__(self):
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1"
        return self

    def __exit__(self, *exc_info):
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _next(self, texts):
        good = (200, data_of, {"content-type": "application/json"})
        status, body, headers = self.answers.popleft() if self.answers else good
        if callable(body):
            body = body(texts)
        if isinstance(body, list):
            body = {"object": "list", "model": "test", "data": body, "usage": {"prompt_tokens": 1, "total_tokens": 1}}
        return status, body if isinstance(body, bytes) else json.dumps(body).encode(), headers

    def _handler(server):
        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
                headers = {name.lower(): value for name, value in self.headers.items()}
                server.requests.append((self.path, headers, asked))
                status, body, headers = server._next(asked["input"])
                self.send_response(status)
                for name, value in {"content-length": str(len(body)), **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *args):
                pass

        return Handler

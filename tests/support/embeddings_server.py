"""A real HTTP server on 127.0.0.1 that speaks the embeddings endpoint of OpenAI, and misbehaves on command."""

import base64
import json
import random
import socket
import struct
import threading
import time
from collections import Counter, deque
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

JSON = {"content-type": "application/json"}


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


def as_floats(texts):
    return data_of(texts, encode=list)


def error_of(message, **fields):
    return {"error": {"message": message, "type": "some_error", "param": None, "code": None, **fields}}


# What a handler does instead of an answer


def reset(handler):
    """Break the connection off (RST)."""
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    handler.connection.shutdown(socket.SHUT_RD)
    handler.connection.close()


def hang(handler):
    """Say nothing until the server stops."""
    handler.embeddings.stopping.wait(60)


def drip(handler):
    """Send a good head, and then a blank every 50 ms, so that no single read ever times out."""
    handler.send_response(200)
    handler.send_header("content-length", "100000")
    handler.end_headers()
    try:
        while not handler.embeddings.stopping.wait(0.05):
            handler.wfile.write(b" ")
    except OSError:  # the client has had enough
        return


def stall(handler):
    """Send the head and the beginning of the body, and say nothing more until the server stops."""
    handler.send_response(200)
    handler.send_header("content-length", "1000")
    handler.end_headers()
    handler.wfile.write(b'{"data": [')
    hang(handler)


def cut(handler):
    """End the connection in the middle of the body."""
    handler.send_response(200)
    handler.send_header("content-length", "1000")
    handler.end_headers()
    handler.wfile.write(b'{"data": [')


class EmbeddingsServer:
    """
    Answer each request from `answers`, in order, and rightly once they are used up.

    An answer is a function of the handler, or (status, body, headers); a body that is a list is the "data" of a good
    answer, and one that is a function makes that list of the texts. `requests` keeps what came: (path, headers, JSON
    body). `served` counts how often each text was answered with its vector, which is what a provider charges for.
    latency: seconds before each answer. no_base64: what a request for base64 is answered, where the server knows floats
    alone. poison: a request with a text that holds it is refused with 400, or gets the
    answer `poisoned`.
    """

    def __init__(self):
        self.answers, self.requests, self.served = deque(), [], Counter()
        self.latency, self.poison, self.no_base64 = 0, None, None
        self.poisoned = 400, error_of("'$.input' is invalid."), JSON
        self.stopping = threading.Event()
        self._lock = threading.Lock()
        self._rate, self._random = 0, random.Random()

    def answer(self, body=data_of, *, status=200, times=1, **headers):
        headers = {name.replace("_", "-"): value for name, value in headers.items()}
        self.answers.extend([(status, body, JSON | headers)] * times)

    def misbehave(self, act, *, times=1):
        self.answers.extend([act] * times)

    def fail(self, rate, *, seed):
        """Fail this part of the requests from now on, each in one of the ways in which servers do."""
        self._rate, self._random = rate, random.Random(seed)

    def sizes(self):
        return [len(body["input"]) for _path, _headers, body in self.requests]

    def __enter__(self):
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()
        self.where = f"http://127.0.0.1:{self._server.server_port}/v1"
        self.url = self.where
        return self

    def __exit__(self, *exc_info):
        self.stopping.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _next(self, texts, encoding):
        with self._lock:
            if self.no_base64 and encoding == "base64":
                return self.no_base64
            if self.answers:
                return self.answers.popleft()
            if self.poison and any(self.poison in text for text in texts):
                return self.poisoned
            if self._random.random() < self._rate:
                return self._random.choice(FAILURES)
            self.served.update(texts)
            return 200, (data_of if encoding == "base64" else as_floats), JSON

    def _handler(server):
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True  # else the last packet of an answer waits for an acknowledgement
            wbufsize = -1
            embeddings = server

            def do_POST(self):
                asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
                headers = {name.lower(): value for name, value in self.headers.items()}
                server.requests.append((self.path, headers, asked))
                time.sleep(server.latency)
                answer = server._next(asked["input"], asked.get("encoding_format"))
                if callable(answer):
                    self.wfile = self.connection.makefile("wb", 0)
                    self.close_connection = True
                    answer(self)
                else:
                    self._send(*answer, asked["input"])

            def _send(self, status, body, headers, texts):
                body = body(texts) if callable(body) else body
                if isinstance(body, list):
                    usage = {"prompt_tokens": len(texts), "total_tokens": len(texts)}
                    body = {"object": "list", "model": "test", "data": body, "usage": usage}
                body = body if isinstance(body, bytes) else json.dumps(body).encode()
                self.send_response(status)
                for name, value in {"content-length": str(len(body)), **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            def finish(self):
                # A connection that was reset has nothing left to flush.
                if self.connection.fileno() >= 0:
                    super().finish()

            def log_message(self, *args):
                pass

        return Handler


#: Of equal chance for a request that fails by `fail`.
FAILURES = [
    (500, error_of("Internal error."), JSON),
    (503, b"<html>Overloaded</html>", {"content-type": "text/html"}),
    (429, error_of("Too many requests."), {**JSON, "retry-after-ms": "20"}),
    (200, b'{"data": [', JSON),
    (200, lambda texts: data_of(texts)[1:], JSON),
    reset,
]

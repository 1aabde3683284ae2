"""The admin API for a test: over the Unix socket as the command line asks it, or over TCP with a token.

    admin = Admin(server.folder / "state/admin.sock")
    admin.get("/api/v1/status").json["version"]
    admin.post("/api/v1/rollouts", {"type": "door"}).status

A Unix socket's path has at most 107 bytes and pytest's folders are long, so the socket is reached by its descriptor's
name where it has to be."""

import http.client
import json
import os
import pathlib
import socket

from tests.support.updraft import PATIENCE_S

SOCKET_PATH_MAX = 107


class UnixConnection(http.client.HTTPConnection):
    """http.client over a Unix socket."""

    def __init__(self, path, timeout=PATIENCE_S):
        super().__init__("localhost", timeout=timeout)
        self.path = pathlib.Path(path)

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        if len(os.fsencode(self.path)) <= SOCKET_PATH_MAX:
            self.sock.connect(os.fspath(self.path))
            return
        folder = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            self.sock.connect(f"/proc/self/fd/{folder}/{self.path.name}")
        finally:
            os.close(folder)


class Answer:
    """.status, .headers (case does not matter), .body (bytes), .text, .json (asserts that the answer says it is)."""

    def __init__(self, response):
        self.status = response.status
        self.headers = response.headers
        self.body = response.read()

    @property
    def text(self):
        return self.body.decode()

    @property
    def json(self):
        kind = self.headers.get_content_type()
        assert kind == "application/json", f"{self!r} is {kind}"
        return json.loads(self.body)

    @property
    def error(self):
        """The code of an error: "unknown-type"."""
        return self.json["error"]["code"]

    def __repr__(self):
        return f"Answer({self.status}, {self.body[:400]!r})"


class Admin:
    """Asks on a fresh connection each time. Either `socket_path`, or `address` ("127.0.0.1", port) and perhaps a
    token."""

    def __init__(self, socket_path=None, address=None, token=None, timeout=PATIENCE_S, source=None):
        """`source`: our own address, "127.0.0.2"."""
        self.source = None if source is None else (source, 0)
        self.socket_path = socket_path
        self.address = address
        self.token = token
        self.timeout = timeout

    def connection(self):
        """A connection of http.client, for what ask() does not do."""
        if self.socket_path is not None:
            return UnixConnection(self.socket_path, self.timeout)
        return http.client.HTTPConnection(*self.address, timeout=self.timeout, source_address=self.source)

    def ask(self, method, path, body=None, headers=None):
        """`body`: bytes as they are, None for none, anything else as JSON. `headers` add to, or replace, the usual."""
        usual = {} if self.token is None else {"Authorization": f"Bearer {self.token}"}
        if body is not None:
            usual["Content-Type"] = "application/octet-stream" if isinstance(body, bytes) else "application/json"
            body = body if isinstance(body, bytes) else json.dumps(body).encode()
        connection = self.connection()
        try:
            connection.request(method, path, body, {**usual, **(headers or {})})
            return Answer(connection.getresponse())
        finally:
            connection.close()

    def get(self, path, **options):
        return self.ask("GET", path, **options)

    def post(self, path, body=b"", **options):
        return self.ask("POST", path, body, **options)

    def delete(self, path, **options):
        return self.ask("DELETE", path, **options)

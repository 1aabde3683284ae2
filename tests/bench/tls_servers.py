"""The servers behind TLS that tests/bench/tls.py asks, and those who ask them: tests/bench/tls_load.c."""

import contextlib
import json
import os
import socket
import ssl
import subprocess

import servers
from servers import NGINX, OURS, Door, Measured, Served
from whole import Wrong

from tests.support import updraft
from tests.support.tls import TlsServer

VERSION = "1.0.4"
CHECK, DOWNLOAD = "/update/d1_mini", "/latest/d1_mini.bin"
CIPHER = "ECDHE-ECDSA-AES128-GCM-SHA256"  # of TLS 1.2; of 1.3 the clients know AES_128_GCM_SHA256 alone
NAMES = {12: "TLS 1.2", 13: "TLS 1.3"}
PLAIN = "plain"
# What one would set: OpenSSL's records of 16 KiB, or small ones for a quick first byte; a file sent over TLS is read
# into buffers either way.
NGINX_SETTINGS = {NGINX: "", "nginx, 4k records": "ssl_buffer_size 4k;", "nginx, sendfile off": "sendfile off;"}
NGINX_LINES = """ssl_certificate {certs}/server.pem;
        ssl_certificate_key {certs}/server.key;
        ssl_protocols TLSv1.2 TLSv1.3;
        ssl_ciphers %s;
        """ % CIPHER


# --- servers ----------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def ours(folder, certs, image_path, pin, connections=4096):
    """{name: Measured}, and the plain door of the same process under PLAIN."""
    with TlsServer(folder, certs, repo=image_path.parent, log_level="info", peer_connections=0, idle_timeout="10m",
                   tls_ciphers=CIPHER, preexec_fn=pin) as server:
        pid = server.process.pid
        yield {OURS: Measured(OURS, server.tls_port, pid), PLAIN: Measured(OURS, server.port, pid)}


@contextlib.contextmanager
def nginx(folder, certs, image_path, pin, connections=4096):
    lines = NGINX_LINES.format(certs=certs)
    doors = [Door(name, " ssl", lines + more) for name, more in NGINX_SETTINGS.items()] + [Door(PLAIN)]
    with servers.nginx(folder, Served(CHECK, DOWNLOAD, image_path), doors, pin, connections) as measured:
        yield {server.name: server for server in measured}


KINDS = {OURS: ours, NGINX: nginx}


# --- requests ---------------------------------------------------------------------------------------------------------


def request_text(path, kept):
    """As tests/bench/bench.py asks."""
    headers = {**updraft.ESP8266, "x-ESP8266-version": VERSION} if path == CHECK else {
        "User-Agent": "updraft-bench", "Connection": "close"}
    if kept:
        headers.pop("Connection")
    lines = [f"GET {path} HTTP/1.{int(kept)}", "Host: 127.0.0.1:8080"]
    return "\r\n".join([*lines, *(f"{name}: {value}" for name, value in headers.items()), "", ""])


def ask_once(port, version, text):
    """All bytes of the answer, by a client that is not the load's, and looks at the certificate."""
    with socket.create_connection(("127.0.0.1", port), 10) as plain:
        if version is None:
            plain.sendall(text.encode())
            return updraft.read_to_end(plain)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.minimum_version = context.maximum_version = {12: ssl.TLSVersion.TLSv1_2,
                                                             13: ssl.TLSVersion.TLSv1_3}[version]
        with context.wrap_socket(plain, suppress_ragged_eofs=False) as connection:
            expected = CIPHER if version == 12 else None
            if expected and connection.cipher()[0] != expected:
                raise Wrong(f"port {port}: the cipher is {connection.cipher()}")
            connection.sendall(text.encode())
            return updraft.read_to_end(connection)


class Question:
    """A request, and how the load asks it of a server: `flags` for tls_load, once the server was probed."""

    def __init__(self, path, kept, image):
        self.path, self.kept, self.status = path, kept, 304 if path == CHECK else 200
        self.text, self.image = request_text(path, kept), image

    def flags(self, server, version):
        """Asks once, looks at every byte, and returns what the load must know. A kept connection is asked twice, the
        last time with an end."""
        data = ask_once(server.port, version, self.text + (request_text(self.path, False) if self.kept else ""))
        answer = updraft.Reply(data)
        size = len(data) - len(answer.rest)
        for each in [answer, updraft.Reply(answer.rest)] if self.kept else [answer]:
            if each.status != self.status or (self.status == 200 and each.body != self.image):
                raise Wrong(f"{server.name}, {self.path}: {each.status_line!r}, {each.header_list!r}")
        return {"request": self.text, "answer": size, "status": self.status, "kept": int(self.kept)}


# --- load -------------------------------------------------------------------------------------------------------------


class Load:
    """A run of tls_load: it has opened what it opens, and begins when told."""

    def __init__(self, process, what):
        self.process, self.what = process, what
        self.pid = process.pid

    def begin(self):
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def result(self):
        line = self.process.stdout.readline()
        result = json.loads(line) if line else {}
        if not line or result["wrong"] + result["failed"] > 0 or result["answers"] == 0:
            raise Wrong(f"{self.what}: not all was answered as it should be: {line.strip()}")
        return result


@contextlib.contextmanager
def load(server, version, pin, nice=0, **flags):
    def prepare():
        os.nice(nice)
        if pin:
            pin()

    flags = {"port": server.port, "tls": version or 0, **flags}
    words = [str(word) for key, value in flags.items() for word in (f"--{key.replace('_', '-')}", value)]
    with servers.running([updraft.BIN / "tls_load", *words], prepare, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                         text=True) as process:
        what = f"{server.name}, {NAMES.get(version, PLAIN)}"
        if process.stdout.readline() != "open\n":
            raise Wrong(f"{what}: the load could not open its connections; its own words are above")
        yield Load(process, what)

"""The operator's program, run to its end; and a stand-in for the server, where it has to say what the real one will not
say on demand."""

import contextlib
import http.server
import json
import os
import re
import socket
import socketserver
import subprocess
import threading
import urllib.parse

from tests.support.updraft import BIN, PATIENCE_S

MAC = "5ccf7fb1e042"  # the device of tests/support


def environment(env=None):
    clean = {key: value for key, value in os.environ.items() if not key.startswith("UPDRAFT_")}
    return {**clean, "TZ": "UTC", **(env or {})}


def run(*words, env=None, cwd=None, program="updraft", timeout=PATIENCE_S, **options):
    """The program to its end: (exit code, stdout, stderr)."""
    done = subprocess.run([BIN / program, *(one if isinstance(one, bytes) else str(one) for one in words)], env=environment(env), cwd=cwd, capture_output=True,
                          text=True, timeout=timeout, **options)
    assert "Sanitizer" not in done.stderr and "runtime error" not in done.stderr, done.stderr
    return done.returncode, done.stdout, done.stderr


def says(text, *words, code=0, **options):
    """stdout, where the exit code and a pattern of what is said (stdout, then stderr) are as expected."""
    got, out, error = run(*words, **options)
    assert got == code, (got, out, error)
    assert re.search(text, out + error, re.S), (text, out, error)
    return out


class StandIn:
    """A server on a Unix socket that says what it is told: answers[(method, path)] is a list of (status, body), of
    which each is said once and the last for ever; a body may be a function of the query. `asked` is what it was asked."""

    def __init__(self, path):
        self.path, self.answers, self.asked, self.connections = str(path), {}, [], []
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self):
                outer.connections.append(self.request)
                super().setup()

            def answer(self):
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                outer.asked.append((self.command, self.path, body))
                left = outer.answers[(self.command, self.path.split("?")[0])]
                status, document = left.pop(0) if len(left) > 1 else left[0]
                if callable(document):
                    document = document(dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(self.path).query)))
                data = document if isinstance(document, bytes) else json.dumps(document).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            do_GET = do_POST = do_DELETE = do_PATCH = answer

            def address_string(self):
                return "socket"

            def log_message(self, *_):
                pass

        class Listener(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
            daemon_threads = True

        self.listener = Listener(self.path, Handler)
        self.thread = threading.Thread(target=self.listener.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self.thread.start()

    def close(self):
        """Ends as a process does: connections that were kept end too."""
        self.listener.shutdown()
        self.listener.server_close()
        for connection in self.connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.path)


STATES = ["queued", "triggered", "downloading", "flashed", "confirmed", "failed", "silent", "skipped"]
ID = "00112233aabbccdd"


def rollout(state="running", bytes=0, members=3, broker="connected", why="", canaries=(0, 0), left=None, failures=0,
            **devices):
    return {"id": ID, "type": "d1_mini", "version": "0.4.10", "mode": "sketch",
            "image": {"file": "d1_mini/0.4.10.bin", "bytes": 1000, "md5": "0" * 32}, "state": state, "why": why,
            "supersedes": "", "created": "2026-11-21T07:00:00Z",
            "ended": "2026-11-21T07:00:12Z" if state in ("done", "aborted") else None, "elapsed_s": 12, "window_s": 0,
            "timeout_s": 300,
            "order": {"to": None, "to_count": 0, "group": "", "percent": 100, "canary": canaries[1], "in_flight": 0,
                      "max_failures": 20},
            "window": {"size": 32, "adaptive": True, "in_flight": devices.get("triggered", 0)},
            "commands": {"sent": 1, "acknowledged": int(state != "planned"), "failed": 0},
            "devices": {"members": members, **{name: 0 for name in STATES}, "anonymous": 0, **devices},
            "canaries": {"members": canaries[1], "confirmed": canaries[0]}, "failures": failures, "lost": 0,
            "bytes": bytes, "bytes_expected": (members - devices.get("skipped", 0)) * 1000, "seconds_left": left,
            "notes": [], "broker": {"state": broker, "error": "" if broker == "connected" else "connection refused"},
            "store": {"state": "good", "why": ""}}


def with_devices(one, devices):
    """The rollout, which lists those (mac, state, why) where it is asked to, as the server does."""
    def answer(query):
        if query.get("devices") != "yes":
            return one
        listed = [{"mac": mac, "state": state, "canary": False, "attempts": 1, "at": "2026-11-21T07:00:00Z", "why": why}
                  for mac, state, why in devices if query.get("state", state) == state]
        start, limit = int(query.get("offset", 0)), int(query.get("limit", 1000))
        return {**one, "device_list": listed[start:start + limit], "unlisted": max(0, len(listed) - start - limit)}
    return answer

"""A real updraftd for a test: started on loopback with a port of its own, stopped at the end, its log at hand.

UPDRAFT_BIN names the folder of the programs (default: build/release/bin of this checkout)."""

import hashlib
import os
import pathlib
import re
import signal
import socket
import subprocess
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
BIN = pathlib.Path(os.environ.get("UPDRAFT_BIN", ROOT / "build/release/bin")).resolve()
PATIENCE_S = 60  # a test that waits longer has found a defect, however slow the machine


def make_image(kind, path, **options):
    """Writes an image with updraft-make-image, by rename, so that it is whole at once. Returns its bytes."""
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.parent / f".{path.name}.tmp"
    words = [f"{key}={value}" for key, value in options.items()]
    subprocess.run([BIN / "updraft-make-image", kind, temporary, *words], check=True)
    temporary.rename(path)
    return path.read_bytes()


def password_line(user, password, types=None, rounds=1000):
    """A line of the file of --device-passwords, of a hash with few rounds, so that tests are quick."""
    salt = hashlib.md5(user.encode()).digest()
    digest = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, rounds).hex()
    return f"{user}:pbkdf2-sha256${rounds}${salt.hex()}${digest}" + (f":{types}" if types else "")


def wait_until(condition, what, patience_s=PATIENCE_S):
    """The condition's value as soon as it is true."""
    end = time.monotonic() + patience_s
    while time.monotonic() < end:
        value = condition()
        if value:
            return value
        time.sleep(0.02)
    raise AssertionError(f"waited {patience_s} s in vain: {what}")


class Server:
    """`folder` gets firmware/, state/ and log; flags are keywords: Server(folder, loop_guard=2). A list repeats its
    flag, None leaves one of the fixture's own out."""

    def __init__(self, folder, env=None, wait=True, preexec_fn=None, **flags):
        self.folder = pathlib.Path(folder)
        self.repo = self.folder / "firmware"
        self.repo.mkdir(parents=True, exist_ok=True)
        self.log_path = self.folder / "log"
        flags = {"listen": "127.0.0.1:0", "repo": self.repo, "state": self.folder / "state", "log-level": "debug",
                 **{key.replace("_", "-"): value for key, value in flags.items()}}
        words = []
        for key, value in flags.items():
            for one in value if isinstance(value, list) else [] if value is None else [value]:
                words += [f"--{key}", str(one)]
        self.log_file = open(self.log_path, "ab")
        clean = {key: value for key, value in os.environ.items() if not key.startswith("UPDRAFT_")}
        # libuv closes descriptors behind ThreadSanitizer's back, which then takes a number used anew for a race.
        clean.setdefault("TSAN_OPTIONS", "ignore_noninstrumented_modules=1")
        self.process = subprocess.Popen([BIN / "updraftd", *words], stdout=subprocess.PIPE, stderr=self.log_file,
                                        env={**clean, **(env or {})}, preexec_fn=preexec_fn)
        self.port = None
        if wait:
            self.wait_ready()

    def wait_ready(self):
        """A server that says nothing more is ended, so that its silence becomes an end of file."""
        self.said = []
        patience = threading.Timer(PATIENCE_S, self.process.kill)
        patience.start()
        try:
            self.read_until_ready()
        finally:
            patience.cancel()

    def read_until_ready(self):
        for line in self.process.stdout:
            self.said.append(line.decode().rstrip("\n"))
            found = re.match(r"listening http .*:(\d+)$", self.said[-1])
            if found and self.port is None:
                self.port = int(found.group(1))
            if self.said[-1] == "ready":
                return
        raise AssertionError(f"updraftd ended with {self.process.wait(PATIENCE_S)}: {self.log()}")

    def log(self):
        return self.log_path.read_text()

    def wait_log(self, pattern):
        """The first match in the log, as soon as it is there."""
        return wait_until(lambda: re.search(pattern, self.log()), f"{pattern!r} in the log of updraftd")

    def connect(self, timeout=PATIENCE_S):
        return socket.create_connection(("127.0.0.1", self.port), timeout)

    def ask(self, request):
        """Sends bytes on a fresh connection, returns all bytes until the server ends it."""
        with self.connect() as connection:
            connection.sendall(request)
            return read_to_end(connection)

    def stop(self, expect=0):
        """SIGTERM, and the exit code must be 0: a sanitizer's complaint makes it another."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(PATIENCE_S)
        self.process.stdout.close()
        self.log_file.close()
        assert code == expect, f"updraftd ended with {code}:\n{self.log()[-4000:]}"

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        if exception[0] is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
            self.process.stdout.close()
            self.log_file.close()
        elif not self.log_file.closed:
            self.stop()


def read_to_end(connection):
    pieces = []
    while True:
        piece = connection.recv(65536)
        if not piece:
            return b"".join(pieces)
        pieces.append(piece)


class Reply:
    """One answer taken apart: .head, .status, .headers (as sent), .body; .rest is what followed it."""

    def __init__(self, data, head_only=False):
        head, separator, rest = data.partition(b"\r\n\r\n")
        assert separator, f"no whole head in {data!r}"
        self.head = head.decode("latin-1") + "\r\n\r\n"
        lines = head.decode("latin-1").split("\r\n")
        self.status_line = lines[0]
        self.status = int(lines[0].split(" ")[1])
        self.header_list = [tuple(line.split(": ", 1)) for line in lines[1:]]
        self.headers = dict(self.header_list)
        has_body = not head_only and self.status != 304
        length = int(self.headers.get("Content-Length", 0)) if has_body else 0
        self.body, self.rest = rest[:length], rest[length:]

    @property
    def reason(self):
        return self.headers.get("X-Updraft-Reason")


ESP8266 = {
    "User-Agent": "ESP8266-http-Update",
    "Connection": "close",
    "x-ESP8266-Chip-ID": "11657282",
    "x-ESP8266-STA-MAC": "5C:CF:7F:B1:E0:42",
    "x-ESP8266-AP-MAC": "5E:CF:7F:B1:E0:42",
    "x-ESP8266-free-space": "2052096",
    "x-ESP8266-sketch-size": "44304",
    "x-ESP8266-sketch-md5": "e4fe53cb9d0f50d4a7b639cda839c186",
    "x-ESP8266-chip-size": "4194304",
    "x-ESP8266-sdk-version": "2.2.2-dev(38a443e)",
    "x-ESP8266-mode": "sketch",
    "x-ESP8266-version": "1.0.3",
    "Content-Length": "0",
}

ESP32 = {
    "User-Agent": "ESP32-http-Update",
    "Connection": "close",
    "Cache-Control": "no-cache",
    "x-ESP32-STA-MAC": "24:0A:C4:B1:E0:42",
    "x-ESP32-AP-MAC": "24:0A:C4:B1:E0:43",
    "x-ESP32-free-space": "1310720",
    "x-ESP32-sketch-size": "30368",
    "x-ESP32-sketch-md5": "294caf7f21a2666fd66949b8c9f78ff9",
    "x-ESP32-sketch-sha256": "0BBF18E334BFD2A6B64BB2FD4E8DDD1C6CE5233603357B72BE6F5008D02B01E7",
    "x-ESP32-chip-size": "4194304",
    "x-ESP32-sdk-version": "v4.4.2",
    "x-ESP32-mode": "sketch",
    "x-ESP32-version": "1.0.3",
}


def device_request(path, headers, http="1.0", method="GET", **changes):
    """A request as the client sends it; changes by the last word of a header's name (version="0.5.0", mac=…), None
    leaves a header out."""
    short = {"mac": "STA-MAC", "md5": "sketch-md5", "sha256": "sketch-sha256", "flash": "chip-size",
             "free": "free-space"}
    family = "x-ESP8266-" if "x-ESP8266-STA-MAC" in headers else "x-ESP32-"
    merged = dict(headers)
    for key, value in changes.items():
        name = family + short.get(key, key)
        if value is None:
            merged.pop(name, None)
        else:
            merged[name] = str(value)
    lines = [f"{method} {path} HTTP/{http}", "Host: 127.0.0.1:8080"]
    lines += [f"{name}: {value}" for name, value in merged.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def check(server, path, headers=ESP8266, **changes):
    """One update check on a fresh connection."""
    return Reply(server.ask(device_request(path, headers, **changes)))

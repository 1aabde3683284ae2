"""Who comes and goes in a soak: devices over both doors, whole and broken off, slow and silent ones, and what is no request.

Each kind is a function of a row of KINDS, which does one thing and says what became of it; what must not happen is an
assertion, and ends the soak. A connection that is to stay a while is parked, and looked after between the others."""

import base64
import collections
import itertools
import random
import re
import socket
import ssl
import subprocess
import threading
import time
import traceback

from tests.soak.stage import PASSWORD, POOL, STRANGERS, USER
from tests.support.download import assert_whole
from tests.support.updraft import BIN, ESP32, ESP8266, PATIENCE_S, Reply, device_request, read_to_end

PARKED_MAX = 40  # of one worker
RSA_1_2 = "ECDHE-RSA-AES128-GCM-SHA256"
PLAIN_REQUEST = b"GET /latest/churn.bin HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n"
HELLO = bytes.fromhex("160301020001 0001fc0303".replace(" ", "")) + bytes(100)  # the beginning of a ClientHello


def stranger_request(number, path, **changes):
    mac = f"5C:CF:7F:B1:{number >> 8:02X}:{number & 255:02X}"
    return device_request(path, ESP32 if number % 3 == 0 else ESP8266, mac=mac, **changes)


class Thread(threading.Thread):
    """Goes on until it is told to stop, or has found a fault."""

    def __init__(self, name, stage):
        super().__init__(name=name, daemon=True)
        self.stage, self.over = stage, threading.Event()
        self.counts, self.faults = collections.Counter(), []

    def run(self):
        try:
            self.work()
        except Exception:
            self.faults.append(f"{self.name}: {traceback.format_exc()}")

    def finish(self):
        self.over.set()
        self.join(600)
        assert not self.is_alive(), f"{self.name} hangs"


class Crowd(Thread):
    """Clients one after the other, each as a row of KINDS says."""

    def __init__(self, name, stage, kinds, pause_s, seed):
        super().__init__(name, stage)
        self.kinds, self.pause_s, self.random = kinds, pause_s, random.Random(seed)
        self.parked, self.sessions = collections.deque(), {}
        server = stage.server
        self.contexts = {"1.3": server.context(ssl.TLSVersion.TLSv1_3), "1.2": server.context(ssl.TLSVersion.TLSv1_2),
                         "1.2 RSA": server.context(ssl.TLSVersion.TLSv1_2, RSA_1_2),
                         "1.2 by id": server.context(ssl.TLSVersion.TLSv1_2)}
        self.contexts["1.2 by id"].options |= ssl.OP_NO_TICKET

    def work(self):
        names, weights = list(self.kinds), [weight for _kind, weight in self.kinds.values()]
        try:
            while not self.over.is_set():
                name = self.random.choices(names, weights)[0]
                self.kinds[name][0](self)
                self.counts[name] += 1
                self.look_after()
                self.over.wait(self.pause_s)
        finally:
            for connection, _until, _rate in self.parked:
                connection.close()

    # --- what stays a while -------------------------------------------------------------------------------------------

    def park(self, connection, seconds, reads=65536):
        """For so long at most; the server may end it before. `reads` bytes at each look: 0 = not one."""
        connection.setblocking(False)
        self.parked.append((connection, time.monotonic() + seconds, reads))
        if len(self.parked) > PARKED_MAX:
            self.reset(self.parked.popleft()[0])

    def look_after(self):
        for _ in range(min(4, len(self.parked))):
            connection, until, reads = self.parked.popleft()
            if self.has_ended(connection, reads):
                self.counts["ended by the server"] += 1
                connection.close()
            elif time.monotonic() > until:
                self.reset(connection)
            else:
                self.parked.append((connection, until, reads))

    @staticmethod
    def has_ended(connection, reads):
        if reads == 0:
            return False
        try:
            return connection.recv(reads) == b""
        except (BlockingIOError, ssl.SSLWantReadError):
            return False
        except OSError:
            return True

    @staticmethod
    def reset(connection):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        connection.close()

    def leave(self, connection):
        """As a device that loses its power, or in order."""
        if self.random.random() < 0.5:
            self.reset(connection)
        else:
            connection.close()

    # --- who asks -----------------------------------------------------------------------------------------------------

    def request(self, path="/update/churn", **changes):
        return stranger_request(self.random.randrange(STRANGERS), path, **changes)

    def small_socket(self):
        return small_socket(self.stage.server.port)


def small_socket(port, source=None):
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
    connection.settimeout(PATIENCE_S)
    if source:
        connection.bind((source, 0))
    connection.connect(("127.0.0.1", port))
    return connection


def expect(data, *statuses):
    reply = Reply(data)
    assert reply.status in statuses, (reply.status_line, reply.header_list)
    return reply


# --- over the plain door ----------------------------------------------------------------------------------------------

def check(crowd):
    expect(crowd.stage.server.ask(crowd.request(version="9.9.9")), 304)


def new_device(crowd):
    """Nobody has seen it; the operator forgets it again."""
    number = next(crowd.stage.newcomers)
    mac = f"5C:CF:7F:C0:{number >> 8 & 255:02X}:{number & 255:02X}"
    expect(crowd.stage.server.ask(device_request("/update/churn", ESP8266, mac=mac, version="9.9.9")), 304)
    crowd.stage.came.append(mac)


def password(crowd):
    """Whoever guessed too often hears "not now"."""
    user, statuses = (f"{USER}:{PASSWORD}", [200, 304]) if crowd.random.random() < 0.8 else (f"{USER}:wrong", [401, 304])
    word = b"Authorization: Basic " + base64.b64encode(user.encode()) + b"\r\n\r\n"
    expect(crowd.stage.server.ask(crowd.request("/update/vault", version="9.9.9")[:-2] + word), *statuses)


def half_a_head(crowd):
    connection = crowd.stage.server.connect()
    whole = crowd.request()
    connection.sendall(whole[:crowd.random.randrange(1, len(whole) - 1)])
    if crowd.random.random() < 0.5:
        crowd.leave(connection)
    else:
        crowd.park(connection, 20)


def silence(crowd):
    crowd.park(crowd.stage.server.connect(), 20)


def kept(crowd):
    connection = crowd.stage.server.connect()
    for _ in range(crowd.random.randrange(1, 4)):
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        assert connection.recv(65536).startswith(b"HTTP/1.1 200 ")
    crowd.park(connection, 45)


def pipelined(crowd):
    one = b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
    data = crowd.stage.server.ask(9 * one + b"GET /healthz HTTP/1.0\r\n\r\n")
    assert data.count(b" 200 ") == 10, data


def broken_off(crowd):
    connection = crowd.small_socket()
    connection.sendall(PLAIN_REQUEST)
    for _ in range(crowd.random.randrange(1, 8)):
        connection.recv(8192)
    crowd.leave(connection)


def slow(crowd):
    connection = crowd.small_socket()
    connection.sendall(PLAIN_REQUEST)
    crowd.park(connection, 25, reads=4096)


def whole(crowd):
    assert_whole(Reply(crowd.stage.server.ask(PLAIN_REQUEST)), crowd.stage.images["churn"])


def nonsense(crowd):
    text, statuses = crowd.random.choice([
        (b"GET / HTTP/1.1\r\n\r\n", [400]), (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", [400]),
        (b"GET /update/churn HTTP/1.0\r\nX: " + 9000 * b"x" + b"\r\n\r\n", [431]),
        (b"GET /" + 3000 * b"x" + b" HTTP/1.0\r\n\r\n", [414]), (b"PUT /update/churn HTTP/1.0\r\n\r\n", [405, 501]),
        (b"GET /update/no-such-type HTTP/1.0\r\n\r\n", [403, 404]),
        (b"GET /healthz HTTP/1.0\r\n" + 99 * b"X: y\r\n" + b"\r\n", [431]),
    ])
    expect(crowd.stage.server.ask(text), *statuses)


# --- over TLS ---------------------------------------------------------------------------------------------------------

def tls_check(crowd, how, resume):
    """A session of an earlier one, where it is to be resumed and there is one."""
    server, context = crowd.stage.server, crowd.contexts[how]
    with server.tls(context, session=crowd.sessions.pop(how, None) if resume else None) as connection:
        connection.sendall(crowd.request(version="9.9.9"))
        expect(read_to_end(connection), 304)
        crowd.counts["resumed indeed"] += connection.session_reused
        crowd.sessions[how] = connection.session


def fresh(how):
    return lambda crowd: tls_check(crowd, how, False)


def resumed(how):
    return lambda crowd: tls_check(crowd, how, True)


def half_a_handshake(crowd):
    connection = socket.create_connection(("127.0.0.1", crowd.stage.server.tls_port), PATIENCE_S)
    connection.sendall(HELLO[:crowd.random.randrange(1, len(HELLO))])
    if crowd.random.random() < 0.5:
        crowd.leave(connection)
    else:
        crowd.park(connection, 20)


def no_tls(crowd):
    with socket.create_connection(("127.0.0.1", crowd.stage.server.tls_port), PATIENCE_S) as connection:
        connection.sendall(PLAIN_REQUEST)
        try:
            assert not re.match(rb"HTTP/1\.. 200", read_to_end(connection)), "the TLS door serves plain HTTP"
        except ConnectionError:
            pass


def tls_whole(crowd):
    server = crowd.stage.server
    assert_whole(Reply(server.tls_ask(PLAIN_REQUEST, context=crowd.contexts["1.3"])), crowd.stage.images["churn"])


def tls_broken_off(crowd):
    connection = crowd.stage.server.tls(crowd.contexts["1.2"], receive=8192)
    connection.sendall(PLAIN_REQUEST)
    connection.recv(16384)
    crowd.leave(connection)


def tls_slow(crowd):
    connection = crowd.stage.server.tls(crowd.contexts["1.2"], receive=8192)
    connection.sendall(PLAIN_REQUEST)
    crowd.park(connection, 25, reads=4096)


def tls_rests(crowd):
    connection = crowd.stage.server.tls(crowd.contexts["1.3"])
    connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
    assert connection.recv(65536).startswith(b"HTTP/1.1 200 ")
    crowd.park(connection, 45)


# name: (what it does, how often)
PLAIN_KINDS = {
    "checks": (check, 8), "new devices": (new_device, 4), "passwords": (password, 3), "half heads": (half_a_head, 4),
    "silence": (silence, 2), "kept": (kept, 3), "pipelined": (pipelined, 1), "downloads broken off": (broken_off, 4),
    "slow downloads": (slow, 2), "whole downloads": (whole, 1), "no requests": (nonsense, 4),
}
TLS_KINDS = {
    "TLS 1.3": (fresh("1.3"), 4), "TLS 1.2": (fresh("1.2"), 3), "TLS 1.2, RSA": (fresh("1.2 RSA"), 2),
    "TLS 1.2, by id": (fresh("1.2 by id"), 3), "TLS 1.3 resumed": (resumed("1.3"), 3),
    "TLS 1.2 resumed by ticket": (resumed("1.2"), 3), "TLS 1.2 resumed by id": (resumed("1.2 by id"), 3),
    "half handshakes": (half_a_handshake, 3), "no TLS": (no_tls, 1), "downloads over TLS": (tls_whole, 1),
    "the same broken off": (tls_broken_off, 2), "slow over TLS": (tls_slow, 1), "resting over TLS": (tls_rests, 2),
}
# What fills the cache of sessions.
BY_ID = {"TLS 1.2, by id": (fresh("1.2 by id"), 1)}


class Pool(Thread):
    """POOL devices that ask in bursts, over fresh connections and kept ones. Every other burst names another SDK."""

    def __init__(self, stage, checks, pause_s):
        super().__init__("pool", stage)
        self.checks, self.pause_s = checks, pause_s

    def work(self):
        for turn in itertools.count(1):
            if self.over.is_set():
                return
            self.burst(turn)
            self.over.wait(self.pause_s)

    def burst(self, turn):
        forms = self.stage.forms[turn % 2]
        command = [BIN / "check_load", "--port", self.stage.server.port, "--fresh", forms / "fresh", "--kept",
                   forms / "kept", "--devices", POOL, "--open", 100, "--at-once", 32, "--checks", self.checks, "--seed",
                   turn, *(["--ask-kept", 1] if turn % 4 < 2 else [])]
        done = subprocess.run([str(word) for word in command], input="\n", capture_output=True, text=True, check=False,
                              timeout=2 * PATIENCE_S)
        assert done.returncode == 0 and '"wrong": 0, "failed": 0' in done.stdout, (done.stdout, done.stderr)
        self.counts["checks of the pool"] += self.checks + 100

#!/usr/bin/python3
"""The whole server under broken requests: what devices, operators and the broker say, taken from the protocol cases,
docs/openapi.json and the targets' corpora, then changed, cut, split, pipelined and left hanging, at every door at once.

    tests/fuzz/server.py [SECONDS] [SEED]      script/fuzz server does this with the sanitized build of the fuzz preset

After each batch the server must answer well, have let go of its descriptors and not have grown; after each round it is
stopped, and a sanitizer's complaint, or a leak, is its exit code. The next round has another configuration, and often
the state that the last one left. A seed brings the same requests again, the order in which they arrive only about so."""

import collections
import json
import os
import pathlib
import random
import re
import selectors
import shutil
import signal
import socket
import ssl
import struct
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
os.environ.setdefault("UPDRAFT_BIN", str(ROOT / "build/fuzz/bin"))

from tests.fuzz.broken import MACS, admin_seeds, change_bytes, device_seeds, mutate, report_seeds  # noqa: E402
from tests.support.admin import Admin  # noqa: E402
from tests.support.mqtt import Broker, Listener, wait_connected  # noqa: E402
from tests.support.tls import TlsServer, dev_cert  # noqa: E402
from tests.support.updraft import Reply, make_image, password_line, read_to_end, wait_until  # noqa: E402

ROUND_S = 60
BATCH = 200            # connections
OPEN_MAX = 48          # whose ends are still awaited
ANSWER_S = 30          # a connection whose client has ended its side is over by then
GROWTH_MIB = 192       # between the first batch of a round and any later one, under ASan
DESCRIPTORS_SPARE = 12  # an image each, and what a batch may begin
KEPT = 400             # of what was sent last, for whoever looks into a finding
FORGED = re.compile(rb"(^|\n)x-forged", re.I)


# --- how it is sent ---------------------------------------------------------------------------------------------------


class Failure(Exception):
    pass


class Wire:
    """One connection as its client behaves: what is sent in which pieces, and how it ends."""

    def __init__(self, run, rng, door, data, source):
        self.run, self.door, self.end = run, door, rng.choice(("half", "half", "half", "close", "reset", "leave", "sip"))
        self.socket = run.connect(door, source)
        self.socket.setblocking(False)
        self.got = bytearray()
        self.began = time.monotonic()
        self.tls = None
        if door == "tls" and rng.random() < 0.9:
            self.shake(rng)
        self.send(rng, data)
        self.ended = False

    def push(self, data):
        """As far as it goes: who does not read is not waited for."""
        try:
            while data:
                data = data[self.socket.send(data):]
        except OSError:
            pass

    def pull(self, patience_s):
        self.socket.settimeout(patience_s)
        try:
            return self.socket.recv(65536)
        except OSError:
            return b""
        finally:
            self.socket.setblocking(False)

    def flush(self, rng):
        data = self.run.outgoing.read()
        if data and rng.random() < 0.04:
            data = change_bytes(rng, data, data)
        self.push(data)

    def shake(self, rng):
        self.run.incoming, self.run.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = rng.choice(self.run.contexts).wrap_bio(self.run.incoming, self.run.outgoing, server_hostname="127.0.0.1")
        for _ in range(6):
            try:
                tls.do_handshake()
                self.tls = tls
            except ssl.SSLWantReadError:
                pass
            except ssl.SSLError:
                break
            self.flush(rng)
            if self.tls is not None or not (data := self.pull(0.05)):
                break
            self.run.incoming.write(data)

    def send(self, rng, data):
        pieces = rng.choice((1, 1, 1, 2, 3, 8))
        cuts = sorted(rng.randrange(len(data) + 1) for _ in range(pieces - 1))
        for start, stop in zip([0, *cuts], [*cuts, len(data)]):
            piece = data[start:stop]
            if self.tls is not None and piece:
                self.tls.write(piece)
                self.flush(rng)
            else:
                self.push(piece)
            if pieces > 1 and rng.random() < 0.1:
                time.sleep(0.001)
        if self.end == "half":
            if self.tls is not None:
                try:
                    self.tls.unwrap()
                except (ssl.SSLError, OSError):
                    pass
                self.flush(rng)
            try:
                self.socket.shutdown(socket.SHUT_WR)
            except OSError:
                pass
        elif self.end == "sip":
            self.got += self.pull(0.005)[:1024]
        if self.end in ("reset", "sip"):
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        if self.end not in ("half", "leave"):
            self.close()

    def read(self):
        """What there is. Returns False at the end of it."""
        try:
            data = self.socket.recv(65536)
        except BlockingIOError:
            return True
        except OSError:
            return False
        if len(self.got) < 1 << 16:
            self.got += data
        return bool(data)

    def close(self):
        self.socket.close()


class Run:
    def __init__(self, folder, seconds, seed):
        self.folder, self.seed, self.end = folder, seed, time.monotonic() + seconds
        self.certs = dev_cert(dev_cert(folder / "certs", "--rsa", "127.0.0.1"), "device", MACS[0])
        self.image = make_image("esp8266", folder / "image.bin", seed=1, size="16K")
        rng = random.Random(f"{seed}")
        self.devices, self.operators, self.reports = device_seeds(self.image), admin_seeds(rng, self.image), report_seeds()
        self.counts, self.statuses = collections.Counter(), collections.Counter()
        self.server, self.cpu_s, self.sizes = None, 0.0, []
        self.last = collections.deque(maxlen=KEPT)
        self.where = "the start"

    # --- the server ---

    def configuration(self, rng):
        """What every round has, and what differs."""
        (self.folder / "passwords").write_text(password_line("u", "p", "door") + "\n" + password_line("fleet", "secret", "esp32") + "\n")
        flags = {"admin_listen": "127.0.0.1:0", "mqtt": self.broker.url, "settle_time": "0ms", "log_level": "info",
                 "head_timeout": "3s", "idle_timeout": "3s", "transfer_timeout": "5s", "drain_timeout": "1s",
                 "tls_client_ca": self.certs / "ca.pem", "tls_client": "optional", "reboot_timeout": "5s"}
        odd = {"device_passwords": self.folder / "passwords", "unknown_devices": rng.choice(("hold", "refuse")),
               "mqtt_preset": rng.choice(("tasmota", "homie")), "log_format": "json", "loop_guard": 1, "store": "none",
               "trusted_proxy": ["127.0.0.0/9"], "block_mac": MACS[3], "allow_mac": ["5c:cf:7f", "24:0a"], "block_network": "127.9.0.0/16",
               "tls_record_size": 512, "peer_connections": 4, "connections_max": 64, "fs_gzip": "yes", "offer": "published",
               "mqtt_version": "3.1.1", "command_retain": "yes", "site_in_flight": 2, "image_memory": "32M"}
        return {**flags, **{key: value for key, value in odd.items() if rng.random() < 0.25}}

    def make_files(self):
        shutil.rmtree(self.folder / "run/firmware", ignore_errors=True)
        for kind, path, options in (("esp8266", "truc_0_4_99.ino.d1_mini.bin", {"size": "16K"}),
                                    ("esp8266", "truc_0_5_0.ino.d1_mini.bin", {"size": "300K"}),
                                    ("esp32", "door/1.0.bin", {}), ("littlefs", "littlefs_1.0_d1_mini_4M.bin", {}),
                                    ("html", "bad_1_0.ino.bad.bin", {})):
            make_image(kind, self.folder / "run/firmware" / path, **options)

    def start(self, rng):
        if rng.random() < 0.5:
            shutil.rmtree(self.folder / "run/state", ignore_errors=True)
        self.make_files()
        log = self.folder / "run/log"
        log.unlink(missing_ok=True)
        # Freed memory is kept by ASan for a while: little of it, so that growth is the server's own.
        options = os.environ.get("ASAN_OPTIONS", "quarantine_size_mb=8")
        self.server = TlsServer(self.folder / "run", self.certs, ("server", "server-rsa"), env={"ASAN_OPTIONS": options}, **self.configuration(rng))
        admin_line = next(line for line in self.server.said if line.startswith("listening admin 127.0.0.1:"))
        self.admin_port = int(admin_line.rpartition(":")[2])
        self.admin = Admin(self.folder / "run/state/admin.sock", timeout=ANSWER_S)
        self.admin.delete("/api/v1/tokens/fuzz")
        self.token = self.admin.post("/api/v1/tokens", {"name": "fuzz", "role": "admin"}).json["token"]
        device = self.certs / f"device-{MACS[0].replace(':', '')}.pem"
        self.contexts = [self.server.context(), self.server.context(ssl.TLSVersion.TLSv1_2),
                         self.server.context(certificate=device)]
        self.good("the start")

    def stop(self):
        with open(f"/proc/{self.server.process.pid}/stat") as file:
            fields = file.read().rpartition(")")[2].split()
        self.cpu_s += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
        self.server.stop()
        text = self.server.log_path.read_bytes()
        if found := re.search(rb"[^\n -~]", text):
            raise Failure(f"a byte that a terminal acts upon is in the log: {text[found.start() - 200:found.end() + 50]!r}")

    def connect(self, door, source):
        if door == "socket":
            connection = socket.socket(socket.AF_UNIX)
            connection.connect(os.path.relpath(self.folder / "run/state/admin.sock"))
            return connection
        connection = socket.socket()
        connection.settimeout(ANSWER_S)
        connection.bind((source, 0))
        connection.connect(("127.0.0.1", {"plain": self.server.port, "tls": self.server.tls_port, "admin": self.admin_port}[door]))
        return connection

    # --- what must hold ---

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.server.process.pid}/fd"))

    def resident_mib(self):
        with open(f"/proc/{self.server.process.pid}/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") >> 20

    def good(self, when):
        """Who asks well is answered well, through every door."""
        request = b"GET /healthz HTTP/1.0\r\n\r\n"
        with self.connect("plain", "127.200.0.1") as plain:
            plain.sendall(request)
            self.want(Reply(read_to_end(plain)).status == 200, f"/healthz {when}")
        self.want(Reply(self.server.tls_ask(request, context=self.contexts[0])).status == 200, f"/healthz over TLS {when}")
        self.want(self.admin.get("/api/v1/status").status == 200, f"the status {when}")
        self.want(self.admin.get("/metrics").status == 200, f"the metrics {when}")
        remote = Admin(address=("127.0.0.1", self.admin_port), token=self.token, source="127.200.0.1")
        self.want(remote.get("/api/v1/devices?limit=1000").status == 200, f"the token {when}")
        wait_connected(self.admin)

    @staticmethod
    def want(holds, what):
        if not holds:
            raise Failure(what)

    def look_at(self, wire):
        heads = bytes(wire.got)
        for status in re.findall(rb"^HTTP/1\.1 (\d{3}) ", heads, re.M):
            self.statuses[int(status)] += 1
            self.want(status not in (b"500", b"501", b"502"), f"an answer {heads[:400]!r}")
        self.want(not FORGED.search(heads), f"a header that was made of a word: {heads[:2000]!r}")

    def drain(self, wires, most):
        """Reads until no more than `most` of them are under way."""
        with selectors.DefaultSelector() as selector:
            for wire in wires:
                selector.register(wire.socket, selectors.EVENT_READ, wire)
            while len(wires) > most:
                for key, _ in selector.select(1):
                    wire = key.data
                    if not wire.read():
                        selector.unregister(wire.socket)
                        wires.remove(wire)
                        wire.close()
                        if wire.tls is None:
                            self.look_at(wire)
                oldest = min((wire.began for wire in wires), default=time.monotonic())
                self.want(time.monotonic() - oldest < ANSWER_S, f"a connection's end within {ANSWER_S} s")

    # --- one batch ---

    def request(self, rng, door):
        seeds = self.devices if door in ("plain", "tls") else self.operators
        if rng.random() < 0.03:
            seeds = self.operators if seeds is self.devices else self.devices
        before = b"".join(rng.choices(seeds, k=rng.choice((0, 0, 1, 2, 5, 12))))  # the broken one comes upon a kept connection
        before = before.replace(b" HTTP/1.0\r\n", b" HTTP/1.1\r\n").replace(b"Connection: close", b"Connection: keep-alive")
        data = before + mutate(rng, seeds)
        if self.rollout:
            data = data.replace(b"/ID", f"/{self.rollout}".encode())
        if door == "admin" and rng.random() < 0.8:
            data = re.sub(rb"(?<=\r\n)(?=Host: )", b"Authorization: Bearer " + self.token.encode() + b"\r\n", data)
        return data

    def report(self, rng, client):
        topic = rng.choice(("updraft/d1_mini/{}/status", "updraft/d1_mini/{}/online", "updraft/door/{}/status", "tele/tasmota_{}/LWT",
                            "stat/tasmota_{}/UPGRADE", "homie/{}/$implementation/ota/status", "homie/{}/$state"))
        mac = rng.choice(MACS).replace(":", "")
        topic = topic.format(rng.choice((mac, mac.upper()[-6:], mac + "x", "")))
        client.client.publish(topic, mutate(rng, self.reports)[:4000], rng.randrange(2), rng.random() < 0.05)
        self.counts["messages"] += 1

    def drop_file(self, rng):
        """Into the repository, as a neighbour with the same rights might."""
        name = rng.choice(("door/2.{}.bin", "door/1.0.bin.sig", "truc_0_6_{}.ino.d1_mini.bin", "x\x1b_{}.ino.y.bin", "d1_mini/{}.fs.bin"))
        path = self.folder / "run/firmware" / name.format(rng.randrange(4))
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(rng.choice((b"", change_bytes(rng, self.image, self.image), self.image)))
        self.counts["files"] += 1

    def batch(self, rng, client, wires):
        left = []
        self.drop_file(rng)
        for _ in range(BATCH):
            door = rng.choices(("plain", "tls", "socket", "admin"), (12, 3, 4, 2))[0]
            source = f"127.{rng.randrange(1, 12)}.{rng.randrange(8)}.1"
            data = self.request(rng, door)
            self.last.append((door, data))
            self.counts[door] += 1
            self.counts["bytes"] += len(data)
            wire = Wire(self, rng, door, data, source)
            if wire.end == "half":
                wires.append(wire)
            elif wire.end == "leave":
                left.append(wire)
            if len(wires) >= OPEN_MAX:
                self.drain(wires, OPEN_MAX // 2)
            if rng.random() < 0.5:
                self.report(rng, client)
        for wire in left:
            wire.close()
        if rng.random() < 0.3:
            self.server.process.send_signal(signal.SIGHUP)
        self.drain(wires, 0)

    def rounds(self):
        with Broker(self.folder / "broker", "max_keepalive 120") as self.broker, \
                Listener(self.broker, "none", client_id="fuzz") as client:
            number = 0
            while number == 0 or time.monotonic() < self.end:
                self.round(number, client)
                number += 1
        return number

    def round(self, number, client):
        self.where = f"round {number}, the start"
        self.start(random.Random(f"{self.seed} {number}"))
        end = min(self.end, time.monotonic() + ROUND_S)
        base_descriptors, base_mib, batch, sizes = 0, 0, 0, []
        while batch == 0 or time.monotonic() < end:
            self.where = f"round {number}, batch {batch}"
            orders = self.admin.get("/api/v1/rollouts").json["rollouts"]
            self.rollout = orders[0]["id"] if orders else ""
            self.batch(random.Random(f"{self.seed} {number} {batch}"), client, [])
            self.good("after a batch")
            base_descriptors = base_descriptors or self.descriptors()
            most = base_descriptors + DESCRIPTORS_SPARE
            wait_until(lambda: self.descriptors() <= most, f"no more than {most} descriptors", ANSWER_S)
            mib = self.resident_mib()
            base_mib = base_mib or mib
            sizes.append(mib)
            self.want(mib - base_mib < GROWTH_MIB, f"memory: from {base_mib} to {mib} MiB")
            batch += 1
        self.counts["batches"] += batch
        self.sizes.append([sizes[len(sizes) * quarter // 4] for quarter in range(4)] + [sizes[-1]])
        self.where = f"round {number}, the end"
        self.stop()

    def fail(self, why):
        found = ROOT / "build/fuzz/found"
        found.mkdir(parents=True, exist_ok=True)
        path = found / f"server-{self.seed}.txt"
        log = self.folder / "run/log"
        text = log.read_bytes()[-20000:].decode("latin-1") if log.exists() else ""
        path.write_text(f"{self.where}: {why}\n\n{text}\n\n" + "\n".join(f"{door} {data!r}" for door, data in self.last))
        print(f"{text[-6000:]}\n{self.where}: {why}\nwhat was sent last is in {path}")
        print(f"server, seed {self.seed}: 1 failed")
        return 1


def main():
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 10
    seed = sys.argv[2] if len(sys.argv) > 2 else "1"
    print(f"seed {seed}", flush=True)
    with tempfile.TemporaryDirectory(prefix="updraft-fuzz-") as folder:
        run = Run(pathlib.Path(folder), seconds, seed)
        try:
            rounds = run.rounds()
        except (Failure, AssertionError, OSError, ssl.SSLError, json.JSONDecodeError) as error:
            code = run.fail(f"{type(error).__name__}: {error}")
            if run.server is not None:
                run.server.process.kill()
            return code
        doors = ", ".join(f"{run.counts[door]} {door}" for door in ("plain", "tls", "socket", "admin"))
        statuses = ", ".join(f"{status}: {n}" for status, n in sorted(run.statuses.items()))
        print(f"{rounds} rounds, {run.counts['batches']} batches; connections: {doors}; {run.counts['bytes'] >> 20} MiB sent; "
              f"{run.counts['messages']} MQTT messages, {run.counts['files']} files\nanswers: {statuses}\n"
              f"server: {run.cpu_s:.0f} s of a processor; MiB after each quarter of a round: {run.sizes}")
        print(f"server, seed {seed}: 1 passed")
        return 0


if __name__ == "__main__":
    sys.exit(main())

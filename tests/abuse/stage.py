"""The server under attack: both of the devices' doors and the operators', an image that devices have already, and what
it counts."""

import collections
import os
import pathlib
import re

from tests.support.admin import Admin
from tests.support.tls import TlsServer
from tests.support.updraft import device_request, make_image

TYPE, VERSION = "d1_mini", "1.0.4"
CHECK, DOWNLOAD = f"/update/{TYPE}", f"/latest/{TYPE}.bin"
FILE = f"abuse_{VERSION}.ino.{TYPE}.bin"
HEALTHZ = device_request("/healthz", {})

# Deadlines shorter than a user's, so that an attack of seconds lives to see them.
DEADLINE_S = 5
DEADLINES = {"head_timeout": f"{DEADLINE_S}s", "idle_timeout": f"{DEADLINE_S}s", "transfer_timeout": f"{DEADLINE_S}s"}

LITTLE = 16 << 10  # bytes

# What is counted, and under which label, that tells of an attack.
COUNTED = [
    ("updraft_connections_refused_total", "why", "closed unheard: {}"),
    ("updraft_transfers_total", "result", "transfers {}"),
    ("updraft_tls_handshakes_total", "result", "handshakes {}"),
]


def samples(text):
    """{"updraft_devices": 3.0, 'updraft_checks_total{reason="newer"}': 1.0, …} of a text for Prometheus."""
    return {name: float(value) for name, value in re.findall(r"^([a-z_]+(?:\{[^}]*\})?) (\S+)$", text, re.M)}


class Stage(TlsServer):
    def __init__(self, folder, certs, deadlines=None, **flags):
        make_image("esp8266", folder / "firmware" / FILE, size="512K")
        super().__init__(folder, certs, ("server", "server-rsa"), log_level="info", admin_listen="127.0.0.1:0",
                         **(DEADLINES if deadlines is None else deadlines), **flags)
        self.image = (folder / "firmware" / FILE).read_bytes()
        self.admin = Admin(folder / "state/admin.sock", timeout=8)
        self.admin_port = next(int(line.rpartition(":")[2]) for line in self.said
                               if line.startswith("listening admin 127.0.0.1:"))
        self.token = self.admin.post("/api/v1/tokens", {"name": "abuse", "role": "operate"}).json["token"]

    def url(self, door, path):
        scheme, port = {"plain": ("http", self.port), "TLS": ("https", self.tls_port),
                        "operators'": ("http", self.admin_port)}[door]
        return f"{scheme}://127.0.0.1:{port}{path}"

    def samples(self):
        return samples(self.admin.get("/metrics").text)

    def connections(self):
        return int(self.samples()["updraft_connections_open"])

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def left_to_the_system(self):
        """Connections that the server has closed, while the system goes on offering what the peer does not take: such
        memory is counted nowhere. In /proc/net/tcp (proc(5)) they have no inode; 04 is FIN-WAIT-1."""
        ports = {self.port, self.tls_port, self.admin_port}
        rows = (line.split() for line in pathlib.Path("/proc/net/tcp").read_text().splitlines()[1:])
        return sum(row[3] == "04" and row[9] == "0" and int(row[1].partition(":")[2], 16) in ports and
                   int(row[4].partition(":")[0], 16) > LITTLE for row in rows)

    def log_lines(self):
        return self.log().count("\n")

    def complaints(self):
        """Lines of the log by which someone must act."""
        return [line for line in self.log().splitlines() if "level=error" in line]


def counted(before, after):
    """What went up, in words: {"closed unheard: made-room": 200, …}."""
    grown = collections.Counter()
    for family, label, words in COUNTED:
        for name, value in after.items():
            found = re.fullmatch(rf'{family}\{{{label}="([^"]*)"\}}', name)
            if found and value > before.get(name, 0):
                grown[words.format(found.group(1))] = int(value - before.get(name, 0))
    return grown

"""What stands on the stage of a soak: the server with both doors, a store and all that it can be told to do; a real
mosquitto; and a fleet of simulated devices that ask all the time.

What makes it hard is what grows for good reasons: the server remembers devices, sessions, addresses and 64 rollouts. All
of these are of fixed number here, and the warm-up fills them: POOL devices that only ask, the simulated ones, those that
come and are forgotten again, and ADDRESSES from which somebody guesses tokens."""

import collections
import hashlib
import itertools
import re
import signal
import time

from tests.bench.load_request import MAC_PLACE, VERSION, request_text
from tests.support.admin import Admin
from tests.support.fleet import Fleet
from tests.support.mqtt import wait_connected
from tests.support.sim import Sim
from tests.support.tls import TlsServer, dev_cert
from tests.support.updraft import make_image, password_line, wait_until

POOL = 20000
POOL_TYPES = ["bulb", "meter", "relay", "gauge"]
TYPES = ["door", "lamp", "plug", "valve", "porch32", "hall32", "yard32", "roof32"]  # updraft-sim: 32 is an ESP32
# In % of the simulated devices. Twins would leave it open how many devices there are; who never starts again is lost.
ILL = {"drop": 2, "stall": 1, "bad_md5": 1, "old_image": 1, "wrong_label": 1, "eager": 1, "silent": 1}
TIME_SCALE, POLL_S, RETRY_S = 0.02, 5, 0.5
KEPT_VERSIONS = 3
ADDRESSES = [f"127.0.1.{n}" for n in range(1, 65)]
USER, PASSWORD = "cellar", "a password"
STRANGERS = 300  # devices of tests/soak/churn.py that come again and again


def digest(data):
    return hashlib.md5(data).hexdigest()


class Stage(Fleet):
    """The server's flags win over its file, which the operator changes."""

    def __init__(self, folder, devices):
        self.certs = dev_cert(folder / "certs", "--rsa", "127.0.0.1")
        self.config, self.passwords = folder / "updraft.ini", folder / "passwords"
        self.device_count, self.numbers = devices, {}
        self.newcomers, self.came = itertools.count(), collections.deque()
        self.lying = collections.defaultdict(list)  # type: (version, file) of its images, the oldest first
        self.sim = None
        self.config.write_text("")
        self.passwords.write_text(password_line(USER, PASSWORD, "vault") + "\n")
        self.images = {name: make_image("esp8266", folder / f"s/firmware/{name}/{VERSION}.bin", size=size, seed=seed)
                       for seed, (name, size) in enumerate([*((name, "32K") for name in POOL_TYPES), ("vault", "64K"),
                                                            ("churn", "1900K")], 50)}
        super().__init__(folder, kept=False, log_level="info", admin_listen="127.0.0.1:0", config=self.config,
                         device_passwords=self.passwords, reboot_timeout="3s", image_idle="10s")
        self.forms = [self.write_forms(folder / f"forms{n}", sdk) for n, sdk in enumerate(["2.2.1", "2.2.2"])]

    def start(self, wait=True, **more):
        self.server = TlsServer(self.folder / "s", self.certs, ("server", "server-rsa"), wait=wait, **{**self.flags, **more})
        line = next(line for line in self.server.said if line.startswith("listening admin 127.0.0.1:"))
        self.admin_address = ("127.0.0.1", int(line.rpartition(":")[2]))
        wait_connected(self.admin)

    def remote(self, token=None, source=None):
        return Admin(address=self.admin_address, token=token, source=source)

    def write_forms(self, folder, sdk):
        """What the pool says, over fresh and over kept connections; another SDK is a change that is written down."""
        folder.mkdir()
        for name, kept in (("fresh", False), ("kept", True)):
            texts = [re.sub(r"(sdk-version: )\S+", rf"\g<1>{sdk}", request_text(each, digest(self.images[each]), kept))
                     for each in POOL_TYPES]
            assert all(MAC_PLACE in text and sdk in text for text in texts)
            (folder / name).write_bytes("".join(texts).encode())
        return folder

    # --- images and rollouts ------------------------------------------------------------------------------------------

    def make(self, type_name, path=None):
        """The type's next version, in its place or as that file: (version, its name in the repository, its bytes)."""
        number = self.numbers[type_name] = self.numbers.get(type_name, 0) + 1
        version, kind = f"1.{number}", "esp32" if "32" in type_name else "esp8266"
        name = f"{type_name}/{version}.bin"
        data = make_image(kind, path or self.server.repo / name, size="48K",
                          seed=1000 * (TYPES.index(type_name) + 1) + number,
                          **({"version": version} if kind == "esp32" else {}))
        return version, name, data

    def knows(self, type_name, version):
        return any(image["version"] == version for image in
                   self.admin.get(f"/api/v1/firmware?type={type_name}").json["images"])

    def devices_of(self, type_name):
        return self.admin.get(f"/api/v1/devices?type={type_name}&limit=1000").json["devices"]

    def fleet(self):
        """They ask every POLL_S by themselves, and hear commands."""
        flags = {"types": ",".join(TYPES), "family": "mixed", "devices": self.device_count, "check_in_at_start": True,
                 "poll": POLL_S / TIME_SCALE, "retry": RETRY_S / TIME_SCALE, "time_scale": TIME_SCALE, "rate": "400K",
                 "stall_time": 1, "report": True, "quiet": True, "json_devices": True, "seed": 7, "duration": "24h", **ILL}
        for name in TYPES:
            version, file, _data = self.make(name)
            wait_until(lambda: self.knows(name, version), f"{version} of {name} is known")
            self.lying[name].append((version, file))
        (self.folder / "sim").mkdir()
        self.sim = Sim(self.folder / "sim", self.server, self.broker, **flags)
        self.sim.ready()
        wait_until(lambda: self.known() >= self.device_count, "the server has seen the simulated devices")

    def __exit__(self, *exception):
        try:
            if self.sim is not None:
                self.sim.__exit__()
        finally:
            super().__exit__(*exception)

    # --- quiet --------------------------------------------------------------------------------------------------------

    def is_quiet(self):
        status = self.admin.get("/api/v1/status").json
        text = self.admin.get("/metrics").text
        zero = ["updraft_connections_open", "updraft_transfers_in_flight", "updraft_image_memory_bytes",
                "updraft_rollouts_running", "updraft_store_backlog", "updraft_tls_handshakes_under_way",
                "updraft_mqtt_commands_waiting", "updraft_password_checks_under_way"]
        return all(re.search(rf"^{name} 0$", text, re.M) for name in zero) and status["devices"]["dirty"] == 0

    def hush(self):
        """Nobody asks; what was under way is over, and nothing waits. The simulated devices stand still meanwhile."""
        self.sim.process.send_signal(signal.SIGSTOP)
        wait_until(self.is_quiet, "the server has nothing to do", 240)
        time.sleep(2)

    def go_on(self):
        self.sim.process.send_signal(signal.SIGCONT)

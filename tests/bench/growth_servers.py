"""The servers that tests/bench/growth.py asks: with so many images, or so many devices known, and how to ask them."""

import concurrent.futures
import contextlib
import hashlib
import os
import pathlib
import re
import stat
import subprocess
import time

from whole import Wrong

from tests.bench.load_request import MAC_PLACE, VERSION, request_text
from tests.support import updraft
from tests.support.admin import Admin

BIN = updraft.BIN
LEAST_DEVICES = 1000
# As tests/bench/bench_fleet.c writes them down: device n is of type n modulo 8 and runs the build that this number is.
FLEET_TYPES = ["d1_mini", "nodemcu", "sonoff-basic", "esp32dev", "garden-1", "door", "lolin32", "huzzah"]
VERSIONS_A_TYPE = 10
NOTHING_NEWER = ("same-digest", "up-to-date")  # by the image that it runs, or by its version where that is unknown
FIRST_MAC = "5C:CF:00:00:00:00"


# --- requests ---------------------------------------------------------------------------------------------------------


class Asked:
    """A running server and what devices say to it. `builds`: (type, MD5 of what its devices run)."""

    def __init__(self, server, builds, devices):
        self.server, self.port, self.pid, self.devices = server, server.port, server.process.pid, devices
        self.admin = Admin(server.folder / "state/admin.sock")
        self.fresh, self.kept = server.folder / "fresh", server.folder / "kept"
        for path, kept in ((self.fresh, False), (self.kept, True)):
            path.write_bytes("".join(request_text(name, md5, kept) for name, md5 in builds).encode())
        self.probe(builds[0])

    def probe(self, build):
        """By the eye of a device: nothing newer, for the right reason. The load knows no more than that it is a 304."""
        reply = updraft.Reply(self.server.ask(request_text(*build, False).replace(MAC_PLACE, FIRST_MAC).encode()))
        if reply.status != 304 or reply.reason not in NOTHING_NEWER:
            raise Wrong(f"{build[0]}: {reply.status_line!r}, {reply.header_list!r} instead of 304, {NOTHING_NEWER}")

    def status(self):
        return self.admin.get("/api/v1/status").json

    def rows_written(self):
        return self.status()["store"]["written"]

    def settle(self, patience_s):
        """Until all that is to be written is written."""
        end = time.monotonic() + patience_s
        while time.monotonic() < end:
            status = self.status()
            if status["store"]["state"] == "off" or status["devices"]["dirty"] + status["store"]["backlog"] == 0:
                return
            time.sleep(0.05)
        raise Wrong(f"after {patience_s} s check-ins are still not written: {status['store']}, {status['devices']}")

    def check_known(self):
        known = self.status()["devices"]["known"]
        if known > self.devices:
            raise Wrong(f"{known} devices are known, of {self.devices} that there are: some asked under a wrong name")

    def cpu_ns(self):
        """(all threads, the loop's): what /proc/<pid>/task/<tid>/schedstat says first, which is in nanoseconds."""
        spent = {int(task.name): int((task / "schedstat").read_text().split()[0])
                 for task in pathlib.Path(f"/proc/{self.pid}/task").iterdir()}
        return sum(spent.values()), spent[self.pid]

    def count_instructions(self, work):
        """Those of the loop's thread that callgrind saw while `work` was done."""
        self.control("--instr=on")
        work()
        self.control("--instr=off")
        before = set(self.server.folder.glob("callgrind.out.*-01"))
        self.control("--dump")
        [dump] = set(self.server.folder.glob("callgrind.out.*-01")) - before
        return int(re.search(r"^totals: (\d+)", dump.read_text(), re.M).group(1))

    def control(self, word):
        subprocess.run(["callgrind_control", word, str(self.pid)], check=True, stdout=subprocess.DEVNULL,
                       stderr=subprocess.DEVNULL)


# --- servers ----------------------------------------------------------------------------------------------------------


def write_counted(folder):
    """A folder with an `updraftd` that runs under callgrind, which sleeps until it is woken."""
    programs = folder / "bin"
    programs.mkdir(parents=True)
    script = programs / "updraftd"
    script.write_text(f"#!/bin/sh\nexec valgrind -q --tool=callgrind --instr-atstart=no --separate-threads=yes "
                      f"--callgrind-out-file={folder}/callgrind.out '{BIN}/updraftd' --sandbox off \"$@\"\n")
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    return programs


@contextlib.contextmanager
def running(folder, builds, devices, pin, counted):
    try:
        updraft.BIN = write_counted(folder) if counted else BIN
        server = updraft.Server(folder, log_level="info", idle_timeout="10m", peer_connections=0,
                                preexec_fn=pin)
    finally:
        updraft.BIN = BIN
    with server:
        yield Asked(server, builds, devices)


@contextlib.contextmanager
def with_images(folder, count, pin, counted):
    """So many, of a tenth as many types; devices run the newest of theirs."""
    (folder / "firmware").mkdir(parents=True)

    def make(number):
        type_number, age = divmod(number, VERSIONS_A_TYPE)
        path = folder / f"firmware/growth_{VERSION if age == 0 else f'0.3.{age}'}.ino.type-{type_number}.bin"
        subprocess.run([BIN / "updraft-make-image", "esp8266", path, f"seed={number + 1}"], check=True)
        return (f"type-{type_number}", hashlib.md5(path.read_bytes()).hexdigest()) if age == 0 else None

    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        builds = [build for build in pool.map(make, range(count)) if build is not None]
    with running(folder, builds, LEAST_DEVICES, pin, counted) as asked:
        found = asked.status()["repository"]
        if found["images"] != count or found["rejected"] != 0:
            raise Wrong(f"the server found {found['images']} images, {found['rejected']} rejected, of {count}")
        yield asked


@contextlib.contextmanager
def with_devices(folder, count, pin, counted):
    """So many, met before by a server that wrote them down."""
    builds = []
    for number, name in enumerate(FLEET_TYPES):
        updraft.make_image("esp8266", folder / f"firmware/growth_{VERSION}.ino.{name}.bin", seed=number + 1)
        builds.append((name, bytes([number]).hex() + 15 * "00"))
    (folder / "state").mkdir()
    subprocess.run([BIN / "bench_fleet", "make", "--devices", str(count), "--folder", folder / "state"], check=True)
    with running(folder, builds, count, pin, counted) as asked:
        known = asked.status()["devices"]["known"]
        if known != count:
            raise Wrong(f"the server knows {known} devices of {count}")
        yield asked

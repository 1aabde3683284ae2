"""Does the loop stay responsive while the broker hangs? Latency of update checks beside what the broker does to us.

Phases take turns (before, frozen, before, killed, before, mute), so that the machine's drift touches all of them; each
outage is compared with the phase just before it. Nothing is judged by speed.

    script/bench outage [--runs N] [--seconds S]

frozen: the broker is stopped by SIGSTOP with 1,000 commands before it. killed: nobody listens, reconnects are refused.
mute: something accepts connections and never answers."""

import argparse
import os
import pathlib
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import time

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2]))
from tests.support.admin import Admin
from tests.support.mqtt import Broker, wait_connected
from tests.support.updraft import ESP8266, Server, make_image

OUTAGES = ["frozen", "killed", "mute"]
# The server, all its threads, on the first CPU, the load on the second: else the scheduler's whims are what is measured.
CLIENT_CPU = ["taskset", "-c", "1"] if len(os.sched_getaffinity(0)) > 1 else []
UNITS = {"us": 1e-3, "ms": 1.0, "s": 1e3}


def measure(server, seconds):
    """p50, p99 in ms and checks a second, by wrk: 4 connections, one check after the other."""
    words = [word for name, value in ESP8266.items() if name not in ("Connection", "Content-Length")
             for word in ("-H", f"{name}: {value}")]
    done = subprocess.run([*CLIENT_CPU, "wrk", "-t1", "-c4", f"-d{seconds}s", "--latency", *words,
                           f"http://127.0.0.1:{server.port}/update/d1_mini"], check=True, capture_output=True, text=True)
    assert "Non-2xx" not in done.stdout or "304" not in done.stdout, done.stdout
    found = {key: float(value) * UNITS[unit] for key, value, unit in re.findall(r"(\d\d)%\s+([\d.]+)(us|ms|s)", done.stdout)}
    rate = float(re.search(r"Requests/sec:\s+([\d.]+)", done.stdout).group(1))
    return found["50"], found["99"], rate


class Outage:
    """Makes the broker fail, and whole again."""

    def __init__(self, broker, admin):
        self.broker, self.admin = broker, admin
        self.mute = None

    def begin(self, kind):
        if kind == "frozen":
            self.broker.freeze()
            macs = [f"5ccf7f{i:06x}" for i in range(1000)]
            answer = self.admin.post("/api/v1/rollouts", {"type": "d1_mini", "to": macs})
            assert answer.status == 202, answer
            return
        self.broker.kill()
        if kind == "mute":
            self.mute = socket.create_server(("127.0.0.1", self.broker.port), reuse_port=False)
        time.sleep(1)

    def end(self, kind):
        if kind == "frozen":
            self.broker.thaw()
        else:
            if self.mute is not None:
                self.mute.close()
                self.mute = None
            self.broker.start()
        wait_connected(self.admin)
        time.sleep(1)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=5)
    options = parser.parse_args()
    rows = {kind: [] for kind in OUTAGES}
    with tempfile.TemporaryDirectory(prefix="updraft-outage-") as folder:
        folder = pathlib.Path(folder)
        make_image("esp8266", folder / "s/firmware/truc_1_0_3.ino.d1_mini.bin", size="512K")
        with Broker(folder / "broker") as broker, Server(folder / "s", mqtt=broker.url, log_level="warn") as server:
            admin = Admin(folder / "s/state/admin.sock")
            wait_connected(admin)
            if CLIENT_CPU:
                subprocess.run(["taskset", "-a", "-p", "-c", "0", str(server.process.pid)], check=True, capture_output=True)
                subprocess.run(["taskset", "-a", "-p", "-c", "1", str(broker.process.pid)], check=True, capture_output=True)
            outage = Outage(broker, admin)
            for _ in range(options.runs):
                for kind in OUTAGES:
                    before = measure(server, options.seconds)
                    outage.begin(kind)
                    during = measure(server, options.seconds)
                    outage.end(kind)
                    rows[kind].append((before, during))
    print(f"Update checks (304) on 4 kept connections, medians of {options.runs} runs of {options.seconds} s\n")
    print("| broker | p50 before | p50 during | p99 before | p99 during | p99 during / before | checks/s during / before |")
    print("|---|---|---|---|---|---|---|")
    for kind, pairs in rows.items():
        def median(pick):
            return statistics.median(pick(before, during) for before, during in pairs)
        ratios = sorted(during[1] / before[1] for before, during in pairs)
        print(f"| {kind} | {median(lambda b, d: b[0]):.3f} ms | {median(lambda b, d: d[0]):.3f} ms | "
              f"{median(lambda b, d: b[1]):.3f} ms | {median(lambda b, d: d[1]):.3f} ms | "
              f"{statistics.median(ratios):.2f} [{ratios[0]:.2f}-{ratios[-1]:.2f}] | "
              f"{median(lambda b, d: d[2] / b[2]):.2f} |")


if __name__ == "__main__":
    main()

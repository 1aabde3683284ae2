"""What it costs over HTTP that a check-in is remembered: many devices ask in turn, with the store and without.

    script/bench checkins [--runs N] [--seconds S] [--devices N]

Both servers take turns, so that the machine's drift touches both; all of a server's threads have one CPU, the load the
other. Nothing is judged by speed."""

import argparse
import os
import pathlib
import re
import statistics
import subprocess
import sys
import tempfile

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2]))
from machine import cpu_s, pins
from tests.support.admin import Admin
from tests.support.updraft import ESP8266, Server, make_image

SERVER_PIN, LOAD_PIN = pins()
CASES = [("SQLite", True), ("SQLite", False), ("none", True), ("none", False)]
WRK_SCRIPT = """local requests, n = {}, %d
for i = 1, n do
  local mac = string.format("5C:CF:7F:%%02X:%%02X:%%02X", math.floor(i / 65536), math.floor(i / 256) %% 256, i %% 256)
  requests[i] = string.gsub(%s, "@MAC@", mac)
end
local at = 0
request = function() at = at %% n + 1; return requests[at] end
"""


def write_script(path, devices, kept):
    headers = {**ESP8266, "x-ESP8266-STA-MAC": "@MAC@", "Connection": "keep-alive" if kept else "close"}
    lines = ["GET /update/d1_mini HTTP/1.1", "Host: 127.0.0.1"] + [f"{name}: {value}" for name, value in headers.items()]
    text = "".join(line + "\\r\\n" for line in lines + [""])
    path.write_text(WRK_SCRIPT % (devices, f'"{text}"'))


def measure(server, script, seconds):
    """(check-ins a second, µs of the server's CPU each)"""
    before = cpu_s(server.process.pid)
    words = ["wrk", "-t1", "-c64", f"-d{seconds}s", "-s", script, f"http://127.0.0.1:{server.port}/"]
    done = subprocess.run(words, check=True, capture_output=True, text=True,
                          preexec_fn=LOAD_PIN)
    used = cpu_s(server.process.pid) - before
    if "Non-2xx" in done.stdout:
        sys.exit(f"bench: {done.stdout}")
    count = int(re.search(r"(\d+) requests in", done.stdout).group(1))
    return float(re.search(r"Requests/sec:\s+([\d.]+)", done.stdout).group(1)), used * 1e6 / count


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=3)
    parser.add_argument("--devices", type=int, default=20000)
    options = parser.parse_args()
    rows = {case: [] for case in CASES}
    with tempfile.TemporaryDirectory(prefix="updraft-checkins-") as folder:
        folder = pathlib.Path(folder)
        scripts = {}
        for kept in (True, False):
            scripts[kept] = folder / f"{kept}.lua"
            write_script(scripts[kept], options.devices, kept)
        servers = {}
        try:
            for store, flags in (("SQLite", {}), ("none", {"store": "none"})):
                make_image("esp8266", folder / store / "firmware/truc_1_0_3.ino.d1_mini.bin", size="512K")
                servers[store] = Server(folder / store, log_level="warn", **flags,
                                        preexec_fn=SERVER_PIN)
                measure(servers[store], scripts[True], 2)  # all are known from here on
            admin = Admin(folder / "SQLite/state/admin.sock")
            written = -admin.get("/api/v1/status").json["store"]["written"]
            for _ in range(options.runs):
                for store, kept in CASES:
                    rows[store, kept].append(measure(servers[store], scripts[kept], options.seconds))
            written += admin.get("/api/v1/status").json["store"]["written"]
        finally:
            for server in servers.values():
                server.stop()
    asked = sum(rate * options.seconds for store, kept in CASES for rate, _ in rows[store, kept] if store == "SQLite")
    print(f"{options.devices} devices in turn, 304, medians of {options.runs} runs of {options.seconds} s; load before "
          f"{os.getloadavg()[0]:.1f}\n")
    print("| store | connections | check-ins a second | server CPU µs each, all threads |")
    print("| --- | --- | ---: | ---: |")
    for (store, kept), pairs in rows.items():
        print(f"| {store} | {'kept' if kept else 'fresh'} | {statistics.median(rate for rate, _ in pairs):,.0f} | "
              f"{statistics.median(us for _, us in pairs):.1f} |")
    print(f"\nOf {asked:,.0f} check-ins with the store, {100 * written / asked:.0f} % became a row: a device that asks again before "
          "it was written is written once.")


if __name__ == "__main__":
    main()

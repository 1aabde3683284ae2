"""How quickly commands reach the broker: the server's publisher beside Eclipse Paho alone, the library that it stands on,
with the same broker, payload and QoS 1. Paho is tried with several windows; its best is the yardstick.

    script/bench publish [--runs N] [--messages N] [--payload BYTES] [--json FILE] [--quick]

All take turns, so that the machine's drift touches all. Nothing is judged by speed; it fails where a message is not
acknowledged."""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2]))
from machine import cpu_s
from tests.support.mqtt import Broker
from tests.support.updraft import BIN

# Who, MQTT's version, messages on their way at most. 64 and MQTT 5 are the server's defaults.
CASES = [("paho", 5, 64), ("paho", 3, 64), ("paho", 3, 200), ("paho", 3, 1000),
         ("publisher", 5, 64), ("publisher", 3, 64), ("publisher", 3, 200), ("publisher", 3, 1000)]
NAMES = {"paho": "Paho alone", "publisher": "publisher"}
VERSIONS = {3: "3.1.1", 5: "5"}
PATIENCE_S = 120


def measure(case, broker, options):
    who, version, window = case
    words = [BIN / "bench_publish", who, broker.port, version, window, options.messages, options.payload]
    before = cpu_s(broker.process.pid)
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True, timeout=PATIENCE_S)
    if done.returncode != 0:
        sys.exit(f"bench: {' '.join(map(str, case))}: {done.stderr.strip()}")
    rate, cpu_us, taken = done.stdout.split()
    return {"rate": float(rate), "cpu_us": float(cpu_us), "window": int(taken),
            "broker_us": (cpu_s(broker.process.pid) - before) * 1e6 / options.messages}


def middle(runs, key):
    return statistics.median(each[key] for each in runs)


def report(rows):
    """Prints the table; returns each case's rate over Paho's best, turn by turn."""
    best = max((case for case in CASES if case[0] == "paho"), key=lambda case: middle(rows[case], "rate"))
    print("| who | MQTT | on their way | messages/s | of Paho's best | CPU µs each | broker's CPU µs each |")
    print("| --- | --- | ---: | ---: | ---: | ---: | ---: |")
    shares = {}
    for case, runs in rows.items():
        who, version, _ = case
        shares[case] = [ours["rate"] / theirs["rate"] for ours, theirs in zip(runs, rows[best])]
        share = f"{statistics.median(shares[case]):.2f} [{min(shares[case]):.2f}-{max(shares[case]):.2f}]"
        print(f"| {NAMES[who]} | {VERSIONS[version]} | {middle(runs, 'window'):.0f} | {middle(runs, 'rate'):,.0f} | {share} | "
              f"{middle(runs, 'cpu_us'):.1f} | {middle(runs, 'broker_us'):.1f} |")
    return shares


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--messages", type=int, default=50000)
    parser.add_argument("--payload", type=int, default=200)
    parser.add_argument("--json", type=pathlib.Path)
    parser.add_argument("--quick", action="store_true", help="three short runs, to see that it works")
    options = parser.parse_args()
    if options.quick:
        options.runs, options.messages = 3, 10000
    load = os.getloadavg()[0]
    rows = {case: [] for case in CASES}
    with tempfile.TemporaryDirectory(prefix="updraft-publish-") as folder:
        with Broker(pathlib.Path(folder), "persistence false") as broker:
            for _ in range(options.runs):
                for case in CASES:
                    rows[case].append(measure(case, broker, options))
    print(f"{options.messages} messages of {options.payload} bytes to as many topics, QoS 1; medians of {options.runs}; load "
          f"before {load:.1f}\n")
    shares = report(rows)
    if options.json:
        cases = [{"who": who, "mqtt": VERSIONS[version], "window": window, "runs": rows[who, version, window],
                  "of_best": shares[who, version, window]} for who, version, window in CASES]
        options.json.write_text(json.dumps({"messages": options.messages, "payload": options.payload, "load": load,
                                            "cases": cases}, indent=1) + "\n")


if __name__ == "__main__":
    main()

"""A rollout as fast as the machine goes: nothing is paced but the devices' restart. Beside it stands what the bytes alone
take: the same devices of the same simulator fetch the same image from the same server, all by themselves, with no broker
and no rollout.

    script/bench unpaced [--runs N] [--devices N,N] [--size BYTES] [--reboot S] [--in-flight N,N] [--json FILE] [--quick]

Best possible = bytes / that rate + restart. From `publish-update` to the last confirmation. Nothing is judged by speed; it
fails when a device is not confirmed, or took its image more than once."""

import argparse
import contextlib
import json
import os
import pathlib
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import datetime

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2]))
from machine import cpu_s
from tests.support.fleet import OVER, Fleet
from tests.support.sim import Sim
from tests.support.updraft import BIN, Server, make_image

ALONE_MAX = 10000  # devices of one process of the simulator
SPARE = 200        # descriptors that a program needs for itself
PATIENCE_S = 300
WINDOW = {0: "adaptive"}
FEW_AT_ONCE = 8    # heads under way while the bytes alone are measured: more only make each transfer slower
SIM = {"flash_time": 0, "quiet": True, "duration": PATIENCE_S, "http_timeout": PATIENCE_S, "types": "door"}


def shares(devices):
    """[(number of the first, how many)], one for each process of the simulator."""
    processes = -(-devices // ALONE_MAX)
    each = -(-devices // processes)
    return [(at + 1, min(each, devices - at)) for at in range(0, devices, each)]


def raise_descriptors(counts):
    """All that may be; of the numbers of devices those that fit, said where one does not: the broker needs a descriptor
    for each."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    most = hard - SPARE
    for count in counts:
        if count > most:
            print(f"{count} devices are {most} here: mosquitto needs a descriptor for each, and the hard limit is {hard}; "
                  f"to go on, raise it (ulimit -Hn {count + SPARE}, as root).\n")
    return [min(count, most) for count in counts]


def children_s():
    """Of those that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def check(summary, devices, what):
    whole, confirmed = summary["types"]["door"]["whole"], summary["confirmed_devices"]
    if whole != devices or confirmed != devices or summary["violation_count"]:
        sys.exit(f"bench: {what}: of {devices} devices {confirmed} are confirmed, after {whole} whole transfers; {summary}")


def time_of(line):
    return datetime.fromisoformat(re.search(r"^(?:time|ts)=(\S+)", line).group(1).replace("Z", "+00:00")).timestamp()


def fetch(folder, devices, options):
    """Seconds from the first simulator's start until the last device had its image, and the CPU seconds of all."""
    make_image("esp8266", folder / "s/firmware/door/2.0.0.bin", size=options.size, seed=2)
    with Server(folder / "s", log_level="info", peer_connections=0) as server, contextlib.ExitStack() as stack:
        sims, began, used = [], time.time(), children_s()
        for first, count in shares(devices):
            (folder / f"{first}").mkdir()
            sims.append(stack.enter_context(
                Sim(folder / f"{first}", server, first=first, devices=count, check_in_at_start=True, ramp=FEW_AT_ONCE,
                    reboot_time=options.reboot, until=f"confirmed={count}", **SIM)))
        for sim, (_, count) in zip(sims, shares(devices)):
            check(sim.finish(), count, "fetching")
        used = {"server": cpu_s(server.process.pid), "devices": children_s() - used}
        ends = [time_of(line) for line in server.log().splitlines() if "event=update_sent" in line]
    return max(ends) - began, used


def publish(fleet, in_flight):
    words = [BIN / "publish-update", "door", "--no-wait", "--json", "--admin-socket", fleet.admin.socket_path]
    words += ["--in-flight", str(in_flight)] if in_flight > 0 else []
    answer = subprocess.run(words, check=True, capture_output=True, text=True)
    return json.loads(answer.stdout)["id"]


def follow(fleet, rollout):
    """Its end, when the last was confirmed, and the most that were under way."""
    confirmed = taken = 0
    while True:
        now = fleet.rollout(rollout)
        if now["devices"]["confirmed"] > confirmed:
            confirmed, at = now["devices"]["confirmed"], time.monotonic()
        taken = max(taken, now["window"]["in_flight"])
        if now["state"] in OVER:
            return now, at, taken
        time.sleep(0.05)


def roll_out(folder, devices, in_flight, options):
    """{seconds from the order to the last confirmation, the most slots taken, CPU seconds of each program}"""
    with Fleet(folder, kept=False, log_level="info") as fleet, contextlib.ExitStack() as stack:
        flags = {**SIM, "time_scale": 1, "reboot_time": options.reboot}
        sims = [stack.enter_context(fleet.devices(count, first=first, **flags)) for first, count in shares(devices)]
        fleet.add("2.0.0", size=options.size)
        programs = {"server": [fleet.server], "broker": [fleet.broker], "devices": sims}
        pids = {name: [each.process.pid for each in members] for name, members in programs.items()}
        used = {name: -sum(map(cpu_s, members)) for name, members in pids.items()}
        began = time.monotonic()
        end, at, taken = follow(fleet, publish(fleet, in_flight))
        for name, members in pids.items():
            used[name] += sum(map(cpu_s, members))
        for sim, (_, count) in zip(sims, shares(devices)):
            check(sim.stop(), count, "rolling out")
    if end["state"] != "done" or end["devices"]["confirmed"] != devices:
        sys.exit(f"bench: {end}")
    return {"took": at - began, "taken": taken, "cpu": used}


def run(devices, in_flight, options):
    with tempfile.TemporaryDirectory(prefix="updraft-unpaced-") as folder:
        fetched, used = fetch(pathlib.Path(folder) / "fetch", devices, options)
        result = roll_out(pathlib.Path(folder) / "roll", devices, in_flight, options)
    best = fetched + options.reboot
    return {**result, "cpu_alone": used, "rate": devices * options.size / fetched / 1e6, "best": best, "ratio": result["took"] / best}


def report(devices, in_flight, runs):
    def middle(key):
        return statistics.median(each[key] for each in runs)

    def cpu(key):
        return ", ".join(f"{name} {statistics.median(each[key][name] for each in runs):.1f}" for name in runs[0][key])

    ratios = [each["ratio"] for each in runs]
    cells = [f"{devices:,}", WINDOW.get(in_flight, str(in_flight)), f"{middle('taken'):.0f}", f"{middle('rate'):.0f} MB/s",
             f"{middle('best'):.1f} s", f"{middle('took'):.1f} s", f"{middle('ratio'):.2f} [{min(ratios):.2f}-{max(ratios):.2f}]",
             cpu("cpu_alone"), cpu("cpu")]
    print(f"| {' | '.join(cells)} |", flush=True)
    return {"devices": devices, "in_flight": in_flight, "runs": runs, "ratio": middle("ratio")}


def parse():
    def numbers(text):
        return [int(word) for word in text.split(",")]

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--devices", type=numbers, default=[5000, 20000], help="above 10000: several simulators")
    parser.add_argument("--size", type=int, default=512 << 10)
    parser.add_argument("--reboot", type=float, default=2)
    parser.add_argument("--in-flight", type=numbers, default=[0, 4000], help="0 = adaptive")
    parser.add_argument("--json", type=pathlib.Path)
    parser.add_argument("--quick", action="store_true", help="one small run, to see that it works")
    options = parser.parse_args()
    if options.quick:
        options.runs, options.devices, options.size = 1, [1000], 128 << 10
    options.devices = raise_descriptors(options.devices)
    return options


def main():
    options = parse()
    print(f"{options.size >> 10} KiB each, {options.reboot:g} s to restart; medians of {options.runs}; load before "
          f"{os.getloadavg()[0]:.1f}\n")
    print("| devices | window | slots taken | the bytes alone | best possible | took | took / best | CPU s of the bytes alone | CPU s |")
    print("| ---: | ---: | ---: | ---: | ---: | ---: | ---: | --- | --- |")
    cases = [(devices, in_flight) for devices in options.devices for in_flight in options.in_flight]
    results = [report(*case, [run(*case, options) for _ in range(options.runs)]) for case in cases]
    if options.json:
        options.json.write_text(json.dumps({"size": options.size, "reboot_s": options.reboot, "cases": results}, indent=1) + "\n")


if __name__ == "__main__":
    main()

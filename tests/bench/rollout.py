"""How long a rollout takes, beside the best possible, and what it waits for at its end. Everything is real but the devices.

    script/bench rollout [--runs N] [--devices N] [--in-flight N]

Nothing is judged by speed; it fails when a device is not accounted for, or the window is exceeded."""

import argparse
import os
import pathlib
import statistics
import sys
import tempfile
import time

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2]))
from tests.support.fleet import FAST, OVER, Fleet, accounts
from tests.support.pace import Pace, transfer_s

STALL_S, RETRY_S, TIMEOUT_S, REBOOT_DEADLINE_S = 1, 0.5, 5, 3
ILL = {"drop": 0.5, "stall": 0.5, "bad_md5": 0.5, "old_image": 0.5, "silent": 0.5, "never_reboot": 0.5}
STATES_OPEN = ["queued", "triggered", "downloading", "flashed"]
END_MEMBERS = 200  # so few are left that each is looked at
CASES = [("all devices well", {}), ("3 % fail", ILL)]


def watch(fleet, rollout):
    """Looks at it to its end: (its end, seconds, until the last was confirmed, the mean of slots taken until then,
    {mac: when it was last seen open})."""
    began, looks, last_open, confirmed, confirmed_at = time.monotonic(), [], {}, 0, 0
    while True:
        now = fleet.rollout(rollout)
        at, devices, window = time.monotonic() - began, now["devices"], now["window"]
        if window["in_flight"] > window["size"]:
            sys.exit(f"bench: {window} in flight")
        if devices["confirmed"] > confirmed:
            confirmed, confirmed_at = devices["confirmed"], at
        if now["state"] in OVER:
            break
        looks.append((at, window["in_flight"]))
        if sum(devices[state] for state in STATES_OPEN) <= END_MEMBERS:
            for state in STATES_OPEN:
                last_open.update({mac: at for mac in fleet.members(rollout, state)})
        time.sleep(0.02)
    taken = statistics.mean(in_flight for when, in_flight in looks if when <= confirmed_at)
    return now, at, confirmed_at, taken, last_open


def run(ill, options):
    with tempfile.TemporaryDirectory(prefix="updraft-rollout-") as folder:
        with Fleet(pathlib.Path(folder), kept=False, log_level="info", reboot_timeout=f"{REBOOT_DEADLINE_S}s") as fleet:
            with fleet.devices(options.devices, ramp=200, quiet=True, rate="400K", stall_time=STALL_S,
                               retry=RETRY_S / FAST["time_scale"], **ill) as sim:
                fleet.add("2.0.0")
                rollout = fleet.order(timeout_s=TIMEOUT_S, in_flight=options.in_flight)
                end, took, confirmed_at, taken, last_open = watch(fleet, rollout)
                devices = sim.stop()["device_list"]
            log = fleet.server.log()
    if sum(accounts(end).values()) != options.devices or end["state"] != "done":
        sys.exit(f"bench: {end}")
    kinds = {device["mac"].replace(":", ""): device["misbehaviour"] for device in devices}
    tail = {}
    for mac, at in last_open.items():
        tail[kinds[mac]] = max(at, tail.get(kinds[mac], 0))
    pace = Pace(transfer_s(log), FAST["time_scale"], STALL_S, RETRY_S, TIMEOUT_S, REBOOT_DEADLINE_S)
    best = pace.best(kinds.values(), options.in_flight)
    return {"took": took, "best": best, "confirmed_at": confirmed_at, "taken": taken, "transfer": transfer_s(log),
            "rate": end["bytes"] / took / 1e6, "tail": tail}


def report(name, runs):
    def middle(key):
        return statistics.median(each[key] for each in runs)

    ratio = statistics.median(each["took"] / each["best"] for each in runs)
    spread = f"{min(each['took'] for each in runs):.1f}-{max(each['took'] for each in runs):.1f}"
    cells = [name, f"{middle('taken'):.0f}", f"{1000 * middle('transfer'):.0f} ms", f"{middle('best'):.1f} s",
             f"{middle('took'):.1f} s [{spread}]", f"{ratio:.2f}", f"{middle('confirmed_at'):.1f} s", f"{middle('rate'):.0f} MB/s"]
    print(f"| {' | '.join(cells)} |", flush=True)
    kinds = {kind for each in runs for kind in each["tail"]} - {"none"}
    return {kind: statistics.median(each["tail"].get(kind, 0) for each in runs) for kind in kinds}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--devices", type=int, default=5000)
    parser.add_argument("--in-flight", type=int, default=100)
    options = parser.parse_args()
    print(f"{options.devices} devices, 40 KiB at 400 KiB/s each, {5 * FAST['time_scale']:.1f} s to flash and restart; window "
          f"{options.in_flight}, medians of {options.runs}; load before {os.getloadavg()[0]:.1f}\n")
    print("| devices | slots taken | a transfer | best possible | took | took / best | last confirmed | in all |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    tails = [report(name, [run(ill, options) for _ in range(options.runs)]) for name, ill in CASES]
    for (name, _ill), tail in zip(CASES, tails):
        if tail:
            print(f"\n{name}: the last of each kind was accounted for after")
            for kind, at in sorted(tail.items(), key=lambda item: item[1]):
                print(f"    {kind:14} {at:5.1f} s")


if __name__ == "__main__":
    main()

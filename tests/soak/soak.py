"""Half an hour at load: does the server's memory stay flat, and do its descriptors?

    script/soak [MINUTES] [--devices N] [--every S] [--checks N] [--json FILE] [--keep FOLDER]

The story: a warm-up that fills whatever has a bound (stage.py); quiet, and a look; MINUTES of everything at once, with a
look every ten seconds; quiet, and a look; at last a rollout to everyone, and each device is accounted for. Ends with 1
where a figure is not flat, an answer was wrong, the server reported an error that was not provoked, or a device is missing.

Nothing is judged by speed. UPDRAFT_BIN names the folder of the programs, as for the tests."""

import argparse
import collections
import contextlib
import json
import os
import pathlib
import re
import signal
import sys
import tempfile
import time

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2]))
from tests.bench import machine
from tests.soak import figures
from tests.soak.acts import Acts, Guesser
from tests.soak.churn import BY_ID, PLAIN_KINDS, PLAIN_REQUEST, TLS_KINDS, Crowd, Pool, expect, small_socket, stranger_request
from tests.soak.stage import ADDRESSES, ILL, POOL, STRANGERS, TYPES, Stage
from tests.support.updraft import BIN, wait_until

ROLLOUTS = 2 * 64  # twice as many as are remembered
LEAD_S = 60  # until those that stay a while have their number
SESSIONS = 4096
DOWNLOADS = 640  # at once: more than there ever are in what follows
WARM_S = 480  # of half an hour's soak: by then the heap asks the system for nothing more
PROVOKED = {"reload_failed", "tls_reload_failed"}  # errors in the log


class Faulty(Exception):
    """Somebody met what must not be."""


def say(words):
    print(f"  {time.strftime('%H:%M:%S')} {words}", file=sys.stderr, flush=True)


class Load:
    """All threads; a new set of them each time it begins. .counts are of the set before."""

    def __init__(self, stage, options):
        self.acts = Acts(stage)
        self.threads = [self.acts, Guesser(stage), Pool(stage, options.checks, 0.5),
                        *(Crowd(f"plain {n}", stage, PLAIN_KINDS, 0.02, n) for n in range(2)),
                        *(Crowd(f"TLS {n}", stage, TLS_KINDS, 0.02, n) for n in range(2))]

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *exception):
        """The operator is the last to go: rollouts end while devices are asking."""
        for thread in reversed(self.threads):
            thread.finish()
        if exception[0] is None:
            self.look()

    def look(self):
        faults = [fault for thread in self.threads for fault in thread.faults]
        if faults:
            raise Faulty("\n".join(faults))

    def counts(self):
        return sum((thread.counts for thread in self.threads), collections.Counter())

    def wait(self, seconds):
        """Until then, or until somebody has found a fault."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.look()
            time.sleep(min(0.2, max(0, end - time.monotonic())))


# --- the story --------------------------------------------------------------------------------------------------------


def fill(stage):
    """What has a bound, to the bound: devices, the cache of sessions, the addresses that guessed, the audit log; and what
    grows with what goes on at once, beyond that."""
    say(f"{POOL + STRANGERS:,} devices ask for the first time")
    for number in range(STRANGERS):
        expect(stage.server.ask(stranger_request(number, "/update/churn", version="9.9.9")), 304)
    pool, turn = Pool(stage, 2 * POOL, 0), 2
    while stage.known() < POOL + STRANGERS + stage.device_count:
        pool.burst(turn)
        turn += 1
    say(f"{SESSIONS:,} sessions by id")
    crowds = [Crowd(f"sessions {n}", stage, BY_ID, 0, n) for n in range(2)]
    with contextlib.ExitStack() as stack:
        for crowd in crowds:
            crowd.start()
            stack.callback(crowd.finish)
        wait_until(lambda: sum(sum(crowd.counts.values()) for crowd in crowds) > SESSIONS or
                   any(crowd.faults for crowd in crowds), "the cache of sessions is full", 600)
    faults = [fault for crowd in crowds for fault in crowd.faults]
    if faults:
        raise Faulty("\n".join(faults))
    guesser = Guesser(stage)
    for address in ADDRESSES:
        guesser.guess(address)
    fill_audit_log(stage)
    fill_pools(stage)


def fill_pools(stage):
    """Records of connections, transfers and rows to be written are kept for those that come next: as many as there were
    at once."""
    say(f"{DOWNLOADS} downloads at once")
    with contextlib.ExitStack() as stack:
        connections = [stack.enter_context(small_socket(stage.server.port, f"127.0.2.{n % 8 + 1}")) for n in range(DOWNLOADS)]
        for connection in connections:
            connection.sendall(PLAIN_REQUEST)
        for connection in connections:
            assert connection.recv(15) == b"HTTP/1.1 200 OK"


def fill_audit_log(stage):
    """A page of it costs a worker thread as much memory as the file has bytes: it is read until it is full."""
    acts = Acts(stage)
    while not (stage.server.folder / "state/audit.log.1").exists():
        for _ in range(20):
            acts.words()
        assert stage.admin.get("/api/v1/audit?limit=200").status == 200


def warm_up(stage, options):
    fill(stage)
    end = time.monotonic() + min(WARM_S, options.minutes * 60 / 4)
    say(f"{ROLLOUTS} rollouts with everything else")
    with Load(stage, options) as load:
        while sum(load.acts.ended.values()) < ROLLOUTS or time.monotonic() < end:
            load.wait(1)


def quiet(stage):
    say("quiet")
    stage.hush()
    sample = figures.look(stage.server, stage.admin)
    stage.go_on()
    return sample


def measure(stage, options):
    say(f"{options.minutes:g} minutes of everything")
    samples = []
    with Load(stage, options) as load:
        load.wait(LEAD_S)
        begun = time.monotonic()
        for turn in range(int(options.minutes * 60 / options.every) + 1):
            load.wait(begun + turn * options.every - time.monotonic())
            samples.append(figures.look(stage.server, stage.admin))
    return samples, load


def account(stage):
    """One more version for everyone, to its end: then each device has it, or is known to be ill, and the server says so."""
    say("a last version for everyone")
    final = {}
    for name in TYPES:
        version, _file, _data = stage.make(name)
        wait_until(lambda: stage.knows(name, version), f"{version} of {name} is known")
        final[name] = (version, stage.order(type=name, max_failures=100, in_flight=100, timeout_s=5))
    for name, (_version, rollout) in final.items():
        end = stage.wait_over(rollout, 240)
        if end["devices"]["members"] != stage.device_count // len(TYPES):
            raise Faulty(f"a rollout to all of {name} had other devices: {end['devices']}")
    summary = stage.sim.stop()
    if summary["violation_count"] != 0:
        raise Faulty(f"the server broke a promise: {summary['violations']}")
    told = told_by_server(stage)
    return compare(summary["device_list"], told, {name: version for name, (version, _) in final.items()})


def told_by_server(stage):
    """{mac: what the server knows of it} of the simulated devices."""
    found = {}
    for name in TYPES:
        found.update({device["mac"].lower().replace(":", ""): device for device in stage.devices_of(name)})
    return found


def compare(devices, told, final):
    """Every device, by both sides."""
    counts = collections.Counter()
    for device in devices:
        mac, ill = device["mac"].lower().replace(":", ""), device["misbehaviour"]
        if mac not in told:
            raise Faulty(f"the server does not know {device}")
        up = device["version"] == final[device["type"]] or ill == "wrong-label"
        if not up and ill in ("none", "eager", "silent"):
            raise Faulty(f"{device} is left behind; the server knows {told[mac]}")
        counts["has the last version" if up else f"has not: {ill}"] += 1
    return counts


def errors_of(stage):
    """{event: how often} of the log's errors."""
    with open(stage.server.log_path, encoding="utf-8") as log:
        return collections.Counter(re.search(r"event=(\S+)", line).group(1) for line in log if " level=error " in line)


def soak(options, folder):
    about = machine.Machine(f"{options.minutes:g} minutes; {POOL:,} devices in bursts of {options.checks:,} checks, "
                            f"{options.devices:,} of updraft-sim in {len(TYPES)} types, {sum(ILL.values())} % ill",
                            BIN / "updraftd", command="script/soak")
    with Stage(folder, options.devices) as stage:
        stage.fleet()
        return {**tell(stage, options), "machine": about.over()}


def tell(stage, options):
    warm_up(stage, options)
    before = quiet(stage)
    samples, load = measure(stage, options)
    after = quiet(stage)
    devices, missing = {}, []
    try:
        devices = account(stage)
        known, wanted = stage.known(), POOL + STRANGERS + options.devices
        if known != wanted:
            raise Faulty(f"the server knows {known} devices, of {wanted} that there are")
    except (Faulty, AssertionError) as fault:
        missing.append(str(fault))  # the figures are good all the same
    return {"before": before, "after": after, "samples": samples, "counts": load.counts(), "ended": load.acts.ended,
            "members": load.acts.members, "devices": devices, "errors": errors_of(stage), "wrong": missing}


# --- the report -------------------------------------------------------------------------------------------------------


def listed(counts):
    return ", ".join(f"{count:,} {name}" for name, count in sorted(counts.items()))


def rates(samples):
    first, last = samples[0]["metrics"], samples[-1]["metrics"]
    seconds = samples[-1]["when"] - samples[0]["when"]
    families = {"checks": "updraft_checks_total", "handshakes": "updraft_tls_handshakes_total"}
    found = {name: figures.total(last, family) - figures.total(first, family) for name, family in families.items()}
    found["connections"] = last["updraft_connections_total"] - first["updraft_connections_total"]
    return "; ".join(f"{count:,.0f} {name} ({count / seconds:,.0f} a second)" for name, count in found.items())


def kinds_changed(before, after):
    """Descriptors of each kind that are more at the end."""
    return {kind: (before["kinds"].get(kind, 0), count) for kind, count in after["kinds"].items()
            if count > before["kinds"].get(kind, 0)}


def report(result):
    """Lines, and what is wrong."""
    samples, before, after = result["samples"], result["before"], result["after"]
    lines, wrong = figures.table(samples, before, after)
    wrong = [f"{name} is not flat" for name in wrong] + result["wrong"]
    more = kinds_changed(before, after)
    if more:
        wrong.append(f"descriptors that were not there before: {more}")
    strange = {event: count for event, count in result["errors"].items() if event not in PROVOKED}
    if strange:
        wrong.append(f"errors in the log that nobody provoked: {strange}")
    told = [f"{len(samples)} samples. Meanwhile: {rates(samples)}.", f"Done: {listed(result['counts'])}.",
            f"Rollouts: {listed(result['ended'])}. Their devices: {listed(result['members'])}.",
            f"At the end each of {sum(result['devices'].values()):,} devices is accounted for: {listed(result['devices'])}.",
            f"Files: {figures.growth_line(samples)}.", f"Errors in the log, all provoked: {listed(result['errors'])}."]
    return machine.describe(result["machine"]) + lines + [line for each in told for line in ("", each)], wrong


def parse_options():
    parser = argparse.ArgumentParser(prog="script/soak", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("minutes", nargs="?", type=float, default=30, metavar="MINUTES", help="of everything at once (30)")
    parser.add_argument("--devices", type=int, default=2000, metavar="N", help="simulated ones, a multiple of 8 (2,000)")
    parser.add_argument("--checks", type=int, default=2000, metavar="N", help="of a burst, about one a second (2,000)")
    parser.add_argument("--every", type=float, default=10, metavar="S", help="a look (10)")
    parser.add_argument("--json", metavar="FILE", help="write every sample")
    parser.add_argument("--keep", metavar="FOLDER", help="work in this new folder, and leave it")
    options = parser.parse_args()
    if options.minutes <= 0 or options.every <= 0 or options.devices <= 0 or options.devices % len(TYPES) != 0:
        parser.error(f"MINUTES and --every: more than 0; --devices: a multiple of {len(TYPES)}")
    return options


@contextlib.contextmanager
def folder_of(options):
    if options.keep:
        os.makedirs(options.keep)
        yield pathlib.Path(options.keep).resolve()
    else:
        with tempfile.TemporaryDirectory(prefix="updraft-soak-") as folder:
            yield pathlib.Path(folder)


def main():
    options = parse_options()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("soak: ended by SIGTERM"))  # so that all else is ended too
    try:
        with folder_of(options) as folder:
            result = soak(options, folder)
    except (Faulty, AssertionError) as fault:
        sys.exit(f"soak: {fault}")
    lines, wrong = report(result)
    print("\n".join(lines))
    if options.json:
        pathlib.Path(options.json).write_text(json.dumps(result, indent=1) + "\n")
    for each in wrong:
        print(f"\nNOT FLAT, OR WRONG: {each}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())

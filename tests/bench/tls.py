"""What TLS costs beside nginx: handshakes, bytes, memory, and what a storm of handshakes does to everybody else.

What makes it hard is that nginx must have the same: one certificate and key (ECDSA P-256), the same cipher, the groups
and tickets that OpenSSL gives both. The servers take turns; each turn gives a ratio, medians of these are what to
compare. Memory is measured of fresh servers. Nothing is judged by speed; it fails when an answer is wrong, or a session
that should be resumed is not.

    script/bench tls [--quick] [--runs N] [--seconds S] [--only PART,...] [--no-pin] [--json FILE]

UPDRAFT_BIN names the folder of the programs, as for the tests."""

import argparse
import contextlib
import pathlib
import resource
import ssl
import sys
import time
import types

sys.dont_write_bytecode = True
ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests/support")]
import machine
import slow
import tls_report
import whole
from ratios import medians_of, ratios_of
from servers import NGINX, OURS
from tls_servers import CHECK, DOWNLOAD, KINDS, NAMES, NGINX_SETTINGS, PLAIN, VERSION, Question, load
from whole import Wrong

from tests.support import updraft
from tests.support.tls import dev_cert

IMAGE_SIZE = "512K"
MIB = 1 << 20
CONNECTIONS = 64
IDLE = 1000  # connections, and then as many again
SLOW = 500
STORM = 50  # clients that do nothing but shake hands
STORM_NICE = 5  # of the load, which shares a CPU with those who measure
STORMS = {"whole handshakes": {}, "ClientHellos alone": {"hello_only": 1}}
# case, version, kept, resumed
HANDSHAKES = [(f"{NAMES[version]}, {'resumed' if resumed else 'full'}", version, False, resumed)
              for version in NAMES for resumed in (False, True)]
DOWNLOADS = [(f"{NAMES[version]}, {'kept' if kept else 'fresh'} connection", version, kept, False)
             for version in NAMES for kept in (True, False)]
TARGETS_HANDSHAKES = [(HANDSHAKES[0][0], NGINX, "server_us", 1.05)]
TARGETS_DOWNLOADS = [(case, "the better nginx", "server_us", 0.8) for case, *_ in DOWNLOADS]


def say(text):
    print(f"  {text} ...", file=sys.stderr)


class Bench:
    """What all parts need."""

    def __init__(self, options, folder, image_path, image, pins):
        self.options, self.folder, self.image_path, self.image = options, folder, image_path, image
        self.server_pin, self.load_pin = pins
        self.certs = dev_cert(folder / "certs", "127.0.0.1")
        self.questions = {(path, kept): Question(path, kept, image)
                          for path in (CHECK, DOWNLOAD) for kept in (False, True)}
        self.count = 0

    def server(self, kind):
        """A fresh one, in a folder of its own."""
        self.count += 1
        return KINDS[kind](self.folder / f"{kind}{self.count}", self.certs, self.image_path, self.server_pin)

    def load(self, server, version, nice=0, **flags):
        return load(server, version, self.load_pin, nice, **flags)


# --- CPU --------------------------------------------------------------------------------------------------------------


def measure(bench, server, case, flags, unit):
    """One run against one server. `unit`: the bytes that figures are of; None = a check."""
    name, version, _, resumed = case
    with bench.load(server, version, connections=CONNECTIONS, ms=int(bench.options.seconds * 1000), resume=int(resumed),
                    **flags) as one:
        pids = server.pid, one.pid
        before = [machine.exact_cpu_s(pid) for pid in pids]
        one.begin()
        result = one.result()
        server_s, client_s = (machine.exact_cpu_s(pid) - was for pid, was in zip(pids, before))
    if not flags["kept"] and (result["handshakes"], result["resumed"]) != (result["answers"],
                                                                            resumed * result["answers"]):
        raise Wrong(f"{server.name}, {name}: {result['handshakes']} handshakes, of which {result['resumed']} resumed, "
                    f"for {result['answers']} answers")
    count = result["answers"] if unit is None else result["answers"] * len(bench.image) / unit
    return {"case": name, "server": server.name, "requests": result["answers"], "rate": count / result["seconds"],
            "server_s": server_s, "server_us": server_s * 1e6 / count, "client_us": client_s * 1e6 / count,
            "both_us": (server_s + client_s) * 1e6 / count}


def cpu_part(bench, cases, path, names, unit, targets):
    runs = []
    with bench.server(OURS) as ours, bench.server(NGINX) as theirs:
        measured = [ours[OURS], *(theirs[name] for name in names)]
        flags = {(server.name, case[0]): bench.questions[path, case[2]].flags(server, case[1])
                 for server in measured for case in cases}
        for turn in range(bench.options.runs):
            for case in cases:
                for server in measured:
                    say(f"{turn + 1}/{bench.options.runs} {case[0]}, {path}, {server.name}")
                    run = measure(bench, server, case, flags[server.name, case[0]], unit)
                    runs.append({"turn": turn, **run})
    return {"medians": medians_of(runs), "ratios": ratios_of(runs, targets), "runs": runs}


def handshakes(bench):
    return cpu_part(bench, HANDSHAKES, CHECK, [NGINX], None, TARGETS_HANDSHAKES)


def downloads(bench):
    return cpu_part(bench, DOWNLOADS, DOWNLOAD, NGINX_SETTINGS, MIB, TARGETS_DOWNLOADS)


# --- memory -----------------------------------------------------------------------------------------------------------


def idle_rows(bench, kind, version):
    """Connections that asked once and rest."""
    with bench.server(kind) as doors, contextlib.ExitStack() as stack:
        server = doors[kind]
        flags = bench.questions[CHECK, True].flags(server, version)
        before = slow.look(server)
        rows = []
        for count in (IDLE, 2 * IDLE):
            say(f"{count} idle connections, {NAMES[version]}, {kind}")
            stack.enter_context(bench.load(server, version, connections=IDLE, **flags))
            time.sleep(0.5)
            rows.append({"what": f"{count:,} idle", "version": version, "server": kind,
                         **slow.growth(before, slow.look(server), count)})
    return rows


def slow_row(bench, kind, version):
    how = types.SimpleNamespace(connections=SLOW, rate=bench.options.rate, opening=SLOW)
    with bench.server(kind) as doors:
        server = doors[kind]
        bench.questions[DOWNLOAD, True].flags(server, version)
        say(f"{SLOW} slow downloads, {NAMES[version]}, {kind}")
        before = slow.look(server)
        with slow.slow_load(server, bench.image, how, bench.load_pin, "--tls", version) as process:
            slow.next_event(process, "loaded", server)
            looks = []
            for _ in range(4):
                time.sleep(len(bench.image) / bench.options.rate / 8)
                looks.append(slow.growth(before, slow.look(server), SLOW))
            slow.next_event(process, "done", server)
    return {"what": f"{SLOW} slow downloads", "version": version, "server": kind,
            **{key: max(one[key] for one in looks) for key in looks[0]}}


def memory(bench):
    rows = []
    for version in NAMES:
        for kind in KINDS:
            rows += idle_rows(bench, kind, version)
            rows.append(slow_row(bench, kind, version))
    return rows


# --- a storm ----------------------------------------------------------------------------------------------------------


def ask_checks(bench, server, version, flags):
    ms = int(bench.options.seconds * 1000)
    with bench.load(server, version, connections=8, pause_us=5000, ms=ms, **flags) as one:
        one.begin()
        return one.result()


def ask_transfer(bench, server, version, flags):
    """Bytes a second of one client that takes what it gets."""
    with bench.load(server, version, connections=1, ms=int(bench.options.seconds * 1000), **flags) as one:
        one.begin()
        result = one.result()
        return result["bytes"] / result["seconds"]


def questions_of(bench, doors, kind, version):
    """How to ask each door, found out in calm."""
    tls, plain = doors[kind], doors[PLAIN]
    return {"tls": (tls, version, bench.questions[CHECK, True].flags(tls, version)),
            "plain": (plain, None, bench.questions[CHECK, True].flags(plain, None)),
            "transfer": (tls, version, bench.questions[DOWNLOAD, True].flags(tls, version))}


def feel(bench, asked):
    """What is to be had of a server as it is now, one after the other."""
    return {"tls": ask_checks(bench, *asked["tls"]), "plain": ask_checks(bench, *asked["plain"]),
            "transfer": ask_transfer(bench, *asked["transfer"])}


def under_storm(bench, asked, how):
    server, version, _ = asked["tls"]
    seconds = 3 * bench.options.seconds + 3
    with bench.load(server, version, STORM_NICE, connections=STORM, ms=int(seconds * 1000), **how) as storm:
        storm.begin()
        time.sleep(0.3)
        before, began = server.cpu_s(), time.monotonic()
        felt = feel(bench, asked)
        elapsed = time.monotonic() - began
        cpu = (server.cpu_s() - before) / elapsed
        result = storm.result()
    if elapsed > seconds - 0.5:
        print(f"bench: {server.name}: the storm ended while it was felt: a longer --seconds", file=sys.stderr)
    return {**felt, "cpu": cpu, "handshakes": result["answers"] / result["seconds"]}


def storm(bench):
    """Over TLS 1.2, which devices speak."""
    rows = []
    with bench.server(OURS) as ours, bench.server(NGINX) as theirs:
        asked = {kind: questions_of(bench, doors, kind, 12) for kind, doors in ((OURS, ours), (NGINX, theirs))}
        for turn in range(bench.options.runs):
            for kind, how_asked in asked.items():
                say(f"{turn + 1}/{bench.options.runs} no storm, {kind}")
                rows.append({"turn": turn, "server": kind, "storm": "none", **feel(bench, how_asked)})
                for name, how in STORMS.items():
                    say(f"{turn + 1}/{bench.options.runs} {STORM} clients, {name}, {kind}")
                    rows.append({"turn": turn, "server": kind, "storm": name, **under_storm(bench, how_asked, how)})
    return rows


# --- the whole --------------------------------------------------------------------------------------------------------

PARTS = {"handshakes": handshakes, "downloads": downloads, "memory": memory, "storm": storm}


def parse_options():
    parser = argparse.ArgumentParser(prog="script/bench tls", description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="2 turns of 1 s: to see that it works, not to quote")
    parser.add_argument("--runs", type=int, metavar="N", help="turns; medians are of these (5)")
    parser.add_argument("--seconds", type=float, metavar="S", help="length of a measurement (2)")
    parser.add_argument("--only", metavar="PART,...", help=f"of {', '.join(PARTS)}")
    parser.add_argument("--no-pin", action="store_true", help="leave servers and load to the scheduler")
    parser.add_argument("--json", metavar="FILE", help="write every run, the medians and the ratios")
    options = parser.parse_args()
    options.runs = options.runs or (2 if options.quick else 5)
    options.seconds = options.seconds or (1 if options.quick else 2)
    options.rate = 65536 if options.quick else 32768  # of a slow download
    options.only = whole.names_of(parser, options.only, PARTS)
    if options.runs < 1 or options.seconds <= 0:
        parser.error("--runs and --seconds: at least 1, and more than 0")
    return options


def bench(options, folder):
    pins = machine.pins(not options.no_pin)
    where = "servers on one CPU, load on another" if pins[0] else "not pinned"
    about = machine.Machine(f"medians of {options.runs} turns of {options.seconds:g} s; {where}; {ssl.OPENSSL_VERSION}",
                            updraft.BIN / "updraftd", "nginx", command="script/bench tls")
    image_path = folder / "firmware" / f"bench_{VERSION}.ino.d1_mini.bin"
    image = updraft.make_image("esp8266", image_path, size=IMAGE_SIZE)
    stage = Bench(options, folder, image_path, image, pins)
    parts = {name: part(stage) for name, part in PARTS.items() if name in options.only}
    return {"machine": about.over(), **parts}


def main():
    options = parse_options()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    whole.run(bench, tls_report.report, options)


if __name__ == "__main__":
    main()

"""Ten thousand slow radios: what each costs while it downloads, and what quick clients feel of them.

What makes it hard is that a slow load must stay slow and be no load itself: tests/bench/slow_load.c is a program of its
own, paced, with the receive buffer of a device. One server after the other gets it, each fresh; what is compared is that
server without the load and with it. The load takes CPU time all the same, of the quick client's CPU too: tests/bench/
quick_client.py leaves it room and goes first. An idle twin of the server is asked in the same seconds, and tells what of
a loss is the machine's. Nothing is judged by speed; it fails when a download is not whole by its MD5.

    script/bench slow [--quick] [--connections N] [--rate BYTES/S] [--size 512K|4M] [--only NAME,...] [--json FILE]

UPDRAFT_BIN names the folder of the programs, as for the tests."""

import argparse
import contextlib
import hashlib
import json
import os
import pathlib
import re
import resource
import subprocess
import sys
import time

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))
import machine
import servers
import updraft
import whole
from quick_client import QuickClient, check_request
from servers import LIGHTTPD, NGINX, OURS, Door, Served
from tables import markdown_table
from whole import Wrong

VERSION = "1.0.4"
CHECK, DOWNLOAD = "/update/d1_mini", "/latest/d1_mini.bin"
SPARE = 1000  # connections beyond the slow ones
PAGE = os.sysconf("SC_PAGE_SIZE")
LOADED_S = 60  # for the load to be complete
# figure, limit, is it met
TARGETS = {
    "whole": ("all", lambda row, connections: row["whole"] == connections),
    "rss": ("≤ 2 KiB", lambda row, connections: row["rss"] <= 2048),
    "descriptors": ("1", lambda row, connections: row["descriptors"] < 1.01),
    "kernel": ("≤ 64 KiB", lambda row, connections: row["kernel"] <= 65536),
    "check_p99": ("≤ 5 ms more", lambda row, connections: row["check_p99"] - row["idle"]["check_p99"] <= 0.005),
    "kept": ("≥ 0.8", lambda row, connections: row["kept"] >= 0.8 * row["idle"]["kept"]),
    "fresh": ("≥ 0.8", lambda row, connections: row["fresh"] >= 0.8 * row["idle"]["fresh"]),
}


# --- servers ----------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def ours(name, folder, served, options, pin):
    with servers.ours(folder, pin, repo=served.image.parent) as server:
        yield server


def nginx(listen):
    @contextlib.contextmanager
    def running(name, folder, served, options, pin):
        door = Door(name, f" backlog=4096{listen}", "tcp_nopush on;")
        with servers.nginx(folder, served, [door], pin, options.connections + SPARE) as [server]:
            yield server
    return running


@contextlib.contextmanager
def lighttpd(name, folder, served, options, pin):
    with servers.lighttpd(folder, served, pin, options.connections + SPARE,
                          lines="server.listen-backlog = 4096") as [server]:
        yield server


# name, program, how to run it. nginx with small send buffers is what one would set for slow devices.
SERVERS = [
    (OURS, updraft.BIN / "updraftd", ours),
    (NGINX, "nginx", nginx("")),
    ("nginx-sndbuf", "nginx", nginx(" sndbuf=32k")),
    (LIGHTTPD, "lighttpd", lighttpd),
]


# --- what is held -----------------------------------------------------------------------------------------------------


def tcp_memory():
    """Bytes that the system counts for all TCP sockets, both ends, of everyone on the machine."""
    return int(re.search(r"^TCP:.* mem (\d+)", pathlib.Path("/proc/net/sockstat").read_text(), re.M).group(1)) * PAGE


def sockets(side, port):
    """Connections at one end, the bytes of memory that the system holds for them, and those in the Send-Q (SIOCOUTQ)."""
    output = subprocess.run(["ss", "-HtmnO", "state", "connected", side, "=", f":{port}"], check=True,
                            stdout=subprocess.PIPE, text=True).stdout
    held = queued = 0
    lines = output.splitlines()
    for line in lines:
        queued += int(line.split()[2])
        memory = dict(re.findall(r"([a-z]+)(\d+)", line.partition("skmem:(")[2]))
        held += sum(int(memory.get(key, 0)) for key in ("r", "f", "w", "o", "bl"))
    return {"count": len(lines), "memory": held, "queued": queued}


def look(server):
    return {"rss": 1024 * server.rss_kib(), "descriptors": server.descriptors(), "tcp": tcp_memory(),
            "server": sockets("sport", server.port), "clients": sockets("dport", server.port)}


def growth(before, after, connections):
    """Of each connection, in bytes."""
    ours = after["tcp"] - before["tcp"] - (after["clients"]["memory"] - before["clients"]["memory"])
    return {"rss": (after["rss"] - before["rss"]) / connections, "kernel": ours / connections,
            "kernel_ss": after["server"]["memory"] / connections, "queued": after["server"]["queued"] / connections,
            "descriptors": (after["descriptors"] - before["descriptors"]) / connections}


# --- one server -------------------------------------------------------------------------------------------------------


def slow_load(server, image, options, pin, *more):
    command = [updraft.BIN / "slow_load", "--port", server.port, "--path", DOWNLOAD, "--size", len(image), "--md5",
               hashlib.md5(image).hexdigest(), "--connections", options.connections, "--rate", options.rate,
               "--opening", options.opening, "--seconds-max", int(LOADED_S + 3 * len(image) / options.rate), *more]
    def prepare():
        os.nice(5)  # not SCHED_IDLE, in which any other work on the machine starves the load
        if pin:
            pin()

    return servers.running(command, prepare, stdout=subprocess.PIPE, text=True)


def next_event(load, wanted, server):
    line = load.stdout.readline()
    event = json.loads(line) if line else {"event": "nothing"}
    if event["event"] != wanted or event.get("failed", 0) > 0:
        raise Wrong(f"{server.name}: the slow downloads did not all come whole: {line.strip()}")
    return event


def under_load(server, twin, client, answer_bytes, idle, options, pin):
    with slow_load(server, client.image, options, pin) as load:
        loaded = next_event(load, "loaded", server)
        time.sleep(1)
        cpu, began = (server.cpu_s(), machine.cpu_s(load.pid)), time.monotonic()
        time.sleep(options.seconds)
        elapsed = time.monotonic() - began
        row = {"cpu": (server.cpu_s() - cpu[0]) / elapsed, "load_cpu": (machine.cpu_s(load.pid) - cpu[1]) / elapsed}
        looks = [look(server)]
        cpu, began = machine.cpu_s(load.pid), time.monotonic()
        row.update(client.feel(server, answer_bytes))
        row["load_cpu_meanwhile"] = (machine.cpu_s(load.pid) - cpu) / (time.monotonic() - began)
        looks.append(look(server))
        row["twin"] = client.feel(twin, answer_bytes)
        if min(each["server"]["count"] for each in looks) < 0.95 * options.connections:
            print(f"bench: {server.name}: the load ended while it was measured: a lower --rate, a shorter --seconds",
                  file=sys.stderr)
        done = next_event(load, "done", server)
    each = [growth(idle["look"], one, options.connections) for one in looks]
    row.update({key: max(one[key] for one in each) for key in each[0]})
    return {**row, "whole": done["whole"], "loaded_s": loaded["seconds"], "load": done, "looks": looks}


def measure(entry, image_path, client, folder, options, pins):
    name, _, run = entry
    served = Served(CHECK, DOWNLOAD, image_path)
    with run(name, folder / name, served, options, pins[0]) as server, \
         run(name, folder / f"{name}-twin", served, options, pins[0]) as twin:
        answer_bytes = client.probe(server)
        client.probe(twin)
        print(f"  {name}, idle ...", file=sys.stderr)
        idle = client.feel(server, answer_bytes)
        time.sleep(0.5)
        idle["look"] = look(server)
        print(f"  {name}, {options.connections} slow downloads ...", file=sys.stderr)
        return {"server": name, "idle": idle, **under_load(server, twin, client, answer_bytes, idle, options, pins[1])}


# --- telling ----------------------------------------------------------------------------------------------------------


def kib(value):
    return f"{value / 1024:.1f} KiB"


def ms(value):
    return f"{value * 1e3:.2f} ms"


def against_idle(key):
    return lambda row: (f"{row[key] / 1e6:.0f} MB/s of {row['idle'][key] / 1e6:.0f}: "
                        f"{row[key] / row['idle'][key]:.2f}")


def against_twin(key):
    return lambda row: f"{row[key] / row['twin'][key]:.2f}"


def by_the_wall(row):
    shares = [f"{row[key] / row[other][key]:.2f}" for other in ("idle", "twin") for key in ("kept_wall", "fresh_wall")]
    return f"{ms(row['check_p99_wall'])}; {', '.join(shares)}"


# what, its key among the targets, how it is said
LINES = [
    ("whole by MD5", "whole", lambda row: str(row["whole"])),
    ("resident memory, each", "rss", lambda row: kib(row["rss"])),
    ("descriptors, each", "descriptors", lambda row: f"{row['descriptors']:.2f}"),
    ("kernel socket memory, each (sockstat)", "kernel", lambda row: kib(row["kernel"])),
    ("the same as ss counts it", None, lambda row: kib(row["kernel_ss"])),
    ("sent, not acknowledged, each (SIOCOUTQ)", None, lambda row: kib(row["queued"])),
    ("CPU of the server for them; of the load, and beside the quick client", None,
     lambda row: f"{row['cpu']:.2f}; {row['load_cpu']:.2f}, {row['load_cpu_meanwhile']:.2f}"),
    ("fresh 304, p50: idle, meanwhile", None, lambda row: f"{ms(row['idle']['check_p50'])}, {ms(row['check_p50'])}"),
    ("fresh 304, p99: idle, meanwhile", "check_p99",
     lambda row: f"{ms(row['idle']['check_p99'])}, {ms(row['check_p99'])}"),
    ("quick client, kept connection", "kept", against_idle("kept")),
    ("quick client, fresh connections", "fresh", against_idle("fresh")),
    ("fresh 304, p50, p99 of the idle twin meanwhile", None,
     lambda row: f"{ms(row['twin']['check_p50'])}, {ms(row['twin']['check_p99'])}"),
    ("quick client, kept, fresh: of the idle twin's meanwhile", None,
     lambda row: f"{against_twin('kept')(row)}, {against_twin('fresh')(row)}"),
    ("by the wall's clock: p99; kept, fresh of idle, of the twin", None, by_the_wall),
    ("a slow download: median, longest", None,
     lambda row: f"{row['load']['median_s']:.1f} s, {row['load']['longest_s']:.1f} s"),
]


def verdict(row, key, connections):
    if key is None or row["server"] != OURS:
        return ""
    return " (met)" if TARGETS[key][1](row, connections) else " **(missed)**"


def report(result):
    rows, connections = result["servers"], result["connections"]
    table = [[what, TARGETS[key][0] if key else "", *(say(row) + verdict(row, key, connections) for row in rows)]
             for what, key, say in LINES]
    return "\n".join(machine.describe(result["machine"]) +
                     markdown_table(["what", "target", *(row["server"] for row in rows)], table))


# --- the whole --------------------------------------------------------------------------------------------------------


def parse_options():
    names = [name for name, _, _ in SERVERS]
    parser = argparse.ArgumentParser(prog="script/bench slow", description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="1,000 downloads at 64 KiB/s: to see that it works")
    parser.add_argument("--connections", type=int, metavar="N", help="slow downloads at once (10000)")
    parser.add_argument("--rate", type=int, metavar="BYTES", help="a second, of each (16384)")
    parser.add_argument("--size", default="512K", help="of the image (512K; 4M takes eight times as long)")
    parser.add_argument("--opening", type=int, default=2500, metavar="N", help="connections a second (2500)")
    parser.add_argument("--checks", type=int, metavar="N", help="fresh checks, idle and meanwhile (2000)")
    parser.add_argument("--seconds", type=float, metavar="S", help="length of each of the quick client's runs (3)")
    parser.add_argument("--only", metavar="NAME,...", help=f"of {', '.join(names)}")
    parser.add_argument("--no-pin", action="store_true", help="leave servers and load to the scheduler")
    parser.add_argument("--json", metavar="FILE", help="write all figures")
    options = parser.parse_args()
    for key, full, quick in (("connections", 10000, 1000), ("rate", 16384, 65536), ("checks", 2000, 300),
                             ("seconds", 3, 0.5)):
        if getattr(options, key) is None:
            setattr(options, key, quick if options.quick else full)
    options.only = whole.names_of(parser, options.only, names)
    if min(options.connections, options.rate, options.opening, options.checks) < 1 or options.seconds <= 0:
        parser.error("numbers: at least 1")
    return options


def raise_descriptors(options):
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < options.connections + 2 * SPARE:
        sys.exit(f"bench: {options.connections} connections need {options.connections + 2 * SPARE} descriptors a process, "
                 f"the limit is {hard}: raise it (ulimit -Hn), or fewer --connections")
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def bench(options, folder):
    entries = [entry for entry in SERVERS if entry[0] in options.only]
    pins = machine.pins(not options.no_pin)
    where = "server on one CPU, load and quick client on another" if pins[1] else "not pinned"
    about = machine.Machine(f"{options.connections} downloads of {options.size} at {options.rate / 1024:.0f} KiB/s; {where}",
                            *dict.fromkeys(program for _, program, _ in entries), command="script/bench slow")
    if pins[1]:
        pins[1]()  # the quick client is this process
    image_path = folder / "firmware" / f"bench_{VERSION}.ino.d1_mini.bin"
    image = updraft.make_image("esp8266", image_path, size=options.size)
    client = QuickClient(check_request(CHECK, VERSION), DOWNLOAD, image, options.checks, options.seconds)
    rows = [measure(entry, image_path, client, folder, options, pins) for entry in entries]
    return {"machine": about.over(), "connections": options.connections, "servers": rows}


def main():
    options = parse_options()
    raise_descriptors(options)
    whole.run(bench, report, options)


if __name__ == "__main__":
    main()

"""Ten thousand slow radios: what each costs while it downloads, and what quick clients feel of them.

What makes it hard is that a slow load must stay slow and be no load itself: tests/bench/slow_load.c is a program of its
own, paced, with the receive buffer of a device. One server after the other gets it, each fresh; what is compared is that
server without the load and with it. The load takes CPU time all the same, of the quick clients' CPU too: an idle twin of
the server is asked in the same seconds, and tells what of a loss is the machine's. Nothing is judged by speed; it fails when a download is not whole by its MD5.

    script/bench slow [--quick] [--connections N] [--rate BYTES/S] [--size 512K|4M] [--only NAME,...] [--json FILE]

UPDRAFT_BIN names the folder of the programs, as for the tests."""

import argparse
import contextlib
import gc
import hashlib
import json
import os
import pathlib
import re
import resource
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))
import updraft
from slow_servers import PATH, SERVERS, SPARE, Measured, ended

VERSION = "1.0.4"
CHECK = b"".join(f"{line}\r\n".encode() for line in [
    "GET /update/d1_mini HTTP/1.0", "Host: 127.0.0.1", *(f"{name}: {value}" for name, value in
                                                         {**updraft.ESP8266, "x-ESP8266-version": VERSION}.items()), ""])
DOWNLOAD = "/latest/d1_mini.bin"
PAGE = os.sysconf("SC_PAGE_SIZE")
LOADED_S = 60  # for the load to be complete
# figure, limit, is it met
TARGETS = {
    "whole": ("all", lambda row, load: row["whole"] == load["connections"]),
    "rss": ("≤ 2 KiB", lambda row, load: row["rss"] <= 2048),
    "descriptors": ("1", lambda row, load: row["descriptors"] < 1.01),
    "kernel": ("≤ 64 KiB", lambda row, load: row["kernel"] <= 65536),
    "check_p99": ("≤ 5 ms more", lambda row, load: row["check_p99"] - row["idle"]["check_p99"] <= 0.005),
    "kept": ("≥ 0.8", lambda row, load: row["kept"] >= 0.8 * row["idle"]["kept"]),
    "fresh": ("≥ 0.8", lambda row, load: row["fresh"] >= 0.8 * row["idle"]["fresh"]),
}


class Wrong(Exception):
    """A server answered what it must not."""


# --- quick clients ----------------------------------------------------------------------------------------------------


def download_request(kept):
    return (f"GET {DOWNLOAD} HTTP/1.{int(kept)}\r\nHost: 127.0.0.1\r\nUser-Agent: updraft-bench\r\n"
            f"{'' if kept else 'Connection: close' + chr(13) + chr(10)}\r\n").encode()


def connect(server):
    """A server that has just started may need a moment to listen."""
    for _ in range(200):
        with contextlib.suppress(ConnectionRefusedError):
            return socket.create_connection(("127.0.0.1", server.port), 60)
        time.sleep(0.05)
    sys.exit(f"bench: {server.name} does not listen; its own words are above")


def probe(server, image):
    """Asks for each answer once and checks every byte. Returns the bytes of a whole download on a kept connection."""
    with connect(server) as connection:
        connection.sendall(CHECK)
        answer = updraft.Reply(updraft.read_to_end(connection))
    if answer.status != 304:
        raise Wrong(f"{server.name}: a check is answered {answer.status_line!r}")
    with connect(server) as connection:
        connection.sendall(download_request(True) + download_request(False))
        data = updraft.read_to_end(connection)
    first = updraft.Reply(data)
    second = updraft.Reply(first.rest) if first.rest else first
    if first.status != 200 or first.body != image or second.body != image or not first.rest:
        raise Wrong(f"{server.name}: a download is answered {first.status_line!r}, {first.header_list!r}")
    return len(data) - len(first.rest)


def checks(server, count, seconds_max):
    """Seconds of fresh checks, one after the other, each from connecting to the end of the connection."""
    took, address, end = [], ("127.0.0.1", server.port), time.perf_counter() + seconds_max
    while len(took) < count and time.perf_counter() < end:
        began = time.perf_counter()
        with socket.create_connection(address, 60) as connection:
            connection.sendall(CHECK)
            answer = updraft.read_to_end(connection)
        took.append(time.perf_counter() - began)
        if answer[9:12] != b"304":
            raise Wrong(f"{server.name}: a check under load is answered {answer[:60]!r}")
    return took


def rate_kept(server, answer_bytes, seconds):
    """Bytes a second that one connection gets, one download after the other."""
    request, buffer, count = download_request(True), memoryview(bytearray(1 << 20)), 0
    with connect(server) as connection:
        began = time.perf_counter()
        while time.perf_counter() - began < seconds:
            connection.sendall(request)
            missing = answer_bytes
            while missing > 0:
                n = connection.recv_into(buffer[:missing])
                if n == 0:
                    raise Wrong(f"{server.name}: a kept connection was ended within a download")
                missing -= n
            count += 1
        return count * answer_bytes / (time.perf_counter() - began)


def rate_fresh(server, image_bytes, seconds):
    request, buffer, total = download_request(False), memoryview(bytearray(1 << 20)), 0
    began = time.perf_counter()
    while time.perf_counter() - began < seconds:
        with connect(server) as connection:
            connection.sendall(request)
            got = n = connection.recv_into(buffer)
            while n > 0:
                n = connection.recv_into(buffer)
                got += n
        if not image_bytes < got < image_bytes + 4096:
            raise Wrong(f"{server.name}: a download had {got} bytes")
        total += got
    return total / (time.perf_counter() - began)


def percentile(values, share):
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


def feel(server, answer_bytes, image_bytes, options):
    """What quick clients get of the server as it is now."""
    gc.disable()
    try:
        took = checks(server, options.checks, 3 * options.seconds)
        return {"checks": len(took), "check_p50": percentile(took, 0.5), "check_p99": percentile(took, 0.99),
                "kept": rate_kept(server, answer_bytes, options.seconds),
                "fresh": rate_fresh(server, image_bytes, options.seconds)}
    finally:
        gc.enable()


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
    return {"rss": server.rss(), "descriptors": server.descriptors(), "tcp": tcp_memory(),
            "server": sockets("sport", server.port), "clients": sockets("dport", server.port)}


def growth(before, after, connections):
    """Of each connection, in bytes."""
    ours = after["tcp"] - before["tcp"] - (after["clients"]["memory"] - before["clients"]["memory"])
    return {"rss": (after["rss"] - before["rss"]) / connections, "kernel": ours / connections,
            "kernel_ss": after["server"]["memory"] / connections, "queued": after["server"]["queued"] / connections,
            "descriptors": (after["descriptors"] - before["descriptors"]) / connections}


# --- one server -------------------------------------------------------------------------------------------------------


def slow_load(server, image, options, pin):
    command = [updraft.BIN / "slow_load", "--port", server.port, "--path", DOWNLOAD, "--size", len(image), "--md5",
               hashlib.md5(image).hexdigest(), "--connections", options.connections, "--rate", options.rate,
               "--opening", options.opening, "--seconds-max", int(LOADED_S + 3 * len(image) / options.rate)]
    return subprocess.Popen([str(word) for word in command], stdout=subprocess.PIPE, text=True, preexec_fn=pin)


def next_event(load, wanted, server):
    line = load.stdout.readline()
    event = json.loads(line) if line else {"event": "nothing"}
    if event["event"] != wanted or event.get("failed", 0) > 0:
        raise Wrong(f"{server.name}: the slow downloads did not all come whole: {line.strip()}")
    return event


def under_load(server, twin, image, answer_bytes, idle, options, pin):
    with ended(slow_load(server, image, options, pin)) as load:
        loaded = next_event(load, "loaded", server)
        time.sleep(1)
        client = Measured("slow_load", 0, load.pid)
        cpu, began = (server.cpu_s(), client.cpu_s()), time.monotonic()
        time.sleep(options.seconds)
        elapsed = time.monotonic() - began
        row = {"cpu": (server.cpu_s() - cpu[0]) / elapsed, "load_cpu": (client.cpu_s() - cpu[1]) / elapsed}
        looks = [look(server)]
        row.update(feel(server, answer_bytes, len(image), options))
        looks.append(look(server))
        row["twin"] = feel(twin, answer_bytes, len(image), options)
        if min(each["server"]["count"] for each in looks) < 0.95 * options.connections:
            print(f"bench: {server.name}: the load ended while it was measured: a lower --rate, a shorter --seconds",
                  file=sys.stderr)
        done = next_event(load, "done", server)
    each = [growth(idle["look"], one, options.connections) for one in looks]
    row.update({key: max(one[key] for one in each) for key in each[0]})
    return {**row, "whole": done["whole"], "loaded_s": loaded["seconds"], "load": done, "looks": looks}


def measure(entry, image_path, image, folder, options, pins):
    name, _, run = entry
    folders = [folder / name, folder / f"{name}-twin"]
    for each in folders:
        each.mkdir()
    with run(name, image_path, folders[0], options, pins[0]) as server, \
         run(name, image_path, folders[1], options, pins[0]) as twin:
        answer_bytes = probe(server, image)
        probe(twin, image)
        print(f"  {name}, idle ...", file=sys.stderr)
        idle = feel(server, answer_bytes, len(image), options)
        time.sleep(0.5)
        idle["look"] = look(server)
        print(f"  {name}, {options.connections} slow downloads ...", file=sys.stderr)
        return {"server": name, "idle": idle, **under_load(server, twin, image, answer_bytes, idle, options, pins[1])}


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


# what, its key among the targets, how it is said
LINES = [
    ("whole by MD5", "whole", lambda row: str(row["whole"])),
    ("resident memory, each", "rss", lambda row: kib(row["rss"])),
    ("descriptors, each", "descriptors", lambda row: f"{row['descriptors']:.2f}"),
    ("kernel socket memory, each (sockstat)", "kernel", lambda row: kib(row["kernel"])),
    ("the same as ss counts it", None, lambda row: kib(row["kernel_ss"])),
    ("sent, not acknowledged, each (SIOCOUTQ)", None, lambda row: kib(row["queued"])),
    ("CPU of the server for them; of the load", None, lambda row: f"{row['cpu']:.2f}; {row['load_cpu']:.2f}"),
    ("fresh 304, p50: idle, meanwhile", None, lambda row: f"{ms(row['idle']['check_p50'])}, {ms(row['check_p50'])}"),
    ("fresh 304, p99: idle, meanwhile", "check_p99",
     lambda row: f"{ms(row['idle']['check_p99'])}, {ms(row['check_p99'])}"),
    ("quick client, kept connection", "kept", against_idle("kept")),
    ("quick client, fresh connections", "fresh", against_idle("fresh")),
    ("fresh 304, p50, p99 of the idle twin meanwhile", None,
     lambda row: f"{ms(row['twin']['check_p50'])}, {ms(row['twin']['check_p99'])}"),
    ("quick client, kept, fresh: of the idle twin's meanwhile", None,
     lambda row: f"{against_twin('kept')(row)}, {against_twin('fresh')(row)}"),
    ("a slow download: median, longest", None,
     lambda row: f"{row['load']['median_s']:.1f} s, {row['load']['longest_s']:.1f} s"),
]


def verdict(row, key, load):
    if key is None or row["server"] != SERVERS[0][0]:
        return ""
    return " (met)" if TARGETS[key][1](row, load) else " **(missed)**"


def report(result):
    about, rows = result["machine"], result["servers"]
    lines = [f"- {line}" for line in about["lines"]] + [""]
    heads = [f"{about['connections']} slow downloads", "target", *(row["server"] for row in rows)]
    lines += ["| " + " | ".join(heads) + " |", "| --- | ---: |" + " ---: |" * len(rows)]
    for what, key, say in LINES:
        cells = [say(row) + verdict(row, key, about) for row in rows]
        lines.append("| " + " | ".join([what, TARGETS[key][0] if key else "", *cells]) + " |")
    return "\n".join(lines)


def first_line(*command):
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    return done.stdout.strip().split("\n")[0]


def describe(options, pinned):
    found = re.search(r"model name\s*: (.*)", pathlib.Path("/proc/cpuinfo").read_text())
    congestion = pathlib.Path("/proc/sys/net/ipv4/tcp_congestion_control").read_text().strip()
    system = os.uname()
    return {"connections": options.connections, "lines": [
        shlex.join(["script/bench", "slow", *sys.argv[1:]]), time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        f"{len(os.sched_getaffinity(0))} x {found.group(1) if found else system.machine}; {system.sysname} "
        f"{system.release}, TCP {congestion}",
        first_line(updraft.BIN / "updraftd", "--version"),
        f"{options.connections} downloads of {options.size} at {options.rate / 1024:.0f} KiB/s; "
        + ("server on one CPU, load and quick clients on another" if pinned else "not pinned"),
        f"load of the machine before: {os.getloadavg()[0]:.2f}"]}


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
    parser.add_argument("--seconds", type=float, metavar="S", help="length of each quick client's run (3)")
    parser.add_argument("--only", metavar="NAME,...", help=f"of {', '.join(names)}")
    parser.add_argument("--no-pin", action="store_true", help="leave servers and load to the scheduler")
    parser.add_argument("--json", metavar="FILE", help="write all figures")
    options = parser.parse_args()
    for key, full, quick in (("connections", 10000, 1000), ("rate", 16384, 65536), ("checks", 2000, 300),
                             ("seconds", 3, 0.5)):
        if getattr(options, key) is None:
            setattr(options, key, quick if options.quick else full)
    options.only = options.only.split(",") if options.only else names
    unknown = [name for name in options.only if name not in names]
    if unknown:
        parser.error(f"--only {','.join(unknown)}: known are {', '.join(names)}")
    if min(options.connections, options.rate, options.opening, options.checks) < 1 or options.seconds <= 0:
        parser.error("numbers: at least 1")
    return options


def raise_descriptors(options):
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < options.connections + 2 * SPARE:
        sys.exit(f"bench: {options.connections} connections need {options.connections + 2 * SPARE} descriptors a process, "
                 f"the limit is {hard}: raise it (ulimit -Hn), or fewer --connections")
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def pins(options):
    """What each kind of child does before its program begins; the quick clients are in this process."""
    cpus = sorted(os.sched_getaffinity(0))
    if options.no_pin or len(cpus) < 2:
        return None, None
    os.sched_setaffinity(0, {cpus[1]})
    return (lambda: os.sched_setaffinity(0, {cpus[0]})), (lambda: os.sched_setaffinity(0, {cpus[1]}))


def main():
    options = parse_options()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("bench: ended by SIGTERM"))  # so that all else is ended too
    entries = [entry for entry in SERVERS if entry[0] in options.only]
    missing = {program for _, program, _ in entries if program and not shutil.which(program, path=PATH)}
    for program in sorted(missing):
        print(f"bench: {program} is not installed, so it is left out: script/bootstrap bench", file=sys.stderr)
    raise_descriptors(options)
    about = describe(options, not options.no_pin)
    both = pins(options)
    with tempfile.TemporaryDirectory(prefix="updraft-bench-") as folder:
        folder = pathlib.Path(folder)
        image_path = folder / "ours" / "firmware" / f"bench_{VERSION}.ino.d1_mini.bin"
        image = updraft.make_image("esp8266", image_path, size=options.size)
        try:
            rows = [measure(entry, image_path, image, folder, options, both)
                    for entry in entries if entry[1] not in missing]
        except Wrong as wrong:
            sys.exit(f"bench: {wrong}")
    result = {"machine": about, "servers": rows}
    print(report(result))
    if options.json:
        pathlib.Path(options.json).write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()

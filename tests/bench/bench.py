"""What an answer costs: server CPU per update check and per download of 512 KiB, beside nginx and lighttpd.

What makes it hard is that machines differ and drift, so no number here means much alone: the servers are measured in
turns (A B C A B C), each turn gives a ratio, and the medians of the ratios are what to compare. Nothing is
judged by speed. It fails when a server answers wrongly, since a fast wrong answer would win any race.

    script/bench [--quick] [--runs N] [--seconds S] [--no-pin] [--in-memory] [--json FILE] [--svg FILE]

UPDRAFT_BIN names the folder of the programs, as for the tests."""

import argparse
import contextlib
import hashlib
import json
import pathlib
import re
import resource
import shutil
import socket
import subprocess
import sys
import tempfile

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))
import machine
import servers
import updraft
import whole
from ratios import draw, medians_of, ratios_of, report
from servers import NGINX, OURS, Door, Served
from whole import Wrong

IMAGE_SIZE = "512K"
VERSION = "1.0.4"
CONNECTIONS = 64
NGINX_NOPUSH = "nginx, tcp_nopush"
NGINX_DOORS = [Door(NGINX, lines="tcp_nopush off;"), Door(NGINX_NOPUSH, lines="tcp_nopush on;")]
CHECK_PATH = "/update/d1_mini"
# Not /update/<type>, where the loop guard stops a device after three whole transfers. This one is logged just the same.
DOWNLOAD_PATH = "/latest/d1_mini.bin"

# name, path, status, kept connections; tcp_nopush changes what nginx does with files only
CASES = [
    ("304, kept connection", CHECK_PATH, 304, True),
    ("304, fresh connection", CHECK_PATH, 304, False),
    ("512 KiB, kept connection", DOWNLOAD_PATH, 200, True),
    ("512 KiB, fresh connection", DOWNLOAD_PATH, 200, False),
]

# wrk formats the request once and sends these bytes as they are: a request() function would run for each.
WRK_SCRIPT = """wrk.format = function() return %s end
done = function(summary)
  local e = summary.errors
  io.write(string.format('\\nRESULT {"requests":%%d,"bytes":%%d,"us":%%d,"errors":%%d,"refused":%%d}\\n',
    summary.requests, summary.bytes, summary.duration, e.connect + e.read + e.write + e.timeout, e.status))
end
"""


# --- requests ---------------------------------------------------------------------------------------------------------


def request_bytes(path, kept):
    """What an ESP8266 sends; on a kept connection the same, as HTTP/1.1 and without Connection: close. A download asks
    as a plain client, which says nothing of itself."""
    headers = {**updraft.ESP8266, "x-ESP8266-version": VERSION} if path == CHECK_PATH else {
        "User-Agent": "updraft-bench", "Connection": "close"}
    if kept:
        headers.pop("Connection")
    lines = [f"GET {path} HTTP/1.{int(kept)}", "Host: 127.0.0.1:8080"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join(lines + ["", ""]).encode()


def expect(condition, what, answer):
    if not condition:
        raise Wrong(f"{what}: {answer.status_line!r}, {answer.header_list!r}")


def check_answer(server, case, image, answer):
    name, path, status, _ = case
    who = f"{server.name}, {name}"
    expect(answer.status == status, f"{who}: status is not {status}", answer)
    if status == 200:
        expect(answer.headers.get("Content-Length") == str(len(image)), f"{who}: Content-Length is wrong", answer)
        expect(answer.body == image, f"{who}: the body is not the image", answer)
    if server.name != OURS:
        return
    if status == 200:
        expect(answer.headers.get("x-MD5") == hashlib.md5(image).hexdigest(), f"{who}: x-MD5 is wrong", answer)
    else:
        expect(answer.reason == "up-to-date", f"{who}: the reason is not up-to-date", answer)


def probe(server, case, image):
    """Asks once as the load will, checks every byte, and returns how many bytes such an answer has. A kept connection
    is asked twice, the last time with an end, or there would be no telling that it was kept."""
    _, path, _, kept = case
    requests = request_bytes(path, kept) + (request_bytes(path, False) if kept else b"")
    with socket.create_connection(("127.0.0.1", server.port), 10) as connection:
        connection.sendall(requests)
        data = updraft.read_to_end(connection)
    answer = updraft.Reply(data)
    check_answer(server, case, image, answer)
    size = len(data) - len(answer.rest)
    if kept:
        expect(answer.rest, f"{server.name}: the connection was not kept", answer)
        answer = updraft.Reply(answer.rest)
        check_answer(server, case, image, answer)
    expect(answer.headers.get("Connection") == "close" and not answer.rest, f"{server.name}: no end", answer)
    return size


# --- one measurement --------------------------------------------------------------------------------------------------


def measure(server, case, answer_bytes, folder, options, pin):
    """One run of wrk against one server."""
    name, path, _, kept = case
    script = folder / "request.lua"
    script.write_text(WRK_SCRIPT % json.dumps(request_bytes(path, kept).decode()))
    command = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{options.seconds}s", "-s", script,
               f"http://127.0.0.1:{server.port}{path}"]
    client_before = resource.getrusage(resource.RUSAGE_CHILDREN)
    server_before = server.cpu_s()
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, preexec_fn=pin).stdout
    server_s = server.cpu_s() - server_before
    client_after = resource.getrusage(resource.RUSAGE_CHILDREN)
    result = json.loads(re.search(r"^RESULT (.*)$", output, re.M).group(1))
    check_run(f"{server.name}, {name}", result, answer_bytes, output)
    requests = result["requests"]
    client_s = client_after.ru_utime + client_after.ru_stime - client_before.ru_utime - client_before.ru_stime
    return {"server": server.name, "case": name, "requests": requests, "seconds": result["us"] / 1e6,
            "rate": requests / (result["us"] / 1e6), "server_s": server_s, "client_s": client_s,
            "server_us": server_s * 1e6 / requests, "client_us": client_s * 1e6 / requests,
            "both_us": (server_s + client_s) * 1e6 / requests}


def check_run(what, result, answer_bytes, output):
    """wrk tells a 304 from a 200 by nothing, so the bytes do: whole answers as long as the probed one, and at most one
    unfinished answer a connection."""
    if result["requests"] == 0 or result["errors"] > 0 or result["refused"] > 0:
        raise Wrong(f"{what}: failed requests\n{output}")
    surplus = result["bytes"] - result["requests"] * answer_bytes
    if not 0 <= surplus <= CONNECTIONS * answer_bytes:
        raise Wrong(f"{what}: {result['bytes']} bytes in {result['requests']} answers of {answer_bytes}\n{output}")


def measure_all(measured, image, folder, options, pin):
    sizes = {(server.name, case[0]): probe(server, case, image) for server in measured for case in CASES}
    runs = []
    for turn in range(options.runs):
        for case in CASES:
            for server in measured:
                if server.name == NGINX_NOPUSH and case[2] == 304:
                    continue
                print(f"  {turn + 1}/{options.runs} {case[0]}, {server.name} ...", file=sys.stderr)
                run = measure(server, case, sizes[server.name, case[0]], folder, options, pin)
                runs.append({"turn": turn, **run})
    return runs


# --- the whole --------------------------------------------------------------------------------------------------------


def parse_options():
    parser = argparse.ArgumentParser(prog="script/bench", description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="3 turns of 2 s: to see that it works, not to quote")
    parser.add_argument("--runs", type=int, metavar="N", help="turns; medians are of these (5)")
    parser.add_argument("--seconds", type=int, metavar="S", help="length of a measurement (5)")
    parser.add_argument("--no-pin", action="store_true", help="leave servers and load to the scheduler")
    parser.add_argument("--in-memory", action="store_true",
                        help="the others send the file from /dev/shm: updraftd sends from such memory, whose pages are "
                        "smaller than those of a file system's cache may be")
    parser.add_argument("--json", metavar="FILE", help="write every run, the medians and the ratios")
    parser.add_argument("--svg", metavar="FILE", help="draw the medians of the server CPU a request")
    options = parser.parse_args()
    options.runs = options.runs or (3 if options.quick else 5)
    options.seconds = options.seconds or (2 if options.quick else 5)
    if options.runs < 1 or options.seconds < 1:
        parser.error("--runs and --seconds: at least 1")
    return options


@contextlib.contextmanager
def peers_image(image_path, options):
    """The file that the others send: the same one, or a copy in the kind of memory that ours lies in."""
    if not options.in_memory:
        yield image_path
        return
    with tempfile.TemporaryDirectory(prefix="updraft-bench-", dir="/dev/shm") as folder:
        yield pathlib.Path(shutil.copy(image_path, folder))


@contextlib.contextmanager
def all_peers(folder, served, pin):
    with servers.nginx(folder / "nginx", served, NGINX_DOORS, pin) as two, \
         servers.lighttpd(folder / "lighttpd", served, pin) as one:
        yield two + one


def bench(options, folder):
    server_pin, load_pin = machine.pins(not options.no_pin)
    where = "servers on one CPU, load on another" if server_pin else "not pinned"
    where += ", the others' file in memory" if options.in_memory else ""
    about = machine.Machine(f"{options.runs} turns of {options.seconds} s a case and server, wrk -t1 -c{CONNECTIONS}, "
                            f"{where}", updraft.BIN / "updraftd", "nginx", "lighttpd", "wrk")
    image_path = folder / "ours" / "firmware" / f"bench_{VERSION}.ino.d1_mini.bin"
    image = updraft.make_image("esp8266", image_path, size=IMAGE_SIZE)
    with servers.ours(folder / "ours", server_pin) as server, peers_image(image_path, options) as theirs, \
         all_peers(folder, Served(CHECK_PATH, DOWNLOAD_PATH, theirs), server_pin) as peers:
        measured = [server, *peers]
        runs = measure_all(measured, image, folder, options, load_pin)
        rss = {each.name: each.rss_kib() for each in measured if each.name != NGINX_NOPUSH}
    return {"machine": about.over(), "medians": medians_of(runs), "ratios": ratios_of(runs), "rss_kib": rss,
            "runs": runs}


def main():
    options = parse_options()
    result = whole.run(bench, report, options)
    if options.svg:
        pathlib.Path(options.svg).write_text(draw(result))


if __name__ == "__main__":
    main()

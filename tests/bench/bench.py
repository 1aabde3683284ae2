"""What an answer costs: server CPU per update check and per download of 512 KiB, beside nginx in the same minutes.

What makes it hard is that machines differ and drift, so no number here means much alone: updraftd and nginx are
measured in turns (A B A B), each turn gives a ratio, and the medians of the ratios are what to compare. Nothing is
judged by speed. It fails when a server answers wrongly, since a fast wrong answer would win any race.

    script/bench [--quick] [--runs N] [--seconds S] [--no-pin] [--json FILE]

UPDRAFT_BIN names the folder of the programs, as for the tests."""

import argparse
import contextlib
import datetime
import getpass
import grp
import hashlib
import json
import os
import pathlib
import platform
import re
import resource
import shlex
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))
import updraft

IMAGE_SIZE = "512K"
VERSION = "1.0.4"
CONNECTIONS = 64
CHECK_PATH = "/update/d1_mini"
# Not /update/<type>, where the loop guard stops a device after three whole transfers. This one is logged just the same.
DOWNLOAD_PATH = "/latest/d1_mini.bin"
OURS, NGINX, NGINX_NOPUSH = "updraftd", "nginx", "nginx, tcp_nopush"

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

NGINX_CONFIG = """{user}daemon off;
worker_processes 1;
pid {folder}/pid;
error_log {folder}/error.log;
events {{ worker_connections 4096; }}
http {{
    access_log off;
    default_type application/octet-stream;
    sendfile on;
    keepalive_requests 1000000000;
    open_file_cache max=16 inactive=1h;
    open_file_cache_valid 1h;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
{servers}}}
"""

NGINX_SERVER = """    server {{
        listen 127.0.0.1:{port};
        tcp_nopush {nopush};
        location = {check} {{ return 304; }}
        location = {download} {{ alias {image}; }}
    }}
"""


class Wrong(Exception):
    """A server answered what it must not."""


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


# --- servers ----------------------------------------------------------------------------------------------------------


class Measured:
    """A server with a name, a port and the process whose time counts."""

    def __init__(self, name, port, pid):
        self.name, self.port, self.pid = name, port, pid

    def cpu_s(self):
        """utime + stime of all threads: fields 14 and 15 in proc(5), counted behind the name, which may hold blanks."""
        fields = pathlib.Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def rss_kib(self):
        status = pathlib.Path(f"/proc/{self.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+) kB", status).group(1))


def free_ports(count):
    """nginx cannot choose a port itself and say which."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [each.getsockname()[1] for each in sockets]


def nginx_config(folder, image_path, ports):
    servers = "".join(
        NGINX_SERVER.format(port=port, nopush=nopush, check=CHECK_PATH, download=DOWNLOAD_PATH, image=image_path)
        for port, nopush in zip(ports, ("off", "on")))
    # Started by root, the worker would become another user, who may not read the folder.
    user = f"user {getpass.getuser()} {grp.getgrgid(os.getgid()).gr_name};\n" if os.geteuid() == 0 else ""
    return NGINX_CONFIG.format(user=user, folder=folder, servers=servers)


def worker_of(master):
    children = pathlib.Path(f"/proc/{master.pid}/task/{master.pid}/children")
    while master.poll() is None:
        found = children.read_text().split()
        if found:
            return int(found[0])
        time.sleep(0.02)
    sys.exit("bench: nginx ended at once; its own words are above")


@contextlib.contextmanager
def nginx_running(program, folder, image_path, pin):
    """An nginx of our own, from a file of our own, in a folder of our own, ended by its process: whatever nginx the
    system runs is neither used nor touched."""
    folder.mkdir()
    ports = free_ports(2)
    config = folder / "nginx.conf"
    config.write_text(nginx_config(folder, image_path, ports))
    master = subprocess.Popen([program, "-c", config, "-p", folder, "-e", folder / "error.log"], preexec_fn=pin)
    try:
        worker = worker_of(master)
        yield [Measured(NGINX, ports[0], worker), Measured(NGINX_NOPUSH, ports[1], worker)]
    finally:
        if master.poll() is None:
            master.terminate()
        master.wait(10)


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


def measure_all(servers, image, folder, options, pin):
    sizes = {(server.name, case[0]): probe(server, case, image) for server in servers for case in CASES}
    runs = []
    for turn in range(options.runs):
        for case in CASES:
            for server in servers:
                if server.name == NGINX_NOPUSH and case[2] == 304:
                    continue
                print(f"  {turn + 1}/{options.runs} {case[0]}, {server.name} ...", file=sys.stderr)
                run = measure(server, case, sizes[server.name, case[0]], folder, options, pin)
                runs.append({"turn": turn, **run})
    return runs


# --- telling ----------------------------------------------------------------------------------------------------------


def medians_of(runs):
    """One row a case and server, in the order of measuring."""
    rows = []
    for case, server in dict.fromkeys((run["case"], run["server"]) for run in runs):
        mine = [run for run in runs if run["case"] == case and run["server"] == server]
        rows.append({"case": case, "server": server, "requests": sum(run["requests"] for run in mine),
                     **{key: statistics.median(run[key] for run in mine)
                        for key in ("rate", "server_s", "server_us", "client_us", "both_us")}})
    return rows


def ratios_of(runs):
    """Ours to each nginx, turn by turn. Of two, the better nginx is the one with less CPU per request in all."""
    by_place = {(run["turn"], run["case"], run["server"]): run for run in runs}
    rows = []
    for case, server in dict.fromkeys((run["case"], run["server"]) for run in runs if run["server"] != OURS):
        pairs = [(by_place[turn, case, OURS], by_place[turn, case, server])
                 for turn in sorted({run["turn"] for run in runs})]
        row = {"case": case, "against": server}
        for key in ("server_us", "both_us", "rate"):
            each = [ours[key] / theirs[key] for ours, theirs in pairs]
            row[key] = {"median": statistics.median(each), "least": min(each), "most": max(each)}
        rows.append(row)
    for row in rows:
        rivals = [other["both_us"]["median"] for other in rows if other["case"] == row["case"]]
        row["better_nginx"] = len(rivals) > 1 and row["both_us"]["median"] == max(rivals)
    return rows


def first_line(*command):
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    return done.stdout.strip().split("\n")[0]


def cpu_name():
    found = re.search(r"model name\s*: (.*)", pathlib.Path("/proc/cpuinfo").read_text())
    return found.group(1) if found else platform.machine()


def stolen_s():
    """Seconds that the host of a virtual machine gave to others, of all CPUs."""
    return int(pathlib.Path("/proc/stat").read_text().split()[8]) / os.sysconf("SC_CLK_TCK")


def describe(options, pinned, nginx):
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    congestion = pathlib.Path("/proc/sys/net/ipv4/tcp_congestion_control").read_text()
    return {
        "command": shlex.join(["script/bench", *sys.argv[1:]]),
        "when": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        "cpu": f"{len(os.sched_getaffinity(0))} x {cpu_name()}",
        "system": f"{platform.system()} {platform.release()}, {memory:.1f} GiB, TCP {congestion.strip()}",
        "programs": [first_line(updraft.BIN / "updraftd", "--version"),
                     first_line(nginx, "-v").removeprefix("nginx version: "),
                     first_line("wrk", "-v").split(" Copy")[0]],
        "setting": f"{options.runs} turns of {options.seconds} s a case and server, wrk -t1 -c{CONNECTIONS}, "
                   + ("servers on one CPU, load on another" if pinned else "not pinned"),
    }


def markdown_table(heads, rows):
    """Names to the left, figures to the right."""
    rule = ["---" if head in ("case", "server", "ours against") else "---:" for head in heads]
    return ["| " + " | ".join(cells) + " |" for cells in [heads, rule, *rows]]


def with_range(ratio):
    return f"{ratio['median']:.2f} [{ratio['least']:.2f}-{ratio['most']:.2f}]"


def report(result):
    about = result["machine"]
    lines = [about["command"], about["when"], f"{about['cpu']}; {about['system']}", "; ".join(about["programs"]),
             about["setting"], f"load of the machine before: {about['load_before']:.2f}; stolen by its host: "
             f"{about['stolen_s']:.1f} s of {about['elapsed_s']:.0f} s"]
    lines = [f"- {line}" for line in lines] + [""]
    rows = [[row["case"], row["server"], str(row["requests"]), f"{row['rate']:.0f}", f"{row['server_s']:.2f}",
             f"{row['server_us']:.1f}", f"{row['client_us']:.1f}"] for row in result["medians"]]
    lines += markdown_table(["case", "server", "requests in all", "requests/s", "server CPU s", "server CPU µs/request",
                             "client CPU µs/request"], rows) + [""]
    rows = [[row["case"], row["against"] + (" (the better)" if row["better_nginx"] else ""),
             *(with_range(row[key]) for key in ("server_us", "both_us", "rate"))] for row in result["ratios"]]
    lines += markdown_table(["case", "ours against", "server CPU/request", "server + client CPU/request",
                             "requests/s"], rows)
    rss = [f"{name} {kib / 1024:.1f} MiB" for name, kib in result["rss_kib"].items()]
    return "\n".join(lines + ["", f"Resident memory afterwards: {', '.join(rss)}."])


# --- the whole --------------------------------------------------------------------------------------------------------


def parse_options():
    parser = argparse.ArgumentParser(prog="script/bench", description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="3 turns of 1 s: to see that it works, not to quote")
    parser.add_argument("--runs", type=int, metavar="N", help="turns; medians are of these (5)")
    parser.add_argument("--seconds", type=int, metavar="S", help="length of a measurement (3)")
    parser.add_argument("--no-pin", action="store_true", help="leave servers and load to the scheduler")
    parser.add_argument("--json", metavar="FILE", help="write every run, the medians and the ratios")
    options = parser.parse_args()
    options.runs = options.runs or (3 if options.quick else 5)
    options.seconds = options.seconds or (1 if options.quick else 3)
    if options.runs < 1 or options.seconds < 1:
        parser.error("--runs and --seconds: at least 1")
    return options


def pins(options):
    """What each kind of child does before its program begins. The servers share a CPU: one works at a time."""
    cpus = sorted(os.sched_getaffinity(0))
    if options.no_pin or len(cpus) < 2:
        return None, None
    return (lambda: os.sched_setaffinity(0, {cpus[0]})), (lambda: os.sched_setaffinity(0, {cpus[1]}))


def bench(options, nginx, folder):
    server_pin, load_pin = pins(options)
    about = describe(options, server_pin is not None, nginx)
    about["load_before"], stolen_before, began = os.getloadavg()[0], stolen_s(), os.times().elapsed
    image_path = folder / "ours" / "firmware" / f"bench_{VERSION}.ino.d1_mini.bin"
    image = updraft.make_image("esp8266", image_path, size=IMAGE_SIZE)
    with updraft.Server(folder / "ours", log_level="info", preexec_fn=server_pin) as server, \
         nginx_running(nginx, folder / "nginx", image_path, server_pin) as rivals:
        servers = [Measured(OURS, server.port, server.process.pid), *rivals]
        runs = measure_all(servers, image, folder, options, load_pin)
        rss = {each.name: each.rss_kib() for each in servers[:2]}
    about.update(stolen_s=stolen_s() - stolen_before, elapsed_s=os.times().elapsed - began)
    return {"machine": about, "medians": medians_of(runs), "ratios": ratios_of(runs), "rss_kib": rss, "runs": runs}


def main():
    options = parse_options()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("bench: ended by SIGTERM"))  # so that the servers are ended too
    # Debian keeps nginx where a user's PATH does not look.
    nginx = shutil.which("nginx", path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")
    for program, found in (("nginx", nginx), ("wrk", shutil.which("wrk"))):
        if found is None:
            sys.exit(f"bench: {program} is not installed: script/bootstrap bench")
    with tempfile.TemporaryDirectory(prefix="updraft-bench-") as folder:
        try:
            result = bench(options, nginx, pathlib.Path(folder))
        except Wrong as wrong:
            sys.exit(f"bench: {wrong}")
    print(report(result))
    if options.json:
        pathlib.Path(options.json).write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()

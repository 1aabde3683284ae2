"""The attacks of slowhttptest, and what it saw of the server.

What makes it hard: its verdict ("service available") is of a probe from the attackers' own address, and it does not say
what it was answered. So it tells all that it reads (-v 4) into a file, which is counted afterwards."""

import collections
import contextlib
import csv
import dataclasses
import re
import subprocess

from tests.abuse.stage import CHECK, DOWNLOAD, FILE

RATE = 250  # new connections a second
GRACE_S = 20  # for it to end by itself

# Of what it tells with -v 4.
MADE = re.compile(rb"socket \d+ created ")
PROBE = re.compile(rb"created probe socket ")
ENDED = re.compile(rb"run_test: socket \d+ closed: |error sending initial slow request|error sending follow up data")
ANSWER = re.compile(rb"run_test: socket \d+ replied \d+ bytes:\s*HTTP/1\.\d (\d{3})")


@dataclasses.dataclass(frozen=True)
class Attack:
    name: str
    door: str
    path: str
    words: tuple
    setting: str = "as shipped"
    token: bool = False  # it knows one


HEADERS = ("-H", "-i", "2", "-x", "24", "-t", "GET")
BODY = ("-B", "-i", "2", "-x", "24", "-s", "8192")
READ = ("-X", "-n", "1", "-z", "128", "-w", "512", "-y", "1024", "-k", "3")
ORDERS = "/api/v1/rollouts"

# Each setting is a server of its own; in the last two the attackers have more connections than they may.
SETTINGS = {
    "as shipped": {},
    "500 for an address": {"peer_connections": 500},
    "500 for all": {"connections_max": 500, "peer_connections": 0},
}

ATTACKS = [
    Attack("headers", "plain", CHECK, HEADERS),
    Attack("headers", "TLS", CHECK, HEADERS),
    Attack("body", "plain", CHECK, BODY),
    Attack("body", "TLS", CHECK, BODY),
    Attack("body", "operators'", ORDERS, BODY),
    Attack("body, with a token", "operators'", ORDERS, BODY, token=True),
    Attack("ranges, 2,000", "plain", f"/firmware/{FILE}", ("-R", "-t", "GET")),
    Attack("ranges, 900", "plain", f"/firmware/{FILE}", ("-R", "-t", "GET", "-a", "1", "-b", "900")),
    Attack("ranges, 900", "TLS", f"/firmware/{FILE}", ("-R", "-t", "GET", "-a", "1", "-b", "900")),
    Attack("read", "plain", DOWNLOAD, READ),
    Attack("read", "TLS", DOWNLOAD, READ),
    Attack("headers", "plain", CHECK, HEADERS, "500 for an address"),
    Attack("read", "plain", DOWNLOAD, READ, "500 for an address"),
    Attack("read", "TLS", DOWNLOAD, READ, "500 for an address"),
    Attack("headers", "plain", CHECK, HEADERS, "500 for all"),
    Attack("headers", "TLS", CHECK, HEADERS, "500 for all"),
]


@dataclasses.dataclass
class Seen:
    """By slowhttptest: its connections, how many the server ended, the most that were open at once; what was answered,
    {"408": 990}; and whether its own probe was always answered."""
    made: int
    ended: int
    most: int
    answers: collections.Counter
    probe: bool


@contextlib.contextmanager
def running(command, output):
    """Ours to end, by its process, whatever happens."""
    process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()


def attack(stage, what, folder, connections, seconds):
    """Carries it out. Returns what it saw."""
    words = list(what.words)
    if what.token:  # its only words that it takes over unchanged, between two headers
        words += ["-m", f"text/plain\r\nAuthorization: Bearer {stage.token}"]
    command = ["slowhttptest", *words, "-c", str(connections), "-r", str(RATE), "-l", str(seconds), "-p", "3",
               "-u", stage.url(what.door, what.path), "-v", "4", "-g", "-o", str(folder / "seen")]
    told = folder / "told"
    with open(told, "wb") as output, running(command, output) as process:
        process.wait(seconds + GRACE_S)
    seen = read(told.read_bytes(), folder / "seen.csv")
    told.unlink()
    return seen


def read(told, table):
    with open(table, newline="") as file:
        rows = [{key: int(value) for key, value in row.items()} for row in csv.DictReader(file)]
    return Seen(made=len(MADE.findall(told)) - len(PROBE.findall(told)), ended=len(ENDED.findall(told)),
                most=max(row["Connected"] for row in rows),
                answers=collections.Counter(status.decode() for status in ANSWER.findall(told)),
                probe=all(row["Service Available"] for row in rows))


def version():
    said = subprocess.run(["slowhttptest", "-h"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True).stdout
    return "slowhttptest " + re.search(r"version (\S+)", said).group(1)

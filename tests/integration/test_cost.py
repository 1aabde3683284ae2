"""What a request costs that no clock is needed for: allocations and system calls of a warm server. Counts do not drift
with the machine, so these are limits, where script/bench only reports.

CALLS is the table of docs/performance.md, "System calls": whoever makes a request cheaper or dearer writes it there."""

import re
import shutil
import signal
import socket
import subprocess
import time
from collections import Counter
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.admin import Admin
from tests.support.updraft import BIN, ESP8266, PATIENCE_S, ROOT, Reply, Server, device_request, make_image, wait_until

# What a sanitizer adds is no cost of the server's, and it brings a heap of its own.
pytestmark = pytest.mark.skipif(re.search(rb"__[at]san_init", (BIN / "updraftd").read_bytes()) is not None,
                                reason="these programs are built with a sanitizer: counts are those of a release build")

REQUESTS, WARM = 200, 20
PATH = "/update/d1_mini"
NEWEST, OLDER = "1.0.4", "1.0.3"

# Of the loop's thread, a request, by a client that asks one after the other. So the loop finds nobody else there (the
# second accept4), and nothing to do (of each pair of epoll_wait, the first only looks, to tell idle time from work): of
# many requests at once both are shared.
CALLS = {
    "304, fresh": {"epoll_wait": 2, "accept4": 2, "recvfrom": 1, "sendto": 1, "close": 1},
    "304, kept": {"epoll_wait": 2, "read": 1, "sendto": 1},
    "512 KiB, fresh": {"epoll_wait": 4, "accept4": 2, "recvfrom": 1, "sendto": 1, "close": 1, "read": 1, "sendfile": 1,
                       "shutdown": 1, "setsockopt": 1, "ioctl": 2, "epoll_ctl": 2},
    "512 KiB, kept": {"epoll_wait": 2, "sendto": 1, "read": 1, "sendfile": 1},
}
# Where the system bounds the send buffer to less than such an image (net.core.wmem_max), the rest waits for room.
WAIT_FOR_ROOM = {"epoll_wait": 2, "write": 2, "sendfile": 1, "epoll_ctl": 2}
SEND_BUFFER = 272 << 10
# Once a second, or ten times, whatever is asked: ticks of timers, the store's batches, the log's thread woken. On a busy
# machine the same requests take longer, so these grow with the seconds.
BESIDES, BESIDES_A_SECOND = REQUESTS // 4, 100
OTHERS, OTHERS_A_SECOND = REQUESTS, 200  # of all other threads: the same, and the lines of the log
ALLOCATIONS_BESIDES = REQUESTS // 10
ROUNDS_MAX = 4  # one more, and the loop guard holds the device back


# --- a warm server ----------------------------------------------------------------------------------------------------


class House:
    """A server with one image of 512 KiB, and a client that asks in each of four ways."""

    def __init__(self, folder, **options):
        self.image = make_image("esp8266", folder / f"firmware/cost_{NEWEST}.ino.d1_mini.bin", size="512K")
        self.server = Server(folder, log_level="info", loop_guard=1000, **options)

    def request(self, case):
        return device_request(PATH, {**ESP8266, "Connection": "keep-alive" if "kept" in case else "close"},
                              http="1.1" if "kept" in case else "1.0", version=OLDER if "KiB" in case else NEWEST)

    def ask(self, case, times):
        """One request after the other, as `case` says; every answer is looked at."""
        request = self.request(case)
        connection = self.server.connect() if "kept" in case else None
        for _ in range(times):
            if connection is None:
                self.look(case, self.server.ask(request))
            else:
                connection.sendall(request)
                self.look(case, read_answer(connection))
        if connection is not None:
            connection.close()

    def look(self, case, data):
        reply = Reply(data)
        if "KiB" in case:
            assert (reply.status, reply.reason) == (200, "newer") and reply.body == self.image, case
        else:
            assert (reply.status, reply.reason) == (304, "up-to-date"), case

    def warm(self):
        """Every way has been gone, more than once, as by a fleet: another device was served, too."""
        other = device_request(PATH, {**ESP8266, "Connection": "close"}, version=OLDER, mac="5C:CF:7F:00:00:01")
        self.look("512 KiB", self.server.ask(other))
        for case in CALLS:
            self.ask(case, WARM)


def read_answer(connection):
    """One answer of a kept connection."""
    data = b""
    while b"\r\n\r\n" not in data:
        data += connection.recv(65536)
    found = re.search(rb"Content-Length: (\d+)", data)
    end = data.index(b"\r\n\r\n") + 4 + (int(found.group(1)) if found else 0)
    while len(data) < end:
        data += connection.recv(1 << 20, socket.MSG_WAITALL if end - len(data) > 1 << 20 else 0)
    return data


# --- allocations ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", CALLS)
def test_allocations(tmp_path, case):
    """What connections, transfers and rows for the store are made of is kept for the next."""
    assert (BIN / "count_malloc.so").exists(), "build all targets: count_malloc is one"
    counter = tmp_path / "allocations"
    counter.write_bytes(bytes(8))
    house = House(tmp_path, env={"LD_PRELOAD": str(BIN / "count_malloc.so"), "UPDRAFT_ALLOCATIONS": str(counter)})

    def count():
        return int.from_bytes(counter.read_bytes(), "little")

    def taken():
        before = count()
        house.ask(case, REQUESTS)
        took = count() - before
        # A disk that is slow keeps rows waiting, and those are no longer there for the next.
        wait_until(lambda: "updraft_store_backlog 0\n" in admin.get("/metrics").text, "all rows to be written")
        return took

    admin = Admin(house.server.folder / "state/admin.sock")
    with house.server:
        assert count() > 0, "nothing is counted"
        house.warm()
        # As many rows as ever wait for the store at once are made anew, so the first rounds may still make some.
        rounds = []
        while not rounds or (rounds[-1] > ALLOCATIONS_BESIDES and len(rounds) < ROUNDS_MAX):
            rounds.append(taken())
        assert rounds[-1] <= ALLOCATIONS_BESIDES, f"allocations in rounds of {REQUESTS} requests: {rounds}"


# --- system calls -----------------------------------------------------------------------------------------------------


@contextmanager
def traced(pid, folder):
    """Counts the calls of each thread: a Counter by thread id, filled at the end. Skips where nobody may trace."""
    strace = shutil.which("strace")
    assert strace, "strace is not installed: script/bootstrap test"
    command = [strace, "-ff", "-o", folder / "calls", "-p", str(pid)]
    tracer = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    said = tracer.stderr.readline()
    if "attached" not in said:
        tracer.wait(PATIENCE_S)
        tracer.stderr.close()
        assert "not permitted" in said, said
        pytest.skip(f"tracing needs CAP_SYS_PTRACE, or kernel.yama.ptrace_scope=0: {said.strip()}")
    counts = {}
    try:
        yield counts
    finally:
        tracer.send_signal(signal.SIGINT)
        tracer.stderr.read()
        tracer.stderr.close()
        tracer.wait(PATIENCE_S)
    for path in folder.glob("calls.*"):
        counts[int(path.suffix[1:])] = Counter(re.findall(r"^(\w+)\(", path.read_text(), re.M))


def listed(case):
    """What CALLS says, on this machine."""
    bound = int(Path("/proc/sys/net/core/wmem_max").read_text())
    short = "KiB" in case and bound < SEND_BUFFER
    return Counter(CALLS[case]) + (Counter(WAIT_FOR_ROOM) if short else Counter())


@pytest.mark.parametrize("case", CALLS)
def test_system_calls(tmp_path, case):
    house = House(tmp_path)
    pid = house.server.process.pid
    with house.server:
        house.warm()
        with traced(pid, tmp_path) as counts:
            began = time.monotonic()
            house.ask(case, REQUESTS)
            seconds = time.monotonic() - began
    loop = counts[pid]
    beyond = loop - Counter({name: REQUESTS * times for name, times in listed(case).items()})
    assert loop["sendto"] >= REQUESTS, f"not all was traced: {loop}"
    assert beyond.total() <= BESIDES + BESIDES_A_SECOND * seconds, f"besides {listed(case)} a request, for {REQUESTS}: {beyond}"
    others = sum((count for thread, count in counts.items() if thread != pid), Counter())
    assert others.total() <= OTHERS + OTHERS_A_SECOND * seconds, f"the other threads, for {REQUESTS} requests: {others}"


def table():
    """CALLS as docs/performance.md has it."""
    names = list(dict.fromkeys(name for calls in CALLS.values() for name in calls))
    rows = [["request", *names, "in all"]]
    rows += [[case, *(str(calls.get(name, "")) for name in names), str(sum(calls.values()))]
             for case, calls in CALLS.items()]
    rows.insert(1, ["---", *["---:"] * (len(names) + 1)])
    return "".join("| " + " | ".join(row) + " |\n" for row in rows)


def test_the_table_of_the_documentation():
    assert table() in (ROOT / "docs/performance.md").read_text(), f"docs/performance.md, System calls:\n{table()}"

"""A client that takes what it can get, and how long that takes by the server's doing.

What makes it hard is that it shares its CPU with a load, and both suffer. So it rests after each check and each
`BURST_S` of downloads, in which the load catches up, and only the time of the answers counts; of that not what it waits
for its CPU while it could go on (`OwnTime`), which is no fault of the server's."""

import gc
import os
import socket
import time

import updraft
from whole import Wrong

SEGMENT = 1460  # of Ethernet. One of loopback, 64 KiB, is more than a small send buffer holds: timers would be measured.
REST = 2  # times what it took before: two thirds of the CPU are the load's
BURST_S = 0.06  # after a rest BBR begins a kept connection's next download slowly


class OwnTime:
    """Seconds of the wall's clock less those for which this thread was ready and another had its CPU: the second field
    of schedstat (Documentation/scheduler/sched-stats.rst of Linux)."""

    def __init__(self):
        self.file = open("/proc/thread-self/schedstat", "rb", buffering=0)

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.file.close()

    def now_s(self):
        waited_ns = os.pread(self.file.fileno(), 64, 0).split()[1]
        return time.perf_counter() - int(waited_ns) / 1e9


def timed(ask, own):
    """What it returned, and its (own, wall) seconds; then a rest."""
    wall_from, own_from = time.perf_counter(), own.now_s()
    value = ask()
    took = own.now_s() - own_from, time.perf_counter() - wall_from
    time.sleep(REST * took[1])
    return value, took


def connect(server):
    connection = socket.socket()
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, SEGMENT)
    connection.settimeout(60)
    connection.connect(("127.0.0.1", server.port))
    return connection


def download_request(path, kept):
    end = "" if kept else "Connection: close\r\n"
    return f"GET {path} HTTP/1.{int(kept)}\r\nHost: 127.0.0.1\r\nUser-Agent: updraft-bench\r\n{end}\r\n".encode()


def check_request(path, version):
    headers = {**updraft.ESP8266, "x-ESP8266-version": version}
    lines = [f"GET {path} HTTP/1.0", "Host: 127.0.0.1", *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join([*lines, "", ""]).encode()


class QuickClient:
    """Asks one server after the other for the same: the answer to `check` is 304, of `download` (a path) `image`."""

    def __init__(self, check, download, image, checks, seconds):
        self.check, self.kept, self.fresh = check, download_request(download, True), download_request(download, False)
        self.image, self.count, self.seconds = image, checks, seconds
        self.buffer = memoryview(bytearray(1 << 20))

    def probe(self, server):
        """Asks for each answer once and checks every byte. Returns the bytes of a whole download that is kept."""
        with connect(server) as connection:
            connection.sendall(self.check)
            answer = updraft.Reply(updraft.read_to_end(connection))
        if answer.status != 304:
            raise Wrong(f"{server.name}: a check is answered {answer.status_line!r}")
        with connect(server) as connection:
            connection.sendall(self.kept + self.fresh)
            data = updraft.read_to_end(connection)
        first = updraft.Reply(data)
        second = updraft.Reply(first.rest) if first.rest else first
        if first.status != 200 or first.body != self.image or second.body != self.image or not first.rest:
            raise Wrong(f"{server.name}: a download is answered {first.status_line!r}, {first.header_list!r}")
        return len(data) - len(first.rest)

    def ask_for_check(self, server):
        with connect(server) as connection:
            connection.sendall(self.check)
            answer = updraft.read_to_end(connection)
        if answer[9:12] != b"304":
            raise Wrong(f"{server.name}: a check under load is answered {answer[:60]!r}")

    def checks(self, server, own):
        """(own, wall) seconds of each fresh check, from connecting to the end of the connection."""
        took, end = [], time.perf_counter() + 3 * self.seconds
        while len(took) < self.count and time.perf_counter() < end:
            took.append(timed(lambda: self.ask_for_check(server), own)[1])
        return took

    def download_kept(self, server, connection, answer_bytes):
        connection.sendall(self.kept)
        missing = answer_bytes
        while missing > 0:
            n = connection.recv_into(self.buffer[:missing])
            if n == 0:
                raise Wrong(f"{server.name}: a kept connection was ended within a download")
            missing -= n
        return answer_bytes

    def download_fresh(self, server):
        with connect(server) as connection:
            connection.sendall(self.fresh)
            got = n = connection.recv_into(self.buffer)
            while n > 0:
                n = connection.recv_into(self.buffer)
                got += n
        if not len(self.image) < got < len(self.image) + 4096:
            raise Wrong(f"{server.name}: a download had {got} bytes")
        return got

    def rate(self, download, own):
        """(own, wall) bytes a second of the downloads' time."""
        def burst():
            total, end = 0, time.perf_counter() + BURST_S
            while time.perf_counter() < end:
                total += download()
            return total

        runs, end = [], time.perf_counter() + self.seconds
        while time.perf_counter() < end:
            runs.append(timed(burst, own))
        total = sum(got for got, _ in runs)
        return tuple(total / sum(took[place] for _, took in runs) for place in (0, 1))

    def feel(self, server, answer_bytes):
        """What is to be had of the server as it is now; the keys with _wall by the wall's clock."""
        gc.disable()
        try:
            with OwnTime() as own:
                took = self.checks(server, own)
                with connect(server) as connection:
                    kept = self.rate(lambda: self.download_kept(server, connection, answer_bytes), own)
                fresh = self.rate(lambda: self.download_fresh(server), own)
        finally:
            gc.enable()
        figures = {"checks": len(took)}
        for place, end in enumerate(("", "_wall")):
            seconds = [each[place] for each in took]
            figures.update({f"check_p50{end}": percentile(seconds, 0.5), f"check_p99{end}": percentile(seconds, 0.99),
                            f"kept{end}": kept[place], f"fresh{end}": fresh[place]})
        return figures


def percentile(values, share):
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]

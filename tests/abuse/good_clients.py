"""Those who only want to be served, while others attack: each asks again and again, every time on a fresh connection, and
notes how long the answer took, or what was wrong with it."""

import collections
import http.client
import socket
import threading
import time

from tests.abuse.stage import CHECK, DOWNLOAD, VERSION
from tests.support.updraft import ESP8266, Reply, device_request, read_to_end

PATIENCE_S = 8  # of the updater of the ESP8266 (HTTPClient's default)
LEFT = "left to the system"
ATTACKER, OTHER = "127.0.0.1", "127.0.0.2"


class Wrong(Exception):
    """An answer that is none for a good client."""


class GoodClient(threading.Thread):
    """ask() once every `pause_s`, until stop()."""

    def __init__(self, name, ask, pause_s):
        super().__init__(name=name, daemon=True)
        self.ask, self.pause_s = ask, pause_s
        self.took, self.wrong = [], []
        self.over = threading.Event()

    def run(self):
        while not self.over.wait(self.pause_s):
            began = time.perf_counter()
            try:
                self.ask()
            except (OSError, http.client.HTTPException, Wrong, AssertionError, ValueError, IndexError) as error:
                self.wrong.append(f"after {time.perf_counter() - began:.2f} s: {type(error).__name__}: {error}")
            else:
                self.took.append(time.perf_counter() - began)

    def stop(self):
        self.over.set()
        self.join()

    def answered(self):
        return f"{len(self.took)}/{len(self.took) + len(self.wrong)}"

    def p99_ms(self):
        return 1e3 * sorted(self.took)[int(len(self.took) * 0.99)] if self.took else float("nan")


class GoodClients:
    """A context, in which all of them ask. `shares`: one of them has the attackers' address, as behind one NAT."""

    def __init__(self, stage, shares):
        self.stage, self.most = stage, collections.Counter()
        self.context = stage.context()
        check = device_request(CHECK, ESP8266, version=VERSION)
        download = device_request(DOWNLOAD, {"User-Agent": "ESP8266-http-Update"})
        self.all = [
            GoodClient("checks", lambda: self.check(OTHER, check), 0.02),
            GoodClient("checks over TLS", lambda: self.check(OTHER, check, tls=True), 0.03),
            GoodClient("downloads", lambda: self.download(download), 0.5),
            GoodClient("operator", self.look, 0.5),
        ]
        if shares:
            self.all.append(GoodClient("checks from the attackers' address", lambda: self.check(ATTACKER, check), 0.05))

    def __enter__(self):
        for client in self.all:
            client.start()
        return self

    def __exit__(self, *exception):
        for client in self.all:
            client.stop()

    def __getitem__(self, name):
        return next(client for client in self.all if client.name == name)

    def ask(self, source, request, tls=False):
        address = ("127.0.0.1", self.stage.tls_port if tls else self.stage.port)
        with socket.create_connection(address, PATIENCE_S, source_address=(source, 0)) as plain:
            if not tls:
                plain.sendall(request)
                return Reply(read_to_end(plain))
            with self.context.wrap_socket(plain, server_hostname="127.0.0.1") as connection:
                connection.sendall(request)
                return Reply(read_to_end(connection))

    def check(self, source, request, tls=False):
        reply = self.ask(source, request, tls)
        if (reply.status, reply.reason) != (304, "up-to-date"):
            raise Wrong(f"a check is answered {reply.status_line}, {reply.reason}")

    def download(self, request):
        reply = self.ask(OTHER, request)
        if reply.status != 200 or reply.body != self.stage.image:
            raise Wrong(f"a download is answered {reply.status_line}, {len(reply.body)} bytes")

    def look(self):
        """What the operator sees, and the system; the most of it is kept."""
        for name, value in {**self.stage.samples(), LEFT: self.stage.left_to_the_system()}.items():
            self.most[name] = max(value, self.most.get(name, 0))

    def failures(self):
        return [f"{client.name}: {client.answered()} answered; the first that was not, {[*client.wrong, 'never came'][0]}"
                for client in self.all if client.wrong or not client.took]

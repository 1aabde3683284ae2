"""What the operator does in a soak, again and again: reloads, the broker's end, images in and out, rollouts of every sort,
reading, tokens, words on devices. One thread, each act when its time has come.

What makes it hard is that a rollout takes its time and the acts must go on meanwhile: each type has a Line, which looks at
its rollout, does what is to be done with it now, and begins the next one when it is over."""

import collections
import itertools
import re
import signal
import time

from tests.soak.churn import Thread
from tests.soak.stage import ADDRESSES, KEPT_VERSIONS, TYPES
from tests.support.fleet import OVER, accounts
from tests.support.mqtt import wait_connected
from tests.support.tls import dev_cert
from tests.support.updraft import wait_until

PATIENCE_S = 240  # for one rollout
STILL_OPEN = {"queued", "triggered", "downloading", "flashed"}
IN_FLIGHT = 60
READ = ["/api/v1/status", "/metrics", "/api/v1/rollouts", "/api/v1/devices?limit=1000", "/api/v1/devices?outcome=confirmed",
        "/api/v1/devices?q=5ccf7f&limit=200", "/api/v1/firmware", "/api/v1/firmware/rejected", "/api/v1/groups",
        "/api/v1/explain?type=door&version=0.0.1", "/api/v1/audit?limit=200", "/api/v1/tokens"]
HEADS = [f"5ccf000000{n:02x}" for n in range(0, 48, 3)]  # of the pool: these get the operator's words


class Line:
    """One type's rollouts, one after the other. Each is of another sort: `order` are its members beyond the usual ones."""

    SORTS = {
        "plain": {}, "canaries": {"canary": 5}, "paused": {}, "halted": {"max_failures": 0}, "a half": {"percent": 50},
        "superseded": {}, "named": {}, "adaptive": {"in_flight": 0},
    }

    def __init__(self, acts, type_name, first):
        self.acts, self.stage, self.type_name = acts, acts.stage, type_name
        self.sorts = itertools.islice(itertools.cycle(self.SORTS), first, None)
        self.rollout, self.images = None, self.stage.lying[type_name]

    def step(self):
        """What is to be done now. Returns whether it may begin another."""
        if self.rollout is None:
            return True
        now = self.stage.rollout(self.rollout)
        assert time.monotonic() - self.began < PATIENCE_S, f"a rollout does not end: {now}"
        if now["state"] in OVER:
            self.end(now)
        elif now["state"] == "halted":
            self.halted(now)
        elif self.sort == "paused" and now["state"] == "paused":
            self.stage.say(self.rollout, "resume")
            self.sort = "resumed"
        elif self.sort == "paused" and now["devices"]["confirmed"] > 0:
            self.say_unless_over("pause")
        elif self.sort == "superseded" and now["devices"]["confirmed"] > 0:
            older, self.rollout = self.rollout, None
            self.begin("plain")
            self.end(self.stage.wait_over(older), older)
        return self.rollout is None

    def say_unless_over(self, word, **body):
        """It may have ended since it was looked at."""
        answer = self.stage.admin.post(f"/api/v1/rollouts/{self.rollout}/{word}", body)
        assert answer.status in (200, 409), answer
        self.acts.counts[f"{word} said"] += answer.status == 200

    def halted(self, now):
        """Its image is kept back until it is ordered again."""
        self.acts.counts["rollouts halted"] += 1
        self.say_unless_over("abort", why="the soak")
        self.end(self.stage.wait_over(self.rollout))
        self.order("again", max_failures=100)

    def end(self, now, which=None):
        counts = accounts(now)
        assert now["state"] == "aborted" or not STILL_OPEN & counts.keys(), now
        self.acts.ended[now["state"]] += 1
        self.acts.members.update({f"{now['state']}: {state}": count for state, count in counts.items()})
        if which is None:
            self.rollout = None

    def begin(self, sort=None):
        number = self.stage.numbers.get(self.type_name, 0)
        self.publish(by_api=number % 2 == 0)
        self.order(sort or next(self.sorts))
        while len(self.images) > KEPT_VERSIONS:
            self.remove(self.images.pop(0)[1], by_api=number % 4 < 2)

    def publish(self, by_api):
        """By the operator's door, or as a file in the repository."""
        version, file, data = self.stage.make(self.type_name, self.stage.folder / "made.bin" if by_api else None)
        if by_api:
            answer = self.stage.admin.post(f"/api/v1/firmware?type={self.type_name}&version={version}", data)
            assert answer.status == 201, answer
            file = answer.json["file"]
        wait_until(lambda: self.stage.knows(self.type_name, version), f"{file} is known")
        self.images.append((version, file))
        self.acts.counts["images published"] += 1

    def remove(self, file, by_api):
        if by_api:
            answer = self.stage.admin.delete(f"/api/v1/firmware/{file}?force=yes")
            assert answer.status == 200, answer
        else:
            (self.stage.server.repo / file).unlink()
        self.acts.counts["images removed"] += 1

    def order(self, sort, **more):
        members = {"type": self.type_name, "version": self.images[-1][0], "in_flight": IN_FLIGHT, "timeout_s": 5,
                   **self.SORTS.get(sort, {}), **more}
        if sort == "named":
            members["to"] = self.acts.macs_of(self.type_name)[::2]
        answer = self.stage.admin.post("/api/v1/rollouts", members)
        assert answer.status == 202, answer
        self.rollout, self.sort, self.began = answer.json["id"], sort, time.monotonic()


class Acts(Thread):
    """`ended`: rollouts by their state; `members`: their devices' states, added up."""

    def __init__(self, stage):
        super().__init__("operator", stage)
        self.ended, self.members = collections.Counter(), collections.Counter()
        self.lines = [Line(self, name, place) for place, name in enumerate(TYPES)]
        self.reloads, self.settings = itertools.cycle(self.RELOADS), itertools.count()
        self.winding_up = False

    def work(self):
        due = {name: time.monotonic() for name in self.ACTS}
        while not self.over.is_set():
            for name, (act, every_s) in self.ACTS.items():
                if time.monotonic() >= due[name]:
                    act(self)
                    due[name] = time.monotonic() + every_s
            self.over.wait(0.2)
        self.wind_up()

    def wind_up(self):
        """All rollouts to their end."""
        while not all([line.step() for line in self.lines]):
            time.sleep(0.2)
        self.forget_newcomers()

    def rollouts(self):
        for line in self.lines:
            if line.step():
                line.begin()

    def macs_of(self, type_name):
        return [device["mac"] for device in self.stage.devices_of(type_name)]

    # --- reloads ------------------------------------------------------------------------------------------------------

    def reload(self):
        """SIGHUP behind another change each time, and its effect. Some of them are mistakes, which change nothing."""
        server, change = self.stage.server, next(self.reloads)
        change(self)
        end = server.log_path.stat().st_size
        server.process.send_signal(signal.SIGHUP)

        def done():
            with open(server.log_path, "rb") as log:
                log.seek(end)
                return re.search(rb"event=(reloaded|reload_failed) ", log.read())
        wait_until(done, "the reload")
        self.counts["reloads"] += 1

    def new_certificate(self):
        dev_cert(self.stage.certs, "--rsa", "127.0.0.1")
        self.counts["certificates changed"] += 1

    def bad_certificate(self):
        (self.stage.certs / "server.pem").write_text("nothing\n")

    def settings_changed(self):
        """Lists of other lengths each time, back to the first after eight."""
        n = next(self.settings) % 8
        lines = [f"rescan-interval = {50 + n}s", f"max-failures = {20 + n}%"]
        lines += [f"block-mac = 02:00:{i:02x}" for i in range(4 * n)]
        lines += [f"block-network = 203.0.113.{i}/32" for i in range(n)]
        lines += ["[assign]", *(f"02:00:00:00:00:{i:02x} = door DOOR-{i}" for i in range(30 * n))]
        self.stage.config.write_text("\n".join(lines) + "\n")

    def settings_wrong(self):
        self.stage.config.write_text("no-such-key = 1\n")

    RELOADS = [new_certificate, settings_changed, bad_certificate, new_certificate, settings_wrong, settings_changed]

    # --- the broker ---------------------------------------------------------------------------------------------------

    def broker(self):
        """Killed, or frozen, by turns."""
        broker = self.stage.broker
        if self.counts["broker killed"] <= self.counts["broker frozen"]:
            broker.kill()
            time.sleep(1)
            broker.start()
            self.counts["broker killed"] += 1
        else:
            broker.freeze()
            time.sleep(2)
            broker.thaw()
            self.counts["broker frozen"] += 1
        wait_connected(self.stage.admin)

    # --- reading, tokens, words ---------------------------------------------------------------------------------------

    def read(self):
        """Over the socket, and over TCP with a token; the last rollout's devices page by page."""
        asks = [self.stage.admin, self.stage.remote(self.token("reader", role="admin"))]
        for path in READ:
            for admin in asks:
                answer = admin.get(path)
                assert answer.status == 200 and answer.body, (path, answer)
        newest = self.stage.admin.get("/api/v1/rollouts").json["rollouts"][0]["id"]
        self.stage.members(newest)
        self.revoke("reader")
        self.counts["pages read"] += 2 * len(READ)

    def token(self, name, **members):
        answer = self.stage.admin.post("/api/v1/tokens", {"name": name, **members})
        assert answer.status == 201, answer
        return answer.json["token"]

    def revoke(self, name):
        answer = self.stage.admin.delete(f"/api/v1/tokens/{name}")
        assert answer.status == 200, answer

    def tokens(self):
        """Made, used, too little for an order, revoked, and good for nothing from then on."""
        asks = self.stage.remote(self.token("guest", role="read", expires_in_s=3600))
        assert asks.get("/api/v1/status").status == 200
        assert asks.post("/api/v1/rollouts", {"type": "door"}).status == 403
        self.revoke("guest")
        assert asks.get("/api/v1/status").status in (401, 429)
        self.counts["tokens made and revoked"] += 1

    def words(self):
        """On devices that take part in no rollout, each taken back at once."""
        mac, change = HEADS[self.counts["words on devices"] % len(HEADS)], self.stage.admin
        for body in ({"groups_add": ["cellar", "north"], "note": "a word"}, {"blocked": True}, {"pin": "0.4.9"},
                     {"groups_remove": ["cellar", "north"], "note": "", "blocked": False, "pin": None}):
            answer = change.ask("PATCH", f"/api/v1/devices/{mac}", body)
            assert answer.status == 200, (body, answer)
        for answer in (change.post(f"/api/v1/devices/{mac}/retry", {}), change.get(f"/api/v1/devices/{mac}")):
            assert answer.status == 200, answer
        self.counts["words on devices"] += 1

    def forget_newcomers(self):
        while self.stage.came:
            mac = self.stage.came.popleft().replace(":", "").lower()
            answer = self.stage.admin.delete(f"/api/v1/devices/{mac}")
            assert answer.status == 200, answer
            self.counts["devices forgotten"] += 1

    # name: (what is done, every so many seconds)
    ACTS = {
        "rollouts": (rollouts, 0.5), "reload": (reload, 5), "broker": (broker, 40), "read": (read, 7),
        "tokens": (tokens, 6), "words": (words, 5), "forget": (forget_newcomers, 3),
    }


class Guesser(Thread):
    """Wrong tokens from ADDRESSES by turns. It waits for answers that are held back, so it has a thread of its own."""

    def __init__(self, stage):
        super().__init__("guesser", stage)

    def work(self):
        for address in itertools.cycle(ADDRESSES):
            if self.over.wait(1):
                return
            self.guess(address)

    def guess(self, address):
        answer = self.stage.remote("0" * 40, source=address).get("/api/v1/status")
        assert answer.status in (401, 429), answer
        self.counts["wrong tokens"] += 1

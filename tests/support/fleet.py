"""A fleet for a test: the real server, a real mosquitto, simulated devices that the server knows, and two witnesses of a
rollout: the server's own figures, looked at all the time, and whoever subscribes to the commands.

    with Fleet(tmp_path) as fleet:
        with fleet.devices(100) as sim:
            fleet.add("2.0.0")
            rollout = fleet.order(in_flight=10)
            fleet.wait_over(rollout)"""

import json
import re
import shutil
import sqlite3
import tempfile
import threading
import time
from collections import namedtuple
from contextlib import closing
from datetime import datetime
from pathlib import Path

from tests.support.admin import Admin
from tests.support.mqtt import Broker, Listener, free_port, wait_connected
from tests.support.sim import Sim
from tests.support.updraft import Server, make_image, wait_until

STATES = ["queued", "triggered", "downloading", "flashed", "confirmed", "failed", "silent", "skipped"]
OVER = ("done", "aborted")
FAST = {"time_scale": 0.02}
LOG_LAG_S, DEADLINE_LAG_S, LASTS_S, KILL_LAG_S = 0.02, 0.5, 0.05, 0.2

# `at`: it lived until then, at least; `over`: by then it was dead; `under_way`: the MACs in a slot, by what it left.
Kill = namedtuple("Kill", "at over under_way")


class Fleet:
    """The server's port stays the same across restarts: devices have it from their commands. `broker=False`: none;
    `kept=False`: one that forgets all when it is killed, which for thousands of devices is much faster."""

    def __init__(self, folder, broker=True, kept=True, **flags):
        self.folder = folder
        self.broker = Broker(folder / "broker", *([] if kept else ["persistence false"])) if broker else None
        self.flags = {"listen": f"127.0.0.1:{free_port()}", "log_level": "debug", **flags}
        if broker:
            self.flags.setdefault("mqtt", self.broker.url)
        self.add("0.1.0", wait=False)
        self.admin = Admin(folder / "s/state/admin.sock")
        self.server = None
        self.start()

    def start(self, wait=True, **more):
        self.server = Server(self.folder / "s", wait=wait, **{**self.flags, **more})
        if wait and self.broker is not None:
            wait_connected(self.admin)

    def kill(self):
        """As a power cut does, but for what the kernel has yet to write."""
        self.server.process.kill()
        self.server.process.wait()
        self.server.process.stdout.close()
        self.server.log_file.close()

    def stored_under_way(self):
        """Of a copy: the next server is to find the store as the last one left it."""
        with tempfile.TemporaryDirectory() as copy:
            for file in (self.folder / "s/state").glob("updraft.db*"):
                shutil.copy(file, copy)
            with closing(sqlite3.connect(Path(copy) / "updraft.db")) as store:
                return {f"{mac:012x}" for mac, in
                        store.execute("SELECT mac FROM member WHERE state IN ('triggered', 'flashed')")}

    def store(self):
        return self.admin.get("/api/v1/status").json["store"]

    def wait_written(self):
        """Until all that the server knows by now is on the disk. It hands over twice a second; one that had no CPU does so
        between two answers."""
        time.sleep(0.6)
        self.store()
        wait_until(lambda: self.store()["backlog"] == 0, "all is written")

    def add(self, version, size="40K", wait=True, type_name="door", **options):
        seed = sum(version.encode()) + 1
        make_image("esp8266", self.folder / f"s/firmware/{type_name}/{version}.bin", size=size, seed=seed, **options)
        if wait:
            wait_until(lambda: version in self.admin.get(f"/api/v1/firmware?type={type_name}").text, f"{version} is known")

    def devices(self, count, known=True, **flags):
        """Simulated devices, that have asked once (before there was anything newer) and wait for commands."""
        flags = {"types": "door", "devices": count, "json_devices": True, "duration": 300, "seed": 7, **FAST, **flags}
        name = f"sim{flags.get('first', 1)}"
        (self.folder / name).mkdir(exist_ok=True)
        before = self.known() if known else 0
        if known:
            flags["check_in_at_start"] = True
        sim = Sim(self.folder / name, self.server, self.broker, **flags)
        if self.broker is not None:
            sim.ready()
        if known:
            wait_until(lambda: self.known() >= before + count, f"the server has seen {count} devices")
        return sim

    def known(self):
        return int(re.search(r"^updraft_devices (\d+)", self.admin.get("/metrics").text, re.M).group(1))

    def order(self, expect=202, **members):
        answer = self.admin.post("/api/v1/rollouts", {"type": "door", **members})
        assert answer.status == expect, answer
        if expect != 202:
            return answer
        self.wait(answer.json["id"], lambda now: now["state"] != "planned", "its devices to be gathered")
        return answer.json["id"]

    def rollout(self, rollout):
        return self.admin.get(f"/api/v1/rollouts/{rollout}").json

    def say(self, rollout, word, expect=200, **body):
        answer = self.admin.post(f"/api/v1/rollouts/{rollout}/{word}", body)
        assert answer.status == expect, answer
        return answer.json

    def wait(self, rollout, condition, what, patience_s=60):
        return wait_until(lambda: (lambda now: condition(now) and now)(self.rollout(rollout)), what, patience_s)

    def wait_over(self, rollout, patience_s=120):
        return self.wait(rollout, lambda now: now["state"] in OVER, "the rollout's end", patience_s)

    def members(self, rollout, state=None):
        """{mac: member} of those that are listed."""
        found, offset = {}, 0
        while True:
            query = f"devices=yes&offset={offset}" + (f"&state={state}" if state else "")
            page = self.admin.get(f"/api/v1/rollouts/{rollout}?{query}").json
            found.update({member["mac"]: member for member in page["device_list"]})
            offset += len(page["device_list"])
            if not page["device_list"] or not page["unlisted"]:
                return found

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        try:
            self.server.__exit__(*exception)  # raises where it crashed
        finally:
            if self.broker is not None:
                self.broker.stop()


def accounts(rollout):
    """All members are in exactly one state."""
    devices = rollout["devices"]
    assert sum(devices[state] for state in STATES) == devices["members"], devices
    return {state: devices[state] for state in STATES if devices[state] > 0}


class Gauge:
    """Looks at a rollout all the time: the largest number in flight, and every look adds up. A server that is away
    meanwhile is forgiven."""

    def __init__(self, fleet, rollout):
        self.fleet, self.rollout = fleet, rollout
        self.largest, self.looks, self.faults, self.states = 0, 0, [], []
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        while not self.ended.is_set():
            try:
                now = self.fleet.rollout(self.rollout)
                self.look(now)
            except (OSError, ValueError, KeyError):
                pass
            except Exception as broken:  # of http.client, while the server is killed
                if not type(broken).__module__.startswith("http"):
                    self.faults.append(repr(broken))
            time.sleep(0.02)

    def look(self, now):
        self.looks += 1
        self.largest = max(self.largest, now["window"]["in_flight"])
        if not self.states or self.states[-1] != now["state"]:
            self.states.append(now["state"])
        if now["window"]["in_flight"] > now["window"]["size"]:
            self.faults.append(now["window"])
        devices = now["devices"]
        if sum(devices[state] for state in STATES) != devices["members"]:
            self.faults.append(devices)

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.ended.set()
        self.thread.join()
        if exception[0] is None:
            assert not self.faults, self.faults[:3]
            assert self.looks > 0


class Witness(Listener):
    """Subscribes to the type's commands, and holds them against what the server's log says of the devices."""

    def __init__(self, fleet, **options):
        self.times = []
        super().__init__(fleet.broker, "updraft/door/#", client_id="witness", clean=False, **options)

    def on_message(self, client, data, message):
        self.times.append(time.time())
        super().on_message(client, data, message)

    def commands(self):
        """[(when, mac, id)]; mac "" = to the type."""
        found = []
        for when, (topic, payload, _retain) in zip(list(self.times), list(self.messages)):
            words = topic.split("/")
            if words[-1] == "update":
                found.append((when, words[2] if len(words) == 4 else "", json.loads(payload)["id"]))
        return found

    def ids(self):
        """{mac: its commands' ids, each once}"""
        found = {}
        for _when, mac, id_ in self.commands():
            found.setdefault(mac, [])
            if id_ not in found[mac]:
                found[mac].append(id_)
        return found

    def largest(self, log, timeout_s, reboot_s, kills=()):
        """The most devices that were told and not yet done: each command from when it was heard here, which is never
        too early; each end from when the server logged it, less what it may take from the slot to the line. A device is
        served in a slot alone: where it was, and no command before that was heard, this one was heard too late to count.
        A kill takes the last lines along, transfers, and commands that left before their slot was written free: behind
        it those count that the store has in a slot, and whoever is told again. The others were done when the last lines
        were not written yet: which of them left before another was told, nothing says any more."""
        events, counted, over = [], set(), {}  # over: {mac: the end of its last command's slot}
        ends = slot_ends(log)
        for when, mac, id_ in self.commands():
            lost = [kill.at for kill in kills if kill.over >= when and mac not in kill.under_way][:1]
            if (mac, id_, *lost) in counted:
                continue
            counted.add((mac, id_, *lost))
            late = [at for at, served in ends.get(mac, []) if served and over.get(mac, 0) < at < when - LOG_LAG_S]
            logged = [at for at, _ in ends.get(mac, []) if at >= when - LOG_LAG_S]
            deadline = when + min(timeout_s, reboot_s) - DEADLINE_LAG_S
            over[mac] = min(late or [deadline] + logged + lost)
            if not late:
                end = min([deadline] + [at - LOG_LAG_S for at in logged] + [at - KILL_LAG_S for at in lost])
                events += [(when, 1), (max(when, end), -1)]
        return most(events)


def most(events):
    """The most at once that lasted: where the machine takes the processor away between a slot's end and its line in the
    log, the next command is heard before that line's time, for some milliseconds and by a few devices."""
    largest, since = 0, []  # since[n]: from when on there were more than n
    for when, step in sorted(events, key=lambda event: (event[0], -event[1])):
        if step > 0:
            since.append(when)
        elif when - since.pop() >= LASTS_S:
            largest = max(largest, len(since) + 1)
    return largest


def transfer_events(log):
    """[(when, event, status, mac)] of checks, and of transfers that ended."""
    for line in log.splitlines():
        found = re.match(r"(?:time|ts)=(\S+).* event=(check|update_sent|update_cut) (?:.*?status=(\d+) )?.*?device=(\S+)", line)
        if found is not None:
            when = datetime.fromisoformat(found[1].replace("Z", "+00:00")).timestamp()
            yield when, found[2], found[3], found[4].replace(":", "").lower()


def slot_ends(log):
    """{mac: [(when its slot came free, whether it had been served)]}: a transfer that was cut; a check behind a transfer,
    or one that is not answered with the image: nobody in flight is held back."""
    ends, transferred = {}, set()
    for when, event, status, mac in transfer_events(log):
        if event == "update_cut" or (event == "check" and (mac in transferred or status == "304")):
            ends.setdefault(mac, []).append((when, event == "update_cut" or mac in transferred))
            transferred.discard(mac)
        if event == "update_sent":
            transferred.add(mac)
    return ends


def most_transfers(log, kills=()):
    """The most that went on at once, by the server's log: from the answer with the image to its end, or the server's."""
    largest, under_way, kills = 0, set(), list(kills)
    for when, event, status, mac in transfer_events(log):
        while kills and when > kills[0].over:
            under_way.clear()
            del kills[0]
        (under_way.add if status == "200" else under_way.discard)(mac)
        largest = max(largest, len(under_way))
    return largest

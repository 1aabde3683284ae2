"""What an operator was told of a rollout holds: at every address, and after a restart that finds half of the world missing."""

import contextlib
import gzip
import hashlib
import os
import sqlite3

import pytest

from tests.support.admin import Admin
from tests.support.mqtt import Broker, Listener, wait_connected
from tests.support.updraft import Server, check, make_image, wait_until


def mac(n):
    return ":".join(f"5ccf7f{n:06x}"[i:i + 2] for i in range(0, 12, 2))


class House:
    """A server without a broker, whose five devices run 1.0.0 of door."""

    def __init__(self, folder, **flags):
        self.folder, self.flags = folder, flags
        self.admin = Admin(folder / "state/admin.sock")
        self.one = make_image("esp8266", folder / "firmware/door/1.0.0.bin", size="40K", seed=1)
        self.start()
        for n in range(1, 6):
            assert self.ask(n).reason == "same-digest"

    def start(self):
        self.server = Server(self.folder, **self.flags)

    def kill(self):
        self.server.process.kill()
        self.server.process.wait()
        self.server.process.stdout.close()
        self.server.log_file.close()

    def wait_written(self, order):
        """An order is answered when it is written; that it has begun comes a moment later, and SIGKILL could take that along."""
        wait_until(lambda: self.rollout(order)["state"] == "running", "it has begun")
        wait_until(lambda: self.admin.get("/api/v1/status").json["store"]["backlog"] == 0, "that is written")

    def ask(self, n, path="/update/door"):
        """A device flashes and restarts before it asks again; by then the server has heard that the image arrived."""
        sent = f"event=update_sent device={mac(n).replace(':', '').lower()} "
        before = self.server.log().count(sent)
        reply = check(self.server, path, mac=mac(n), version="1.0.0", md5=hashlib.md5(self.one).hexdigest())
        if reply.status == 200:
            wait_until(lambda: self.server.log().count(sent) > before, "the end of the transfer")
        return reply

    def close(self):
        self.server.stop()

    def add(self, name="door/2.0.0.bin", pack=False):
        data = make_image("esp8266", self.folder / "new.bin", size="40K", seed=2)
        (self.folder / ".part").write_bytes(gzip.compress(data) if pack else data)
        (self.folder / ".part").rename(self.folder / "firmware" / name)
        wait_until(lambda: name in self.admin.get("/api/v1/firmware?type=door").text, f"{name} is known")

    def order(self, expect=202, **members):
        answer = self.admin.post("/api/v1/rollouts", {"type": "door", **members})
        assert answer.status == expect, answer
        return answer.json

    def rollout(self, order):
        return self.admin.get(f"/api/v1/rollouts/{order['id']}").json


@pytest.fixture
def house(tmp_path):
    made = House(tmp_path)
    yield made
    made.server.stop()


@pytest.mark.parametrize("path", ["/latest/door.bin", "/firmware/door/2.0.0.bin"])
def test_a_halted_image_is_kept_from_those_that_failed_with_it(house, path):
    """Else it is kept from everybody but them."""
    house.add()
    order = house.order(in_flight=5, max_failures=0)
    for n in (1, 2):
        assert house.ask(n).status == 200
        house.ask(n)
    assert house.rollout(order)["state"] == "halted"
    for n in (1, 2, 5):
        assert (house.ask(n, path).status, house.ask(n, path).reason) == (304, "held-back")


def test_what_failed_during_a_pause(house):
    """Else who resumes after it forgives what nobody has told him, and others are given the bad image."""
    house.add()
    order = house.order(in_flight=5, canary=2)
    path = f"/api/v1/rollouts/{order['id']}"
    assert house.ask(1).status == house.ask(2).status == 200
    house.admin.post(path + "/pause", {})
    assert house.ask(1).status == house.ask(2).status == 304
    resumed = house.admin.post(path + "/resume", {}).json
    assert resumed["state"] == "halted" and resumed["warning"].startswith("it halts at once: 2 failed of 2 finished"), resumed
    assert house.ask(3).status == 304
    seen = house.admin.post(path + "/resume", {}).json
    assert (seen["state"], seen["warning"]) == ("running", resumed["resume"]), seen
    assert house.ask(3).status == 200


def test_a_drive_that_comes_late(house):
    """No reason to give a rollout up, nor a word on its image."""
    house.add()
    order = house.order(in_flight=2)
    house.wait_written(order)
    house.kill()
    os.rename(house.folder / "firmware", house.folder / "away")
    (house.folder / "firmware").mkdir()
    house.start()
    stands = house.rollout(order)
    assert stands["state"] == "running" and stands["why"].startswith("it waits: "), stands
    wait_until(lambda: "event=rollout_waits" in house.server.log(), "it is said")
    os.rename(house.folder / "away/door", house.folder / "firmware/door")
    wait_until(lambda: house.rollout(order)["why"] == "", "it goes on")
    assert house.ask(3).status == 200


def test_the_same_build_in_another_form(house):
    house.add("door/2.0.0.bin.gz", pack=True)
    order = house.order(in_flight=2)
    house.add()
    house.kill()
    house.start()
    assert house.rollout(order)["state"] == "running", house.rollout(order)


def test_a_group_that_everybody_left(house):
    house.add()
    path = "/api/v1/devices/5ccf7f000001"
    assert house.admin.ask("PATCH", path, {"groups_add": ["kitchen"]}).status == 200
    order = house.order(group="kitchen")
    assert house.admin.ask("PATCH", path, {"groups_remove": ["kitchen"]}).status == 200
    house.kill()
    house.start()
    assert house.rollout(order)["state"] != "aborted", house.rollout(order)


def test_an_order_that_was_not_taken_says_nothing_of_its_image(house):
    """Another program holds the database: the operator hears which trouble it is, and the image is as good as before."""
    house.add()
    with contextlib.closing(sqlite3.connect(house.folder / "state/updraft.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        refused = house.order(expect=503)
        assert "locked" in str(refused) or "another program" in str(refused), refused
    wait_until(lambda: house.admin.get("/api/v1/status").json["store"]["state"] == "good", "it is written again")
    assert house.ask(3).status == 200


# --- its file goes ---------------------------------------------------------------------------------------------------

def put(house, seed):
    make_image("esp8266", house.folder / "new.bin", size="40K", seed=seed)
    os.rename(house.folder / "new.bin", house.folder / "firmware/door/2.0.0.bin")


def wait_state(house, order, state):
    return wait_until(lambda: (lambda now: now["state"] == state and now)(house.rollout(order)), state)


def put_back_and_resume(house, order):
    """An operator who is told that there is nothing to give puts it back, and goes on."""
    path = f"/api/v1/rollouts/{order['id']}/resume"
    refused = house.admin.post(path, {})
    assert refused.status == 409 and "put the file back" in str(refused.json), refused
    put(house, seed=2)
    wait_until(lambda: house.admin.post(path, {}).status == 200, "it goes on")


@pytest.mark.parametrize("seed", [3, None], ids=["replaced", "removed"])
def test_its_file_goes_while_it_runs(tmp_path, seed):
    """Else devices are told ten times each of what nobody can give them."""
    broker = Broker(tmp_path / "broker")
    with contextlib.closing(house := House(tmp_path, mqtt=broker.url)), Listener(broker, "updraft/door/#") as listener:
        wait_connected(house.admin)
        house.add()
        order = house.order(in_flight=2)
        listener.wait(2)
        if seed is None:
            os.unlink(house.folder / "firmware/door/2.0.0.bin")
        else:
            put(house, seed)
        halted = wait_state(house, order, "halted")
        assert "door/2.0.0.bin was replaced or removed" in halted["why"] and "order it again" in halted["why"], halted
        assert any("door/2.0.0.bin" in line for line in house.admin.get("/api/v1/status").json["warnings"])
        for _ in range(3):
            assert all(house.ask(n).status != 200 for n in range(1, 6))
        assert len(listener.messages) == len(set(listener.topics())) == 2, "nobody is told twice"
        put_back_and_resume(house, order)
        assert [house.ask(n).status for n in range(1, 6)].count(200) == 2, "as many as the window holds"
        assert wait_state(house, order, "running")["why"] == ""
    broker.stop()


def test_its_file_is_replaced_while_the_server_is_down(house):
    house.add()
    order = house.order(in_flight=2)
    house.kill()
    put(house, seed=3)
    house.start()
    assert "was replaced" in wait_state(house, order, "halted")["why"]
    assert house.ask(3).reason == "held-back"
    put_back_and_resume(house, order)
    assert wait_until(lambda: house.ask(3).status == 200, "it is served")


def test_who_was_under_way_when_it_was_replaced(house):
    """It halts before it has told anybody; who took the image before comes back with it, and is counted."""
    data = make_image("esp8266", house.folder / "firmware/door/2.0.0.bin", size="40K", seed=2)
    wait_until(lambda: "door/2.0.0.bin" in house.admin.get("/api/v1/firmware?type=door").text, "it is known")
    order = house.order(in_flight=2)
    assert house.ask(1).status == 200
    wait_until(lambda: house.rollout(order)["devices"]["flashed"] == 1, "it has it all")
    database = sqlite3.connect(house.folder / "state/updraft.db")
    wait_until(lambda: database.execute("SELECT count(*) FROM member WHERE state = 'flashed'").fetchone()[0] == 1,
               "it is written down")
    database.close()
    house.kill()
    put(house, seed=3)
    house.start()
    wait_state(house, order, "halted")
    assert check(house.server, "/update/door", mac=mac(1), version="2.0.0", md5=hashlib.md5(data).hexdigest()).status == 304
    assert house.rollout(order)["devices"]["confirmed"] == 1, house.rollout(order)


# --- what nobody ordered ---------------------------------------------------------------------------------------------

def ask_all(house, **says):
    return [check(house.server, "/update/door", mac=mac(n), version="1.0.0", md5=hashlib.md5(house.one).hexdigest(), **says)
            for n in range(1, 6)]


def test_one_form_of_two_is_replaced(house):
    """Else its bytes go to everybody at once: they are none of the rollout's, so nobody counts them."""
    house.add()
    house.add("door/2.0.0.bin.gz", pack=True)
    order = house.order(in_flight=1)
    put(house, seed=3)
    assert "was replaced" in wait_state(house, order, "halted")["why"]
    assert {reply.reason for reply in ask_all(house)} == {"held-back"}
    put_back_and_resume(house, order)
    assert [reply.status for reply in ask_all(house)].count(200) == 1


def test_another_file_takes_its_name(house):
    """Else the operator is told to put back a file that lies where it lay."""
    house.add()
    order = house.order(in_flight=1)
    make_image("esp8266", house.folder / "firmware/Proj_2.0.0.ino.door.bin", size="40K", seed=3)
    why = wait_state(house, order, "halted")["why"]
    assert "door/2.0.0.bin is refused: claims the same type and version as Proj_2.0.0.ino.door.bin" in why, why
    assert why.endswith("resume"), why
    path = f"/api/v1/rollouts/{order['id']}/resume"
    refused = house.admin.post(path, {})
    assert refused.status == 409 and "firmware rejected" in str(refused.json), refused
    os.unlink(house.folder / "firmware/Proj_2.0.0.ino.door.bin")
    wait_until(lambda: house.admin.post(path, {}).status == 200, "it goes on")
    assert house.ask(1).status == 200


@pytest.mark.parametrize("same_build", [True, False], ids=["same build", "another"])
def test_a_form_that_comes_later(house, same_build):
    """Compressed, it is what devices take that have no room for the other: where it is what was ordered."""
    house.add()
    order = house.order(in_flight=1)
    data = make_image("esp8266", house.folder / "new.bin", size="40K", seed=2 if same_build else 3)
    (house.folder / ".part").write_bytes(gzip.compress(data))
    os.rename(house.folder / ".part", house.folder / "firmware/door/2.0.0.bin.gz")
    wait_until(lambda: "door/2.0.0.bin.gz" in house.admin.get("/api/v1/firmware?type=door").text, "it is known")
    replies = ask_all(house, free=38 << 10, **{"sketch-size": 40 << 10})
    served = [reply.status for reply in replies].count(200)
    assert served == (1 if same_build else 0), [reply.reason for reply in replies]
    devices = house.rollout(order)["devices"]
    under_way = devices["triggered"] + devices["downloading"] + devices["flashed"]
    assert (under_way, devices["skipped"]) == ((1, 0) if same_build else (0, 5)), devices


def put_fs(house, name, seed):
    size = int(name.rpartition("_")[2].partition("M")[0])
    make_image("spiffs", house.folder / "firmware" / name, size=f"{size}00K", seed=seed, chip="esp8266")
    wait_until(lambda: name in house.admin.get("/api/v1/firmware").text, f"{name} is known")


def ask_fs(house, n, mib):
    return check(house.server, "/update/door", mac=mac(n), version="1.0.0", md5=hashlib.md5(house.one).hexdigest(),
                 mode="spiffs", flash=mib << 20)


def test_a_file_system_that_nobody_touched(house):
    """A newer sketch may be built for less flash: that says nothing of the devices, nor of the file."""
    put_fs(house, "spiffs_2.0_4M.bin", seed=4)
    order = house.order(mode="fs", in_flight=1)
    make_image("esp8266", house.folder / "firmware/door/3.0.0.bin", size="40K", seed=3, flash="2M")
    wait_until(lambda: "door/3.0.0.bin" in house.admin.get("/api/v1/firmware?type=door").text, "it is known")
    assert house.rollout(order)["state"] == "running", house.rollout(order)
    house.kill()
    house.start()
    now = house.rollout(order)
    assert now["state"] == "running" and now["why"] == "", now
    assert ask_fs(house, 1, mib=4).status == 200


def test_a_file_system_for_two_flash_sizes(house):
    """Each takes its own: both are what was ordered."""
    put_fs(house, "spiffs_2.0_1M.bin", seed=4)
    put_fs(house, "spiffs_2.0_4M.bin", seed=5)
    for n, mib in ((1, 1), (2, 4), (3, 2)):
        check(house.server, "/update/door", mac=mac(n), version="1.0.0", md5=hashlib.md5(house.one).hexdigest(), flash=mib << 20)
    order = house.order(mode="fs", to=[mac(n) for n in range(1, 5)], in_flight=10)
    now = wait_state(house, order, "running")
    assert now["devices"]["skipped"] == 1, now
    assert "wrong-flash" in house.admin.get(f"/api/v1/rollouts/{order['id']}?state=skipped").text
    replies = [ask_fs(house, n, mib) for n, mib in ((1, 1), (2, 4), (4, 1))]
    assert [reply.status for reply in replies] == [200] * 3, replies
    assert [len(reply.body) for reply in replies] == [100 << 10, 400 << 10, 100 << 10]
    devices = house.rollout(order)["devices"]
    assert devices["downloading"] + devices["flashed"] == 3, devices


def test_a_command_for_two_flash_sizes_names_no_digest(tmp_path):
    """Else the sketch on the other size takes its own file for damaged."""
    broker = Broker(tmp_path / "broker")
    with contextlib.closing(house := House(tmp_path, mqtt=broker.url)), Listener(broker, "updraft/door/#") as listener:
        wait_connected(house.admin)
        put_fs(house, "spiffs_2.0_4M.bin", seed=5)
        house.order(mode="fs", to=[mac(1)])
        assert '"md5":""' not in str(listener.wait(1)[0])
        put_fs(house, "spiffs_2.0_1M.bin", seed=4)
        house.order(mode="fs", to=[mac(2)])
        message = str(listener.wait(2)[1])
        assert '"md5":""' in message and '"size":0' in message, message
    broker.stop()

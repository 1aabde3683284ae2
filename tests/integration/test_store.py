"""The fleet's memory on the disk: what was said is there after any end, and a disk that fails takes nothing else along."""

import errno
import hashlib
import os
import sqlite3
import stat
import subprocess
import time

import pytest

from tests.support import small_disk
from tests.support.admin import Admin
from tests.support.fleet import Fleet, accounts
from tests.support.updraft import BIN, check, wait_until

needs_disk = pytest.mark.skipif(small_disk.why_not() is not None, reason=str(small_disk.why_not()))


@pytest.fixture
def fleet(tmp_path):
    with Fleet(tmp_path, broker=False) as made:
        yield made


def seen(admin):
    """All that is known of devices, but for what the passing of time changes."""
    return admin.get("/api/v1/devices").json["devices"]


def patch(admin, mac, expect=200, **members):
    answer = admin.ask("PATCH", f"/api/v1/devices/{mac}", members)
    assert answer.status == expect, answer
    return answer


def mac_of(number):
    return f"5ccf7f{number:06x}"


def visit(server, count, **changes):
    for number in range(1, count + 1):
        assert check(server, "/update/door", mac=mac_of(number), **changes).status in (200, 304)


# --- remembered -----------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("end", ["stopped", "killed"])
def test_devices_are_known_after_a_restart(fleet, end):
    visit(fleet.server, 20, version="0.1.0")
    before = seen(fleet.admin)
    line = fleet.admin.get(f"/api/v1/devices/{mac_of(3)}").json["events"]
    assert len(before) == 20 and [event["word"] for event in line] == ["first-seen"]
    if end == "stopped":
        fleet.server.stop()
    else:
        fleet.wait_written()
        fleet.kill()
    fleet.start()
    assert seen(fleet.admin) == before
    assert fleet.admin.get(f"/api/v1/devices/{mac_of(3)}").json["events"] == line


def test_what_an_operator_said_outlives_a_kill_at_once(fleet):
    """The answer says that it is durable: not a moment may pass between it and that."""
    patch(fleet.admin, mac_of(1), pin="0.1.0", note="the old board")
    patch(fleet.admin, mac_of(2), blocked=True)
    patch(fleet.admin, mac_of(3), groups_add=["kitchen", "attic"])
    patch(fleet.admin, mac_of(3), groups_remove=["attic"], assign={"type": "door", "label": ""})
    fleet.kill()
    fleet.start()
    policies = [fleet.admin.get(f"/api/v1/devices/{mac_of(number)}").json["policy"] for number in (1, 2, 3)]
    assert (policies[0]["pin"], policies[0]["note"]) == ("0.1.0", "the old board")
    assert policies[1]["blocked"] and check(fleet.server, "/update/door", mac=mac_of(2), version="0.0.1").reason == "blocked"
    assert policies[2]["groups"] == ["kitchen"] and policies[2]["assigned"]["type"] == "door"
    assert fleet.admin.get("/api/v1/groups").json["groups"] == [{"name": "kitchen", "devices": 1}]
    patch(fleet.admin, mac_of(1), pin=None)
    fleet.kill()
    fleet.start()
    assert fleet.admin.get(f"/api/v1/devices/{mac_of(1)}").error == "unknown-device", "nothing is said of it any more"


def test_an_order_outlives_a_kill_at_once(fleet):
    visit(fleet.server, 10, version="0.1.0")
    fleet.wait_written()
    fleet.add("2.0.0")
    order = {"percent": 50, "canary": 2, "in_flight": 3, "max_failures": 7, "timeout_s": 77}
    rollout = fleet.order(**order)
    fleet.kill()
    fleet.start()
    found = wait_until(lambda: (lambda now: now["state"] == "canary" and now)(fleet.rollout(rollout)), "it goes on")
    assert {key: found["order"].get(key, found.get(key)) for key in order} == order
    wanted = accounts(found)
    fleet.say(rollout, "abort", why="enough")
    fleet.kill()
    fleet.start()
    over = fleet.rollout(rollout)
    assert (over["state"], over["why"]) == ("aborted", "enough")
    assert sum(accounts(over).values()) == sum(wanted.values())


def test_a_forgotten_device_stays_forgotten(fleet):
    visit(fleet.server, 2, version="0.1.0")
    fleet.wait_written()
    assert fleet.admin.delete(f"/api/v1/devices/{mac_of(1)}").status == 200
    fleet.kill()
    fleet.start()
    assert [device["mac"] for device in seen(fleet.admin)] == [mac_of(2)]


def test_none_keeps_nothing_and_says_so(tmp_path):
    with Fleet(tmp_path, broker=False, store="none") as fleet:
        visit(fleet.server, 3)
        assert fleet.admin.get("/api/v1/status").json["store"]["state"] == "off"
        patch(fleet.admin, mac_of(1), blocked=True)
        fleet.server.stop()
        assert not list((tmp_path / "s/state").glob("updraft.db*"))
        fleet.start()
        assert seen(fleet.admin) == []


# --- refused at the start -------------------------------------------------------------------------------------------

def refused(fleet):
    """What the server says that does not start."""
    words = ["--listen", "127.0.0.1:0", "--repo", fleet.server.repo, "--state", fleet.server.folder / "state"]
    done = subprocess.run([BIN / "updraftd", *words], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1, done
    return done.stderr.splitlines()[-1]


def garbage(path):
    path.write_bytes(b"garbage" * 1000)


def torn(path):
    """Pages in the middle overwritten, as a failing card does."""
    data = bytearray(path.read_bytes())
    for page in range(1, len(data) // 4096):
        data[page * 4096:page * 4096 + 2048] = b"\xa5" * 2048
    path.write_bytes(data)


def newer(path):
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 999")
    connection.commit()
    connection.close()


@pytest.mark.parametrize("spoil", [garbage, torn, newer])
def test_a_database_that_cannot_be_read_is_left_alone(fleet, spoil):
    """It may be all that is left of a year's memory: who starts anyway, or anew, has destroyed it."""
    visit(fleet.server, 5)
    fleet.server.stop()
    path = fleet.server.folder / "state/updraft.db"
    whole = path.read_bytes()
    spoil(path)
    before = hashlib.md5(path.read_bytes()).hexdigest()
    listing = sorted(path.parent.iterdir())
    checked = subprocess.run([BIN / "updraftd", "--repo", fleet.server.repo, "--state", path.parent, "--check-config"],
                             capture_output=True, text=True, timeout=60)
    assert checked.returncode == 1 and str(path) in checked.stderr, checked.stderr
    assert sorted(path.parent.iterdir()) == listing
    said = refused(fleet)
    assert str(path) in said and ("move" in said or "restore" in said or "newer" in said), said
    assert said in checked.stderr or spoil is torn, "the same words"
    assert spoil is newer or all(f"updraft.db{end}" in said for end in (",", "-wal", "-shm"))
    assert spoil is not torn or "`sqlite3 updraft.db .recover | sqlite3 saved.db`" in said
    assert hashlib.md5(path.read_bytes()).hexdigest() == before
    path.write_bytes(whole)
    fleet.start()
    assert len(seen(fleet.admin)) == 5


# --- a disk that fails ----------------------------------------------------------------------------------------------

class FullHouse(Fleet):
    """Its state lies on a small disk, its socket does not."""

    def __init__(self, folder, disk):
        self.disk = disk
        super().__init__(folder, broker=False, admin_socket=folder / "admin.sock", preexec_fn=disk.enter)
        self.admin = Admin(folder / "admin.sock")


@pytest.fixture
def full_house(tmp_path):
    with small_disk.SmallDisk(tmp_path / "s/state", "3m") as disk, FullHouse(tmp_path, disk) as made:
        yield made


@needs_disk
def test_a_full_disk(full_house):
    """Devices notice nothing; the operator is told at once, and nothing that he was promised is lost."""
    fleet = full_house
    visit(fleet.server, 5, version="0.1.0")
    patch(fleet.admin, mac_of(1), pin="0.1.0")
    fleet.add("2.0.0")
    standing = fleet.order(in_flight=100)
    fleet.disk.fill()
    visit(fleet.server, 40, version="0.1.0")
    wait_until(lambda: fleet.store()["state"] == "failing", "the failure is noticed")
    store = fleet.store()
    assert "full" in store["why"] and store["backlog"] > 0
    wait_until(lambda: fleet.admin.get(f"/api/v1/rollouts/{standing}").json["store"]["state"] == "failing", "said there")

    answer = check(fleet.server, "/update/door", mac=mac_of(41), version="0.1.0")
    assert (answer.status, answer.headers.get("x-MD5") is not None) == (200, True), "and served"
    refused_order = fleet.order(expect=503)
    assert refused_order.error == "store-failing" and "full" in refused_order.json["error"]["message"]
    assert patch(fleet.admin, mac_of(2), expect=503, pin="0.1.0").error == "store-failing"
    blocked = patch(fleet.admin, mac_of(3), blocked=True)
    assert "not written down" in blocked.json["warning"], "a block must not wait for a disk"
    assert check(fleet.server, "/update/door", mac=mac_of(3), version="0.0.1").reason == "blocked"
    assert "not written down" in fleet.say(standing, "pause")["warning"]
    time.sleep(2.5)
    assert fleet.server.log().count("event=store_failing") == 1, "said once, not with every attempt"

    fleet.disk.empty()
    wait_until(lambda: fleet.store()["state"] == "good" and fleet.store()["backlog"] == 0, "it recovers by itself")
    fleet.server.wait_log("event=store_good")
    fleet.wait_written()
    fleet.kill()
    fleet.start()
    policies = {number: fleet.admin.get(f"/api/v1/devices/{mac_of(number)}").json["policy"] for number in (1, 2, 3)}
    assert (policies[1]["pin"], policies[2]["pin"], policies[3]["blocked"]) == ("0.1.0", "", True)
    assert fleet.rollout(standing)["state"] == "paused"
    assert len(fleet.admin.get("/api/v1/rollouts").json["rollouts"]) == 1, "what was refused does not come back"
    assert len(seen(fleet.admin)) == 41


@needs_disk
def test_killed_while_the_disk_is_full(full_house):
    """What was promised before is there; what was refused, or warned of, need not be."""
    fleet = full_house
    patch(fleet.admin, mac_of(1), pin="0.1.0")
    fleet.disk.fill()
    visit(fleet.server, 20)
    wait_until(lambda: fleet.store()["state"] == "failing", "the failure is noticed")
    fleet.kill()
    fleet.disk.empty()
    fleet.start()
    assert fleet.admin.get(f"/api/v1/devices/{mac_of(1)}").json["policy"]["pin"] == "0.1.0"
    patch(fleet.admin, mac_of(1), pin=None)


@needs_disk
def test_a_rollout_goes_on_while_the_disk_is_full(full_house):
    """The memory of it is behind, not the rollout."""
    fleet = full_house
    with fleet.devices(30, poll=10) as sim:
        fleet.add("2.0.0")
        rollout = fleet.order(in_flight=3)
        fleet.disk.fill()
        end = fleet.wait_over(rollout)
        assert set(accounts(end)) <= {"confirmed", "skipped"}
        fleet.disk.empty()
        wait_until(lambda: fleet.store()["state"] == "good" and fleet.store()["backlog"] == 0, "it recovers")
        fleet.wait_written()
        sim.stop()
    fleet.kill()
    fleet.start()
    after = fleet.rollout(rollout)
    assert (after["state"], accounts(after)) == ("done", accounts(end))


@needs_disk
@pytest.mark.parametrize("end", ["stopped", "killed"])
@pytest.mark.parametrize("trouble", ["full", "read-only"])
def test_a_start_on_a_disk_that_cannot_be_written(full_house, trouble, end):
    """A power cut is no time to be without updates: what can be read is, and devices notice nothing."""
    fleet = full_house
    visit(fleet.server, 3, version="0.1.0")
    patch(fleet.admin, mac_of(1), pin="0.1.0")
    fleet.wait_written()
    fleet.server.stop() if end == "stopped" else fleet.kill()
    fleet.disk.fill() if trouble == "full" else fleet.disk.read_only()
    fleet.start()
    assert len(seen(fleet.admin)) == 3
    assert fleet.admin.get(f"/api/v1/devices/{mac_of(1)}").json["policy"]["pin"] == "0.1.0"
    assert check(fleet.server, "/update/door", mac=mac_of(9), version="0.0.1").status == 200
    store = wait_until(lambda: fleet.store()["state"] == "failing" and fleet.store(), "it is said")
    assert "full" in store["why"] if trouble == "full" else "read-only" in store["why"], store
    fleet.server.wait_log("event=store_failing")
    assert patch(fleet.admin, mac_of(2), expect=503, pin="0.1.0").error == "store-failing"
    fleet.disk.empty() if trouble == "full" else fleet.disk.writable()
    wait_until(lambda: fleet.store()["state"] == "good" and fleet.store()["backlog"] == 0, "it recovers by itself")
    patch(fleet.admin, mac_of(2), pin="0.1.0")
    fleet.wait_written()
    fleet.kill()
    fleet.start()
    assert len(seen(fleet.admin)) == 4
    pins = [fleet.admin.get(f"/api/v1/devices/{mac_of(number)}").json["policy"]["pin"] for number in (1, 2)]
    assert pins == ["0.1.0", "0.1.0"]


@needs_disk
@pytest.mark.parametrize("stale", [False, True], ids=["", "stale"])
def test_a_socket_on_a_read_only_disk(tmp_path, stale):
    """The operator's door is by default where nothing can be made: it is said where else it can be."""
    (tmp_path / "firmware").mkdir()
    with small_disk.SmallDisk(tmp_path / "state", "3m") as disk:
        (disk.path / "lock").touch()
        if stale:
            os.mknod(disk.path / "admin.sock", stat.S_IFSOCK | 0o600)
        disk.read_only()
        done = subprocess.run([BIN / "updraftd", "--listen", "127.0.0.1:0", "--repo", tmp_path / "firmware", "--state",
                               tmp_path / "state"], capture_output=True, text=True, preexec_fn=disk.enter, timeout=30)
    assert done.returncode == 1 and "state/admin.sock: " in done.stderr, done
    assert "such as --admin-socket /run/updraft/admin.sock" in done.stderr
    assert ("old socket cannot be removed" if stale else "read-only file system") in done.stderr


@needs_disk
def test_the_first_start_on_a_full_disk(tmp_path):
    """There is nothing to be read, and nothing can be made: it begins empty, and makes it when there is room."""
    with small_disk.SmallDisk(tmp_path / "s/state", "3m") as disk:
        disk.fill()
        with FullHouse(tmp_path, disk) as fleet:
            assert fleet.store()["state"] == "failing" and "full" in fleet.store()["why"]
            visit(fleet.server, 3, version="0.1.0")
            disk.empty()
            wait_until(lambda: fleet.store()["state"] == "good" and fleet.store()["backlog"] == 0, "it recovers")
            fleet.wait_written()
            fleet.kill()
            fleet.start()
            assert len(seen(fleet.admin)) == 3


@needs_disk
def test_who_stops_updates_does_not_wait_for_the_disk(full_house):
    fleet = full_house
    visit(fleet.server, 5, version="0.1.0")
    fleet.add("2.0.0")
    rollout = fleet.order(in_flight=100)
    fleet.disk.fill()
    visit(fleet.server, 40, version="0.1.0")
    wait_until(lambda: fleet.store()["state"] == "failing", "the failure is noticed")
    for word in ("pause", "resume"):
        began = time.monotonic()
        assert "not written down" in fleet.say(rollout, word)["warning"]
        assert time.monotonic() - began < 2


@pytest.mark.parametrize("how", ["removed", "replaced"])
def test_a_database_that_goes_away_while_it_runs(fleet, how):
    """Else all is well, and at the next start nothing is there."""
    visit(fleet.server, 5)
    fleet.wait_written()
    path = fleet.server.folder / "state/updraft.db"
    kept = path.with_suffix(".kept")
    os.rename(path, kept)
    if how == "replaced":
        path.write_bytes(kept.read_bytes())
    wait_until(lambda: fleet.store()["state"] == "failing", "it is noticed, with nothing to write", patience_s=30)
    assert f"{how[:7]}" in fleet.store()["why"] and "put the old one back" in fleet.store()["why"]
    assert patch(fleet.admin, mac_of(2), expect=503, pin="0.1.0").error == "store-failing"
    os.rename(kept, path)
    wait_until(lambda: fleet.store()["state"] == "good", "it is found again", patience_s=30)
    patch(fleet.admin, mac_of(2), pin="0.1.0")
    fleet.kill()
    fleet.start()
    assert fleet.admin.get(f"/api/v1/devices/{mac_of(2)}").json["policy"]["pin"] == "0.1.0" and len(seen(fleet.admin)) == 5


class FaultyHouse(Fleet):
    """Its database fails on command, with any error, or HANGS: fault_disk.so is preloaded into the server."""

    def __init__(self, folder):
        assert (BIN / "fault_disk.so").exists(), "build all targets: fault_disk is one"
        orders = folder / "orders"  # what is preloaded reads it from inside the sandbox
        orders.mkdir()
        self.order_path = orders / "fault"
        sanitizer = ":".join(filter(None, [os.environ.get("ASAN_OPTIONS"), "verify_asan_link_order=0"]))
        super().__init__(folder, broker=False, env={"LD_PRELOAD": str(BIN / "fault_disk.so"), "ASAN_OPTIONS": sanitizer,
                                                    "UPDRAFT_FAULT": str(self.order_path),
                                                    "UPDRAFT_SANDBOX_READ": str(orders)})

    def fail(self, error):
        temporary = self.order_path.with_suffix(".new")
        temporary.write_text(str(error))
        temporary.rename(self.order_path)

    def mend(self):
        self.order_path.unlink(missing_ok=True)


@pytest.fixture
def faulty_house(tmp_path):
    with FaultyHouse(tmp_path) as made:
        yield made
        made.mend()


HANGS = -1


@pytest.mark.parametrize("error", [errno.EIO, errno.EROFS, HANGS], ids=["EIO", "read-only", "hangs"])
def test_a_disk_that_cannot_be_written(faulty_house, error):
    """In the midst of a rollout: it goes on, what was promised before is kept, and what came meanwhile is, too, once the
    disk is well."""
    fleet = faulty_house
    with fleet.devices(30, poll=10) as sim:
        patch(fleet.admin, mac_of(99), pin="0.1.0")
        fleet.add("2.0.0")
        rollout = fleet.order(in_flight=3)
        fleet.fail(error)
        wait_until(lambda: fleet.store()["state"] == "failing", "the failure is noticed")
        fleet.server.wait_log("event=store_failing")
        assert error != HANGS or "hangs" in fleet.store()["why"]
        assert patch(fleet.admin, mac_of(98), expect=503, pin="0.1.0").error == "store-failing"
        assert fleet.order(expect=503, version="0.1.0").error == "store-failing"
        end = fleet.wait_over(rollout)
        assert set(accounts(end)) <= {"confirmed", "skipped"} and end["devices"]["members"] == 30
        fleet.mend()
        wait_until(lambda: fleet.store()["state"] == "good" and fleet.store()["backlog"] == 0, "it recovers by itself")
        sim.stop()
    fleet.kill()
    fleet.start()
    after = fleet.rollout(rollout)
    assert (after["state"], accounts(after)) == ("done", accounts(end))
    assert fleet.admin.get(f"/api/v1/devices/{mac_of(99)}").json["policy"]["pin"] == "0.1.0"
    assert fleet.admin.get(f"/api/v1/devices/{mac_of(98)}").error == "unknown-device", "what was refused stays refused"


def test_killed_while_the_disk_fails(faulty_house):
    """A kill in the midst of failing writes costs what was not acknowledged, and nothing else."""
    fleet = faulty_house
    visit(fleet.server, 10, version="0.1.0")
    patch(fleet.admin, mac_of(1), pin="0.1.0")
    fleet.wait_written()
    fleet.fail(errno.EIO)
    visit(fleet.server, 300, version="0.1.0")
    wait_until(lambda: fleet.store()["state"] == "failing", "the failure is noticed")
    fleet.kill()
    fleet.mend()
    fleet.start()
    assert fleet.admin.get(f"/api/v1/devices/{mac_of(1)}").json["policy"]["pin"] == "0.1.0"
    assert {mac_of(number) for number in range(1, 11)} <= {device["mac"] for device in seen(fleet.admin)}
    patch(fleet.admin, mac_of(1), pin=None)


def test_a_database_that_goes_bad_while_it_runs(fleet):
    """It is left as it is, the server goes on from memory and says so, and the remedy is one that works."""
    visit(fleet.server, 500, version="0.1.0")
    patch(fleet.admin, mac_of(1), pin="0.1.0")
    fleet.server.stop()
    path = fleet.server.folder / "state/updraft.db"
    whole = path.read_bytes()
    fleet.start()
    torn(path)
    before = hashlib.md5(path.read_bytes()).hexdigest()
    visit(fleet.server, 700, version="0.1.0")

    def failing():
        now = fleet.admin.get("/api/v1/status").json["store"]
        return now if now["state"] == "failing" else None

    store = wait_until(failing, "the damage is noticed")
    assert "damaged" in store["why"] and "restore" in store["why"], store
    fleet.server.wait_log("event=store_failing")
    assert fleet.known() == 700
    assert patch(fleet.admin, mac_of(2), expect=503, pin="0.1.0").error == "store-failing"
    assert check(fleet.server, "/update/door", mac=mac_of(701), version="0.0.1").status == 200, "and serves"
    fleet.kill()
    assert hashlib.md5(path.read_bytes()).hexdigest() == before, "nothing is written to what may yet be saved"
    for beside in path.parent.glob("updraft.db-*"):
        beside.unlink()
    path.write_bytes(whole)
    fleet.start()
    assert fleet.known() == 500 and fleet.admin.get(f"/api/v1/devices/{mac_of(1)}").json["policy"]["pin"] == "0.1.0"

"""Devices and what an operator says of them, over the admin API of a real server: what is remembered of whom, what a word
changes at the next check, what outlives a restart, and what is promised while nothing can be written down."""

import contextlib
import re
import sqlite3
import time
import urllib.parse

import pytest

from tests.support.admin import Admin, UnixConnection
from tests.support.cli import run
from tests.support.download import md5
from tests.support.updraft import ESP32, ESP8266, Server, check, device_request, make_image, wait_until

MAC = "5ccf7fb1e042"
DEVICE = f"/api/v1/devices/{MAC}"


@pytest.fixture
def folder(tmp_path):
    make_image("esp8266", tmp_path / "firmware/door/1.0.bin", seed=1)
    make_image("esp8266", tmp_path / "firmware/door/2.0.bin", seed=2)
    make_image("esp8266", tmp_path / "firmware/lamp/1.0.bin", seed=3)
    make_image("esp32", tmp_path / "firmware/gate/1.0.bin", version="1.0")
    return tmp_path


@pytest.fixture
def server(folder):
    with Server(folder) as running:
        yield running


def admin_of(server):
    return Admin(server.folder / "state/admin.sock")


@pytest.fixture
def admin(server):
    return admin_of(server)


def change(admin, address=DEVICE, **word):
    answer = admin.ask("PATCH", address, word)
    assert answer.status == 200, answer
    return answer.json


def words_of(admin, address=DEVICE):
    return [event["word"] for event in admin.get(address).json["events"]]


def listed(admin, **query):
    answer = admin.get("/api/v1/devices?" + urllib.parse.urlencode(query)).json
    return [device["mac"] for device in answer["devices"]], answer["total"]


def bytes_of(server, file):
    return (server.repo / file).read_bytes()


# --- what is known ----------------------------------------------------------------------------------------------------

def test_what_a_device_says_is_known(server, admin):
    assert check(server, "/update/door", version="1.0").reason == "newer"
    server.wait_log("event=update_sent")
    device = admin.get(DEVICE).json
    assert (device["mac"], device["type"], device["client"], device["chip"]) == (MAC, "door", "esp8266", "ESP8266")
    assert device["md5"] == ESP8266["x-ESP8266-sketch-md5"] and device["sdk"] == ESP8266["x-ESP8266-sdk-version"]
    assert (device["flash_bytes"], device["free_bytes"], device["version"]) == (4194304, 2052096, "1.0")
    assert device["sketch_bytes"] == int(ESP8266["x-ESP8266-sketch-size"])
    assert (device["address"], device["via_proxy"], device["online"]) == ("127.0.0.1", False, None)
    assert (device["reason"], device["outcome"], device["failures"]) == ("newer", "open", 0)
    assert device["transfer"]["version"] == "2.0" and device["transfer"]["bytes"] == device["transfer"]["of"] > 0
    assert device["policy"]["assigned"] == {"type": "", "label": "", "source": ""} and device["policy"]["at"] is None
    image = md5(bytes_of(server, "door/2.0.bin"))
    assert check(server, "/update/door", version="2.0", md5=image).reason == "same-digest"
    device = admin.get(DEVICE).json
    assert (device["outcome"], device["reason"], device["md5"]) == ("confirmed", "same-digest", image)
    words = [event["word"] for event in device["events"]]
    assert words[0] == "confirmed" and words[-1] == "first-seen" and device["events_why"] == ""


def test_lists(server, admin):
    """Each filter alone and with another; in the order they first came; a page of it, and how many there are."""
    macs = [f"5ccf7f0000{i:02x}" for i in range(5)]
    for i, mac in enumerate(macs):
        check(server, "/update/door" if i < 3 else "/update/lamp", mac=mac, version="1.0" if i < 2 else "2.0")
    check(server, "/update/gate", ESP32, version="0.9", sha256=None)
    wait_until(lambda: server.log().count("event=update_sent") == 3, "three are sent")
    change(admin, f"/api/v1/devices/{macs[1]}", groups_add=["kitchen"])
    change(admin, "/api/v1/devices/0200deadbeef", groups_add=["kitchen"])  # never seen: in the group, not in the list
    assert listed(admin) == ([*macs, "240ac4b1e042"], 6)
    assert listed(admin, type="lamp") == (macs[3:], 2)
    assert listed(admin, type="shed") == ([], 0)
    assert listed(admin, group="kitchen") == ([macs[1]], 1)
    assert listed(admin, reason="newer", type="door") == (macs[:2], 2)
    assert listed(admin, outcome="open")[1] == 3
    assert listed(admin, outcome="silent") == ([], 0)
    assert listed(admin, q="7F:00:00:03") == ([macs[3]], 1)
    assert listed(admin, seen_within_s=60)[1] == 6
    assert listed(admin, online="yes") == listed(admin, online="no") == ([], 0)
    assert listed(admin, offset=4, limit=1) == ([macs[4]], 6)
    assert listed(admin, limit=0) == ([], 6)
    assert listed(admin, offset=6) == listed(admin, offset=1000000) == ([], 6)
    assert listed(admin, type="door", offset=1, limit=1) == ([macs[1]], 3)
    assert admin.get("/api/v1/groups").json == {"total": 1, "groups": [{"name": "kitchen", "devices": 2}]}
    change(admin, f"/api/v1/devices/{macs[2]}", groups_add=["attic", "barn"])
    assert admin.get("/api/v1/groups?offset=1&limit=1").json == {"total": 3, "groups": [{"name": "barn", "devices": 1}]}
    assert admin.get("/api/v1/groups?offset=3").json == {"total": 3, "groups": []}
    devices = admin.get("/api/v1/status").json["devices"]
    assert (devices["seen"], devices["known"]) == (6, 6)


def test_an_outcome_that_there_is_not(server, admin):
    answer = admin.get("/api/v1/devices?outcome=bogus")
    assert (answer.status, answer.json["error"]["remedy"]) == (400, "give one of none, open, confirmed, old-build, "
                                                               "rolled-back, other-build, cut, reported, silent")


def test_a_fleet_larger_than_a_turn_of_the_loop(folder):
    """The list is looked through in steps: it has each device once, in pages too."""
    with Server(folder, log_level="warn") as server:
        admin, count = admin_of(server), 3000
        with server.connect() as line, line.makefile("rb") as answers:
            for i in range(count):
                line.sendall(device_request("/update/lamp", {**ESP8266, "Connection": "keep-alive"}, http="1.1",
                                            mac=f"5ccf7f{i:06x}", version="1.0"))
                while answers.readline() != b"\r\n":
                    pass
        first = admin.get("/api/v1/devices").json
        assert first["total"] == count and len(first["devices"]) == 1000
        pages = [device["mac"] for offset in range(0, count, 1000)
                 for device in admin.get(f"/api/v1/devices?offset={offset}").json["devices"]]
        assert pages == [f"5ccf7f{i:06x}" for i in range(count)]


# --- an operator's word -----------------------------------------------------------------------------------------------

def test_a_pin_goes_back_and_ends(server, admin):
    assert change(admin, pin="1.0", note="the relay clicks")["policy"]["pin"] == "1.0"
    reply = check(server, "/update/door", version="2.0")
    assert (reply.reason, reply.body) == ("pinned", bytes_of(server, "door/1.0.bin"))
    explained = admin.get(f"/api/v1/explain?mac={MAC}").json
    assert explained["assignment"] == {"type": "", "label": "1.0", "source": "operator", "pinned": True}
    assert explained["reason"] == "pinned"
    assert change(admin, pin=None)["policy"]["pin"] == ""
    assert check(server, "/update/door", version="2.0").reason == "up-to-date"
    assert [word for word in words_of(admin) if "pinned" in word] == ["unpinned", "pinned"]


def test_a_block_goes_at_once_and_ends(server, admin):
    change(admin, blocked=True)
    reply = check(server, "/update/door", version="1.0")
    assert (reply.status, reply.reason) == (304, "blocked")
    assert admin.get(f"/api/v1/explain?mac={MAC}").json["reason"] == "blocked"
    plan = admin.post("/api/v1/rollouts", {"type": "door", "plan": True}).json["plan"]
    assert [(row["reason"], row["first"]) for row in plan["selected"]["skipped"]] == [("blocked", [MAC])]
    change(admin, blocked=False)
    assert check(server, "/update/door", version="1.0").reason == "newer"


def test_an_operators_assignment_goes_before_the_configurations(folder):
    config = folder / "updraft.conf"
    config.write_text("[assign]\n5C:CF:7F:B1:E0:42 = door 1.0\n")
    with Server(folder, config=config) as server:
        admin = admin_of(server)
        check(server, "/update", version="1.0")
        from_file = {"type": "door", "label": "1.0", "source": "configuration"}
        assert admin.get(DEVICE).json["policy"]["assigned"] == from_file
        assigned = change(admin, assign={"type": "lamp"})["policy"]["assigned"]
        assert assigned == {"type": "lamp", "label": "", "source": "operator"}
        reply = check(server, "/update", version="0.9")
        assert (reply.reason, reply.body) == ("newer", bytes_of(server, "lamp/1.0.bin"))
        assert change(admin, assign=None)["policy"]["assigned"] == from_file
        assert check(server, "/update", version="0.9").body == bytes_of(server, "door/1.0.bin")


def test_unknown_devices_wait_until_they_are_approved(folder):
    with Server(folder, unknown_devices="hold") as server:
        admin = admin_of(server)
        assert check(server, "/update/door", version="1.0").reason == "unapproved"
        assert listed(admin, reason="unapproved") == ([MAC], 1)
        assert change(admin, approved=True)["policy"]["approved"]
        assert check(server, "/update/door", version="1.0").reason == "newer"
        change(admin, approved=False)
        assert check(server, "/update/door", version="1.0").reason == "unapproved"


def test_groups_are_joined_and_left(admin):
    """One that leaves makes room for one that comes, in the same word; the same group twice is one."""
    full = [f"g{i}" for i in range(8)]
    assert change(admin, groups_add=[*full, "g0"])["policy"]["groups"] == full
    moved = change(admin, groups_add=["new"], groups_remove=["g3", "none"])["policy"]["groups"]
    assert moved == [*full[:3], *full[4:], "new"]
    assert change(admin, groups_remove=["new", *full])["policy"]["groups"] == []
    assert admin.get("/api/v1/groups").json == {"total": 0, "groups": []}
    assert admin.get(DEVICE).error == "unknown-device", "of whom nothing is said any more, nothing is kept"


def test_a_rollout_of_a_group(server, admin):
    """Its members get the build, and nobody else does."""
    other = "5ccf7fb1e043"
    for mac in (MAC, other):
        check(server, "/update/door", mac=mac, version="2.0")
    change(admin, groups_add=["kitchen"])
    rollout = admin.post("/api/v1/rollouts", {"type": "door", "version": "1.0", "group": "kitchen"}).json
    assert rollout["order"]["group"] == "kitchen" and rollout["devices"]["members"] == 1
    assert check(server, "/update/door", mac=other, version="2.0").reason == "up-to-date"
    reply = check(server, "/update/door", version="2.0")
    assert (reply.reason, reply.body) == ("published", bytes_of(server, "door/1.0.bin"))
    assert admin.get(DEVICE).json["rollouts"][0]["id"] == rollout["id"]
    server.wait_log("event=update_sent")
    check(server, "/update/door", version="1.0", md5=md5(bytes_of(server, "door/1.0.bin")))
    ended = admin.get(f"/api/v1/rollouts/{rollout['id']}").json
    assert (ended["state"], ended["devices"]["confirmed"]) == ("done", 1)


def test_the_rest_waits_for_the_canaries(server, admin):
    for i in range(3):
        check(server, "/update/door", mac=f"5ccf7f00000{i}", version="2.0")
    rollout = admin.post("/api/v1/rollouts", {"type": "door", "version": "1.0", "canary": 1}).json
    assert rollout["state"] == "canary" and rollout["canaries"] == {"members": 1, "confirmed": 0}
    address = f"/api/v1/rollouts/{rollout['id']}"
    members = admin.get(address + "?devices=yes").json["device_list"]
    (canary,) = [member["mac"] for member in members if member["canary"]]
    rest = next(member["mac"] for member in members if not member["canary"])
    assert check(server, "/update/door", mac=rest, version="2.0").reason == "held-back"
    assert check(server, "/update/door", mac=canary, version="2.0").reason == "published"
    server.wait_log("event=update_sent")
    check(server, "/update/door", mac=canary, version="1.0", md5=md5(bytes_of(server, "door/1.0.bin")))
    assert admin.get(address).json["state"] == "running"
    assert check(server, "/update/door", mac=rest, version="2.0").reason == "published"


def test_a_build_that_failed_is_kept_back_until_an_operator_says_otherwise(server, admin):
    """It ran the new build and came back with the old one: it is not offered again, until a retry."""
    old, new = (md5(bytes_of(server, f"door/{version}.bin")) for version in ("1.0", "2.0"))
    assert check(server, "/update/door", version="1.0", md5=old).reason == "newer"
    server.wait_log("event=update_sent")
    assert check(server, "/update/door", version="2.0", md5=new).reason == "same-digest"
    check(server, "/update/door", version="1.0", md5=old)  # which proves it
    assert check(server, "/update/door", version="1.0", md5=old).reason == "never-again"
    device = admin.get(DEVICE).json
    assert "rolled-back" in words_of(admin) and device["never_again"][0]["rolled_back"]
    assert admin.post(DEVICE + "/retry", {}).json == {"mac": MAC, "forgotten": 1}
    assert admin.get(DEVICE).json["never_again"] == []
    assert check(server, "/update/door", version="1.0", md5=old).reason == "newer"


def test_a_device_that_is_forgotten(server, admin):
    check(server, "/update/door", version="1.0")
    change(admin, pin="1.0", groups_add=["kitchen"])
    assert admin.delete(DEVICE).json == {"removed": MAC, "notes": []}
    assert admin.get(DEVICE).error == "unknown-device" and listed(admin) == ([], 0)
    assert admin.get("/api/v1/groups").json["total"] == 0
    assert admin.delete(DEVICE).status == 404
    check(server, "/update/door", version="2.0")
    assert words_of(admin) == ["first-seen"]


def fails(server, mac):
    """It is sent the newest, and comes back with what it ran before, until it is sent it no more."""
    old = md5(bytes_of(server, "door/1.0.bin"))
    sent = server.log().count("event=update_sent")
    while check(server, "/update/door", mac=mac, version="1.0", md5=old).status == 200:
        sent += 1
        wait_until(lambda: server.log().count("event=update_sent") == sent, "it is sent")
    assert admin_of(server).get(f"/api/v1/devices/{mac}").json["outcome"] == "old-build"


def image_warnings(server):
    return [line for line in admin_of(server).get("/api/v1/status").json["warnings"] if line.startswith("image: ")]


def test_an_image_that_fails_on_several_devices(folder):
    """Outside any rollout nobody counts: status does, until the image is offered no more; over a restart, too."""
    with Server(folder) as server:
        for i in range(3):
            assert image_warnings(server) == []
            fails(server, f"5ccf7f0000{i:02x}")
        warned = image_warnings(server)
        assert len(warned) == 1 and warned[0].startswith("image: door/2.0.bin was sent to 3 devices within a day"), warned
        assert "`publish-update door --version OLD`" in warned[0]
        wait_until(lambda: admin_of(server).get("/api/v1/status").json["devices"]["dirty"] == 0, "they are written")
    with Server(folder) as server:
        assert image_warnings(server) == warned
        rollout = admin_of(server).post("/api/v1/rollouts", {"type": "door", "version": "1.0"}).json["id"]
        for i in range(3):
            check(server, "/update/door", mac=f"5ccf7f0000{i:02x}", version="1.0",
                  md5=md5(bytes_of(server, "door/1.0.bin")))
        assert admin_of(server).get(f"/api/v1/rollouts/{rollout}").json["state"] == "done"
        assert image_warnings(server) == []


def test_failures_within_a_rollout_are_its_own(server, admin):
    macs = [f"5ccf7f0000{i:02x}" for i in range(3)]
    assert admin.post("/api/v1/rollouts", {"type": "door", "to": macs, "max_failures": 100}).status == 202
    for mac in macs:
        fails(server, mac)
    assert image_warnings(server) == []


# --- the file that somebody relies on ---------------------------------------------------------------------------------

def test_an_image_is_removed_that_devices_are_pinned_to(server, admin):
    """It goes, and says who relied on it: of the same type alone, and where nothing else is there for them."""
    macs = [f"5ccf7f0000{i:02x}" for i in range(5)]
    for i, mac in enumerate(macs):
        check(server, "/update/door" if i < 4 else "/update/lamp", mac=mac, version="2.0")
        change(admin, f"/api/v1/devices/{mac}", pin="1.0")
    change(admin, "/api/v1/devices/5ccf7f0000aa", assign={"type": "gate", "label": "1.0"})  # never seen
    said = admin.delete("/api/v1/firmware/door/1.0.bin").json
    assert said["removed"] == "door/1.0.bin"
    assert "4 devices are pinned or assigned to it (" + ", ".join(macs[:3]) + ", ...)" in said["warning"]
    assert check(server, "/update/door", mac=macs[0], version="2.0").reason == "no-image"
    assert admin.delete("/api/v1/firmware/door/2.0.bin").json == {"removed": "door/2.0.bin"}
    assert "1 device is pinned or assigned to it (5ccf7f0000aa)" in admin.delete(
        "/api/v1/firmware/gate/1.0.bin").json["warning"]


def test_more_pins_than_a_turn_of_the_loop(folder):
    with Server(folder, log_level="warn") as server:
        admin, count = admin_of(server), 2500
        for i in range(count):
            change(admin, f"/api/v1/devices/5ccf7f{i:06x}", assign={"type": "door", "label": "1.0"})
        assert f"{count} devices are" in admin.delete("/api/v1/firmware/door/1.0.bin").json["warning"]


def move(server, admin, source, target, macs=(MAC,), **order):
    """The type, from one version to the other; returns the rollout."""
    old, new = (md5(bytes_of(server, f"door/{version}.bin")) for version in (source, target))
    for mac in macs:
        check(server, "/update/door", mac=mac, version=source, md5=old)
    rollout = admin.post("/api/v1/rollouts", {"type": "door", "version": target, **order}).json["id"]
    for mac in macs:
        assert check(server, "/update/door", mac=mac, version=source, md5=old).status == 200
        wait_until(lambda: admin.get(f"/api/v1/rollouts/{rollout}").json["devices"]["flashed"] == 1, "it is sent")
        check(server, "/update/door", mac=mac, version=target, md5=new)
    assert admin.get(f"/api/v1/rollouts/{rollout}").json["state"] == "done"
    return rollout


def go_back(server, admin, **order):
    return move(server, admin, "2.0", "1.0", **order)


def kept_by(admin):
    return {image["file"]: image.get("kept_by") for image in admin.get("/api/v1/firmware").json["images"]}


def test_a_type_that_is_kept_on_an_older_version(server, admin):
    """Easily forgotten: it is said until a newer one ends it."""
    nobody = dict.fromkeys(["door/1.0.bin", "door/2.0.bin", "gate/1.0.bin", "lamp/1.0.bin"])
    assert admin.get("/api/v1/status").json["notes"] == [] and kept_by(admin) == nobody
    rollout = go_back(server, admin)
    assert admin.get("/api/v1/status").json["notes"] == [
        f"door is kept on 1.0 by rollout {rollout}; 2.0 is newer; `publish-update door` ends it"]
    assert kept_by(admin) == {**nobody, "door/1.0.bin": rollout, "door/2.0.bin": rollout}
    code, out, _ = run("firmware", cwd=server.folder)
    assert code == 0 and re.search(r"^door/2.0.bin .* newest, not offered *$", out, re.M), out
    assert re.search(rf"^door/1.0.bin .* kept *\n *rollout {rollout} keeps the type on it", out, re.M), out
    assert f"note        door is kept on 1.0 by rollout {rollout};" in run("status", cwd=server.folder)[1]
    said = admin.delete("/api/v1/firmware/door/1.0.bin").json["warning"]
    assert said == f"rollout {rollout} keeps the type on it: `publish-update door` gives it another"
    assert "door is kept on 1.0" in admin.get("/api/v1/status").json["notes"][0]
    make_image("esp8266", server.repo / "door/2.1.bin", seed=9)
    wait_until(lambda: "door/2.1.bin" in kept_by(admin), "it is served")
    assert admin.get("/api/v1/status").json["notes"] == [] and set(kept_by(admin).values()) == {None}


def test_a_part_that_is_kept_on_an_older_version(server, admin):
    """The type has the newest; these few do not, which is forgotten even more easily."""
    rollout = go_back(server, admin, to=[MAC])
    assert admin.get("/api/v1/status").json["notes"] == [
        f"1 device of door is kept on 1.0 by rollout {rollout}; 2.0 is newer; `publish-update door` ends it"]
    assert set(kept_by(admin).values()) == {None}
    admin.post("/api/v1/rollouts", {"type": "door"})
    assert admin.get("/api/v1/status").json["notes"] == []


def noted(admin):
    return [note.partition(";")[0] for note in admin.get("/api/v1/status").json["notes"]]


def test_those_that_went_on_since_are_not_kept(server, admin):
    """By a newer order of their own, or a pin."""
    macs = [MAC, "5ccf7fb1e043", "5ccf7fb1e044"]
    rollout = go_back(server, admin, to=macs, macs=macs)
    assert noted(admin) == [f"3 devices of door are kept on 1.0 by rollout {rollout}"]
    move(server, admin, "1.0", "2.0", to=[MAC])
    assert noted(admin) == [f"2 devices of door are kept on 1.0 by rollout {rollout}"]
    change(admin, f"/api/v1/devices/{macs[1]}", pin="2.0")
    assert noted(admin) == [f"1 device of door is kept on 1.0 by rollout {rollout}"]
    move(server, admin, "1.0", "2.0", to=[macs[2]], macs=[macs[2]])
    assert noted(admin) == []


def test_a_group_that_is_kept_until_it_goes_on(server, admin):
    change(admin, groups_add=["kitchen"])
    rollout = go_back(server, admin, group="kitchen")
    assert noted(admin) == [f"up to 100 % of the group kitchen of door is kept on 1.0 by rollout {rollout}"]
    move(server, admin, "1.0", "2.0", group="kitchen")
    assert noted(admin) == []


def test_more_are_kept_than_one_look_counts(folder):
    with Server(folder, log_level="warn") as server:
        admin, macs = admin_of(server), [f"5ccf7f{i:06x}" for i in range(2500)]
        for mac in macs:
            change(admin, f"/api/v1/devices/{mac}", pin="2.0")
        rollout = admin.post("/api/v1/rollouts", {"type": "door", "version": "1.0", "to": macs}).json["id"]
        wait_until(lambda: admin.get(f"/api/v1/rollouts/{rollout}").json["state"] == "done", "all are pinned")
        assert noted(admin) == [f"up to 500 devices of door are kept on 1.0 by rollout {rollout}"]


def test_a_part_that_is_kept_by_a_rollout_of_long_ago(server, admin):
    """Its devices are forgotten, its word stands."""
    rollout = go_back(server, admin, to=[MAC])
    for _ in range(64):
        assert admin.post("/api/v1/rollouts", {"type": "lamp"}).status == 202
    assert rollout not in [one["id"] for one in admin.get("/api/v1/rollouts").json["rollouts"]]
    assert noted(admin) == [f"1 device of door is kept on 1.0 by rollout {rollout}"]
    with contextlib.closing(sqlite3.connect(server.folder / "state/updraft.db")) as store:
        wait_until(lambda: store.execute("SELECT count(*) FROM member WHERE rollout = ?", (rollout,)).fetchone() == (0,),
                   "its members are deleted")
    code, out, _ = run("rollouts", "show", rollout, cwd=server.folder)
    assert code == 0 and re.match(f"rollout   {rollout}, door 1.0 .*\nstate     done after ", out), out


# --- written down -----------------------------------------------------------------------------------------------------

def kill(server):
    server.process.kill()
    server.stop(expect=-9)


def test_what_was_said_outlives_a_kill(folder):
    """It was answered, so it is there; what was forgotten stays away."""
    with Server(folder) as server:
        admin = admin_of(server)
        check(server, "/update/door", version="2.0")
        check(server, "/update/door", mac="5ccf7fb1e043", version="2.0")
        wait_until(lambda: admin.get("/api/v1/status").json["devices"]["dirty"] == 0, "both are written")
        assert admin.delete("/api/v1/devices/5ccf7fb1e043").status == 200
        change(admin, pin="1.0", assign={"type": "lamp", "label": "1.0"}, blocked=True, approved=True,
               groups_add=["kitchen", "hall"], note="why")
        said = change(admin, groups_remove=["hall"])
        kill(server)
    with Server(folder) as server:
        found = admin_of(server).get(DEVICE).json
        assert found["policy"] == said["policy"] and found["first_seen"] == said["first_seen"]
        assert listed(admin_of(server)) == ([MAC], 1)
        assert admin_of(server).get("/api/v1/status").json["devices"] == {"seen": 0, "known": 1, "dirty": 0}
        assert check(server, "/update/lamp", version="0.9").reason == "blocked"


def test_when_it_was_seen_outlives_a_stop(folder):
    """Nothing else changed, so it is written last."""
    with Server(folder) as server:
        check(server, "/update/door", version="2.0")
        first = admin_of(server).get(DEVICE).json["last_seen"]

        def later():
            check(server, "/update/door", version="2.0")
            return admin_of(server).get(DEVICE).json["last_seen"] > first
        wait_until(lambda: admin_of(server).get("/api/v1/status").json["devices"]["dirty"] == 0, "it is written")
        wait_until(later, "a second goes by")
        last = admin_of(server).get(DEVICE).json["last_seen"]
    with Server(folder) as server:
        assert admin_of(server).get(DEVICE).json["last_seen"] == last


@contextlib.contextmanager
def held(server):
    """Another program holds the database, so nothing can be written."""
    holder = sqlite3.connect(server.folder / "state/updraft.db", isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    try:
        yield
    finally:
        holder.execute("ROLLBACK")
        holder.close()


def store_of(admin):
    return admin.get("/api/v1/status").json["store"]


def fill_backlog(server, admin):
    """With what is never refused while the store fails: blocks, many on one connection."""
    unused = iter(range(100000))
    while (backlog := store_of(admin)["backlog"]) < 16384:
        connection = UnixConnection(server.folder / "state/admin.sock")
        for _ in range(min(16384 - backlog, 2000)):
            connection.request("PATCH", f"/api/v1/devices/5ccf80{next(unused):06x}", '{"blocked":true}',
                               {"Content-Type": "application/json"})
            assert connection.getresponse().read()
        connection.close()


def test_a_pause_that_finds_no_room(folder):
    """The backlog is full: it goes all the same, and says that a restart would forget it, the first time too."""
    with Server(folder, log_level="error") as server:
        admin = admin_of(server)
        check(server, "/update/door", version="2.0")
        rollout = admin.post("/api/v1/rollouts", {"type": "door", "to": [MAC], "version": "1.0"}).json["id"]
        with held(server):
            change(admin, "/api/v1/devices/5ccf7f0000ff", blocked=True)
            wait_until(lambda: store_of(admin)["state"] == "failing", "the store fails")
            fill_backlog(server, admin)
            for word in ("pause", "resume"):
                answer = admin.post(f"/api/v1/rollouts/{rollout}/{word}", {})
                assert answer.status == 200 and "the store's backlog is full" in answer.json["warning"], answer


def test_while_nothing_can_be_written(folder):
    """Devices are served; a pin is refused and is not in effect; a block is, with a warning; then all is written."""
    with Server(folder) as server:
        admin = admin_of(server)
        check(server, "/update/door", version="2.0")
        change(admin, groups_add=["kitchen"])
        with held(server):
            answer = admin.ask("PATCH", DEVICE, {"pin": "1.0"})
            assert (answer.status, answer.error) == (503, "store-failing"), answer
            wait_until(lambda: store_of(admin)["state"] == "failing", "the store fails")
            assert store_of(admin)["why"] and store_of(admin)["backlog"] > 0
            assert any(line.startswith("store: ") for line in admin.get("/api/v1/status").json["warnings"])
            assert "updraft_store_failing 1" in admin.get("/metrics").text
            assert admin.get(DEVICE).json["policy"]["pin"] == ""
            assert admin.get(DEVICE).json["policy"]["groups"] == ["kitchen"]
            assert check(server, "/update/door", version="2.0").reason == "up-to-date"
            for method, address, body in (("PATCH", DEVICE, {"pin": "1.0"}), ("PATCH", DEVICE, {"blocked": False}),
                                          ("PATCH", DEVICE, {"blocked": True, "pin": "1.0"}), ("DELETE", DEVICE, None),
                                          ("POST", "/api/v1/rollouts", {"type": "door"})):
                answer = admin.ask(method, address, body)
                assert (answer.status, answer.error) == (503, "store-failing"), (method, address, answer)
            began = time.monotonic()
            blocked = change(admin, blocked=True, note="it smells")
            assert time.monotonic() - began < 3 and blocked["policy"]["blocked"] and "not written" in blocked["warning"]
            assert check(server, "/update/door", version="1.0").reason == "blocked"
        wait_until(lambda: store_of(admin)["state"] == "good" and store_of(admin)["backlog"] == 0, "all is written")
        assert "warning" not in change(admin, note="it smelt")
        kill(server)
    with Server(folder) as server:
        policy = admin_of(server).get(DEVICE).json["policy"]
        assert (policy["blocked"], policy["pin"], policy["groups"], policy["note"]) == (True, "", ["kitchen"], "it smelt")

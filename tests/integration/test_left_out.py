"""Devices that an order leaves out, or only seems to: a plan and the rollout say who, how many and why, over a real server
without a broker."""

import pytest

from tests.integration.test_loop_guard import served_whole
from tests.support.admin import Admin
from tests.support.download import md5
from tests.support.updraft import Server, check, make_image, wait_until

MACS = [f"5ccf7f00000{i}" for i in range(4)]


@pytest.fixture
def server(tmp_path):
    make_image("esp8266", tmp_path / "firmware/door/1.0.bin", seed=1)
    make_image("esp8266", tmp_path / "firmware/door/2.0.bin", seed=2)
    with Server(tmp_path, loop_guard=3) as running:
        yield running


@pytest.fixture
def admin(server):
    return Admin(server.folder / "state/admin.sock")


def plan_of(admin, **members):
    return admin.post("/api/v1/rollouts", {"type": "door", "plan": True, **members}).json["plan"]


def skipped(plan):
    return [(row["reason"], row["count"], row["detail"]) for row in plan["selected"]["skipped"]]


def test_a_device_that_its_record_refuses_is_left_out(server, admin):
    """It would be refused at its next check: to promise it an update, or to choose it as a canary, helps nobody."""
    for _ in range(3):
        served_whole(server, "/update/door", (server.repo / "door/2.0.bin").read_bytes(), mac=MACS[0], version="1.0")
    assert check(server, "/update/door", mac=MACS[0], version="1.0").reason == "loop-guard"
    plan = plan_of(admin)
    assert plan["devices"]["to_update"] == 0
    assert [row[:2] for row in skipped(plan)] == [("loop-guard", 1)] and "sent whole 3 times" in skipped(plan)[0][2]
    assert plan["notes"][0].startswith(f"{MACS[0]} is left out, loop-guard: sent whole 3 times")
    assert "`updraft devices retry MAC`" in plan["notes"][0]
    rollout = admin.post("/api/v1/rollouts", {"type": "door", "canary": 1}).json["id"]
    done = wait_until(lambda: (now := admin.get(f"/api/v1/rollouts/{rollout}").json)["state"] == "done" and now, "the end")
    assert done["skipped"] == [{"reason": "loop-guard", "count": 1}]
    assert done["devices"]["skipped"] == 1 and done["canaries"]["members"] == 0


def test_pins_are_told_apart(server, admin):
    for mac, pin in zip(MACS, ["1.0", "9.9", "1.0", None]):
        check(server, "/update/door", mac=mac, version="1.0")
        admin.ask("PATCH", f"/api/v1/devices/{mac}", {"pin": pin})
    plan = plan_of(admin)
    assert skipped(plan) == [("pinned", 2, "1.0"), ("pinned", 1, "9.9")]
    assert plan["notes"] == [
        f"{MACS[0]} and {MACS[2]} are left out, pinned to 1.0",
        f"{MACS[1]} is left out, pinned to 9.9, which is not in the repository: add it, or unpin"]


def test_who_is_pinned_to_what_is_ordered_is_a_member(server, admin):
    check(server, "/update/door", mac=MACS[0], version="2.0")
    assert admin.ask("PATCH", f"/api/v1/devices/{MACS[0]}", {"pin": "1.0"}).status == 200
    rollout = admin.post("/api/v1/rollouts", {"type": "door", "version": "1.0", "to": MACS[:1]}).json["id"]
    image = (server.repo / "door/1.0.bin").read_bytes()
    assert served_whole(server, "/update/door", image, mac=MACS[0], version="2.0") == "pinned"
    at = f"/api/v1/rollouts/{rollout}"
    wait_until(lambda: admin.get(at).json["devices"]["flashed"] == 1, "its download to count")
    check(server, "/update/door", mac=MACS[0], version="1.0", md5=md5(image))
    assert admin.get(at).json["devices"]["confirmed"] == 1


def test_a_pin_to_what_is_not_there_is_warned_of(server, admin):
    check(server, "/update/door", mac=MACS[0], version="1.0")
    at = f"/api/v1/devices/{MACS[0]}"
    assert "warning" not in admin.ask("PATCH", at, {"pin": "1.0"}).json
    assert "no sketch 9.9 of type door" in admin.ask("PATCH", at, {"pin": "9.9"}).json["warning"]
    assert "warning" not in admin.ask("PATCH", at, {"note": "the relay clicks"}).json
    never_seen = admin.ask("PATCH", f"/api/v1/devices/{MACS[1]}", {"assign": {"type": "nosuch"}}).json
    assert "no sketch of type nosuch" in never_seen["warning"]


def test_a_version_that_failed_its_checks_is_no_unknown_one(server, admin):
    (server.repo / "door/3.0.bin").write_bytes((server.repo / "door/2.0.bin").read_bytes()[:-600])
    wait_until(lambda: admin.get("/api/v1/status").json["repository"]["rejected"] == 1, "the file to be rejected")
    refused = admin.post("/api/v1/rollouts", {"type": "door", "version": "3.0"})
    assert (refused.status, refused.json["error"]["code"]) == (409, "rejected")
    assert refused.json["error"]["message"].startswith("door/3.0.bin failed its checks: ")
    assert refused.json["error"]["remedy"]

"""Orders as operators give them, with a real broker or none: what a plan says, who is told and how, what becomes of an
order when the server is stopped, and what is said at a halt."""

import json

from tests.support.fleet import Fleet, accounts
from tests.support.updraft import Server, wait_until

MACS = [f"5ccf7f00000{i}" for i in range(5)]


def stop(fleet):
    fleet.server.process.terminate()
    assert fleet.server.process.wait(20) == 0


def test_a_stop_is_no_end(tmp_path):
    """Maintenance is no reason to lose an order: who waited for the broker when the server was stopped is told after the
    start, with the id that was chosen for it, and nobody has failed."""
    with Fleet(tmp_path) as fleet:
        fleet.broker.stop()
        wait_until(lambda: fleet.admin.get("/api/v1/status").json["mqtt"]["state"] != "connected", "the broker is missed")
        rollout = fleet.order(to=MACS, in_flight=2, timeout_s=300)
        stop(fleet)
        fleet.server = Server(fleet.folder / "s", **fleet.flags)
        still = fleet.wait(rollout, lambda now: now["devices"]["triggered"] == 2, "it stands where it stood")
        assert (still["state"], accounts(still)) == ("running", {"queued": 3, "triggered": 2})
        fleet.broker.start()
        told = fleet.wait(rollout, lambda now: now["commands"]["acknowledged"] == 2, "the commands to go out")
        assert (told["state"], told["commands"]["failed"], accounts(told)) == ("running", 0, accounts(still))


def plan(fleet, **members):
    return fleet.admin.post("/api/v1/rollouts", {"type": "door", "plan": True, **members}).json["plan"]


def test_a_plan_names_who_gets_it_and_how_long(tmp_path):
    """What is said before is what is done after: only those who get it are counted, and named; the time is measured."""
    with Fleet(tmp_path) as fleet:
        unknown = plan(fleet)
        assert unknown["how"].startswith("one command") and json.loads(unknown["messages"][0]["payload"])["window_s"] == 30
        assert unknown["seconds"] is None and "no device of it was seen" in unknown["seconds_text"]
        assert plan(fleet, canary=2)["how"].startswith("nobody can be told"), "it stands for those who come"
        with fleet.devices(40) as sim:
            fleet.add("2.0.0")
            some = plan(fleet, in_flight=10)
            assert (some["seconds"], len(some["selected"]["first"])) == (None, 20) and "nothing was measured" in some["seconds_text"]
            assert (some["message_count"], len(some["messages"])) == (40, 20)
            assert some["selected"]["first"][0] in some["messages"][0]["topic"]
            odd = some["selected"]["first"][0]
            fleet.admin.ask("PATCH", f"/api/v1/devices/{odd}", {"blocked": True})
            named = plan(fleet, to=some["selected"]["first"][:2])
            assert named["selected"]["first"] == some["selected"]["first"][1:2] and len(named["messages"]) == 1
            lot = plan(fleet, percent=10)
            assert (lot["message_count"], lot["selected"]["first"]) == (4, []), "drawn by lot when it begins"
            freed = [note for note in lot["notes"] if note.startswith("when it is done, the other 36 devices of door get 2.0.0")]
            assert len(freed) == 1 and "offer = published" in freed[0], lot["notes"]
            assert not any("when it is done" in note for note in some["notes"] + named["notes"])
            assert fleet.wait_over(fleet.order(in_flight=10))["state"] == "done"
            back = plan(fleet, version="0.1.0", in_flight=10, window_s=60)
            assert 39 / 10 * 30 < back["seconds"] < 39 * 30, "half the window each, and ten at once"
            assert plan(fleet, version="0.1.0", in_flight=10, percent=10)["seconds"] <= back["seconds"] / 2
            assert plan(fleet)["seconds"] == 0 and "nobody to update" in plan(fleet)["seconds_text"]
            assert sim.stop()["violation_count"] == 0


def test_a_plan_without_a_broker_promises_no_command(tmp_path):
    with Fleet(tmp_path, broker=False) as fleet:
        some = plan(fleet, to=MACS[:1])
        assert (some["url"], some["messages"], some["message_count"]) == ("", [], 0)
        assert some["notes"] == ["5ccf7f000000 was never seen here: it gets the update when it asks"]

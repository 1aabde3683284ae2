"""Orders as operators give them, with a real broker or none: what a plan says, who is told and how, what becomes of an
order when the server is stopped, and what is said at a halt."""

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

"""A device's time-line, read by a person who was not there: when it was told, when it asked, what it was sent, how that
ended and why, and in which rollout. Over the whole circle, and after a restart."""

import pytest

from tests.support.fleet import Fleet
from tests.support.updraft import wait_until


@pytest.fixture
def fleet(tmp_path):
    with Fleet(tmp_path, reboot_timeout="1s") as made:
        yield made


def line_of(fleet, mac):
    """The oldest first, without the first sighting."""
    events = fleet.admin.get(f"/api/v1/devices/{mac}").json["events"]
    return [(event["word"], event["text"]) for event in events if event["word"] != "first-seen"][::-1]


def of_words(fleet, mac, words):
    wait_until(lambda: words[-1] in [word for word, _ in line_of(fleet, mac)], f"{mac} is noted as {words[-1]}")
    line = line_of(fleet, mac)
    assert [word for word, _ in line] == words, line
    return [text for _, text in line]


def test_a_whole_circle_and_a_restart(fleet):
    with fleet.devices(3):
        fleet.add("2.0.0")
        rollout = fleet.order(in_flight=1)
        assert fleet.wait_over(rollout)["devices"]["confirmed"] == 3
    told, asked, sent, confirmed = of_words(fleet, next(iter(line_macs(fleet))), ["told", "asked", "sent", "confirmed"])
    assert told == f"to take 2.0.0 (rollout {rollout}, attempt 1)"
    assert asked == f"and is being sent 2.0.0 (rollout {rollout})"
    assert sent.startswith(f"2.0.0 (rollout {rollout}), 40960 bytes in ")
    assert confirmed.startswith(f"2.0.0 (rollout {rollout})")
    before = {mac: line_of(fleet, mac) for mac in line_macs(fleet)}
    assert len(before) == 3
    fleet.wait_written()
    fleet.kill()
    fleet.start()
    assert {mac: line_of(fleet, mac) for mac in before} == before


def line_macs(fleet):
    return [device["mac"] for device in fleet.admin.get("/api/v1/devices").json["devices"]]


def test_how_it_ended_and_why(fleet):
    """Old image: it came back with what it ran before, and its rollout halted by it."""
    with fleet.devices(2, old_image=100):
        fleet.add("2.0.0")
        rollout = fleet.order(in_flight=2, canary=1)
        fleet.wait(rollout, lambda now: now["state"] == "halted", "the canary to halt it")
        mac = next(iter(fleet.members(rollout, "failed")))
        texts = of_words(fleet, mac, ["told", "asked", "sent", "old-build", "failed"])
    assert texts[3].startswith(f"2.0.0 (rollout {rollout}): took all of 2.0.0 and came back")
    assert texts[4].startswith(f"in rollout {rollout}: took all of 2.0.0")


def test_one_that_is_told_and_never_asks(fleet):
    """It is in the midst of it when an operator aborts the rollout, whose word it still has."""
    with fleet.devices(1, silent=100):
        fleet.add("2.0.0")
        rollout = fleet.order(in_flight=1, canary=1, timeout_s=3)
        fleet.wait(rollout, lambda now: now["commands"]["acknowledged"] == 1, "it is told")
        fleet.say(rollout, "abort", why="the wrong file")
        mac, = line_macs(fleet)
        texts = of_words(fleet, mac, ["told", "aborted", "silent"])
    assert texts[1] == f"rollout {rollout}, in the midst of it: the wrong file"
    assert texts[2] == f"in rollout {rollout}: was told, and has not asked"


def test_one_that_took_it_and_stays_away_is_silent_once(fleet):
    with fleet.devices(1, never_reboot=100):
        fleet.add("2.0.0")
        rollout = fleet.order(in_flight=1)
        fleet.wait_over(rollout)
        mac, = line_macs(fleet)
        wait_until(lambda: fleet.admin.get(f"/api/v1/devices/{mac}").json["outcome"] == "silent", "the clock says so, too")
        texts = of_words(fleet, mac, ["told", "asked", "sent", "silent"])
    assert texts[0] == f"with all of its type, to take 2.0.0 (rollout {rollout})"
    assert texts[3] == f"in rollout {rollout}: took all of it, and has not come back"

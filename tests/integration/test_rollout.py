"""Rollouts with everything real but the devices: what an operator is promised when a fleet is ill, the server is killed
or the broker is. Devices are updraft-sim's; a subscriber of our own counts what the broker carries."""

import collections
import re
import time
from datetime import datetime

import pytest

from tests.support.fleet import FAST, KILL_LAG_S, Fleet, Gauge, Kill, Witness, accounts, most_transfers
from tests.support.pace import Pace, transfer_s
from tests.support.updraft import check, wait_until

REBOOT_S = 3
REBOOT = {"reboot_timeout": f"{REBOOT_S}s"}
AGAIN = {"retry": 25}  # real devices ask again by themselves, be it at their next poll; half a second, scaled


@pytest.fixture
def fleet(tmp_path):
    with Fleet(tmp_path) as made:
        yield made


def by_misbehaviour(summary):
    return collections.Counter(device["misbehaviour"] for device in summary["device_list"])


def wanted(summary):
    """What the account must be, by what the simulator did."""
    of = {"drop": "failed", "stall": "failed", "bad-md5": "failed", "old-image": "failed", "silent": "silent",
          "never-reboot": "silent"}
    states = collections.Counter()
    for misbehaviour, count in by_misbehaviour(summary).items():
        states[of.get(misbehaviour, "confirmed")] += count
    return dict(states)


# --- a large fleet --------------------------------------------------------------------------------------------------

def test_five_thousand_devices(tmp_path, record_property):
    """Each is accounted for, in the state that it earned, and the window holds for all who can count."""
    failing = dict.fromkeys(["drop", "stall", "bad_md5", "old_image", "silent", "never_reboot"], 0.5)  # 3 % in all
    ill = failing | {"wrong_label": 0.5, "eager": 0.5}
    count, window = 5000, 100
    with Fleet(tmp_path, kept=False, **REBOOT) as fleet, Witness(fleet) as witness:
        with fleet.devices(count, ramp=200, stall_time=1, quiet=True, **AGAIN, **ill) as sim:
            fleet.add("2.0.0")
            began = time.monotonic()
            rollout = fleet.order(in_flight=window, timeout_s=5)
            with Gauge(fleet, rollout) as gauge:
                end = fleet.wait_over(rollout)
            took = time.monotonic() - began
            summary = sim.stop()
        log = fleet.server.log()
    assert end["state"] == "done" and accounts(end) == wanted(summary)
    assert end["devices"]["members"] == count and summary["violation_count"] == 0
    assert gauge.largest <= window, "by the server's own count"
    assert witness.largest(log, 5, REBOOT_S) <= window, "by the broker's"
    assert gauge.largest > window / 2, "and it was made use of"
    pace = Pace(transfer_s(log), FAST["time_scale"], 1, AGAIN["retry"] * FAST["time_scale"], 5, REBOOT_S)
    best = pace.best([device["misbehaviour"] for device in summary["device_list"]], window)
    text = f"{count} devices, window {window}: {took:.1f} s; best possible {best:.1f} s; {end['bytes'] / took / 1e6:.0f} MB/s"
    record_property("rollout", text)
    print(text)


@pytest.mark.parametrize("ill", [{"old_image": 30}, {"bad_md5": 30}, {"old_image": 14, "bad_md5": 13, "drop": 3}],
                         ids=["old_image", "bad_md5", "mixed"])
def test_an_ill_image_halts(fleet, ill):
    """Devices that have not got it keep what they run, until an operator has decided."""
    with fleet.devices(300, **AGAIN, **ill) as sim:
        fleet.add("2.0.0")
        rollout = fleet.order(in_flight=20)
        halted = fleet.wait(rollout, lambda now: now["state"] == "halted", "the halt")
        assert "the limit is 20 %" in halted["why"]
        failures, finished = map(int, re.match(r"(\d+) failed of (\d+) finished", halted["why"]).groups())
        assert failures * 100 > 20 * max(20, finished) and halted["devices"]["queued"] > 100
        assert (failures - 1) * 100 <= 20 * max(20, finished - 1), "and not before: with the first that was too many"
        stranger = check(fleet.server, "/update/door", version="0.1.0")
        assert (stranger.status, stranger.reason) == (304, "held-back")
        still = fleet.wait(rollout, lambda now: now["window"]["in_flight"] == 0, "what was under way to end")
        assert still["failures"] <= failures + 20, "a window full of them, at most"
        time.sleep(0.5)
        now = fleet.rollout(rollout)
        assert now["commands"]["sent"] == still["commands"]["sent"] and now["devices"]["queued"] == still["devices"]["queued"]
        assert fleet.say(rollout, "resume")["state"] == "running"
        again = fleet.wait(rollout, lambda now: now["state"] == "halted", "the second halt: it is no better")
        assert again["failures"] > halted["failures"]
        aborted = fleet.say(rollout, "abort", why="bad build")
        assert (aborted["state"], aborted["why"]) == ("aborted", "bad build")
        accounts(aborted)
        assert check(fleet.server, "/update/door", version="0.1.0").reason == "held-back"
        fleet.say(rollout, "resume", expect=409)
        sim.stop()


def test_resumed_to_its_end(fleet):
    """Resume forgives what failed so far: an operator who has looked and says go on is obeyed."""
    with fleet.devices(200, old_image=8, **AGAIN) as sim:
        fleet.add("2.0.0")
        rollout = fleet.order(in_flight=20, max_failures=5)
        halts = 0
        while fleet.wait(rollout, lambda now: now["state"] in ("halted", "done"), "its end")["state"] == "halted":
            fleet.say(rollout, "resume")
            halts += 1
        assert halts > 0 and accounts(fleet.rollout(rollout)) == wanted(sim.stop())


# --- canaries -------------------------------------------------------------------------------------------------------

def test_nobody_before_the_canaries(fleet):
    with fleet.devices(60, reboot_time=50) as sim, Witness(fleet) as witness:
        fleet.add("2.0.0")
        rollout = fleet.order(canary=5, in_flight=20)
        fleet.wait(rollout, lambda now: now["commands"]["acknowledged"] == 5, "the canaries' commands")
        canaries = {mac for mac, member in fleet.members(rollout).items() if member["canary"]}
        assert len(canaries) == 5 and fleet.rollout(rollout)["state"] == "canary"
        other = min(set(fleet.members(rollout)) - canaries)
        held = check(fleet.server, "/update/door", version="0.1.0", mac=":".join(other[i:i + 2] for i in range(0, 12, 2)))
        assert (held.status, held.reason) == (304, "held-back")
        end = fleet.wait_over(rollout)
        assert end["canaries"] == {"members": 5, "confirmed": 5} and accounts(end) == {"confirmed": 60}
        told = [mac for _when, mac, _id in witness.commands()]
        assert set(told[:5]) == canaries
        assert sim.stop()["confirmed_devices"] == 60


def test_one_bad_canary_halts(fleet):
    with fleet.devices(20, old_image=100, **AGAIN) as sim, Witness(fleet) as witness:
        fleet.add("2.0.0")
        rollout = fleet.order(canary=2, in_flight=1)
        halted = fleet.wait(rollout, lambda now: now["state"] == "halted", "the halt")
        assert "canary" in halted["why"] and halted["devices"]["queued"] == 19
        warnings = fleet.admin.get("/api/v1/status").json["warnings"]
        assert any("is halted: " + halted["why"] in said and "updraft rollouts resume" in said for said in warnings), warnings
        assert len(witness.ids()) == 1
        assert halted["resume"] == "resume goes on with the rest when the 1 canary that is left has confirmed"
        sim.stop()


def test_resumed_without_a_canary_left(fleet):
    """Who says `resume` after the only canary failed gives the image to all: that is said before, and after."""
    with fleet.devices(10, old_image=100, **AGAIN) as sim:
        fleet.add("2.0.0")
        rollout = fleet.order(canary=1, max_failures=100)
        halted = fleet.wait(rollout, lambda now: now["state"] == "halted", "the halt")
        assert halted["resume"] == "resume goes on with all 9 devices that wait, without canaries"
        resumed = fleet.say(rollout, "resume")
        assert resumed["warning"] == halted["resume"] and resumed["state"] == "running"
        assert fleet.rollout(rollout)["resume"] == ""
        sim.stop()


# --- killed ---------------------------------------------------------------------------------------------------------

def kill_and_start(fleet, rollout):
    """Returns the kill, when it was started, and after how many seconds the rollout stood where it was."""
    at = time.time()
    fleet.kill()
    killed = Kill(at, time.time(), fleet.stored_under_way())
    started = time.time()
    fleet.start(wait=True)
    state = fleet.rollout(rollout)["state"]
    assert state in ("running", "done"), state
    return killed, started, time.time() - started


def obeyed(log, mac, since, until):
    """Whether the device came for it meanwhile, and was answered with the image, or that there is no slot yet."""
    pattern = rf"^time=(\S+) .*event=check (?:.*status=200|reason=held-back status=304) device={mac} "
    return any(since - 1 <= datetime.fromisoformat(found.replace("Z", "+00:00")).timestamp() <= until
               for found in re.findall(pattern, log, re.M))


def unasked(witness, log, kills):
    """The commands that went out anew, with another id, though the one before was not obeyed. What a kill took from the
    log's end is forgiven."""
    found, last = [], {}
    for when, mac, id_ in witness.commands():
        before, before_id = last.setdefault(mac, (when, id_))
        lost = any(0 <= kill - before < KILL_LAG_S for kill in kills)
        if before_id != id_ and not lost and not obeyed(log, mac, before, when):
            found.append((mac, before_id, id_))
        last[mac] = (when, id_)
    return found


def test_server_killed_ten_times(tmp_path):
    """Nothing that an operator was told is lost, nobody is told a second time under another id, and the window holds."""
    with Fleet(tmp_path, **REBOOT) as fleet, Witness(fleet) as witness:
        with fleet.devices(1500, old_image=1, bad_md5=1, rate="400K", quiet=True, **AGAIN) as sim:
            fleet.add("2.0.0")
            rollout = fleet.order(in_flight=40, timeout_s=10)
            kills = []
            with Gauge(fleet, rollout) as gauge:
                for goal in range(100, 1100, 100):
                    fleet.wait(rollout, lambda now: now["devices"]["confirmed"] >= goal, f"{goal} are confirmed")
                    kills.append(kill_and_start(fleet, rollout))
                end = fleet.wait_over(rollout)
            summary = sim.stop()
        log = fleet.server.log()
    assert len(kills) == 10 and end["state"] == "done" and summary["violation_count"] == 0
    assert accounts(end) == wanted(summary) and end["devices"]["members"] == 1500
    killed = [kill for kill, _started, _took in kills]
    assert unasked(witness, log, [kill.at for kill in killed]) == []
    assert gauge.largest <= 40, "by the server's own count"
    assert witness.largest(log, 10, REBOOT_S, killed) <= 40, "by the broker's"
    assert 20 < most_transfers(log, killed) <= 40, "and no more transfers, whoever was told"
    back = [min(when for when, _mac, _id in witness.commands() if when > started) - started for _, started, _ in kills]
    resumed = [took for _killed, _started, took in kills]
    print(f"resumed after {max(resumed):.2f} s at most, with a command after {max(back):.2f} s")
    assert max(resumed) < 2 and max(back) < 2


def test_broker_killed_three_times(tmp_path):
    """A clean session's command dies with the broker: who did not hear it is served when it asks by itself."""
    with Fleet(tmp_path, offer="published", **REBOOT) as fleet, Witness(fleet) as witness:
        with fleet.devices(1000, old_image=1, bad_md5=1, rate="400K", quiet=True, ramp=200, poll=500, **AGAIN) as sim:
            fleet.add("2.0.0")
            rollout = fleet.order(in_flight=40, timeout_s=12)
            with Gauge(fleet, rollout) as gauge:
                for goal in (200, 400, 600):
                    fleet.wait(rollout, lambda now: now["devices"]["confirmed"] >= goal, f"{goal} are confirmed")
                    fleet.broker.kill()
                    time.sleep(0.5)
                    fleet.broker.start()
                end = fleet.wait_over(rollout)
            summary = sim.stop()
    assert end["state"] == "done" and end["devices"]["members"] == 1000 and gauge.largest <= 40
    assert accounts(end) == wanted(summary) and summary["violation_count"] == 0
    assert len(witness.ids()) > 200 and all(len(ids) == 1 for ids in witness.ids().values())


# --- who is meant ---------------------------------------------------------------------------------------------------

def test_a_share_of_them(fleet):
    """Those outside of it are told nothing and are offered nothing, if they ask by themselves."""
    with fleet.devices(400) as sim, Witness(fleet) as witness:
        fleet.add("2.0.0")
        rollout = fleet.order(percent=25, in_flight=50)
        end = fleet.wait_over(rollout)
        chosen = set(witness.ids())
        assert 60 <= len(chosen) <= 140 and accounts(end) == {"confirmed": len(chosen)}
        assert sim.stop()["confirmed_devices"] == len(chosen)


def test_the_rest_is_held_back_while_a_share_gets_it(fleet):
    with fleet.devices(100) as sim:
        fleet.add("2.0.0")
        rollout = fleet.order(percent=30, in_flight=5)
        fleet.say(rollout, "pause")
        inside = set(fleet.members(rollout))
        reasons = collections.Counter()
        for number in range(1, 101):
            mac = f"5ccf7f{number:06x}"
            answer = check(fleet.server, "/update/door", version="0.1.0", mac=mac)
            reasons[mac in inside, answer.reason] += 1
        assert sum(count for (is_in, _reason), count in reasons.items() if is_in) == len(inside)
        assert set(reasons) == {(True, "paused"), (False, "paused")} or set(reasons) == {(True, "paused"),
                                                                                         (False, "held-back")}, reasons
        sim.stop()


def test_a_group(fleet):
    """Its members, and nobody else, whatever their number."""
    kitchen = {f"5ccf7f{number:06x}" for number in (3, 17, 20)}
    with fleet.devices(20) as sim, Witness(fleet) as witness:
        for mac in kitchen:
            assert fleet.admin.ask("PATCH", f"/api/v1/devices/{mac}", {"groups_add": ["kitchen"]}).status == 200
        fleet.add("2.0.0")
        end = fleet.wait_over(fleet.order(group="kitchen"))
        assert accounts(end) == {"confirmed": 3} and set(witness.ids()) == kitchen
        assert sim.stop()["confirmed_devices"] == 3


def test_published_waits_for_the_order(tmp_path):
    """With offer = published a new file is nobody's until it is ordered; after an abort it is nobody's again."""
    with Fleet(tmp_path, offer="published") as fleet, fleet.devices(10) as sim:
        def ask(number):
            return check(fleet.server, "/update/door", version="0.1.0", mac=f"5ccf7f{number:06x}").reason

        fleet.add("2.0.0")
        assert ask(99) == "unpublished"
        rollout = fleet.order(in_flight=1)
        fleet.say(rollout, "abort")
        assert ask(99) in ("held-back", "unpublished")
        states = accounts(fleet.wait_over(fleet.order(in_flight=5, timeout_s=2)))  # who took it before the abort has it
        assert states["confirmed"] + states.get("skipped", 0) == 10 and states["silent"] == 1  # number 99
        assert ask(99) == "published"
        fleet.add("3.0.0")
        assert ask(99) == "published" and ask(98) == "published"
        assert {device["version"] for device in sim.stop()["device_list"]} == {"2.0.0"}


def test_named_ones_beside_all(fleet):
    """The named are handed over to the newer order; the older one goes on with the rest."""
    with fleet.devices(40) as sim:
        fleet.add("2.0.0")
        everyone = fleet.order(in_flight=1)
        fleet.say(everyone, "pause")
        fleet.add("3.0.0")
        fleet_of_two = ["5ccf7f000027", "5ccf7f000028"]
        named = fleet.order(to=fleet_of_two, version="3.0.0")
        assert accounts(fleet.wait_over(named)) == {"confirmed": 2}
        fleet.say(everyone, "resume")
        end = fleet.wait_over(everyone)
        members = fleet.members(everyone)
        summary = sim.stop()
        versions = {device["mac"]: device["version"] for device in summary["device_list"]}
        assert {mac for mac, version in versions.items() if version == "3.0.0"} == set(fleet_of_two)
        assert accounts(end) == {"confirmed": 38, "skipped": 2}, members


def test_the_newer_supersedes(fleet):
    """They ask by themselves, too: one that was held back as it came up may be told before it has subscribed again."""
    with fleet.devices(40, reboot_time=20, poll=100) as sim:
        fleet.add("2.0.0")
        first = fleet.order(in_flight=4)
        fleet.wait(first, lambda now: now["devices"]["confirmed"] >= 4, "some have it")
        fleet.add("3.0.0")
        second = fleet.order(in_flight=10)
        assert fleet.rollout(second)["supersedes"] == first
        gone = fleet.rollout(first)
        assert (gone["state"], gone["why"]) == ("aborted", f"superseded by {second}")
        assert accounts(fleet.wait_over(second)) == {"confirmed": 40}
        assert {device["version"] for device in sim.stop()["device_list"]} == {"3.0.0"}


def test_paused_and_resumed(fleet):
    with fleet.devices(60, reboot_time=20) as sim, Witness(fleet) as witness:
        fleet.add("2.0.0")
        rollout = fleet.order(in_flight=6)
        fleet.wait(rollout, lambda now: now["devices"]["confirmed"] >= 10, "some have it")
        fleet.say(rollout, "pause")
        fleet.wait(rollout, lambda now: now["window"]["in_flight"] == 0, "what is under way to end")
        told = len(witness.messages)
        time.sleep(0.7)
        assert len(witness.messages) == told and fleet.rollout(rollout)["state"] == "paused"
        fleet.say(rollout, "pause", expect=409)
        assert check(fleet.server, "/update/door", version="0.1.0", mac="5ccf7f00003c").reason == "paused"
        fleet.say(rollout, "resume")
        assert accounts(fleet.wait_over(rollout)) == {"confirmed": 60}
        sim.stop()


def test_paused_stays_paused_over_a_crash(fleet):
    with fleet.devices(60, **AGAIN) as sim:
        fleet.add("2.0.0")
        rollout = fleet.order(in_flight=2)
        fleet.say(rollout, "pause")
        fleet.kill()
        fleet.start()
        assert fleet.rollout(rollout)["state"] == "paused"
        fleet.say(rollout, "resume")
        assert accounts(fleet.wait_over(rollout)) == {"confirmed": 60}
        sim.stop()


# --- devices that only poll -----------------------------------------------------------------------------------------

def test_without_a_broker_by_stage(tmp_path):
    """Nobody can be told anything: who asks has it when it is its turn, the canaries first."""
    with Fleet(tmp_path, broker=False) as fleet:
        with fleet.devices(60, poll=10) as sim:
            fleet.add("2.0.0")
            rollout = fleet.order(canary=3, in_flight=10)
            assert any("broker" in note for note in fleet.rollout(rollout)["notes"])
            with Gauge(fleet, rollout) as gauge:
                end = fleet.wait_over(rollout)
            summary = sim.stop()
        assert gauge.largest <= 10 and end["devices"]["members"] == 60
        assert end["commands"]["sent"] == 0
        assert set(accounts(end)) <= {"confirmed", "skipped"} and not summary["violations"]


# --- going back -----------------------------------------------------------------------------------------------------

def test_back_to_an_older_version_and_stay(fleet):
    """Who goes back by order is not brought forward again by its next poll, nor after a restart."""
    with fleet.devices(20, poll=50) as sim:
        fleet.add("2.0.0")
        fleet.wait_over(fleet.order(in_flight=10))
        fleet.add("1.0.0")
        back = fleet.order(version="1.0.0", in_flight=10)
        assert accounts(fleet.wait_over(back)) == {"confirmed": 20}
        fleet.kill()
        fleet.start()
        time.sleep(2.5)  # two polls
        assert {device["version"] for device in sim.stop()["device_list"]} == {"1.0.0"}
        fleet.add("2.1.0")
        asked = check(fleet.server, "/update/door", version="1.0.0", mac="5ccf7f000001")
        assert (asked.status, asked.headers.get("x-MD5") is not None) == (200, True), asked.head


def test_an_aborted_image_is_kept_from_everybody(fleet):
    with fleet.devices(30, reboot_time=50) as sim:
        fleet.add("2.0.0")
        rollout = fleet.order(in_flight=3)
        fleet.wait(rollout, lambda now: now["devices"]["downloading"] + now["devices"]["flashed"] > 0, "it is under way")
        fleet.say(rollout, "abort")
        for _ in range(2):
            held = check(fleet.server, "/update/door", version="0.1.0", mac="5ccf7f00001e")
            assert (held.status, held.reason) == (304, "held-back")
            fleet.kill()
            fleet.start()
        again = fleet.order(in_flight=30)
        end = fleet.wait_over(again)
        assert accounts(end)["confirmed"] >= 27
        sim.stop()


# --- images that a device cannot take --------------------------------------------------------------------------------

def test_never_again(fleet):
    """A build that failed twice is not offered a third time, whoever orders it."""
    with fleet.devices(3, old_image=100, retry=50) as sim:
        fleet.add("2.0.0")
        for _ in range(2):
            rollout = fleet.order(in_flight=3, max_failures=100)
            assert accounts(fleet.wait_over(rollout)).get("failed") == 3
        third = fleet.order(in_flight=3)
        end = fleet.wait_over(third)
        assert accounts(end) == {"skipped": 3}
        assert {member["why"].split(":")[0] for member in fleet.members(third).values()} <= {"never-again"}
        held = check(fleet.server, "/update/door", version="0.1.0", mac="5ccf7f000001")
        assert (held.status, held.reason) == (304, "never-again")
        fleet.wait_written()
        fleet.kill()
        fleet.start()
        assert check(fleet.server, "/update/door", version="0.1.0", mac="5ccf7f000001").reason == "never-again"
        sim.stop()


def test_loop_guard_without_any_rollout(tmp_path):
    """A device that polls and never changes costs its owner three transfers, not a thousand."""
    with Fleet(tmp_path, broker=False, loop_guard=3) as fleet:
        with fleet.devices(4, old_image=100, poll=10) as sim:
            fleet.add("2.0.0")
            wait_until(lambda: fleet.server.log().count("reason=never-again")
                       + fleet.server.log().count("reason=loop-guard") >= 8, "they are held")
            summary = sim.stop()
        assert {device["whole"] for device in summary["device_list"]} == {3}


# --- sites ----------------------------------------------------------------------------------------------------------

@pytest.mark.waits_long
def test_a_site_has_its_own_cap(tmp_path):
    """Devices behind one uplink take turns, whatever the window is."""
    with Fleet(tmp_path, site_in_flight=2) as fleet:
        with fleet.devices(40, reboot_time=20) as sim:
            fleet.add("2.0.0")
            rollout = fleet.order(in_flight=30)
            with Gauge(fleet, rollout) as gauge:
                end = fleet.wait_over(rollout)
            sim.stop()
        assert accounts(end) == {"confirmed": 40} and gauge.largest <= 2

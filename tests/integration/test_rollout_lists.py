"""Who has it, when a rollout is over: all of its devices are listed, also after a restart, and all reasons counted."""

import pytest

from tests.support.fleet import Fleet


@pytest.fixture
def fleet(tmp_path):
    with Fleet(tmp_path, reboot_timeout="2s") as made:
        yield made


def page(fleet, rollout, **query):
    words = "&".join(f"{name}={value}" for name, value in query.items())
    return fleet.admin.get(f"/api/v1/rollouts/{rollout}?devices=yes&{words}").json


def test_all_are_listed_when_it_is_over(fleet):
    with fleet.devices(20), fleet.devices(2, first=100, old_image=100):
        pinned = [f"5ccf7f0000{i:02x}" for i in (1, 2, 3)]
        for mac in pinned:
            assert fleet.admin.ask("PATCH", f"/api/v1/devices/{mac}", {"pin": "0.1.0"}).status == 200
        fleet.add("2.0.0")
        rollout = fleet.order(max_failures=100)
        end = fleet.wait_over(rollout)
    assert end["devices"]["confirmed"] == 17 and end["devices"]["failed"] == 2
    assert end["skipped"] == [{"reason": "pinned", "count": 3}]
    for restarted in (False, True):
        if restarted:
            fleet.wait_written()
            fleet.kill()
            fleet.start()
        confirmed = fleet.members(rollout, "confirmed")
        assert len(confirmed) == 17 and {member["why"] for member in confirmed.values()} == {""}
        assert sorted(fleet.members(rollout, "skipped")) == pinned
        assert len(fleet.members(rollout, "failed")) == 2
        assert len(fleet.members(rollout)) == 22
        first = page(fleet, rollout, state="confirmed", limit=10)
        second = page(fleet, rollout, state="confirmed", limit=10, offset=10)
        assert (first["unlisted"], second["unlisted"]) == (7, 0) and first["device_list_why"] == ""
        assert [member["mac"] for member in first["device_list"] + second["device_list"]] == sorted(confirmed)
        assert fleet.rollout(rollout)["skipped"] == [{"reason": "pinned", "count": 3}]


def test_without_a_store_the_counts_stand(tmp_path):
    with Fleet(tmp_path, store="none") as fleet:
        with fleet.devices(3):
            fleet.add("2.0.0")
            rollout = fleet.order()
            assert fleet.wait_over(rollout)["devices"]["confirmed"] == 3
        assert page(fleet, rollout)["device_list"] == [] and page(fleet, rollout)["unlisted"] == 3

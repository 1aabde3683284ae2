"""Clients that name no device: counted, and not judged. No rollout can tell them from those that it means, so they get
nothing of one that is for some, or for canaries first, or that stopped."""

import hashlib

import pytest

from tests.support.admin import Admin
from tests.support.download import Download
from tests.support.updraft import Server, check, make_image, wait_until

PLAIN = {"User-Agent": "curl/8.0"}
SIMPLE = {"User-Agent": "ESP8266-http-Update"}
LATEST = "/latest/door.bin"


def mac(n):
    return ":".join(f"5ccf7f{n:06x}"[i:i + 2] for i in range(0, 12, 2))


class House:
    """A server without a broker, whose ten devices run 1.0; 2.0 is there."""

    def __init__(self, folder, **flags):
        self.admin = Admin(folder / "state/admin.sock")
        self.images = {v: make_image("esp8266", folder / f"firmware/door/{v}.bin", size="300K", seed=seed)
                       for seed, v in enumerate(("1.0", "2.0"))}
        self.server = Server(folder, **flags)
        for n in range(1, 11):
            self.asks(n, mode="version")

    def asks(self, n, version="1.0", **says):
        return check(self.server, "/update/door", mac=mac(n), version=version,
                     md5=hashlib.md5(self.images[version]).hexdigest(), **says)

    def nameless(self, path=LATEST, headers=PLAIN):
        return check(self.server, path, headers)

    def gets(self, version, path=LATEST):
        for headers in (PLAIN, SIMPLE):
            before = self.server.log().count("event=update_sent")
            reply = self.nameless(path, headers)
            assert (reply.status, reply.body) == (200, self.images[version]), reply.head
            wait_until(lambda: self.server.log().count("event=update_sent") > before, "it is counted")

    def waits(self, reason, path=LATEST):
        """503 with Retry-After to who is no updater; an updater takes that for a failure, and hears 304."""
        plain, simple = self.nameless(path), self.nameless(path, SIMPLE)
        assert (plain.status, plain.reason) == (503, reason), plain.head
        assert "Retry-After" in plain.headers
        assert simple.reason == reason and simple.status in (304, 503), simple.head

    def order(self, **members):
        answer = self.admin.post("/api/v1/rollouts", {"type": "door", **members})
        assert answer.status == 202, answer
        wait_until(lambda: self.rollout(answer.json["id"])["state"] != "planned", "it begins")
        return answer.json["id"]

    def rollout(self, order):
        return self.admin.get(f"/api/v1/rollouts/{order}").json

    def say(self, order, word):
        assert self.admin.post(f"/api/v1/rollouts/{order}/{word}", {}).status == 200


@pytest.fixture
def house(tmp_path, request):
    made = House(tmp_path, **getattr(request, "param", {}))
    yield made
    made.server.stop()


def test_in_a_rollout_to_all(house):
    """Counted, in no slot, and no success or failure: not even one that breaks off."""
    order = house.order(in_flight=1, max_failures=0)
    before = house.rollout(order)["devices"]
    house.gets("2.0")
    for _ in range(4):
        Download(house.server, LATEST, PLAIN).started().reset()
    wait_until(lambda: house.server.log().count("event=update_cut") == 4, "the cuts")
    assert house.rollout(order)["state"] == "running"
    assert house.rollout(order)["devices"] == {**before, "anonymous": 2}
    assert house.asks(1).status == 200
    assert house.admin.get("/api/v1/devices").json["total"] == 10


@pytest.mark.parametrize("members", [{"canary": 2}, {"percent": 50}, {"group": "kitchen"}])
def test_in_a_rollout_to_some(house, members):
    """Else canaries are tried after the rest, and ten percent are all who do not say who they are."""
    assert house.admin.ask("PATCH", f"/api/v1/devices/{mac(1)}", {"groups_add": ["kitchen"]}).status == 200
    house.gets("2.0")
    order = house.order(**members)
    house.waits("held-back")
    house.gets("2.0", "/firmware/door/2.0.bin")  # whoever names the file knows what it asks for
    house.gets("1.0", "/firmware/door/1.0.bin")
    assert house.rollout(order)["state"] in ("canary", "running")


def test_once_the_canaries_are_through(house):
    order = house.order(canary=1)
    assert house.asks(1).status == 200
    house.waits("held-back")
    wait_until(lambda: house.rollout(order)["devices"]["flashed"] == 1, "it has it")
    house.asks(1, "2.0")
    assert house.rollout(order)["state"] == "running"
    house.gets("2.0")


def test_an_order_by_name_does_not_concern_them(house):
    house.order(to=[mac(1)])
    house.gets("2.0")


@pytest.mark.parametrize("path", [LATEST, "/firmware/door/2.0.bin"])
def test_what_stopped(house, path):
    order = house.order(in_flight=5, max_failures=0)
    house.say(order, "pause")
    house.waits("paused", path)
    house.say(order, "resume")
    for n in (1, 2):
        assert house.asks(n).status == 200
        wait_until(lambda: house.rollout(order)["devices"]["flashed"] == 1, "it has it")
        house.asks(n)
    assert house.rollout(order)["state"] == "halted"
    house.waits("held-back", path)
    house.say(order, "abort")
    house.waits("held-back", path)


@pytest.mark.parametrize("house", [{"offer": "published"}], indirect=True)
def test_only_what_was_published_to_all(house):
    """A rollout under way is no word for all yet, one by percent or by name never."""
    house.waits("unpublished")
    house.asks(1, "2.0")
    order = house.order(to=[mac(1)])
    wait_until(lambda: house.rollout(order)["state"] == "done", "who runs it")
    house.waits("unpublished")
    order = house.order(version="1.0")
    wait_until(lambda: house.rollout(order)["devices"]["skipped"] > 0, "those that run it")
    house.waits("unpublished")
    house.asks(1, "2.0")
    wait_until(lambda: house.rollout(order)["devices"]["flashed"] == 1, "it has it")
    house.asks(1, "1.0")
    assert house.rollout(order)["state"] == "done"
    house.gets("1.0")


def test_a_type_that_went_back(house):
    house.asks(1, "2.0")
    order = house.order(version="1.0")
    house.asks(1, "2.0")
    wait_until(lambda: house.rollout(order)["devices"]["flashed"] == 1, "it has it")
    house.asks(1, "1.0")
    assert house.rollout(order)["state"] == "done"
    house.gets("1.0")

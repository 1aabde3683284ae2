"""Devices of the native SDK, which ask for a version and for the slot that they do not run from: an operator's word holds
for them as for others, and the version that they ask with judges them."""

import subprocess

import pytest

from tests.support.admin import Admin
from tests.support.mqtt import Broker, Listener, wait_connected
from tests.support.updraft import BIN, Server, check, make_image, wait_until

PUBLISHED = {"offer": "published"}


def mac(n):
    return ":".join(f"5ccf7f{n:06x}"[i:i + 2] for i in range(0, 12, 2))


class Plant:
    """A server with the slots of 1.0 and 2.0; devices are numbers."""

    def __init__(self, folder, **flags):
        self.folder, self.flags = folder, flags
        self.admin = Admin(folder / "state/admin.sock")
        self.slots = {}
        for version in ("1.0", "2.0"):
            self.add(version, wait=False)
        self.server = Server(folder, **flags)

    def add(self, version, wait=True):
        for slot in (1, 2):
            seed = 10 * int(version.replace(".", "")) + slot
            name = f"sensor/{version}.user{slot}.bin"
            self.slots[version, slot] = make_image(f"user{slot}", self.folder / "firmware" / name, seed=seed)
        if wait:
            wait_until(lambda: self.admin.get("/api/v1/firmware?type=sensor").text.count(f"/{version}.user") == 2, version)

    def ask(self, n, file="version", version="1.0", **says):
        headers = {"User-Agent": "sensor/1"}
        if n is not None:
            headers["x-ESP8266-STA-MAC"] = mac(n)
        if version is not None:
            headers["x-ESP8266-version"] = version
        return check(self.server, f"/native/sensor/{file}", headers, **says)

    def gets(self, n, offered, running="1.0"):
        """It hears of this version, and both slots are of it."""
        assert self.ask(n, version=running).body.decode() == offered
        return {self.slot(n, slot, offered, running) for slot in (1, 2)}

    def slot(self, n, slot, offered, running="1.0"):
        before = self.server.log().count("event=update_sent")
        reply = self.ask(n, f"user{slot}.bin", running)
        assert (reply.status, reply.body) == (200, self.slots[offered, slot]), reply.head
        wait_until(lambda: self.server.log().count("event=update_sent") > before, "it is sent")
        return reply.reason

    def gets_nothing(self, n, reason, running="1.0"):
        """It hears its own version, and no slot: else it would ask in vain, again and again."""
        reply = self.ask(n, version=running)
        assert (reply.status, reply.reason, reply.body.decode()) == (200, reason, running)
        for slot in (1, 2):
            reply = self.ask(n, f"user{slot}.bin", running)
            assert (reply.status, reply.reason) == (304, reason)

    def patch(self, n, **members):
        assert self.admin.ask("PATCH", f"/api/v1/devices/{mac(n)}", members).status == 200

    def order(self, expect=202, **members):
        answer = self.admin.post("/api/v1/rollouts", {"type": "sensor", **members})
        assert answer.status == expect, answer
        return answer.json.get("id")

    def rollout(self, order):
        return self.admin.get(f"/api/v1/rollouts/{order}").json

    def record(self, n):
        return self.admin.get(f"/api/v1/devices/{mac(n)}").json


@pytest.fixture
def plant(tmp_path, request):
    made = Plant(tmp_path, **getattr(request, "param", {}))
    yield made
    made.server.stop()


def test_the_newest_and_what_is_newer(plant):
    assert plant.gets(1, "2.0") == {"newer"}
    plant.gets_nothing(2, "up-to-date", running="2.0")
    assert plant.ask(2, version="v2_0").body == b"v2_0"  # in its own spelling, for it compares bytes
    plant.gets_nothing(3, "device-newer", running="3.0")


def test_a_pin_goes_back(plant):
    plant.patch(1, pin="1.0")
    assert plant.gets(1, "1.0", running="2.0") == {"pinned"}
    plant.gets_nothing(1, "up-to-date", running="1.0")
    plant.patch(1, pin="7.0")
    assert (plant.ask(1).status, plant.ask(1).reason) == (404, "no-image")
    assert plant.ask(1, "user1.bin").status == 404


def test_an_assignment(plant):
    plant.patch(1, assign={"type": "sensor", "label": "1.0"})
    assert plant.gets(1, "1.0", running="2.0") == {"assigned"}
    assert plant.gets(2, "2.0") == {"newer"}


def test_a_block(plant):
    plant.patch(1, blocked=True)
    plant.gets_nothing(1, "blocked")


@pytest.mark.parametrize("plant", [PUBLISHED], indirect=True)
def test_only_what_is_published(plant):
    plant.gets_nothing(1, "unpublished")
    assert (plant.ask(None, version=None).status, plant.ask(None, version=None).reason) == (503, "unpublished")
    order = plant.order(version="1.0")
    wait_until(lambda: plant.rollout(order)["state"] == "done", "the device that runs it")
    assert plant.gets(2, "1.0", running="2.0") == {"published"}
    assert plant.gets(None, "1.0", running=None) == {"latest"}
    plant.gets_nothing(1, "up-to-date")


def test_what_was_passed_over(plant):
    """Going back holds for the slots, until there is a version above."""
    assert plant.ask(1, version="2.0").reason == "up-to-date"
    order = plant.order(version="1.0")
    assert plant.slot(1, 2, "1.0", running="2.0") == "published"
    assert plant.ask(1).body == b"1.0"
    assert plant.rollout(order)["state"] == "done" and plant.rollout(order)["devices"]["confirmed"] == 1
    plant.gets_nothing(1, "up-to-date")
    assert plant.gets(2, "1.0", running="0.9") == {"published"}
    plant.add("3.0")
    assert plant.gets(1, "3.0") == {"newer"}


def test_what_was_passed_over_beside_a_sketch(plant):
    """The newest slots may be newer than the newest sketch."""
    make_image("esp8266", plant.folder / "firmware/sensor/1.0.bin", seed=5)
    make_image("esp8266", plant.folder / "firmware/sensor/1.5.bin", seed=6)
    wait_until(lambda: "sensor/1.5.bin" in plant.admin.get("/api/v1/firmware?type=sensor").text, "they are known")
    plant.ask(1, version="2.0")
    order = plant.order(version="1.0")
    plant.slot(1, 2, "1.0", running="2.0")
    plant.ask(1)
    assert plant.rollout(order)["state"] == "done"
    plant.gets_nothing(1, "up-to-date")


def test_its_turn_in_a_rollout(plant):
    for n in (1, 2, 3):
        plant.ask(n)
    order = plant.order(canary=1, in_flight=1, max_failures=0)
    wait_until(lambda: plant.rollout(order)["state"] == "canary", "it begins")
    plant.slot(1, 2, "2.0")
    plant.gets_nothing(2, "held-back")
    assert plant.ask(1, version="2.0").body == b"2.0"
    assert plant.rollout(order)["devices"]["confirmed"] == 1
    assert plant.record(1)["outcome"] == "confirmed"
    plant.slot(2, 1, "2.0")
    plant.gets_nothing(3, "held-back")
    plant.ask(2, version="2.0")
    assert plant.rollout(order)["devices"]["confirmed"] == 2
    assert plant.admin.post(f"/api/v1/rollouts/{order}/pause", {}).status == 200
    plant.gets_nothing(3, "paused")


def test_a_part_of_the_type(plant):
    """Those outside it are kept from its build, in either slot."""
    for n in (1, 2):
        plant.ask(n)
    plant.patch(1, groups_add=["kitchen"])
    order = plant.order(group="kitchen")
    assert plant.slot(1, 2, "2.0") == "published"
    wait_until(lambda: plant.rollout(order)["devices"]["flashed"] == 1, "it has it")
    plant.gets_nothing(2, "held-back")


def test_failures_halt(plant):
    """Both that failed and those that never asked are kept from both slots; who names no device, too."""
    for n in range(1, 6):
        plant.ask(n)
    order = plant.order(in_flight=5, max_failures=0)
    for n in (1, 2):
        plant.slot(n, n, "2.0")
        plant.ask(n, f"user{n}.bin")
    wait_until(lambda: plant.rollout(order)["state"] == "halted", "two of five failed")
    assert plant.rollout(order)["devices"]["failed"] == 2
    plant.gets_nothing(5, "held-back")
    for file in ("version", "user1.bin", "user2.bin"):
        reply = plant.ask(None, file, version=None)
        assert (reply.status, reply.reason) == (503, "held-back")
    assert plant.ask(5, version="1.0").body == b"1.0"


def test_loop_guard_and_never_again(plant):
    """Counted by the build, not by the slot."""
    for slot in (1, 2, 1):
        plant.slot(1, slot, "2.0")
    reply = plant.ask(1, "user2.bin")
    assert (reply.status, reply.reason) == (304, "loop-guard")
    plant.gets_nothing(1, "loop-guard")
    assert plant.record(1)["outcome"] == "old-build"
    assert plant.admin.post(f"/api/v1/devices/{mac(1)}/retry", {}).status == 200
    for slot in (1, 2):  # failing in a rollout counts each time
        order = plant.order(to=[mac(1)])
        plant.slot(1, slot, "2.0")
        plant.ask(1)
        assert plant.rollout(order)["devices"]["failed"] == 1
    plant.gets_nothing(1, "never-again")
    plant.add("3.0")
    plant.slot(1, 2, "3.0")


def test_what_it_went_back_from(plant):
    """Else an application that starts its other slot where the new one fails is updated for ever."""
    plant.slot(1, 2, "2.0")
    assert plant.ask(1, version="2.0").reason == "up-to-date"
    reply = plant.ask(1, "user2.bin", "1.0")
    assert (reply.status, reply.reason) == (304, "never-again")
    plant.gets_nothing(1, "never-again")
    assert [event["word"] for event in plant.record(1)["events"]][:3] == ["rolled-back", "confirmed", "sent"]
    plant.ask(2)  # one that somebody flashed by hand did not go back
    plant.slot(2, 2, "2.0")
    plant.ask(2, version="2.0")
    assert plant.slot(2, 1, "2.0", running="0.9") == "newer"


def test_admission_and_files(plant):
    """Who runs it already gets nothing; what has no pair is no version."""
    plant.ask(1, version="2.0")
    plan = plant.admin.post("/api/v1/rollouts", {"type": "sensor", "plan": True})
    assert plan.status == 200 and plan.json["plan"]["image"]["file"] == "sensor/2.0.user1.bin"
    make_image("user1", plant.folder / "firmware/sensor/4.0.user1.bin", seed=99)
    wait_until(lambda: "4.0.user1" in plant.admin.get("/api/v1/firmware?type=sensor").text, "half of 4.0")
    assert plant.order(expect=404, version="4.0") is None
    order = plant.order()
    wait_until(lambda: plant.rollout(order)["devices"]["skipped"] == 1, "it runs it")


@pytest.mark.parametrize("plant", [PUBLISHED], indirect=True)
def test_beside_a_sketch(plant):
    """A version is published in all that it has; a check for what the type lacks is no rollout's business."""
    for version in ("2.0", "3.0"):
        make_image("esp8266", plant.folder / f"firmware/sensor/{version}.bin", seed=5)
    wait_until(lambda: "sensor/3.0.bin" in plant.admin.get("/api/v1/firmware?type=sensor").text, "the sketches")
    for n in (1, 2):
        plant.ask(n)
    order = plant.order(version="2.0", in_flight=2)
    plant.slot(1, 2, "2.0")
    assert check(plant.server, "/update/sensor", mac=mac(2)).reason == "published"
    plant.ask(1, version="2.0")
    assert plant.rollout(order)["devices"]["confirmed"] == 1
    order = plant.order(version="3.0")
    assert (plant.ask(1, version="2.0").status, plant.ask(1, version="2.0").reason) == (404, "no-image")
    assert plant.rollout(order)["devices"]["skipped"] == 0


def test_a_command_names_where_to_ask(tmp_path):
    """Which slot is its own, and so which size and digest, the device alone knows."""
    with Broker(tmp_path / "broker") as broker:
        plant = Plant(tmp_path, mqtt=broker.url)
        try:
            wait_connected(plant.admin)
            plant.ask(1)
            with Listener(broker, "updraft/sensor/#") as listener:
                plant.order(to=[mac(1)])
                message = listener.wait(1)[0]
            assert '"version":"2.0"' in str(message) and "/native/sensor/version" in str(message)
            assert '"md5":""' in str(message) and '"size":0' in str(message)
        finally:
            plant.server.stop()


def explain(plant, **said):
    answer = plant.admin.get("/api/v1/explain?" + "&".join(f"{key}={value}" for key, value in said.items()))
    assert answer.status == 200, answer
    return answer.json


@pytest.mark.parametrize("word, running, reason", [
    ({}, "1.0", "newer"), ({}, "2.0", "up-to-date"), ({}, "3.0", "device-newer"), ({"pin": "1.0"}, "2.0", "pinned"),
    ({"pin": "7.0"}, "2.0", "no-image"), ({"blocked": True}, "1.0", "blocked")])
def test_explain_says_what_it_hears(plant, word, running, reason):
    """Without a word that it is native: its type has slots alone. Else the operator reads `no-image`, and it updates."""
    if word:
        plant.patch(1, **word)
    reply = plant.ask(1, version=running)
    for answer in (explain(plant, mac=mac(1)), explain(plant, type="sensor", mac=mac(1), version=running, client="native")):
        assert reply.reason == answer["reason"] == reason
        said = f"/native/sensor/version says {reply.body.decode()}"
        assert (said in answer["text"]) == (reply.status == 200), answer["text"]
        slot = plant.ask(1, "user2.bin", running, method="HEAD")
        assert (answer["serves"], answer["status"]) == (slot.status == 200, slot.status)


def test_explain_in_a_rollout(plant):
    for n in (1, 2, 3):
        plant.ask(n)
    order = plant.order(canary=1)
    wait_until(lambda: plant.rollout(order)["state"] == "canary", "it begins")
    plant.slot(1, 2, "2.0")
    answer = explain(plant, mac=mac(2))
    assert answer["reason"] == plant.ask(2).reason == "held-back" and "0 of 1 canaries" in answer["text"]
    assert "says 1.0, its own, and no slot is sent" in answer["text"]


@pytest.mark.parametrize("plant", [PUBLISHED], indirect=True)
def test_explain_of_nobody(plant):
    answer = explain(plant, type="sensor")
    assert (answer["reason"], answer["status"]) == ("unpublished", plant.ask(None, version=None).status) == ("unpublished", 503)
    plant.ask(1, version="2.0")
    order = plant.order()
    wait_until(lambda: plant.rollout(order)["state"] == "done", "who runs it")
    answer = explain(plant, type="sensor")
    assert (answer["reason"], answer["status"]) == ("latest", 200) and "--mac MAC and --version V" in answer["next"][0]
    assert explain(plant, type="sensor", client="esp8266")["reason"] == "no-image"
    said = subprocess.run([BIN / "updraft", "explain", "sensor", "--client", "native", "--admin-socket",
                           plant.admin.socket_path], capture_output=True, text=True)
    assert said.returncode == 0 and "/native/sensor/version says 2.0" in " ".join(said.stdout.split()), said


@pytest.mark.parametrize("with_sketch", [False, True], ids=["", "beside a sketch"])
def test_half_of_a_pair_is_replaced(plant, with_sketch):
    """Else devices that run from the other slot take what nobody ordered."""
    if with_sketch:
        make_image("esp8266", plant.folder / "firmware/sensor/2.0.bin", seed=5)
        wait_until(lambda: "sensor/2.0.bin" in plant.admin.get("/api/v1/firmware?type=sensor").text, "it is known")
    plant.ask(1)
    order = plant.order(in_flight=1)
    wait_until(lambda: plant.rollout(order)["state"] == "running", "it begins")
    make_image("user2", plant.folder / "firmware/sensor/2.0.user2.bin", seed=77)
    wait_until(lambda: plant.rollout(order)["state"] == "halted", "it is noticed")
    assert "was replaced" in plant.rollout(order)["why"]
    plant.gets_nothing(1, "held-back")

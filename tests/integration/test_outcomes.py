"""What becomes of updates, told by what devices say when they come again: with the headers of the real clients, and with
nothing else. Each outcome is in the record, in the time-line, and outlives a kill."""

import hashlib
import re
import signal
import time

import pytest

from tests.support.admin import Admin
from tests.support.download import Download, assert_whole
from tests.support.updraft import ESP32, ESP8266, Server, check, make_image, wait_until

MAC = "5ccf7fb1e042"
NATIVE = {"User-Agent": "sensor/1", "x-ESP8266-STA-MAC": "5C:CF:7F:B1:E0:42", "x-ESP8266-version": "1.0"}


def md5_in_mode(data, mode):
    """What an ESP8266 reports whose flash mode is another than the file's."""
    return hashlib.md5(data[:2] + bytes([mode]) + data[3:]).hexdigest()


def sent(server, path, headers=ESP8266, **says):
    """Served, and the record knows it."""
    before = server.log().count("event=update_sent")
    reply = check(server, path, headers, **says)
    assert reply.status == 200, reply.reason
    wait_until(lambda: server.log().count("event=update_sent") > before, "the transfer to be counted")
    return reply.body


def record(server, mac=MAC):
    return Admin(server.folder / "state/admin.sock").get(f"/api/v1/devices/{mac}").json


def words(server, mac=MAC):
    """Oldest first, without the first sighting."""
    return [event["word"] for event in record(server, mac)["events"] if event["word"] != "first-seen"][::-1]


@pytest.fixture
def server(tmp_path):
    make_image("esp8266", tmp_path / "firmware/door/2.0.bin", seed=2, size="400K")
    make_image("littlefs", tmp_path / "firmware/door/2.0.fs.bin", seed=3, size="64K")
    make_image("esp32", tmp_path / "firmware/porch/2.0.bin", seed=4)
    for slot in (1, 2):
        make_image(f"user{slot}", tmp_path / f"firmware/sensor/2.0.user{slot}.bin", seed=4 + slot)
    with Server(tmp_path) as running:
        yield running


@pytest.mark.parametrize("mode", range(4))
def test_every_variant_of_the_digest_is_proof(server, mode):
    """The updater writes the device's own flash mode into the image."""
    data = sent(server, "/update/door")
    assert check(server, "/update/door", md5=md5_in_mode(data, mode), version="2.0").reason == "same-digest"
    assert record(server)["outcome"] == "confirmed"
    assert record(server)["flash_mode"] == ["qio", "qout", "dio", "dout"][mode]
    assert words(server) == ["sent", "confirmed"]


def test_another_label_is_warned_of(server):
    data = sent(server, "/update/door")
    check(server, "/update/door", md5=hashlib.md5(data).hexdigest(), version="1.0.3")
    assert record(server)["outcome"] == "confirmed"
    assert "calls it 1.0.3, where the file's name says 2.0" in record(server)["events"][0]["text"]
    server.wait_log(f"level=warn event=outcome device={MAC} .*outcome=confirmed")


def test_cut_and_old(server):
    Download(server, "/update/door").started().reset()
    wait_until(lambda: record(server)["outcome"] == "cut", "the cut to be seen")
    event = record(server)["events"][0]["text"]
    at = re.fullmatch(r"2\.0, at (\d+) % \((\d+) of 409600 bytes\): .+", event)
    assert at and int(at[1]) == int(at[2]) * 100 // 409600 < 100, event
    sent(server, "/update/door")
    sent(server, "/update/door")
    assert words(server) == ["cut", "sent", "old-build", "sent"]
    assert record(server)["failures"] == 2


def test_a_file_system_by_its_version(server):
    """Its check carries the sketch's digest, which tells nothing; nor does a check of the sketch."""
    says = {"mode": "spiffs", "md5": "00" * 16}
    sent(server, "/update/door", version="1.0", **says)
    check(server, "/update/door", mode="version")
    assert record(server)["fs_outcome"] == "open"
    assert check(server, "/update/door", version="2.0", **says).reason == "up-to-date"
    assert record(server)["fs_outcome"] == "confirmed"
    sent(server, "/update/door", version="1.0", mac="5C:CF:7F:B1:E0:43", **says)
    check(server, "/update/door", version="1.0", mac="5C:CF:7F:B1:E0:43", **says)
    assert words(server, "5ccf7fb1e043")[:2] == ["sent", "old-build"]


@pytest.mark.parametrize("version", ["1.0", None])
def test_an_esp32_that_says_its_sha256_alone(server, version):
    """Confirmed by it, and rolled back by it, to a build that nobody knows."""
    says = {"md5": None, "version": version, "mac": "24:0A:C4:B1:E0:42"}
    data = sent(server, "/update/porch", ESP32, **says)
    assert check(server, "/update/porch", ESP32, sha256=data[-32:].hex().upper(), **says).reason == "same-digest"
    assert check(server, "/update/porch", ESP32, **says).reason == "never-again"
    assert words(server, "240ac4b1e042") == ["sent", "confirmed", "rolled-back"]


def test_silent_until_it_comes(tmp_path):
    """Neither success nor failure; and what it says when it comes is believed."""
    data = make_image("esp8266", tmp_path / "firmware/door/2.0.bin", seed=2)
    with Server(tmp_path, reboot_timeout="1s") as server:
        sent(server, "/update/door")
        wait_until(lambda: record(server)["outcome"] == "silent", "a second to pass")
        assert words(server) == ["sent", "silent"] and record(server)["failures"] == 0
        assert check(server, "/update/door", md5=hashlib.md5(data).hexdigest(), version="2.0").reason == "same-digest"
        assert record(server)["outcome"] == "confirmed" and words(server) == ["sent", "confirmed"]


def test_native_slots_by_the_version_asked_with(server):
    """The application writes its own request: where it names itself it is judged, guarded, and known."""
    sent(server, "/native/sensor/user2.bin", NATIVE)
    assert check(server, "/native/sensor/version", NATIVE, version="2.0").body == b"2.0"
    assert words(server) == ["sent", "confirmed"]
    other = {"headers": NATIVE, "mac": "5C:CF:7F:B1:E0:43"}
    for _ in range(3):
        sent(server, "/native/sensor/user1.bin", **other)
    assert check(server, "/native/sensor/user1.bin", method="HEAD", **other).reason == "loop-guard"
    assert check(server, "/native/sensor/user1.bin", **other).reason == "loop-guard"
    assert check(server, "/native/sensor/version", **other).body == b"1.0"
    assert record(server, "5ccf7fb1e043")["outcome"] == "old-build"


def test_who_names_no_device_is_counted(server):
    for path, headers in (("/native/sensor/user1.bin", {"User-Agent": "sensor/1"}), ("/firmware/door/2.0.bin", {}),
                          ("/latest/door.bin", {"User-Agent": "ESP8266-http-Update"})):
        sent(server, path, headers)
    assert Admin(server.folder / "state/admin.sock").get("/api/v1/devices").json["total"] == 0
    assert server.log().count("event=update_sent") == 3


@pytest.mark.parametrize("path", ["/native/anything/else", "/native/sensor/user3.bin", "/latest/anything.bin",
                                  "/latest/anything", "/firmware/anything.bin", "/update/anything"])
def test_an_address_of_nothing_makes_no_record(server, path):
    """Types are never forgotten: whoever invents them would fill their table."""
    assert check(server, path).status == 404
    assert Admin(server.folder / "state/admin.sock").get("/api/v1/devices").json["total"] == 0


def test_a_check_aside_moves_nobody_in_a_rollout(server):
    """Else a sketch that looks first holds up the rollout until it is silent, or is passed over for what it asked besides."""
    admin = Admin(server.folder / "state/admin.sock")
    for last in (3, 4):
        check(server, "/update/door", mac=f"5C:CF:7F:B1:E0:4{last}", mode="version")
    rollout = admin.post("/api/v1/rollouts", {"type": "door", "in_flight": 1}).json["id"]

    def devices():
        return admin.get(f"/api/v1/rollouts/{rollout}").json["devices"]

    wait_until(lambda: devices()["queued"] == 2, "both to be gathered")
    assert check(server, "/update/door", mac="5C:CF:7F:B1:E0:43", mode="version").status == 200
    assert check(server, "/update/door", mac="5C:CF:7F:B1:E0:44", method="HEAD").status == 200
    assert check(server, "/native/door/user1.bin", mac="5C:CF:7F:B1:E0:43").reason == "no-image"
    assert devices()["queued"] == 2
    sent(server, "/update/door", mac="5C:CF:7F:B1:E0:44")
    assert devices()["flashed"] == devices()["queued"] == 1


def test_what_was_rolled_back_from_is_kept_back_after_a_kill(server):
    data = sent(server, "/update/door")
    check(server, "/update/door", md5=hashlib.md5(data).hexdigest(), version="2.0")
    assert check(server, "/update/door").reason == "never-again"
    wait_until(lambda: words(server)[-1:] == ["rolled-back"], "the time-line to be written")
    wait_until(lambda: record(server)["never_again"], "the record")
    time.sleep(1.5)  # what devices do is written at most a second late
    server.process.kill()
    server.stop(expect=-signal.SIGKILL)
    with Server(server.folder) as again:
        assert check(again, "/update/door").reason == "never-again"
        assert words(again) == ["sent", "confirmed", "rolled-back"]
        admin = Admin(again.folder / "state/admin.sock")
        assert admin.post(f"/api/v1/devices/{MAC}/retry", {}).status == 200
        assert_whole(check(again, "/update/door"), data)

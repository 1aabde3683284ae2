"""`updraft explain` of devices that have asked: what they said is remembered, and the answer is the one they get."""

import calendar
import subprocess
import time
import urllib.parse

import pytest

from tests.support.admin import Admin
from tests.support.mqtt import Broker, Listener
from tests.support.updraft import BIN, ESP32, ESP8266, PATIENCE_S, Server, check, make_image, wait_until

MAC = "5C:CF:7F:B1:E0:42"
OTHER_MD5 = "0123456789abcdef0123456789abcdef"


@pytest.fixture
def server(tmp_path):
    folder = tmp_path / "s"
    make_image("esp8266", folder / "firmware/door/1.0.bin", seed=1, size="300K")
    make_image("esp8266", folder / "firmware/door/2.0.bin", seed=2, size="300K")
    make_image("littlefs", folder / "firmware/door/1.5.fs.bin")
    make_image("esp32", folder / "firmware/porch/2.0.bin", chip="esp32c3", version="2.0")
    with Server(folder) as made:
        yield made


@pytest.fixture
def admin(server):
    return Admin(server.folder / "state/admin.sock")


def explain(admin, **said):
    answer = admin.get("/api/v1/explain?" + urllib.parse.urlencode(said))
    assert answer.status == 200, answer
    return answer.json


def facts_of(answer):
    return {fact["name"]: fact["value"] for fact in answer["remembered"]["facts"]}


def md5_of(admin, file):
    images = admin.get("/api/v1/firmware").json["images"]
    return next(image["md5"] for image in images if image["file"] == file)


@pytest.mark.parametrize("said, reason", [
    ({"version": "1.0", "md5": OTHER_MD5}, "newer"),
    ({"version": "2.0", "md5": OTHER_MD5}, "up-to-date"),
    ({"version": "1.0", "md5": "door/2.0.bin"}, "same-digest"),
    ({"version": None, "md5": OTHER_MD5}, "unknown-build"),
    ({"version": "1.0", "md5": OTHER_MD5, "free": "1000"}, "does-not-fit"),
    ({"version": "1.0", "md5": OTHER_MD5, "flash": "524288"}, "wrong-flash"),
])
def test_the_mac_alone_is_enough(server, admin, said, reason):
    """Else the operator has to find out first what the server has been told already, and gets another answer."""
    said = {**said, "md5": md5_of(admin, said["md5"]) if "/" in said["md5"] else said["md5"]}
    assert check(server, "/update/door", **said).reason == reason
    answer = explain(admin, mac=MAC)
    assert answer["reason"] == reason
    facts = facts_of(answer)
    assert facts["type"] == "door" and facts["client"] == "esp8266" and facts["md5"] == said["md5"]
    assert facts["flash"] == said.get("flash", ESP8266["x-ESP8266-chip-size"])
    assert facts["free"] == said.get("free", ESP8266["x-ESP8266-free-space"])
    assert facts["size"] == ESP8266["x-ESP8266-sketch-size"]
    assert facts.get("version") == said["version"]
    seen = calendar.timegm(time.strptime(answer["remembered"]["seen"], "%Y-%m-%dT%H:%M:%SZ"))
    assert abs(time.time() - seen) < 60
    assert said["md5"] in answer["remembered"]["text"] and answer["remembered"]["seen"] in answer["remembered"]["text"]


def test_the_operators_word_counts_more(server, admin):
    """A digest, a version and a size describe one build: who names another must not be told of a mixture."""
    current = md5_of(admin, "door/2.0.bin")
    check(server, "/update/door", version="2.0", md5=current)
    assert explain(admin, mac=MAC)["reason"] == "same-digest"
    answer = explain(admin, mac=MAC, type="door", version="1.0")
    assert answer["reason"] == "newer"
    assert set(facts_of(answer)) == {"client", "flash", "free"}
    assert explain(admin, mac=MAC, md5=OTHER_MD5)["reason"] == "unknown-build"
    answer = explain(admin, mac=MAC, flash=524288)
    assert facts_of(answer)["md5"] == current and "flash" not in facts_of(answer)
    assert explain(admin, type="door", mac=MAC, client="esp8266", version="1.0", flash=4 << 20, free=1 << 20)["remembered"] is None


def test_an_esp32_and_a_file_system(server, admin):
    """Else an ESP32 is asked for as an ESP8266, or a file system by its sketch's version."""
    check(server, "/update/porch", ESP32, version="1.0", md5=OTHER_MD5, sha256=None)
    answer = explain(admin, mac="24:0A:C4:B1:E0:42")
    assert (answer["reason"], facts_of(answer)["client"]) == ("newer", "esp32")
    check(server, "/update/door", version="2.0", md5=OTHER_MD5)
    check(server, "/update/door", version="1.5", md5=OTHER_MD5, mode="spiffs")
    for mode, version, reason in (("fs", "1.5", "up-to-date"), ("sketch", "2.0", "up-to-date")):
        answer = explain(admin, mac=MAC, mode=mode)
        assert (answer["reason"], facts_of(answer)["version"]) == (reason, version)


def test_what_is_not_remembered(server, admin):
    """Else a guess is taken for what the device will get."""
    answer = explain(admin, type="door", mac=MAC)
    assert (answer["reason"], answer["remembered"]) == ("unknown-build", None)
    assert "no device with this MAC has ever asked" in answer["next"][0] and "--md5 MD5" in answer["next"][1]
    assert "--md5 MD5" in explain(admin, type="door")["next"][0]
    assert not any("--md5" in step for step in explain(admin, type="door", version="1.0")["next"])
    check(server, "/update/shed")  # of a type that nobody has
    assert explain(admin, type="door", mac=MAC)["remembered"] is None


def test_a_device_that_spoke_over_mqtt_alone(tmp_path):
    """Else an operator hears that nobody knows a device that the list shows, blocked or pinned as it is."""
    make_image("esp8266", tmp_path / "firmware/door/1.0.bin", seed=1)
    make_image("esp8266", tmp_path / "firmware/door/2.0.bin", seed=2)
    with Broker(tmp_path / "broker") as broker, Server(tmp_path, mqtt=f"mqtt://127.0.0.1:{broker.port}") as server:
        admin, mac = Admin(server.folder / "state/admin.sock"), "5ccf7fb1e042"
        with Listener(broker, "nothing") as speaker:
            speaker.publish(f"updraft/door/{mac}/online", "1", retain=True)
        wait_until(lambda: admin.get("/api/v1/devices").json["total"] == 1, "it is heard")
        answer = explain(admin, mac=mac)
        assert (answer["type"], answer["reason"], answer["remembered"]["seen"]) == ("door", "unknown-build", None)
        assert answer["remembered"]["text"] == "type door; as it said over MQTT"
        assert "has not asked yet" in answer["next"][0]
        for word, reason in (({"blocked": True}, "blocked"), ({"blocked": False, "pin": "1.0"}, "pinned")):
            admin.ask("PATCH", f"/api/v1/devices/{mac}", word)
            assert explain(admin, mac=mac)["reason"] == reason
        assert explain(admin, mac=mac)["assignment"]["pinned"]


def test_a_type_that_is_kept_on_an_older_version(server, admin):
    """Else everything looks as if the newest were out, and nobody remembers why it is not."""
    check(server, "/update/door", version="2.0", md5=OTHER_MD5)
    order = admin.post("/api/v1/rollouts", {"type": "door", "version": "1.0"})
    assert order.status in (200, 202), order
    check(server, "/update/door", version="1.0", md5=md5_of(admin, "door/1.0.bin"))
    place = f"/api/v1/devices/{MAC.replace(':', '').lower()}"
    wait_until(lambda: admin.get(place).json["kept"] != "", "the rollout is over")
    kept = admin.get(place).json["kept"]
    assert kept.startswith("2.0 is newer; the type is kept on 1.0 by rollout ") and "`publish-update door` ends" in kept
    assert kept in explain(admin, mac=MAC)["next"]
    admin.post("/api/v1/rollouts", {"type": "door"})
    assert admin.get(place).json["kept"] == ""


def test_silence_stands_in_the_time_line(tmp_path):
    """Else the outcome says silent, and the time-line beside it nothing."""
    make_image("esp8266", tmp_path / "firmware/door/2.0.bin", seed=2)
    with Server(tmp_path, reboot_timeout="1s") as server:
        admin, place = Admin(server.folder / "state/admin.sock"), f"/api/v1/devices/{MAC.replace(':', '').lower()}"
        check(server, "/update/door", version="1.0", md5=OTHER_MD5)
        wait_until(lambda: admin.get(place).json["outcome"] == "silent", "its time is over")
        first = admin.get(place).json["events"][0]
        assert (first["word"], first["text"]) == ("silent", "it had all of 2.0, and did not come back within 1 s")


def test_an_image_whose_rollout_was_aborted_can_be_ordered_again(server, admin):
    """Else the remedy is to resume what cannot be resumed."""
    rollout = admin.post("/api/v1/rollouts", {"type": "door", "to": ["5ccf7fb1e042"]}).json["id"]
    assert admin.post(f"/api/v1/rollouts/{rollout}/abort", {}).status == 200
    answer = explain(admin, type="door", mac=MAC, version="1.0")
    assert answer["reason"] == "held-back"
    assert answer["next"][-1].endswith("`publish-update door --version 2.0` publishes it again"), answer["next"]


def test_a_mac_where_a_type_belongs(server):
    done = subprocess.run([BIN / "updraft", "explain", "5ccf7fb1e042", "--admin-socket", "state/admin.sock"],
                          cwd=server.folder, capture_output=True, text=True, timeout=PATIENCE_S)
    assert "did you mean --mac 5ccf7fb1e042?" in " ".join(done.stdout.split()), done


def test_a_question_about_another_type(server, admin):
    """Else a slip in the type looks like the device's fault."""
    check(server, "/update/door", version="1.0", md5=OTHER_MD5)
    answer = explain(admin, type="porch", mac=MAC)
    assert answer["reason"] == "wrong-chip"
    assert answer["next"][0].startswith("when it last asked, the device's type was door")


def test_an_unknown_type_lists_the_known(admin):
    answer = explain(admin, type="porhc")
    assert answer["reason"] == "unknown-type"
    assert answer["next"][0] == "types there are: porch, door"
    refusal = admin.post("/api/v1/rollouts", {"type": "porhc"})
    assert refusal.json["error"]["remedy"] == "types there are: porch, door"


def test_a_hostile_version_breaks_no_line(server, admin):
    """A device's bytes reach an operator's terminal, so they are escaped wherever they are shown."""
    check(server, "/update/door", version="1.0\x9b2J\"", md5=OTHER_MD5)
    answer = explain(admin, mac=MAC)
    assert facts_of(answer)["version"] == '1.0\\x9b2J\\"'
    assert answer["remembered"]["text"].isprintable()


def test_the_tool_says_it(server):
    """The operator's terminal: what is known, from when, and what to do."""
    check(server, "/update/door", version="1.0", md5=OTHER_MD5, free="1000")
    done = subprocess.run([BIN / "updraft", "explain", "--mac", MAC, "--admin-socket", "state/admin.sock"], cwd=server.folder,
                          capture_output=True, text=True, timeout=PATIENCE_S)
    assert (done.returncode, done.stderr) == (0, "")
    assert "does-not-fit" in done.stdout
    words = " ".join(done.stdout.split())  # however it is wrapped
    assert "known type door, client esp8266, version 1.0, md5 " in words and "as it said when it last asked, 20" in words

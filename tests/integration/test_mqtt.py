"""From `publish-update` to the device's topic, over a real mosquitto, seen by an independent client."""

import json
import pathlib
import re
import signal
import socket
import subprocess
import time

import pytest

from tests.support.admin import Admin
from tests.support.download import Download
from tests.support.mqtt import Broker, Listener, certificates, free_port, wait_connected
from tests.support.updraft import BIN, ESP8266, PATIENCE_S, Server, check, make_image, wait_until

IS_SANITIZED = any(word in (BIN / "updraftd").read_bytes() for word in (b"__asan_", b"__tsan_"))
ROOT = pathlib.Path(__file__).parents[2]
MACS = [f"5ccf7f{i:06x}" for i in range(1, 301)]


class House:
    """A broker, a server that knows it, and the operator's way in."""

    def __init__(self, folder, broker=None, **flags):
        self.broker = broker or Broker(folder / "broker")
        make_image("esp8266", folder / "s/firmware/truc_0_4_10.ino.d1_mini.bin", size="200K", seed=1)
        make_image("esp8266", folder / "s/firmware/truc_0_4_9.ino.d1_mini.bin", size="39K", seed=2)
        flags.setdefault("mqtt", self.broker.url)
        self.server = Server(folder / "s", **flags)
        self.admin = Admin(folder / "s/state/admin.sock")

    def order(self, **members):
        return self.admin.post("/api/v1/rollouts", {"type": "d1_mini", **members})

    def rollout(self, answer):
        return self.admin.get(f"/api/v1/rollouts/{answer.json['id']}").json

    def wait_rollout(self, answer, condition, what):
        return wait_until(lambda: (lambda now: condition(now) and now)(self.rollout(answer)), what)

    def wait_told(self, answer, commands):
        return self.wait_rollout(answer, lambda now: now["commands"]["acknowledged"] == commands, "the broker's acknowledgement")

    def wait_lost(self):
        wait_until(lambda: self.admin.get("/api/v1/status").json["mqtt"]["state"] != "connected", "the link's end")

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        try:
            self.server.__exit__(*exception)  # raises where it crashed
        finally:
            self.broker.stop()


@pytest.fixture
def house(tmp_path):
    with House(tmp_path) as made:
        wait_connected(made.admin)
        yield made


# --- what goes out -------------------------------------------------------------------------------------------------

def test_the_command_byte_for_byte(house):
    """Devices parse this text with what little they have: its members, their order and their form are the contract."""
    md5 = house.admin.get("/api/v1/firmware?type=d1_mini").json["images"][0]["md5"]
    with Listener(house.broker, "updraft/#") as listener:
        listener.wait(1)  # updraft/server/online
        answer = house.order(window_s=7)
        assert answer.status == 202 and answer.headers["Location"].endswith(answer.json["id"])
        listener.wait(2)
        topic, payload, retained = listener.messages[1]
        assert topic == "updraft/d1_mini/update" and not retained
        assert payload.decode() == (
            '{"id":"%s","version":"0_4_10","url":"http://127.0.0.1:%d/update/d1_mini","md5":"%s","size":204800,'
            '"mode":"sketch","window_s":7}' % (json.loads(payload)["id"], house.server.port, md5))
        assert re.fullmatch("[0-9a-f]{16}", json.loads(payload)["id"])
        assert house.wait_told(answer, 1)["commands"] == {"sent": 1, "acknowledged": 1, "failed": 0}


def test_devices_that_nobody_knows_are_told_to_take_their_time(house):
    with Listener(house.broker, "updraft/d1_mini/#") as listener:
        answer = house.order()
        listener.wait(1)
        assert json.loads(listener.messages[0][1])["window_s"] == 30 == house.wait_told(answer, 1)["window_s"]


def test_named_devices_are_told_one_by_one(house):
    with Listener(house.broker, "updraft/d1_mini/#") as listener:
        answer = house.order(to=["5C:CF:7F:00:00:02", "5ccf7f000001"])
        listener.wait(2)
        assert listener.topics() == ["updraft/d1_mini/5ccf7f000001/update", "updraft/d1_mini/5ccf7f000002/update"]
        assert len({json.loads(payload)["id"] for _topic, payload, _retain in listener.messages}) == 2
        house.wait_told(answer, 2)


def test_an_older_version_is_named_in_the_address(house):
    """/update/<type> offers the newest: a device told to go back must ask for what it was told."""
    with Listener(house.broker, "updraft/d1_mini/#") as listener:
        assert house.order(version="0.4.9").status == 202
        listener.wait(1)
    command = json.loads(listener.messages[0][1])
    assert command["url"].endswith("/update/d1_mini?version=0_4_9") and command["size"] == 39 * 1024
    address = command["url"][command["url"].index("/update"):]
    reply = check(house.server, address, version="0.4.10")
    assert (reply.status, reply.reason, reply.headers["x-MD5"]) == (200, "published", command["md5"])
    assert check(house.server, address, version="0.4.9").status == 304


def test_a_plan_publishes_nothing(house):
    with Listener(house.broker, "updraft/d1_mini/#") as listener:
        plan = house.order(plan=True)
        assert plan.status == 200 and plan.json["plan"]["messages"][0]["topic"] == "updraft/d1_mini/update"
        assert house.order().status == 202
        listener.wait(1)
        time.sleep(0.3)
        assert len(listener.messages) == 1, "the plan was published too"
    assert house.admin.get("/api/v1/rollouts").json["total"] == 1


def test_tasmota_gets_its_address_before_the_word(tmp_path):
    with House(tmp_path, mqtt_preset="tasmota") as house, Listener(house.broker, "cmnd/#") as listener:
        wait_connected(house.admin)
        for members in ({}, {"to": ["5ccf7fb1e042"]}):
            house.wait_told(house.order(**members), 1)
        listener.wait(4)
        url = f"http://127.0.0.1:{house.server.port}/update/d1_mini".encode()
        for name in ("d1_mini", "tasmota_B1E042"):
            told = [(topic, payload) for topic, payload, _retain in listener.messages if f"/{name}/" in topic]
            assert told == [(f"cmnd/{name}/OtaUrl", url), (f"cmnd/{name}/Upgrade", b"1")]


def test_homie_gets_the_image_itself(tmp_path):
    with House(tmp_path, mqtt_preset="homie") as house, Listener(house.broker, "homie/#") as listener:
        wait_connected(house.admin)
        image = (house.server.repo / "truc_0_4_10.ino.d1_mini.bin").read_bytes()
        nobody = house.wait_rollout(house.order(), lambda now: now["state"] == "running", "it stands")
        assert "no device was known" in nobody["why"]
        assert any("--to" in note for note in nobody["notes"]), "of those that are not known nobody can be told"
        answer = house.order(to=["5ccf7fb1e042", "5ccf7fb1e043"])
        listener.wait(2)
        md5 = answer.json["image"]["md5"]
        assert sorted(listener.topics()) == [f"homie/5ccf7fb1e04{n}/$implementation/ota/firmware/{md5}" for n in (2, 3)]
        assert all(payload == image for _topic, payload, _retain in listener.messages)


def test_templates_of_ones_own(tmp_path):
    flags = {"command_topic": "haus/{type}/ota", "device_command_topic": "haus/{mac}/ota",
             "command_payload": "{version} {md5} {url}"}
    with House(tmp_path, **flags) as house, Listener(house.broker, "haus/#") as listener:
        wait_connected(house.admin)
        answer = house.order()
        listener.wait(1)
        topic, payload, _retain = listener.messages[0]
        assert topic == "haus/d1_mini/ota"
        assert payload.decode().split()[:2] == ["0_4_10", answer.json["image"]["md5"]]


@pytest.mark.parametrize("flag, text, complaint", [
    ("command-topic", "haus/#", "#"),
    ("device-command-topic", "haus/{type}/ota", "mac"),
    ("command-payload", '{"v":{version}}', "JSON"),
    ("command-payload", "{verison}", "verison"),
    ("mqtt", "http://broker", "mqtt://"),
    ("mqtt-preset", "esphome", "tasmota"),
    ("public-url", "192.168.1.10:8080", "http"),
])
def test_a_mistake_is_found_at_start(tmp_path, flag, text, complaint):
    done = subprocess.run([BIN / "updraftd", "--check-config", f"--{flag}", text], capture_output=True, text=True)
    assert done.returncode == 1 and f"--{flag}" in done.stderr and complaint in done.stderr, done.stderr


def test_a_command_carries_its_expiry(tmp_path):
    """A broker that keeps it for a sleeper must know when it is no good any more."""
    with House(tmp_path, command_expiry="90s") as house:
        wait_connected(house.admin)
        with Listener(house.broker, "updraft/d1_mini/#", version=5) as listener:
            assert house.order().status == 202
            listener.wait(1)
            assert 60 < listener.expiries[0] <= 90


@pytest.mark.waits_long
def test_retained_only_while_the_rollout_is_under_way(tmp_path):
    """A retained command that is left behind flashes whoever connects next year."""
    with House(tmp_path, command_retain="yes") as house:
        wait_connected(house.admin)
        answer = house.order(timeout_s=2)
        house.wait_rollout(answer, lambda now: now["state"] == "running", "running")
        with Listener(house.broker, "updraft/d1_mini/update", client_id="late") as late:
            assert late.wait(1)[0][2], "who subscribes while it is under way gets it"
        house.wait_rollout(answer, lambda now: now["state"] == "done", "the end")
        time.sleep(0.5)
        with Listener(house.broker, "updraft/d1_mini/update", client_id="later") as later:
            time.sleep(0.5)
            assert not later.messages, "who subscribes afterwards gets nothing"


def test_retained_is_taken_back_at_the_end_of_the_server(tmp_path):
    """Afterwards nobody would know of it, and it would flash whoever connects."""
    broker = Broker(tmp_path / "broker")
    with House(tmp_path, broker, command_retain="yes") as house:
        wait_connected(house.admin)
        answer = house.order()
        house.wait_rollout(answer, lambda now: now["state"] == "running", "running")
        house.server.stop()
        with Listener(broker, "updraft/d1_mini/update") as late:
            time.sleep(0.5)
            assert not late.messages


def test_says_that_it_is_there_and_that_it_went(house):
    with Listener(house.broker, "updraft/server/online") as listener:
        assert listener.wait(1)[0][1:] == (b"1", True)
        house.server.stop()
        listener.wait(2)
        assert listener.messages[1][1] == b"0"


def test_its_last_will_speaks_when_it_cannot(tmp_path):
    broker = Broker(tmp_path / "broker")
    house = House(tmp_path, broker)
    wait_connected(house.admin)
    with Listener(broker, "updraft/server/online") as listener:
        listener.wait(1)
        house.server.process.kill()
        house.server.process.wait()
        listener.wait(2)
        assert listener.messages[1][1] == b"0"
    house.server.process.stdout.close()
    house.server.log_file.close()
    broker.stop()


# --- a broker that goes away ---------------------------------------------------------------------------------------

def first_of_each(listener):
    """Each device's commands in the order of their arrival, an id that came again left out (it is the same command)."""
    seen = {}
    for topic, payload, _retain in list(listener.messages):
        command = json.loads(payload)
        seen.setdefault(topic, {}).setdefault(command["id"], (command["mode"], command["version"]))
    return {topic: list(commands.values()) for topic, commands in seen.items()}


def test_killed_with_commands_outstanding(house):
    """None lost, none reordered for a device: the broker is frozen with 300 commands before it, killed, and restarted."""
    with Listener(house.broker, "updraft/d1_mini/#", client_id="durable", clean=False) as listener:
        house.order(to=MACS, in_flight=len(MACS))
        listener.wait(len(MACS))
        house.broker.freeze()
        house.order(to=MACS, in_flight=len(MACS), version="0.4.9")
        time.sleep(0.3)
        house.broker.kill()
        house.broker.start()
        listener.wait(2 * len(MACS))
        wait_until(lambda: all(len(got) == 2 for got in first_of_each(listener).values()), "each device's second command")
        time.sleep(0.5)
        seen = first_of_each(listener)
    both = [("sketch", "0_4_10"), ("sketch", "0_4_9")]
    assert seen == {f"updraft/d1_mini/{mac}/update": both for mac in MACS}


def test_kept_while_it_is_away(tmp_path):
    """Accepted while the broker is down: sent when it comes; a newer one for the same thing takes its place, and the operator of the older one learns it."""
    broker = Broker(tmp_path / "broker")
    with House(tmp_path, broker) as house:
        wait_connected(house.admin)
        with Listener(broker, "updraft/d1_mini/#", client_id="durable", clean=False):
            pass
        broker.stop()  # and saves who subscribed
        house.wait_lost()
        first = house.order(to=MACS[:50], in_flight=50)
        second = house.order(to=MACS[:50], in_flight=50, version="0.4.9")
        assert (first.status, second.status) == (202, 202)
        gone = house.wait_rollout(first, lambda now: now["state"] == "aborted", "the end of the first")
        assert gone["why"] == f"superseded by {second.json['id']}"
        assert gone["commands"]["acknowledged"] == 0 and gone["devices"]["skipped"] == 50
        assert house.rollout(second)["supersedes"] == first.json["id"]
        house.wait_rollout(second, lambda now: "refused" in now["broker"]["error"], "the reason why it waits")
        assert house.rollout(second)["commands"]["acknowledged"] == 0
        broker.start()
        house.wait_told(second, 50)
        with Listener(broker, "updraft/d1_mini/#", client_id="durable", clean=False) as listener:
            listener.wait(50)
            time.sleep(0.3)
            assert {json.loads(payload)["version"] for _topic, payload, _retain in listener.messages} == {"0_4_9"}


@pytest.mark.parametrize("macs", [[], MACS[:3]], ids=["a type", "devices"])
def test_a_sketch_and_a_file_system_while_it_is_away(tmp_path, macs):
    """Two orders on the same topics, that both must arrive, in the order in which they were given."""
    broker = Broker(tmp_path / "broker")
    make_image("littlefs", tmp_path / "s/firmware/d1_mini/0_4_10.fs.bin", size="64K", seed=3)
    with House(tmp_path, broker) as house:
        wait_connected(house.admin)
        topics = [f"updraft/d1_mini/{mac}/update" for mac in macs] or ["updraft/d1_mini/update"]
        with Listener(broker, "updraft/d1_mini/#", client_id="durable", clean=False):
            pass
        broker.stop()
        house.wait_lost()
        orders = [house.order(mode=mode, **({"to": macs} if macs else {})) for mode in ("sketch", "fs")]
        assert [order.status for order in orders] == [202, 202]
        assert [house.rollout(order)["commands"]["acknowledged"] for order in orders] == [0, 0]
        broker.start()
        for order in orders:
            house.wait_told(order, len(topics))
        with Listener(broker, "updraft/d1_mini/#", client_id="durable", clean=False) as listener:
            listener.wait(2 * len(topics))
            time.sleep(0.3)
            both = [("sketch", "0_4_10"), ("fs", "0_4_10")]
            assert first_of_each(listener) == {topic: both for topic in topics}


def test_down_at_the_start(tmp_path):
    """No error: devices are served, the log says so, and the broker is found when it comes."""
    broker = Broker(tmp_path / "broker")
    broker.kill()
    with House(tmp_path, broker) as house:
        assert check(house.server, "/update/d1_mini", version="0.4.9").status == 200
        house.server.wait_log(r"event=mqtt_failed .*refused")
        broker.start()
        wait_connected(house.admin)


def test_away_for_longer_than_the_patience(tmp_path):
    """The command is withdrawn: it must not go out next week when nobody thinks of it any more."""
    broker = Broker(tmp_path / "broker")
    broker.kill()
    with House(tmp_path, broker) as house:
        answer = house.order(timeout_s=1)
        failed = house.wait_rollout(answer, lambda now: now["state"] == "aborted", "the end of patience")
        assert "broker" in failed["why"], failed
        broker.start()
        wait_connected(house.admin)
        with Listener(broker, "updraft/#") as listener:
            listener.wait(1)
            time.sleep(0.5)
            assert listener.topics() == ["updraft/server/online"]


@pytest.mark.waits_long
def test_away_for_longer_than_a_command_is_good(tmp_path):
    """What waited longer than command-expiry is no news when the broker is back: nobody gets it then, and who was to hear
    it is named with the reason. A device that asks by itself is served all the same, and an order anew is told anew."""
    broker = Broker(tmp_path / "broker")
    with House(tmp_path, broker, command_expiry="3s") as house:
        wait_connected(house.admin)
        with Listener(broker, "updraft/d1_mini/#", client_id="durable", clean=False):
            pass
        early = house.order(to=MACS[:1])
        house.wait_told(early, 1)
        broker.stop()
        house.wait_lost()
        late = house.order(to=MACS[1:4], in_flight=2, timeout_s=60)
        ended = house.wait_rollout(late, lambda now: now["state"] == "aborted", "their expiry")
        assert ended["why"] == "no command reached the broker: expired", ended
        assert ended["commands"]["acknowledged"] == 0
        broker.start()
        wait_connected(house.admin)
        again = house.order(to=MACS[1:4], in_flight=3)
        told = house.wait_told(again, 3)
        assert told["devices"]["failed"] == told["commands"]["failed"] == 0
        with Listener(broker, "updraft/d1_mini/#", client_id="durable", clean=False) as listener:
            listener.wait(3)
            time.sleep(0.5)
            ids = {json.loads(payload)["id"] for topic, payload, _retain in listener.messages if MACS[0] not in topic}
            assert len(ids) == 3, "the old ones never went out"


def test_given_up_while_on_its_way(house):
    """Who was told "aborted" must not find devices flashed after the broker's next start: it is not sent again."""
    house.broker.freeze()
    answer = house.order(timeout_s=1)
    failed = house.wait_rollout(answer, lambda now: now["state"] == "aborted", "the end of patience")
    assert "may still arrive" in failed["why"], failed
    house.broker.kill()
    house.wait_lost()
    house.broker.start()
    with Listener(house.broker, "updraft/#") as listener:
        wait_connected(house.admin)
        listener.wait(1)
        time.sleep(1)
        assert set(listener.topics()) == {"updraft/server/online"}


@pytest.mark.waits_long
def test_accepts_and_never_answers(tmp_path):
    """The server serves, says what is wrong, and ends at once when it is told to."""
    with socket.create_server(("127.0.0.1", 0)) as mute:
        make_image("esp8266", tmp_path / "s/firmware/truc_0_4_10.ino.d1_mini.bin", size="40K", seed=1)
        with Server(tmp_path / "s", mqtt=f"mqtt://127.0.0.1:{mute.getsockname()[1]}") as server:
            admin = Admin(tmp_path / "s/state/admin.sock")
            answer = admin.post("/api/v1/rollouts", {"type": "d1_mini", "timeout_s": 1})
            assert answer.status == 202
            for _ in range(50):
                assert check(server, "/update/d1_mini", version="0.4.9").status in (200, 304)
            wait_until(lambda: admin.get(f"/api/v1/rollouts/{answer.json['id']}").json["state"] == "aborted", "the end")
            server.wait_log(r"event=mqtt_failed")


def test_frozen_for_a_while(house):
    """Neither side hears of it: the command is acknowledged when the broker goes on."""
    house.broker.freeze()
    answer = house.order()
    time.sleep(0.5)
    assert house.rollout(answer)["commands"]["acknowledged"] == 0
    house.broker.thaw()
    house.wait_told(answer, 1)


# --- who may, and over what ----------------------------------------------------------------------------------------

@pytest.fixture
def guarded(tmp_path):
    passwords = tmp_path / "passwords"
    passwords.write_text("updraft:right\n")
    subprocess.run(["mosquitto_passwd", "-U", passwords], check=True)
    with Broker(tmp_path / "broker", f"password_file {passwords}", anonymous=False) as broker:
        yield broker


def test_wrong_password(tmp_path, guarded):
    with House(tmp_path, guarded, mqtt=f"mqtt://updraft:wr%40ng@127.0.0.1:{guarded.port}") as house:
        wait_until(lambda: "password" in house.admin.get("/api/v1/status").json["mqtt"]["error"], "it is said")
        house.server.wait_log(r"event=mqtt_failed .*password")
        assert "wr@ng" not in house.server.log() and "wr%40ng" not in house.server.log()
        assert check(house.server, "/update/d1_mini", version="0.4.9").status == 200


def test_an_acl_that_says_no(tmp_path, guarded):
    """The operator reads which topic, which user, and what to grant; the server itself may say that it is there."""
    acl = tmp_path / "acl"
    acl.write_text("user updraft\ntopic readwrite updraft/server/#\ntopic read updraft/+/+/+\n")
    guarded.stop()
    guarded.config.write_text(guarded.config.read_text() + f"acl_file {acl}\n")
    guarded.start()
    with House(tmp_path, guarded, mqtt=f"mqtt://updraft:right@127.0.0.1:{guarded.port}") as house:
        wait_connected(house.admin)
        answer = house.order()
        failed = house.wait_rollout(answer, lambda now: now["state"] == "aborted", "the refusal")
        assert failed["why"] == ("no command reached the broker: refused: the broker's ACL denies publishing to updraft/d1_mini/update: "
                                 "grant the user updraft write on it")


def rules_of_the_docs():
    """The ACL that docs/mqtt.md tells to write."""
    text = (ROOT / "docs/mqtt.md").read_text()
    return re.search(r"^    # acl.*\n((?:    .*\n)+)", text, re.M)[1].replace("    ", "")


@pytest.mark.parametrize("rules", [rules_of_the_docs, (ROOT / "docker/broker.acl").read_text], ids=["docs", "docker"])
def test_a_device_speaks_in_no_other_name(tmp_path, rules):
    """Else whoever has read the login out of one device halts everybody's rollouts."""
    acl, (own, other) = tmp_path / "acl", MACS[:2]
    acl.write_text(rules())
    with Broker(tmp_path / "broker", f"acl_file {acl}") as broker, \
            Listener(broker, "updraft/#", client_id="server", user="updraft") as server:
        for topic in [f"updraft/d/{other}/status", f"updraft/d/{other}/online", f"updraft/d/{own}/update", "updraft/d/update"]:
            with Listener(broker, "none", client_id=other, user=own) as forger:  # its link may end over it
                forger.client.publish(topic, b"forged")
        device = Listener(broker, "updraft/#", client_id=other, user=own)
        device.publish(f"updraft/d/{own}/status", b"its own")
        device.publish(f"updraft/d/{own}/online", b"1")
        server.wait(2)
        assert server.topics() == [f"updraft/d/{own}/status", f"updraft/d/{own}/online"]
        for topic in [f"updraft/d/{other}/update", f"updraft/d/{own}/update", "updraft/d/update"]:
            server.publish(topic, b"{}")
        device.wait(2)
        assert device.topics() == [f"updraft/d/{own}/update", "updraft/d/update"]
        device.close()


def test_the_password_in_a_file(tmp_path, guarded):
    secret = tmp_path / "secret"
    secret.write_text("right\n")
    with House(tmp_path, guarded, mqtt_user="updraft", env={"UPDRAFT_MQTT_PASSWORD_FILE": str(secret)}) as house:
        wait_connected(house.admin)


@pytest.fixture
def tls(tmp_path):
    files = certificates(tmp_path / "certificates")
    broker = Broker(tmp_path / "broker")
    port = free_port()
    broker.stop()
    with open(broker.config, "a") as config:
        config.write(f"listener {port} 127.0.0.1\ncafile {files['ca.pem']}\ncertfile {files['server.pem']}\n"
                     f"keyfile {files['server.key']}\nrequire_certificate true\n")
    broker.start()
    yield broker, port, files
    broker.stop()


def test_tls_with_certificates_both_ways(tmp_path, tls):
    broker, port, files = tls
    with House(tmp_path, broker, mqtt=f"mqtts://localhost:{port}", mqtt_ca=files["ca.pem"], mqtt_cert=files["client.pem"],
               mqtt_key=files["client.key"]) as house, Listener(broker, "updraft/d1_mini/#") as listener:
        wait_connected(house.admin)
        assert house.order().status == 202
        listener.wait(1)


def test_tls_with_a_stranger(tmp_path, tls):
    """A broker whose certificate nobody vouches for is not spoken to."""
    broker, port, _files = tls
    strangers = certificates(tmp_path / "strangers")
    with House(tmp_path, broker, mqtt=f"mqtts://localhost:{port}", mqtt_ca=strangers["ca.pem"]) as house:
        error = wait_until(lambda: house.admin.get("/api/v1/status").json["mqtt"]["error"], "an error")
        assert "certificate" in error.lower(), error


# --- what devices say ----------------------------------------------------------------------------------------------

def reports(admin):
    text = admin.get("/metrics").text
    return {word: int(count) for word, count in re.findall(r'updraft_mqtt_reports_total\{result="([a-z-]+)"\} (\d+)', text)}


def test_a_device_reports_its_failure(house):
    with Listener(house.broker, "updraft/d1_mini/#") as listener:
        answer = house.order(to=["5ccf7f000001"])
        listener.wait(1)
        listener.publish("updraft/d1_mini/5ccf7f000001/status", '{"state":"failed","error":"no room \\u001b[31m"}')
        now = house.wait_rollout(answer, lambda now: now["state"] == "done", "the end")
        assert now["devices"]["failed"] == 1
        listed = house.admin.get(f"/api/v1/rollouts/{answer.json['id']}?devices=yes").json["device_list"]
        assert listed[0]["state"] == "failed" and "no room" in listed[0]["why"] and "\x1b" not in listed[0]["why"]


def device_of(house, answer, mac):
    listed = house.admin.get(f"/api/v1/rollouts/{answer.json['id']}?devices=yes").json["device_list"]
    return next(device for device in listed if device["mac"] == mac)


def test_who_came_and_was_refused_is_not_silent(house):
    """The server knows why: it must not send the operator to look at the device's Wi-Fi."""
    answer = house.order(to=["5ccf7fb1e042"])
    assert check(house.server, "/update/d1_mini", version="0.4.9", free=1000).reason == "does-not-fit"
    device = device_of(house, answer, "5ccf7fb1e042")
    assert device["state"] == "skipped" and device["why"].startswith("does-not-fit: "), device


def test_a_full_queue_is_no_failure(tmp_path):
    """Commands that find no room wait for it: that the server's queue has an end is no device's fault."""
    broker = Broker(tmp_path / "broker")
    broker.kill()
    with House(tmp_path, broker, mqtt_queue=2) as house:
        answer = house.order(to=MACS[:5], in_flight=5)
        house.wait_rollout(answer, lambda now: now["devices"]["triggered"] == 5, "all to be told, as far as the queue goes")
        broker.start()
        house.wait_told(answer, 5)


def test_more_retained_than_the_queue_is_long(tmp_path):
    """What the broker keeps for devices that came, or are silent, makes room for the rest: all are told, none has failed."""
    with House(tmp_path, mqtt_queue=2, command_retain="yes") as house:
        wait_connected(house.admin)
        with Listener(house.broker, "updraft/d1_mini/+/update") as listener:
            answer = house.order(to=MACS[:6], in_flight=6, timeout_s=1)
            told = house.wait_told(answer, 6)
            assert told["commands"]["failed"] == told["devices"]["failed"] == 0, told
            assert {topic.split("/")[2] for topic, payload, _retain in listener.messages if payload} == set(MACS[:6])
            house.wait_rollout(answer, lambda now: now["state"] == "done", "the end")
        time.sleep(0.5)
        with Listener(house.broker, "updraft/d1_mini/+/update", client_id="later") as later:
            time.sleep(0.5)
            assert not later.messages, "nothing is left behind"


def test_ten_thousand_by_name(house):
    answer = house.order(to=[f"5ccf{i:08x}" for i in range(10000)], timeout_s=1, plan=True)
    assert answer.status == 200 and answer.json["plan"]["selected"]["members"] == 10000


def test_who_said_that_it_is_gone_is_not_waited_for(house):
    """Retired and sleeping devices neither block a rollout nor count as silent."""
    with Listener(house.broker, "nothing") as speaker:
        speaker.publish("updraft/d1_mini/5ccf7f000009/online", "1", retain=True)
        speaker.publish("updraft/d1_mini/5ccf7f000009/online", "0", retain=True)
        speaker.publish("updraft/d1_mini/5ccf7f000008/online", "1", retain=True)
        speaker.publish("updraft/d1_mini/5ccf7f000007/online", "0", retain=True)  # was never here: no device of ours
    wait_until(lambda: reports(house.admin)["ok"] == 4, "all are heard")
    answer = house.order()
    devices = house.wait_rollout(answer, lambda now: now["devices"]["triggered"] == 1, "the one that is there")["devices"]
    assert devices["members"] == 2 and devices["silent"] == 1, "the other is waited for by nobody"


def test_forgetting_one_that_the_broker_remembers_says_so(house):
    """Else it is back at the next connect, and nobody knows why."""
    with Listener(house.broker, "nothing") as speaker:
        speaker.publish("updraft/d1_mini/5ccf7f000009/online", "1", retain=True)
        speaker.publish("updraft/d1_mini/5ccf7f000008/online", "1", retain=True)
        speaker.publish("updraft/d1_mini/5ccf7f000008/online", "0", retain=True)
    wait_until(lambda: reports(house.admin)["ok"] == 3, "all are heard")
    forgotten = house.admin.delete("/api/v1/devices/5ccf7f000009").json
    assert len(forgotten["notes"]) == 1 and "clear it there first" in forgotten["notes"][0]
    assert house.admin.delete("/api/v1/devices/5ccf7f000008").json == {"removed": "5ccf7f000008", "notes": []}


@pytest.mark.parametrize("topic, payload, result", [
    ("updraft/d1_mini/5ccf7f000001/status", b"[" * 500, "too-deep"),
    ("updraft/d1_mini/5ccf7f000001/status", b'{"state":"' + b"x" * 1100 + b'"}', "too-long"),
    ("updraft/d1_mini/5ccf7f000001/status", b"\xff\xfe", "not-json"),
    ("updraft/d1_mini/5ccf7f000001/status", b'{"state":"exploding"}', "bad-field"),
    ("updraft/d1_mini/5ccf7f000001/online", b"maybe", "bad-field"),
    ("updraft/d1_mini/not-a-mac/status", b'{"state":"running"}', "bad-name"),
])
def test_nonsense_is_counted_and_dropped(house, topic, payload, result):
    before = reports(house.admin)
    with Listener(house.broker, "nothing") as speaker:
        speaker.publish(topic, payload)
    wait_until(lambda: reports(house.admin)[result] == before[result] + 1, f"it is counted as {result}")
    assert check(house.server, "/update/d1_mini", version="0.4.9").status == 200


@pytest.mark.parametrize("version", ["3.1.1", "5"])
def test_megabytes_of_nonsense(tmp_path, version):
    """Neither memory nor the loop is anybody's to fill: dropped before they are copied, and counted. More of them than a broker
    keeps on their way at once: what comes behind must still come."""
    with House(tmp_path, mqtt_version=version) as house:
        wait_connected(house.admin)
        with Listener(house.broker, "nothing") as speaker:
            for _ in range(40):
                speaker.publish("updraft/d1_mini/5ccf7f000001/status", b"A" * (1 << 20))
            speaker.publish("updraft/d1_mini/5ccf7f000001/online", b"1")
        wait_until(lambda: reports(house.admin)["ok"] == 1, "what comes behind them is read")
        assert "updraft_mqtt_dropped_total 40\n" in house.admin.get("/metrics").text
        if not IS_SANITIZED:
            status = open(f"/proc/{house.server.process.pid}/status").read()
            assert int(re.search(r"VmRSS:\s+(\d+)", status).group(1)) < 40 * 1024


# --- the whole circle ----------------------------------------------------------------------------------------------

FLEET = 900 if IS_SANITIZED else 5000


def test_a_fleet_of_three_types(tmp_path):
    """One publish-update: every device of that type comes back with it, and no other device is touched."""
    for number, kind in enumerate(("door", "lamp", "plug")):
        make_image("esp8266", tmp_path / f"s/firmware/p_1_0_0.ino.{kind}.bin", size=f"{40 + number}K", seed=1 + number)
    with Broker(tmp_path / "broker") as broker, Server(tmp_path / "s", mqtt=broker.url, log_level="warn") as server:
        admin = Admin(tmp_path / "s/state/admin.sock")
        wait_connected(admin)
        summary = tmp_path / "fleet.json"
        fleet = subprocess.Popen(
            [BIN / "updraft-sim", "--server", f"http://127.0.0.1:{server.port}", "--mqtt", broker.url, "--devices", str(FLEET),
             "--types", "door,lamp,plug", "--version", "1.0.0", "--check-in-at-start", "--flash-time", "500ms", "--reboot-time",
             "1s", "--seed", "7", "--duration", "240", "--json", summary, "--json-devices", "--quiet"],
            stdout=subprocess.PIPE, text=True)
        try:
            assert any(line.startswith("ready") for line in fleet.stdout), "the fleet did not connect"
            seen = wait_until(lambda: admin.get("/api/v1/status").json["devices"]["seen"] == FLEET, "all have checked in")
            assert seen
            for number, kind in enumerate(("door", "lamp", "plug")):
                make_image("esp8266", tmp_path / f"s/firmware/p_2_0_0.ino.{kind}.bin", size=f"{50 + number}K", seed=11 + number)
            wait_until(lambda: admin.get("/api/v1/status").json["repository"]["images"] == 6, "the new images are served")
            begun = time.monotonic()
            answer = admin.post("/api/v1/rollouts", {"type": "lamp"})
            assert answer.status == 202
            path = f"/api/v1/rollouts/{answer.json['id']}"
            done = wait_until(lambda: (lambda now: now["state"] == "done" and now)(admin.get(path).json), "the rollout's end", 200)
            seconds = time.monotonic() - begun
        finally:
            fleet.send_signal(signal.SIGINT)
            fleet.stdout.read()
            code = fleet.wait(PATIENCE_S)
        devices = json.loads(summary.read_text())["device_list"]
        lamps = [device for device in devices if device["type"] == "lamp"]
        print(f"{len(lamps)} of {FLEET} devices updated and confirmed in {seconds:.1f} s, 1.5 s of which they flash and restart")
        assert code == 0, "a device got what is not its own"
        assert done["devices"]["confirmed"] == len(lamps) == done["devices"]["members"] and done["devices"]["failed"] == 0
        wrong = [device for device in lamps if device["whole"] != 1 or device["version"] != "2_0_0"]
        assert not wrong, wrong[:3]
        others = [device for device in devices if device["type"] != "lamp"]
        assert len(others) == FLEET - len(lamps)
        assert all(device["whole"] == 0 and device["version"] == "1.0.0" for device in others)


# --- orders that meet ----------------------------------------------------------------------------------------------

def test_named_orders_one_after_the_other(house):
    """`--to A`, then `--to B`: both are told, and both are followed. `--to A` again takes A alone."""
    door, lamp = "5ccf7fb1e042", "5ccf7fb1e043"
    first = house.order(to=[door, lamp], version="0.4.9")
    house.wait_rollout(first, lambda now: now["devices"]["triggered"] == 2, "both are to be told")
    second = house.order(to=["5ccf7fb1e044"])
    assert house.rollout(first)["state"] == "running", "the second order names another device"
    third = house.order(to=[door])
    device = device_of(house, first, door)
    assert (device["state"], device["why"]) == ("skipped", f"superseded by {third.json['id']}")
    assert house.rollout(third)["supersedes"] == first.json["id"]
    now = house.rollout(first)
    assert now["devices"]["triggered"] == now["devices"]["members"] - now["devices"]["skipped"] == 1
    assert now["state"] == "running"
    fourth = house.order(to=[lamp])
    gone = house.rollout(first)
    assert (gone["state"], gone["devices"]["skipped"]) == ("aborted", 2), "nothing is left of it"
    assert gone["why"] == f"superseded by {fourth.json['id']}"
    assert device_of(house, first, lamp)["why"] == f"superseded by {fourth.json['id']}"
    assert all(house.rollout(order)["state"] == "running" for order in (second, third, fourth))
    fifth = house.order()
    for order in (second, third, fourth):
        gone = house.rollout(order)
        assert (gone["state"], gone["why"]) == ("aborted", f"superseded by {fifth.json['id']}")


@pytest.mark.parametrize("newer", [{}, {"to": ["5ccf7fb1e042"]}])
def test_a_half_told_device_is_told_the_rest(tmp_path, newer):
    """Tasmota keeps the address that it was told: without the word it would fetch from there some other day."""
    with House(tmp_path, mqtt_preset="tasmota") as house:
        wait_connected(house.admin)
        with Listener(house.broker, "cmnd/tasmota_B1E042/#", client_id="durable", clean=False) as listener:
            house.broker.stop()  # and saves who subscribed
            house.wait_lost()
            house.broker.start()
            wait_connected(house.admin)
            house.broker.freeze()
            first = house.order(to=["5ccf7fb1e042"], version="0.4.9")
            wait_until(lambda: "\nupdraft_mqtt_messages_in_flight 1\n" in house.admin.get("/metrics").text,
                       "its first message to leave")
            second = house.order(**newer)
            house.broker.kill()
            house.broker.start()
            house.wait_told(second, 1)
            house.wait_told(first, 1)  # to its end
            listener.wait(4 if newer else 2)
            told = [(topic.rsplit("/", 1)[1], b"?version=" in payload) for topic, payload, _ in listener.messages]
        assert ("OtaUrl", True) in told and told.index(("Upgrade", False)) > told.index(("OtaUrl", True)), told
        if newer:
            assert told[-2:] == [("OtaUrl", False), ("Upgrade", False)], "the newer command comes behind the older, and whole"


@pytest.mark.waits_long
def test_a_cut_device_tries_again(house):
    """A device that is cut off is told again by itself, and has failed only when it was cut off three times."""
    with Listener(house.broker, "updraft/d1_mini/#") as listener:
        answer = house.order(to=["5ccf7fb1e042"])
        for attempt in range(1, 4):
            listener.wait(attempt)
            download = Download(house.server, "/update/d1_mini", version="0.4.9").started()
            house.wait_rollout(answer, lambda now: now["devices"]["downloading"] == 1, "it downloads")
            download.socket.close()
            house.wait_rollout(answer, lambda now: now["devices"]["downloading"] == 0, "the cut is noticed")
            if attempt < 3:
                assert device_of(house, answer, "5ccf7fb1e042")["attempts"] == attempt
        assert len({json.loads(payload)["id"] for _topic, payload, _retain in listener.messages}) == 3
    done = house.wait_rollout(answer, lambda now: now["state"] == "done", "the end")
    device = device_of(house, answer, "5ccf7fb1e042")
    assert done["devices"]["failed"] == 1 and (device["state"], device["attempts"]) == ("failed", 3), device


def test_what_speaks_against_the_devices_named(house):
    """Said in the plan and in the answer to the order, before a rollout has waited for a typing error."""
    make_image("esp8266", house.server.folder / "firmware/other_1_0_0.ino.door.bin", size="20K", seed=9)
    wait_until(lambda: house.admin.get("/api/v1/status").json["repository"]["images"] == 3, "the image of door is served")
    check(house.server, "/update/door", mac="5C:CF:7F:00:00:01")
    check(house.server, "/update/d1_mini", mac="5C:CF:7F:00:00:02", version="0.4.10")
    check(house.server, "/update/d1_mini", mac="5C:CF:7F:00:00:03", version="0.4.10", free=1000)
    named = [f"5ccf7f00000{i}" for i in range(1, 5)]
    notes = house.order(to=named, plan=True).json["plan"]["notes"]
    assert [note.split()[1] for note in notes] == ["asks", "would", "was"], notes
    assert "asks as door, not d1_mini" in notes[0] and notes[1].startswith("5ccf7f000003 would be refused, does-not-fit")
    assert notes[2].startswith("5ccf7f000004 was never seen") and "updraft/d1_mini/5ccf7f000004/update" in notes[2]
    assert house.order(to=named).json["notes"] == notes
    assert house.order().json["notes"] == [notes[1]], "of the type only those that are known are looked at"

"""The simulated devices themselves: a simulator that is kinder than the real clients, or that overlooks what a server
does wrong, makes every test that stands on it worthless."""

import gzip
import hashlib
import json
import re
import resource
import signal
import socket
import subprocess
import threading
import time

import pytest

from tests.support.sim import Sim, run_sim
from tests.support.updraft import BIN, PATIENCE_S, Server, make_image, wait_until

FAST = {"time_scale": 0.02}


class Broker:
    """A mosquitto of the test's own, which can be killed and started again on the same port."""

    def __init__(self, folder):
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.config = folder / "mosquitto.conf"
        self.config.write_text(f"listener {self.port} 127.0.0.1\nallow_anonymous true\npersistence false\n")
        self.url = f"mqtt://127.0.0.1:{self.port}"
        self.start()

    def start(self):
        self.process = subprocess.Popen(["/usr/sbin/mosquitto", "-c", self.config], stderr=subprocess.DEVNULL)
        wait_until(self.answers, "the broker to listen")

    def answers(self):
        try:
            socket.create_connection(("127.0.0.1", self.port), 1).close()
            return True
        except OSError:
            return False

    def stop(self, how=signal.SIGTERM):
        self.process.send_signal(how)
        self.process.wait(PATIENCE_S)

    def publish(self, topic, payload):
        text = payload if isinstance(payload, str) else json.dumps(payload)
        subprocess.run(["mosquitto_pub", "-h", "127.0.0.1", "-p", str(self.port), "-q", "1", "-t", topic, "-m", text],
                       check=True, timeout=PATIENCE_S)

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        if self.process.poll() is None:
            self.stop()


def command(server, type_name="door", **changes):
    return {"id": "0123456789abcdef", "version": "2.0.0", "url": f"http://127.0.0.1:{server.port}/update/{type_name}",
            "mode": "sketch", "window_s": 0, **changes}


class Answering:
    """A server that gives one answer to every request, which it keeps; what updraftd must never do is done here."""

    def __init__(self, answer):
        self.answer, self.requests, self.times = answer, [], []
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port = self.listener.getsockname()[1]
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            with connection:
                self.times.append(time.monotonic())
                data = b""
                while not data.endswith(b"\r\n\r\n"):
                    piece = connection.recv(65536)
                    if not piece:
                        break
                    data += piece
                self.requests.append(data.decode("latin-1"))
                connection.sendall(self.answer)
                connection.shutdown(socket.SHUT_WR)
                while connection.recv(65536):  # else unread bytes would make a reset of the end
                    pass

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self.thread.join(PATIENCE_S)


NOTHING_NEW = b"HTTP/1.1 304 Not Modified\r\nX-Updraft-Reason: up-to-date\r\n\r\n"
HEX32, HEX64_UPPER = "[0-9a-f]{32}", "[0-9A-F]{64}"

# What the real clients write, line by line: seen on the wire of ESP8266HTTPUpdate and HTTPUpdate (arduino-esp32 2.0.5).
REQUESTS = {
    "esp8266": [
        "GET /update/door HTTP/1.0", "Host: 127.0.0.1:PORT", "User-Agent: ESP8266-http-Update",
        "Authorization: Basic dTpw", "Connection: close", "x-ESP8266-Chip-ID: 11657282",
        "x-ESP8266-STA-MAC: 5C:CF:7F:B1:E0:42", "x-ESP8266-AP-MAC: 5E:CF:7F:B1:E0:42",
        "x-ESP8266-free-space: [0-9]+", "x-ESP8266-sketch-size: [0-9]+", f"x-ESP8266-sketch-md5: {HEX32}",
        "x-ESP8266-chip-size: 4194304", r"x-ESP8266-sdk-version: 2\.2\.2-dev\(38a443e\)", "x-ESP8266-mode: sketch",
        "x-ESP8266-version: 1.0.3", "Content-Length: 0",
    ],
    "esp32": [
        "GET /update/door HTTP/1.0", "Host: 127.0.0.1:PORT", "User-Agent: ESP32-http-Update", "Connection: close",
        "Authorization: Basic dTpw", "Cache-Control: no-cache", "x-ESP32-STA-MAC: 24:0A:C4:B1:E0:42",
        "x-ESP32-AP-MAC: 24:0A:C4:B1:E0:43", "x-ESP32-free-space: 1310720", "x-ESP32-sketch-size: [0-9]+",
        f"x-ESP32-sketch-md5: {HEX32}", f"x-ESP32-sketch-sha256: {HEX64_UPPER}", "x-ESP32-chip-size: 4194304",
        r"x-ESP32-sdk-version: v4\.4\.2", "x-ESP32-mode: sketch", "x-ESP32-version: 1.0.3",
    ],
}


def ask_once(folder, family, **flags):
    """The request of one device, and the port it went to."""
    with Answering(NOTHING_NEW) as server:
        run_sim(folder, family=family, server=f"http://u:p@127.0.0.1:{server.port}/", types="door", devices=1,
                first=0xb1e042, check_in_at_start=True, until="idle", idle=0.1, **flags)
        assert len(server.requests) == 1
        return server.requests[0], server.port


@pytest.mark.parametrize("family", REQUESTS)
def test_request_is_the_clients_own(tmp_path, family):
    """A server that minds a header's order, spelling or presence would be tested with something no device sends."""
    request, port = ask_once(tmp_path, family, version="1.0.3")
    assert request.endswith("\r\n\r\n") and request.count("\n") == request.count("\r\n")
    lines = request[:-4].split("\r\n")
    wanted = [line.replace("PORT", str(port)) for line in REQUESTS[family]]
    assert len(lines) == len(wanted)
    for line, pattern in zip(lines, wanted):
        assert re.fullmatch(pattern, line), line


@pytest.mark.parametrize("family", REQUESTS)
def test_sketch_without_a_version_sends_no_such_header(tmp_path, family):
    request, _ = ask_once(tmp_path, family, version="")
    assert "-version: 1" not in request and f"x-{family.upper()}-version" not in request


def test_free_space_is_what_the_layout_leaves(tmp_path):
    """does-not-fit is decided by this number: the sketch's end, rounded up to sectors, to the file system's start."""
    request, _ = ask_once(tmp_path, "esp8266")
    free, size = (int(re.search(rf"-{name}: (\d+)", request).group(1)) for name in ("free-space", "sketch-size"))
    assert free == 0x200000 - (size + 4095) // 4096 * 4096


def one_update(folder, server, broker, payload=None, **flags):
    """A device, a command for its type, and what became of it."""
    flags = {"types": "door", "devices": 1, "until": "idle", "idle": 0.5, **FAST, **flags}
    with Sim(folder, server, broker, **flags) as sim:
        sim.ready()
        broker.publish("updraft/door/update", payload or command(server))
        summary = sim.finish()
    return summary["types"]["door"], summary["device_list"]


@pytest.mark.parametrize("mode", range(4))
def test_own_flash_mode_is_written_into_the_image(tmp_path, mode):
    """The digest that a real ESP8266 reports: the server must know it as the image it has just sent."""
    data = make_image("esp8266", tmp_path / "firmware/door/2.0.0.bin", mode="dio", size="40K", trailer=256)
    length = int.from_bytes(data[0x1010:0x1014], "little")
    patched = data[:2] + bytes([mode]) + data[3:length]
    with Server(tmp_path) as server, Broker(tmp_path) as broker:
        door, (device,) = one_update(tmp_path, server, broker, flash_mode=["qio", "qout", "dio", "dout"][mode])
        assert device["md5"] == hashlib.md5(patched).hexdigest()
        assert (device["state"], device["last_reason"], device["version"]) == ("confirmed", "same-digest", "2.0.0")
        assert door["by_reason"] == {"newer": 1, "same-digest": 1}


def test_compressed_image_is_inflated_and_not_patched(tmp_path):
    old = make_image("esp8266", tmp_path / "firmware/door/1.0.0.bin", mode="qout", seed=1)
    new = make_image("esp8266", tmp_path / "firmware/door/2.0.0.bin.gz", mode="qout", seed=2, gzip=1, size="60K")
    with Server(tmp_path) as server, Broker(tmp_path) as broker:
        _, (device,) = one_update(tmp_path, server, broker, flash_mode="qout", version="1.0.0",
                                  image=tmp_path / "firmware/door/1.0.0.bin")
        assert old != new and device["md5"] == hashlib.md5(gzip.decompress(new)).hexdigest()
        assert (device["state"], device["last_reason"]) == ("confirmed", "same-digest")


def test_esp32_reports_the_image_without_what_is_behind_it(tmp_path):
    data = make_image("esp32", tmp_path / "firmware/door/2.0.0.bin", size="50K", trailer=512, version="2.0.0")
    with Server(tmp_path) as server, Broker(tmp_path) as broker:
        _, (device,) = one_update(tmp_path, server, broker, family="esp32")
        assert (device["state"], device["last_reason"]) == ("confirmed", "same-digest")
        assert device["md5"] in {hashlib.md5(data[:end]).hexdigest() for end in range(len(data) - 512 - 15, len(data))}


def test_file_system_image_leaves_the_sketch_alone(tmp_path):
    make_image("esp8266", tmp_path / "firmware/door/1.0.0.bin")
    make_image("littlefs", tmp_path / "firmware/door/2.0.0.fs.bin", size="64K")
    with Server(tmp_path) as server, Broker(tmp_path) as broker:
        _, (device,) = one_update(tmp_path, server, broker, payload=command(server, mode="fs"), version="1.0.0",
                                  flash_mode="qio", image=tmp_path / "firmware/door/1.0.0.bin")
        assert (device["state"], device["version"], device["fs_version"]) == ("confirmed", "1.0.0", "2.0.0")
        assert re.search("event=update_sent .*mode=fs", server.log())


# A misbehaviour of every device, and what the summary of four devices must show of it.
MISBEHAVIOURS = {
    "drop": ("50:25", lambda door, log: door["cut"] == 4 and door["states"] == {"failed": 4}
             and door["bytes"] == 4 * 25600 and log.count("event=update_cut") == 4),
    "stall": ("50", lambda door, log: door["cut"] == 4 and door["states"] == {"failed": 4}),
    "bad-md5": ("50", lambda door, log: door["bad"] == 4 and door["whole"] == 0 and door["states"] == {"failed": 4}
                and log.count("event=update_sent") == 8),
    "never-reboot": ("50", lambda door, log: door["whole"] == 4 and door["checks"] == 4 and door["confirmed"] == 0
                     and door["states"] == {"gone": 4}),
    "old-image": ("50", lambda door, log: door["confirmed"] == 0 and door["states"] == {"failed": 4}
                  and door["whole"] == 12 and door["by_reason"]["loop-guard"] == 4),
    "wrong-label": ("50", lambda door, log: door["confirmed"] == 4 and "event=check reason=same-digest" in log),
    "eager": ("50", lambda door, log: door["checks"] == 4 * (2 + 20) and door["states"] == {"confirmed": 4}),
    "twins": ("50", lambda door, log: door["confirmed"] == 4),
    "silent": ("50", lambda door, log: door["commands"] == 4 and door["ignored"] == 4 and door["checks"] == 0
               and door["states"] == {"idle": 4}),
}


@pytest.mark.parametrize("word", MISBEHAVIOURS)
def test_misbehaviour_shows(tmp_path, word):
    """Half of eight devices misbehave; the other half must be as good as ever."""
    share, shows = MISBEHAVIOURS[word]
    make_image("esp8266", tmp_path / "firmware/door/2.0.0.bin", size="100K")
    flags = {word.replace("-", "_"): share, "stall_time": 0.5, "devices": 8, "seed": 5}
    with Server(tmp_path, loop_guard=3) as server, Broker(tmp_path) as broker:
        door, devices = one_update(tmp_path, server, broker, **flags)
        assert door["commands"] == 8
        bad = [device for device in devices if device["misbehaviour"] == word]
        good = [device for device in devices if device["misbehaviour"] == "none"]
        assert len(bad) == 4 and len(good) == 4
        assert all((device["state"], device["whole"], device["version"]) == ("confirmed", 1, "2.0.0")
                   for device in good)
        for key in ("checks", "whole", "confirmed", "commands"):  # of the bad alone
            door[key] -= 4 * {"checks": 2}.get(key, 1)
        door["by_reason"]["newer"] -= 4
        door["bytes"] -= 4 * 102400
        door["states"]["confirmed"] -= 4
        door["states"] = {state: n for state, n in door["states"].items() if n > 0}
        assert shows(door, server.log()), door
        macs = {device["mac"] for device in bad}
        assert len(macs) == (2 if word == "twins" else 4)
        labels = {device["version"] for device in bad}
        assert labels == ({"2.0.0"} if word in ("eager", "twins") else {"0.1.0"})


def test_misbehaves_only_as_often_as_it_was_told(tmp_path):
    make_image("esp8266", tmp_path / "firmware/door/2.0.0.bin", size="100K")
    with Server(tmp_path) as server, Broker(tmp_path) as broker:
        door, _ = one_update(tmp_path, server, broker, drop=100, faults=2, retry=0.5)
        assert (door["cut"], door["whole"], door["states"]) == (2, 1, {"confirmed": 1})


def story(summary):
    """What may not depend on the machine's mood."""
    hasty = ("last_status", "last_reason")
    return [{key: value for key, value in device.items() if key not in hasty} for device in summary["device_list"]]


def test_same_seed_same_story(tmp_path):
    make_image("esp8266", tmp_path / "firmware/door/2.0.0.bin", size="100K")
    stories = []
    for seed in (7, 7, 8):
        with Server(tmp_path, store="none") as server, Broker(tmp_path) as broker:  # else it knows them from before
            flags = {"devices": 20, "drop": 20, "wrong_label": 20, "twins": 20, "flash": "1M,4M", "seed": seed}
            with Sim(tmp_path, server, broker, types="door", until="idle", idle=0.5, **FAST, **flags) as sim:
                sim.ready()
                broker.publish("updraft/door/update", command(server, window_s=5))
                stories.append(story(sim.finish()))
                assert sim.lines[0] == f"seed {seed}"
    assert stories[0] == stories[1]
    assert stories[0] != stories[2]


def test_seed_is_drawn_and_said(tmp_path):
    with Answering(NOTHING_NEW) as server:
        said = set()
        for _ in range(2):
            with Sim(tmp_path, server, check_in_at_start=True, until="idle", idle=0.1) as sim:
                sim.finish()
                said.add(sim.lines[0])
        assert len(said) == 2 and all(re.fullmatch("seed [0-9]+", line) for line in said)


def test_command_is_obeyed_once(tmp_path):
    """QoS 1 may bring a command twice, and a server may repeat it: the id makes that harmless."""
    make_image("esp8266", tmp_path / "firmware/door/2.0.0.bin")
    with Server(tmp_path) as server, Broker(tmp_path) as broker:
        # they flash for four seconds: a device that restarts has no session, and what is published then passes it by
        with Sim(tmp_path, server, broker, types="door,gate", devices=4, flash_time=200, **FAST) as sim:
            sim.ready()
            for id_ in ("a", "b", "a", "b", "b"):
                broker.publish("updraft/door/update", command(server, id=id_))
            broker.publish("updraft/door/5ccf7f000001/update", command(server, id="c"))
            broker.publish("updraft/door/update", "no JSON")
            broker.publish("updraft/door/update", {"id": "d", "url": "ftp://127.0.0.1/"})
            wait_until(lambda: server.log().count("reason=same-digest") >= 2, "the devices to be updated")
            time.sleep(0.2)
            summary = sim.stop()
        door, gate = summary["types"]["door"], summary["types"]["gate"]
        assert (door["commands"], door["duplicates"], door["malformed"]) == (5, 6, 4)
        assert (gate["commands"], gate["checks"], gate["states"]) == (0, 0, {"idle": 2})
        listed = {device["mac"]: device["commands"] for device in summary["device_list"]}
        assert listed["5ccf7f000001"] == ["a", "b", "c"] and listed["5ccf7f000003"] == ["a", "b"]


def test_a_commands_address_is_for_that_command(tmp_path):
    """Who polls goes on asking where it was set up to: a command may name a version that is not for ever."""
    with Answering(NOTHING_NEW) as server, Broker(tmp_path) as broker:
        with Sim(tmp_path, server, broker, types="door", devices=1, poll=10, **FAST) as sim:
            sim.ready()
            broker.publish("updraft/door/update", command(server, url=f"http://127.0.0.1:{server.port}/once"))
            wait_until(lambda: any("GET /once " in request for request in server.requests), "the command is obeyed")
            count = len(server.requests)
            wait_until(lambda: len(server.requests) >= count + 3, "it polls")
            assert all(request.startswith("GET /update/door ") for request in server.requests[count:])
            sim.stop()


def test_window_spreads_the_asking(tmp_path):
    """A herd that comes at once although the command says otherwise would make every measurement of windows a lie."""
    with Answering(NOTHING_NEW) as server, Broker(tmp_path) as broker:
        with Sim(tmp_path, None, broker, types="door", devices=40, time_scale=0.1, until="idle", idle=0.3) as sim:
            sim.ready()
            broker.publish("updraft/door/update", command(server, window_s=20))
            door = sim.finish()["types"]["door"]
        assert door["checks"] == 40
        assert server.times[-1] - server.times[0] > 1.2  # of two seconds


def test_broken_promises_end_it_with_1(tmp_path):
    """Each answer breaks one promise; a simulator that shrugs would let the server's tests pass."""
    image = make_image("esp8266", tmp_path / "image.bin")
    other = make_image("esp32", tmp_path / "other.bin", size="8K")
    right, wrong = hashlib.md5(image).hexdigest(), "0" * 32

    def answer(md5, body=image, length=True, extra=b""):
        lines = [f"Content-Length: {len(body)}"] * length + [f"x-MD5: {md5}"] * bool(md5)
        return ("HTTP/1.1 200 OK\r\n" + "".join(line + "\r\n" for line in lines) + "\r\n").encode() + body + extra

    cases = {
        "wrong-md5": answer(wrong),
        "no-md5": answer(""),
        "no-content-length": answer(right, length=False),
        "wrong-content-length": answer(right, extra=b"more"),
        "other-chip": answer(hashlib.md5(other).hexdigest(), body=other),
    }
    for word, bytes_ in cases.items():
        with Answering(bytes_) as server:
            summary = run_sim(tmp_path, server, expect=1, devices=1, check_in_at_start=True, duration=1, until="idle",
                              idle=0.1)
            assert {one["violation"] for one in summary["violations"]} == {word}


def test_image_of_another_type_is_noticed(tmp_path):
    image = make_image("esp8266", tmp_path / "image.bin")
    head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(image)}\r\nx-MD5: {hashlib.md5(image).hexdigest()}\r\n\r\n"
    with Answering(head.encode() + image) as server:
        flags = {"devices": 2, "types": "door,gate", "check_in_at_start": True, "duration": 0.5}
        summary = run_sim(tmp_path, server, expect=1, **flags)
        assert [one["violation"] for one in summary["violations"]] == ["others-image"]
        run_sim(tmp_path, server, same_images=True, **flags)


def test_command_for_another_type_is_noticed(tmp_path):
    with Answering(NOTHING_NEW) as server, Broker(tmp_path) as broker:
        with Sim(tmp_path, None, broker, types="door", devices=1) as sim:
            sim.ready()
            broker.publish("updraft/door/update", command(server, "gate"))
            time.sleep(0.3)
            summary = sim.stop(expect=1)
        assert [one["violation"] for one in summary["violations"]] == ["other-type"]
        assert server.requests == []


def test_reports_and_last_will(tmp_path):
    """A reboot is seen by the broker as a lost link: the will, then the device again."""
    make_image("esp8266", tmp_path / "firmware/door/2.0.0.bin")
    with Server(tmp_path) as server, Broker(tmp_path) as broker:
        with Sim(tmp_path, server, broker, types="door", devices=1, report=True, **FAST) as sim:
            sim.ready()
            listener = subprocess.Popen(["mosquitto_sub", "-h", "127.0.0.1", "-p", str(broker.port), "-v", "-t",
                                         "updraft/door/+/online", "-t", "updraft/door/+/status"],
                                        stdout=subprocess.PIPE, text=True)
            try:
                assert listener.stdout.readline() == "updraft/door/5ccf7f000001/online 1\n"  # retained
                broker.publish("updraft/door/update", command(server))
                heard = []
                while '{"state":"running","version":"2.0.0"}' not in heard:
                    heard.append(listener.stdout.readline().split(" ", 1)[1].strip())
            finally:
                listener.terminate()
                listener.communicate(timeout=PATIENCE_S)
            sim.stop()
        if heard[0] == '{"state":"running","version":"0.1.0"}':  # of the start; it may be as late as this
            heard = heard[1:]
        assert heard == ['{"state":"downloading","version":"2.0.0"}', '{"state":"flashed","version":"2.0.0"}', "0", "1",
                         '{"state":"running","version":"2.0.0"}']


def test_devices_come_back_to_a_broker_that_was_killed(tmp_path):
    make_image("esp8266", tmp_path / "firmware/door/2.0.0.bin")
    with Server(tmp_path) as server, Broker(tmp_path) as broker:
        with Sim(tmp_path, server, broker, types="door", devices=300, until="confirmed=300", **FAST) as sim:
            sim.ready()
            broker.stop(signal.SIGKILL)
            broker.start()
            end = time.monotonic() + PATIENCE_S
            number = 0
            while sim.process.poll() is None and time.monotonic() < end:  # until all of them have heard it
                broker.publish("updraft/door/update", command(server, id=str(number)))
                number += 1
                time.sleep(0.5)
            summary = sim.finish()
        assert summary["confirmed_devices"] == 300 and summary["mqtt"]["lost"] >= 300


def test_polling_devices_need_no_broker(tmp_path):
    make_image("esp8266", tmp_path / "firmware/door/2.0.0.bin")
    make_image("esp32", tmp_path / "firmware/esp32gate/1.0.0.bin", version="1.0.0")
    with Server(tmp_path) as server:
        summary = run_sim(tmp_path, server, types="door:2,esp32gate", family="mixed", devices=9, poll=10,
                          until="confirmed=9", **FAST)
        assert {name: (row["devices"], row["family"]) for name, row in summary["types"].items()} == {
            "door": (6, "esp8266"), "esp32gate": (3, "esp32")}
        assert {device["version"] for device in summary["device_list"]} == {"2.0.0", "1.0.0"}


def test_rate_is_kept(tmp_path):
    make_image("esp8266", tmp_path / "firmware/door/2.0.0.bin", size="100K")
    with Server(tmp_path) as server:
        summary = run_sim(tmp_path, server, types="door", devices=1, check_in_at_start=True, rate="50K",
                          until="confirmed=1", **FAST)
        assert 1.9 < summary["last_confirmation_s"] < 30


def test_a_server_that_is_not_there(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    summary = run_sim(tmp_path, server=f"http://127.0.0.1:{port}", devices=3, check_in_at_start=True, until="idle",
                      idle=0.1)
    door = summary["types"]["d1_mini"]
    assert door["failures"] == {"connect": 3} and door["states"] == {"failed": 3}


def test_many_devices_and_one_command(tmp_path):
    """Every device of the type and no other; enough of them that one turn after the other must be given."""
    for type_name, seed in (("door", 1), ("gate", 2), ("bell", 3)):
        make_image("esp8266", tmp_path / f"firmware/{type_name}/2.0.0.bin", seed=seed)
    with Server(tmp_path) as server, Broker(tmp_path) as broker:
        with Sim(tmp_path, server, broker, types="door,gate,bell", devices=1500, until="confirmed=500", **FAST) as sim:
            sim.ready()
            broker.publish("updraft/gate/update", command(server, "gate"))
            summary = sim.finish()
        assert {name: row["states"] for name, row in summary["types"].items()} == {
            "door": {"idle": 500}, "gate": {"confirmed": 500}, "bell": {"idle": 500}}


def test_what_the_server_withholds_is_not_confirmed(tmp_path):
    """A 304 may mean either; who read `confirmed: wrong-flash` believed that all was well."""
    make_image("esp8266", tmp_path / "firmware/door/2.0.0.bin")
    with Server(tmp_path) as server:
        with Sim(tmp_path, server, types="door", devices=1, poll=10, **FAST) as sim:
            sim.wait_line(r"^5ccf7f000001 door idle: runs 0\.1\.0$")
            sim.wait_line(r"^5ccf7f000001 door confirmed: runs 2\.0\.0 \(same-digest\)$")
            make_image("esp8266", tmp_path / "firmware/door/3.0.0.bin", flash="16M")
            sim.wait_line(r"^5ccf7f000001 door held: wrong-flash$")
            summary = sim.stop()
        assert (summary["types"]["door"]["confirmed"], summary["confirmed_devices"]) == (1, 0)
        assert "  at the end 1 held" in sim.lines or "  at the end 1 checking" in sim.lines


def test_the_summary_is_for_people(tmp_path):
    """Nothing in it that is not so, and no byte of the server's that a terminal would obey."""
    evil = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nX-Updraft-Reason: no\x1b[2Jway\r\n\r\n"
    with Answering(evil) as server:
        with Sim(tmp_path, server, devices=2, check_in_at_start=True, until="idle", idle=0.1) as sim:
            sim.finish()
    text = "\n".join(sim.lines)
    assert "\x1b" not in text
    assert r"5ccf7f000002 d1_mini failed: answered 404 no\x1b[2Jway" in sim.lines
    assert r"  checks     2 in all, 2 answered 404 no\x1b[2Jway" in sim.lines
    assert "  commands   0 heard" in sim.lines and "  downloads  0 whole" in sim.lines and "violations: 0" in sim.lines


def test_a_broker_that_is_not_there_is_named(tmp_path):
    """Else it says its seed, and then nothing at all."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    done = subprocess.run([BIN / "updraft-sim", "--mqtt", f"mqtt://127.0.0.1:{port}", "--devices", "3", "--duration", "0.3"],
                          capture_output=True, text=True, timeout=PATIENCE_S)
    assert done.returncode == 0
    assert done.stderr.splitlines() == [f"updraft-sim: no connection to the broker at 127.0.0.1 port {port}: is it there? "
                                        "(--mqtt) Trying on."]


def test_two_descriptors_a_device_suffice(tmp_path):
    """libmosquitto takes three for itself: 5,000 devices would not fit in a usual limit of 20,000."""
    make_image("esp8266", tmp_path / "firmware/door/2.0.0.bin")
    with Server(tmp_path) as server, Broker(tmp_path) as broker:
        flags = {"types": "door", "devices": 100, "until": "confirmed=100", **FAST}
        limit = lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (240, 240))
        with Sim(tmp_path, server, broker, preexec_fn=limit, **flags) as sim:
            sim.ready()
            broker.publish("updraft/door/update", command(server))
            assert sim.finish()["types"]["door"]["failures"] == {}


@pytest.mark.parametrize("program", ["updraft-sim", "updraft-make-image"])
def test_help(program):
    done = subprocess.run([BIN / program, "--help"], capture_output=True, text=True, timeout=PATIENCE_S)
    assert (done.returncode, done.stderr) == (0, "") and program in done.stdout


def test_usage(tmp_path):
    for words, what in {("--drop", "60", "--stall", "50"): "100 %", ("--no-mqtt",): "nothing would happen",
                        ("--poll", "5"): "--server", ("--devices", "x"): "--devices x", ("--bogus",): "--bogus"}.items():
        done = subprocess.run([BIN / "updraft-sim", *words], capture_output=True, text=True, timeout=PATIENCE_S)
        assert done.returncode == 2 and what in done.stderr

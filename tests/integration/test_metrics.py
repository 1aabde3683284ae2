"""/metrics, scraped before and after things that are known to happen: what changed must be exactly that, and in a form
that other programs read (Prometheus' own client library, and promtool where it is installed)."""

import re
import shutil
import subprocess
import time

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.support.admin import Admin
from tests.support.download import LARGE, Download, descriptors, md5
from tests.support.mqtt import Broker, Listener, free_port, wait_connected
from tests.support.updraft import BIN, ESP32, ESP8266, ROOT, Server, check, device_request, make_image, wait_until


class Scrape:
    """scrape["updraft_checks_total", "newer"]: the value of a name and of its one label, "" where it has none."""

    def __init__(self, text):
        families = list(text_string_to_metric_families(text))
        self.families = {family.name: family for family in families}
        assert len(self.families) == len(families), "two metrics have one name"
        self.values = {}
        for family in self.families.values():
            for sample in family.samples:
                key = sample.name, *sample.labels.values()
                assert key not in self.values, f"{key} is there twice"
                self.values[key if len(key) == 2 else (sample.name, "")] = sample.value

    def __getitem__(self, key):
        return self.values[key if isinstance(key, tuple) else (key, "")]


def admin_of(server):
    return Admin(server.folder / "state/admin.sock")


def scrape(server):
    answer = admin_of(server).get("/metrics")
    assert answer.status == 200, repr(answer)
    return Scrape(answer.text)


def changes(before, after, *prefixes):
    """What is another number now, of names that begin so."""
    assert before.values.keys() == after.values.keys(), "a series came or went"
    return {key: after.values[key] - value for key, value in before.values.items()
            if key[0].startswith(prefixes) and after.values[key] != value}


COUNTED = ("updraft_checks_total", "updraft_transfers_total", "updraft_transfer_seconds_count",
           "updraft_image_bytes_total", "updraft_connections_total")


def reasons(**counts):
    return {("updraft_checks_total", word.replace("_", "-")): number for word, number in counts.items()}


@pytest.fixture
def server(tmp_path):
    firmware = tmp_path / "firmware"
    make_image("esp8266", firmware / "truc_0_4_9.ino.d1_mini.bin", size="40K", seed=1)
    make_image("esp8266", firmware / "door/2.0.0.bin", size=LARGE, seed=2)
    make_image("html", firmware / "porch/1.0.0.bin")
    with Server(tmp_path) as running:
        yield running


def image_of(server, name="truc_0_4_9.ino.d1_mini.bin"):
    return (server.repo / name).read_bytes()


# --- the form ---------------------------------------------------------------------------------------------------------

def test_other_programs_read_it(server):
    check(server, "/update/d1_mini", version="0.4.8")
    answer = admin_of(server).get("/metrics")
    assert answer.headers["Content-Type"] == "text/plain; version=0.0.4"
    found = Scrape(answer.text)
    assert len(found.families) > 25
    for family in found.families.values():
        assert family.documentation and family.type in ("counter", "gauge", "histogram"), family
        assert family.samples, f"{family.name} has no value"
    assert found["updraft_build_info", admin_of(server).get("/api/v1/status").json["version"]] == 1
    promtool = shutil.which("promtool")
    if promtool is not None:
        run = subprocess.run([promtool, "check", "metrics"], input=answer.body, capture_output=True)
        assert run.returncode == 0 and not run.stderr, run.stderr.decode()


def test_the_fleet_and_its_store(server):
    """Devices known and seen, a rollout's window and who is in it, and a store that works."""
    before = scrape(server)
    assert (before["updraft_store_failing"], before["updraft_rollout_window"]) == (0, 0)
    check(server, "/update/d1_mini", version="0.4.10")
    after = scrape(server)
    assert (after["updraft_devices"], after["updraft_devices_seen"]) == (1, 1)
    order = {"type": "d1_mini", "in_flight": 7}
    assert admin_of(server).post("/api/v1/rollouts", order).json["window"]["size"] == 7
    after = scrape(server)
    assert (after["updraft_rollout_window"], after["updraft_rollout_in_flight"]) == (7, 0)
    assert after["updraft_rollouts_running"] == 1 and "updraft_store_backlog" in after.families


def test_every_reason_is_there(server):
    """Those that docs/reasons.md explains, from the first scrape on: else a rate misses the first event."""
    words = set(re.findall(r"^\| `([a-z-]+)`", (ROOT / "docs/reasons.md").read_text(), re.M))
    found = scrape(server)
    assert len(words) > 20
    assert {key[1] for key in found.values if key[0] == "updraft_checks_total"} == words


def test_tcp_with_a_token(tmp_path):
    """As a Prometheus elsewhere scrapes, with `authorization: credentials`."""
    with Server(tmp_path, admin_listen="127.0.0.1:0") as server:
        port = next(int(line.rpartition(":")[2]) for line in server.said if line.startswith("listening admin 127."))
        token = admin_of(server).post("/api/v1/tokens", {"name": "prometheus"}).json["token"]
        assert Admin(address=("127.0.0.1", port)).get("/metrics").status == 401
        answer = Admin(address=("127.0.0.1", port), token=token).get("/metrics")
        assert answer.status == 200 and "updraft_build_info" in answer.text
        assert server.ask(device_request("/metrics", {})).startswith(b"HTTP/1.1 404"), "devices have no business there"


# --- devices ----------------------------------------------------------------------------------------------------------

CHECKS = [
    # address, headers, changes to them, reason
    ("/update/d1_mini", ESP8266, dict(version="0.4.10"), "device-newer"),
    ("/update/d1_mini", ESP8266, dict(version="0.4.9"), "up-to-date"),
    ("/update/d1_mini", ESP8266, dict(md5="of the image"), "same-digest"),
    ("/update/d1_mini", ESP8266, dict(version="0.4.8", free=1000), "does-not-fit"),
    ("/update/d1_mini", ESP8266, dict(version="0.4.8", flash=65536), "wrong-flash"),
    ("/update/d1_mini", ESP32, dict(version="0.4.8"), "wrong-chip"),
    ("/update/d1_mini", ESP8266, dict(mode="spiffs"), "no-image"),
    ("/update/d1_mini", ESP8266, dict(mac=None), "missing-header"),
    ("/update/d1_mini", ESP8266, dict(mac="5C:CF"), "bad-header"),
    ("/update/d1_mini", {"User-Agent": "curl/7.88.1"}, {}, "not-an-updater"),
    ("/update/d1_mny", ESP8266, {}, "unknown-type"),
    ("/update", ESP8266, {}, "unassigned"),
    ("/update/porch", ESP8266, {}, "rejected"),
    ("/firmware/nope.bin", ESP8266, {}, "unknown-file"),
]


@pytest.mark.parametrize("address, headers, said, reason", CHECKS, ids=[row[3] for row in CHECKS])
def test_a_check_is_counted_by_its_reason(server, address, headers, said, reason):
    """Once, under the word that the device was told, and nothing else is."""
    if said.get("md5"):
        said = dict(md5=md5(image_of(server)))
    before = scrape(server)
    for _ in range(2):
        assert check(server, address, headers, **said).reason == reason
    counted = {("updraft_checks_total", reason): 2, ("updraft_connections_total", ""): 2}
    assert changes(before, scrape(server), *COUNTED) == counted


def sent(server, number):
    return wait_until(lambda: server.log().count("event=update_sent") == number, f"{number} whole transfers")


def test_whole_transfers(server):
    size = len(image_of(server))
    before = scrape(server)
    for i in range(3):
        reply = check(server, "/update/d1_mini", version="0.4.8", mac=f"5C:CF:7F:00:00:0{i}")
        assert reply.reason == "newer" and len(reply.body) == size
    sent(server, 3)
    after = scrape(server)
    assert changes(before, after, *COUNTED) == {
        **reasons(newer=3), ("updraft_transfers_total", "whole"): 3, ("updraft_transfer_seconds_count", ""): 3,
        ("updraft_image_bytes_total", ""): 3 * size, ("updraft_connections_total", ""): 3}
    buckets = [after[key] - before[key] for key in after.values if key[0] == "updraft_transfer_seconds_bucket"]
    assert buckets == sorted(buckets) and buckets[-1] == 3
    assert 0 <= after["updraft_transfer_seconds_sum"] < 30
    assert after["updraft_devices"] == 3


def test_a_cut_transfer(server):
    """Only the bytes that the device acknowledged count, and no duration does."""
    before = scrape(server)
    download = Download(server, "/update/door").started()
    wait_until(lambda: scrape(server)["updraft_transfers_in_flight"] == 1, "the transfer to be seen")
    during = scrape(server)
    assert during["updraft_connections_open"] == 1
    assert during["updraft_image_memory_bytes"] >= len(image_of(server, "door/2.0.0.bin"))
    download.reset()
    server.wait_log("event=update_cut")
    after = scrape(server)
    changed = changes(before, after, *COUNTED)
    got = changed.pop(("updraft_image_bytes_total", ""))
    assert changed == {**reasons(newer=1), ("updraft_transfers_total", "cut"): 1, ("updraft_connections_total", ""): 1}
    assert got == int(re.search(r"event=update_cut .* bytes=(\d+)", server.log())[1])
    assert 1024 <= got < len(image_of(server, "door/2.0.0.bin"))
    wait_until(lambda: scrape(server)["updraft_connections_open"] == 0, "the connection to be gone")
    assert scrape(server)["updraft_transfers_in_flight"] == 0


def test_an_image_that_cannot_be_loaded(tmp_path):
    """The device is told `not-yet`: counted once, under that word, and as a transfer that never began."""
    for i, of_type in enumerate(("door", "gate")):
        make_image("littlefs", tmp_path / f"firmware/{of_type}/1.fs.bin", size="20M", seed=i)
    asked = {"mode": "spiffs", "version": "0.5", "flash": 32 << 20}
    with Server(tmp_path, image_memory="32M") as server:
        download = Download(server, "/update/door", **asked).started()
        before = scrape(server)
        assert check(server, "/update/gate", mac="5C:CF:7F:00:00:01", **asked).reason == "not-yet"
        changed = changes(before, scrape(server), "updraft_checks_total", "updraft_transfers_total")
        download.reset()
    assert changed == {**reasons(not_yet=1), ("updraft_transfers_total", "not-loaded"): 1}


# --- the repository ---------------------------------------------------------------------------------------------------

def test_the_repository(server, tmp_path):
    before = scrape(server)
    assert (before["updraft_images"], before["updraft_types"], before["updraft_images_rejected"]) == (2, 3, 1)
    make_image("esp8266", server.repo / "gate/1.0.0.bin", seed=3)
    server.wait_log("event=image_added file=gate/1.0.0.bin")
    after = scrape(server)
    assert (after["updraft_images"], after["updraft_types"], after["updraft_images_rejected"]) == (3, 4, 1)
    assert after["updraft_scans_total"] > before["updraft_scans_total"] >= 1


# --- the operator -----------------------------------------------------------------------------------------------------

def test_admin_requests_by_class(server):
    """A scrape counts itself when it has been answered, so the first of two is in the second."""
    admin = admin_of(server)
    before = scrape(server)
    for address in ("/api/v1/status", "/api/v1/nope", "/api/v1/rollouts/0", "/api/v1/firmware?x=1"):
        admin.get(address)
    admin.ask("PUT", "/api/v1/status")
    name = "updraft_admin_requests_total"
    assert changes(before, scrape(server), name) == {(name, "2xx"): 1 + 1, (name, "4xx"): 4}


def test_an_upload_is_counted_once(server, tmp_path):
    """Its answer comes later than its head, and later than its body."""
    image = make_image("esp8266", tmp_path / "new.bin", seed=7)
    before = scrape(server)
    assert admin_of(server).post("/api/v1/firmware?type=d1_mini&version=0.5.0", image).status == 201
    assert admin_of(server).post("/api/v1/firmware?type=d1_mini&version=0.5.0", image).status == 409
    assert admin_of(server).post("/api/v1/firmware?type=d1_mini&version=0.6.0", b"<html>").status == 422
    name = "updraft_admin_requests_total"
    assert changes(before, scrape(server), name) == {(name, "2xx"): 1 + 1, (name, "4xx"): 2}


# --- the broker -------------------------------------------------------------------------------------------------------

def test_no_broker_is_none(server):
    found = scrape(server)
    assert found["updraft_mqtt_connected"] == found["updraft_mqtt_commands_waiting"] == 0
    assert found["updraft_mqtt_connects_total"] == 0


def test_commands(tmp_path):
    make_image("esp8266", tmp_path / "firmware/d1_mini/1.0.0.bin", seed=1)
    with Broker(tmp_path / "broker") as broker, Server(tmp_path, mqtt=broker.url) as server:
        admin = admin_of(server)
        wait_connected(admin)
        before = scrape(server)
        assert (before["updraft_mqtt_connected"], before["updraft_mqtt_connects_total"]) == (1, 1)
        macs = [f"5ccf7f00000{i}" for i in range(4)]
        rollout = admin.post("/api/v1/rollouts", {"type": "d1_mini", "to": macs}).json
        address = f"/api/v1/rollouts/{rollout['id']}"
        wait_until(lambda: admin.get(address).json["commands"]["acknowledged"] == 4, "four acknowledged commands")
        after = scrape(server)
        assert changes(before, after, "updraft_mqtt_commands_total", "updraft_mqtt_command_seconds_count") == {
            ("updraft_mqtt_commands_total", "acknowledged"): 4, ("updraft_mqtt_command_seconds_count", ""): 4}
        assert (after["updraft_mqtt_commands_waiting"], after["updraft_mqtt_messages_in_flight"]) == (0, 0)
        assert after["updraft_mqtt_left_behind"] == 0
        assert after["updraft_rollouts_running"] == 1


def test_commands_that_wait(tmp_path):
    """The broker is away: they wait, a newer one on the same topic replaces the older, and their time runs out."""
    make_image("esp8266", tmp_path / "firmware/d1_mini/1.0.0.bin", seed=1)
    make_image("esp8266", tmp_path / "firmware/gate/1.0.0.bin", seed=2)
    with Server(tmp_path, mqtt=f"mqtt://127.0.0.1:{free_port()}") as server:
        admin = admin_of(server)
        before = scrape(server)
        for of_type, timeout_s in (("d1_mini", 300), ("d1_mini", 300), ("gate", 1)):
            assert admin.post("/api/v1/rollouts", {"type": of_type, "timeout_s": timeout_s}).status == 202
        wait_until(lambda: scrape(server)["updraft_mqtt_commands_waiting"] == 1, "one to be left")
        after = scrape(server)
        changed = changes(before, after, "updraft_mqtt_commands_total")
        assert sum(changed.values()) == 2 and ("updraft_mqtt_commands_total", "acknowledged") not in changed
        assert (after["updraft_mqtt_connected"], after["updraft_mqtt_connects_total"]) == (0, 0)
        assert after["updraft_rollouts_running"] == 1


def test_the_link_breaks(tmp_path):
    with Broker(tmp_path / "broker") as broker, Server(tmp_path, mqtt=broker.url) as server:
        wait_connected(admin_of(server))
        broker.kill()
        wait_until(lambda: scrape(server)["updraft_mqtt_connected"] == 0, "the loss to be noticed")
        broker.start()
        wait_until(lambda: scrape(server)["updraft_mqtt_connected"] == 1, "the broker is connected again")
        assert scrape(server)["updraft_mqtt_connects_total"] == 2


REPORTS = [
    ("updraft/d1_mini/5ccf7fb1e042/status", b'{"state":"downloading"}', "ok"),
    ("updraft/d1_mini/5ccf7fb1e042/online", b"1", "ok"),
    ("updraft/d1_mini/5ccf7fb1e042/status", b"{", "not-json"),
    ("updraft/d1_mini/5ccf7fb1e042/status", b'{"state":"dancing"}', "bad-field"),
    ("updraft/d1_mini/5ccf7fb1e042/status", b"[[[[[[[[]]]]]]]]", "too-deep"),
    ("updraft/d1_mini/5ccf7fb1e042/status", b'{"state":"running","error":"' + b"x" * 1024 + b'"}', "too-long"),
    ("updraft/d1_mini/nobody/status", b'{"state":"running"}', "bad-name"),
]


def test_what_devices_say(tmp_path):
    with Broker(tmp_path / "broker") as broker, Server(tmp_path, mqtt=broker.url) as server:
        wait_connected(admin_of(server))
        with Listener(broker, "unused") as device:
            for topic, payload, result in REPORTS:
                before = scrape(server)
                device.publish(topic, payload)
                name = "updraft_mqtt_reports_total"
                wait_until(lambda: changes(before, scrape(server), name), f"{payload[:40]} to be counted")
                time.sleep(0.05)
                assert changes(before, scrape(server), name) == {(name, result): 1}
        before = scrape(server)
        with Listener(broker, "unused") as device:
            device.publish("updraft/d1_mini/5ccf7fb1e042/status", b"x" * 5000)
            wait_until(lambda: changes(before, scrape(server), "updraft_mqtt_dropped_total"), "the long one to be dropped")
        assert changes(before, scrape(server), "updraft_mqtt_dropped_total") == {("updraft_mqtt_dropped_total", ""): 1}


# --- the process ------------------------------------------------------------------------------------------------------

def test_the_process(server):
    found = scrape(server)
    is_sanitized = any(word in (BIN / "updraftd").read_bytes() for word in (b"__asan_", b"__tsan_"))
    assert 1 << 20 < found["process_resident_memory_bytes"] < (1 << 40 if is_sanitized else 64 << 20)
    assert abs(time.time() - found["process_start_time_seconds"]) < 120
    with server.connect() as one, server.connect() as another:
        for connection in (one, another):
            connection.sendall(device_request("/healthz", {}, http="1.1"))
            assert connection.recv(4096)
        assert scrape(server)["updraft_connections_open"] == 2
        wait_until(lambda: scrape(server)["process_open_fds"] == len(descriptors(server)) + 1,
                   "as many descriptors as the system counts, and the scrape's own")


def test_the_loop_s_share(server):
    """Idle it is near nothing; under load it is not."""
    wait_until(lambda: scrape(server)["updraft_loop_busy_ratio"] < 0.3, "an idle loop")
    end = time.monotonic() + 60
    highest = 0
    while highest < 0.02 and time.monotonic() < end:
        with server.connect() as connection:
            for _ in range(50):
                connection.sendall(device_request("/healthz", {}, http="1.1") * 50)
                connection.recv(1 << 20)
        highest = max(highest, scrape(server)["updraft_loop_busy_ratio"])
    assert 0.02 <= highest <= 1

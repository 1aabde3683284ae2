"""Strangers at the devices' door: who is turned away, how much of it one address has, and what the log makes of it."""

import errno
import hashlib
import re
import signal
import socket
import time

import pytest

from tests.support.admin import Admin
from tests.support.download import LARGE, Download, resident_kib
from tests.support.mqtt import Broker, Listener, wait_connected
from tests.support.preload import order, preloaded
from tests.support.updraft import (ESP8266, PATIENCE_S, Reply, Server, check, device_request, make_image, read_to_end,
                                   wait_until)

HEALTHZ = device_request("/healthz", {}, http="1.1")


@pytest.fixture
def image(tmp_path):
    return make_image("esp8266", tmp_path / "firmware/door/2.0.0.bin", seed=1)


def admin_of(server):
    return Admin(server.folder / "state/admin.sock")


def knock(server, source="127.0.0.1", data=b""):
    connection = socket.create_connection(("127.0.0.1", server.port), PATIENCE_S, source_address=(source, 0))
    connection.sendall(data)
    return connection


def asks(server, source="127.0.0.1"):
    """Let in, answered, and kept."""
    connection = knock(server, source, HEALTHZ)
    assert Reply(connection.recv(4096)).status == 200
    return connection


def is_closed(connection):
    try:
        return connection.recv(4096) == b""
    except ConnectionResetError:
        return True


def refused_for(server, why):
    text = admin_of(server).get("/metrics").text
    return int(re.search(rf'^updraft_connections_refused_total\{{why="{why}"\}} (\d+)$', text, re.M)[1])


# --- one address ------------------------------------------------------------------------------------------------------

def test_one_address_has_its_share(tmp_path, image):
    """Beyond it who asks nothing makes room; who was let in stays; others are served as ever; it is said once."""
    flags = {"peer_connections": 4, "head_timeout": "10m", "idle_timeout": "10m"}
    with Server(tmp_path, **flags) as server:
        partial = [knock(server, data=b"GET /update/door HTTP/1.0\r\nUser-") for _ in range(4)]
        time.sleep(0.2)  # who has just come has a moment to ask
        kept = [asks(server) for _ in range(4)]
        assert all(is_closed(connection) for connection in partial)
        assert refused_for(server, "made-room") == 4
        for _ in range(5):
            assert is_closed(knock(server, data=HEALTHZ))
        assert refused_for(server, "peer-full") == 5
        other = asks(server, "127.0.0.2")
        for connection in kept:
            connection.sendall(HEALTHZ)
            assert Reply(connection.recv(4096)).status == 200
        kept.pop().close()
        wait_until(lambda: not is_closed(knock(server, data=HEALTHZ)), "the place of the one that left")
        server.wait_log("event=connection_refused .*remedy=.*--peer-connections")
        assert server.log().count("event=connection_refused") == 1, "a line for each"
        for connection in [*kept, other]:
            connection.close()


def test_a_trusted_proxy_brings_as_many_as_it_likes(tmp_path, image):
    with Server(tmp_path, peer_connections=2, trusted_proxy="127.0.0.1", idle_timeout="10m") as server:
        kept = [asks(server) for _ in range(10)]
        others = [asks(server, "127.0.0.3") for _ in range(2)]
        assert is_closed(knock(server, "127.0.0.3", HEALTHZ))
        for connection in [*kept, *others]:
            connection.close()


def test_a_site_behind_one_address(tmp_path, image):
    """Five hundred devices come at once after a command, through one NAT: the default has room for them."""
    with Server(tmp_path) as server:
        crowd = [knock(server) for _ in range(500)]
        for i, connection in enumerate(crowd):
            mac = f"5C:CF:7F:00:{i >> 8:02X}:{i & 255:02X}"
            connection.sendall(device_request("/update/door", ESP8266, mac=mac))
        assert all(Reply(read_to_end(connection)).body == image for connection in crowd)
        assert refused_for(server, "peer-full") == refused_for(server, "made-room") == 0


def test_one_address_does_not_fill_a_small_door(tmp_path, image):
    """Downloads that creep never leave. A quarter is for others, however large the share of an address."""
    make_image("esp8266", tmp_path / "firmware/gate/2.0.0.bin", size=LARGE, seed=2)
    with Server(tmp_path, connections_max=20) as server:
        creeping = [Download(server, "/update/gate", mac=f"5C:CF:7F:00:00:{i:02X}").started() for i in range(15)]
        assert is_closed(knock(server, data=HEALTHZ))
        assert refused_for(server, "peer-full") == 1
        others = [asks(server, "127.0.0.2") for _ in range(5)]
        for connection in [*others, *(download.socket for download in creeping)]:
            connection.close()


def test_silent_connections_make_room_at_a_full_door(tmp_path, image):
    """From many addresses, each within its share: the door is full, and whoever asks is served all the same."""
    with Server(tmp_path, connections_max=20, head_timeout="10m") as server:
        crowd = [knock(server, f"127.0.1.{i}", b"GET") for i in range(1, 21)]
        wait_until(lambda: "updraft_connections_open 20\n" in admin_of(server).get("/metrics").text, "a full door")
        time.sleep(0.2)
        assert check(server, "/update/door").status == 200
        assert refused_for(server, "made-room") >= 1
        for connection in crowd:
            connection.close()


def test_connections_at_rest_make_room_at_a_full_door(tmp_path, image):
    """Each has asked once and rests, as a flood may for ever; who is at work on one stays. Also where one address may
    have them all."""
    large = make_image("esp8266", tmp_path / "firmware/gate/2.0.0.bin", size=LARGE, seed=2)
    flags = {"connections_max": 20, "peer_connections": 0, "head_timeout": "10m", "idle_timeout": "10m"}
    with Server(tmp_path, **flags) as server:
        crowd = [asks(server, f"127.0.1.{i}") for i in range(1, 20)]
        busy = Download(server, "/update/gate").started()
        begun = time.monotonic()
        assert check(server, "/update/door").status == 200
        assert time.monotonic() - begun < PATIENCE_S / 2
        assert refused_for(server, "made-room") >= 1
        assert busy.finish().body == large
        for connection in crowd:
            connection.close()


# --- lists, read again ------------------------------------------------------------------------------------------------

def test_lists_follow_a_reload(tmp_path, image):
    config = tmp_path / "u.ini"
    config.write_text("block-network = 127.0.0.0/8\n")
    with Server(tmp_path, config=config) as server:
        assert check(server, "/update/door").reason == "blocked"
        config.write_text("block-mac = 5c:cf:7f\nunknown-devices = refuse\n")
        server.process.send_signal(1)
        server.wait_log("event=reloaded")
        assert check(server, "/update/door").reason == "blocked"
        assert check(server, "/update/door", mac="24:0A:C4:00:00:01").reason == "unknown-device"
        config.write_text("")
        server.process.send_signal(1)
        wait_until(lambda: server.log().count("event=reloaded") == 2, "the second reload")
        assert check(server, "/update/door").status == 200


def test_rollouts_and_explain_know_the_lists(tmp_path, image):
    with Server(tmp_path, block_mac="5c:cf:7f") as server:
        admin = admin_of(server)
        plan = admin.post("/api/v1/rollouts", {"type": "door", "to": ["5CCF7F000001", "240AC4000001"], "plan": True})
        skipped = plan.json["plan"]["selected"]["skipped"]
        assert [(one["reason"], one["first"]) for one in skipped] == [("blocked", ["5ccf7f000001"])], plan.text
        assert admin.get("/api/v1/rollouts").json["total"] == 0
        explained = admin.get("/api/v1/explain?mac=5CCF7F000001&type=door").json
        assert (explained["reason"], explained["status"], explained["detail"]) == ("blocked", 403, "block-mac")
        assert explained["next"][-1] == "block-mac of the configuration keeps it out: change that line, and send SIGHUP"


def test_who_is_refused_is_not_remembered(tmp_path, image):
    with Server(tmp_path, unknown_devices="refuse", log_level="info") as server:
        for i in range(200):
            assert check(server, "/update/door", mac=f"5C:CF:7F:00:01:{i:02X}").reason == "unknown-device"
        assert "updraft_devices 0\n" in admin_of(server).get("/metrics").text


# --- the log ----------------------------------------------------------------------------------------------------------

def ask_all(server, requests, count):
    with server.connect() as connection:
        connection.sendall(requests)
        connection.shutdown(socket.SHUT_WR)
        assert read_to_end(connection).count(b"HTTP/1.1 ") == count


def ask_often(server, request, times):
    """On kept connections, a hundred at once."""
    for _ in range(times // 100):
        ask_all(server, 100 * request, 100)


def test_a_device_that_asks_a_thousand_times_a_minute(tmp_path, image):
    """It is answered from its record, and named once."""
    with Server(tmp_path, log_level="info") as server:
        request = device_request("/update/door", {**ESP8266, "Connection": "keep-alive"}, http="1.1",
                                 version="2.0.0", md5=None)
        ask_often(server, request, 1000)
        server.wait_log("level=warn event=device_busy device=5ccf7fb1e042 type=door asks=120 within=1m .*remedy=")
        ask_often(server, request, 1000)
        assert server.log().count("event=device_busy") == 1
        assert "event=check" not in server.log()


def test_strangers_do_not_fill_the_log(tmp_path, image):
    """One that is refused again and again, and many under new names: each is counted, few are said."""
    with Server(tmp_path, log_level="info") as server:
        ask_often(server, device_request("/update/none", {**ESP8266, "Connection": "keep-alive"}, http="1.1"), 1000)
        wait_until(lambda: server.log().count("event=check reason=unknown-type") >= 10, "the lines that are said")
        assert server.log().count("event=check reason=unknown-type") == 10
        for i in range(10):
            request = b"".join(device_request("/update/none", {**ESP8266, "Connection": "keep-alive"}, http="1.1",
                                              mac=f"5C:CF:7F:01:{i:02X}:{n:02X}") for n in range(100))
            ask_all(server, request, 100)
        wait_until(lambda: server.log().count("event=check") == 600, "those that are said")
        assert 'updraft_checks_total{reason="unknown-type"} 2000\n' in admin_of(server).get("/metrics").text
        assert check(server, "/update/door").status == 200
        server.wait_log("event=update_sent")


# --- floods that keep the rules of HTTP -------------------------------------------------------------------------------

def test_pipelined_flood_that_reads_nothing(tmp_path, image):
    """Requests without end, and nobody reads the answers: the server stops reading, holds little, and serves others."""
    with Server(tmp_path, transfer_timeout="3s", env={"ASAN_OPTIONS": "quarantine_size_mb=1"}) as server:
        before = resident_kib(server)
        crowd = [server.connect() for _ in range(8)]
        sent = [0] * len(crowd)
        for connection in crowd:
            connection.setblocking(False)
        end = time.monotonic() + 2
        while time.monotonic() < end:
            for i, connection in enumerate(crowd):
                try:
                    sent[i] += connection.send(500 * HEALTHZ)
                except (BlockingIOError, ConnectionResetError, BrokenPipeError):
                    pass
            assert check(server, "/healthz", {}).status == 200
        assert resident_kib(server) - before < 32 << 10
        assert "updraft_connections_open 8\n" in admin_of(server).get("/metrics").text, "more was taken than has room"
        for connection in crowd:  # whoever reads nothing is cut in the end
            connection.settimeout(PATIENCE_S)
        wait_until(lambda: "updraft_connections_open 0\n" in admin_of(server).get("/metrics").text, "all to be cut")
        for connection in crowd:
            connection.close()


def test_pipelined_flood_that_reads_everything(tmp_path, image):
    """Tens of thousands of requests lie there when a device comes: it is answered between them, not behind them."""
    crowd_size, each = 60, 600
    request = device_request("/update/door", {"User-Agent": "a"}, http="1.1")
    with Server(tmp_path, log_level="warn") as server:
        crowd = [asks(server) for _ in range(crowd_size)]
        server.process.send_signal(signal.SIGSTOP)
        for connection in crowd:
            connection.sendall(each * request)
        device = server.connect()
        device.sendall(device_request("/update/door", ESP8266))
        begun = time.monotonic()
        server.process.send_signal(signal.SIGCONT)
        assert Reply(read_to_end(device)).body == image
        waited = time.monotonic() - begun
        for connection in crowd:
            answers = b""
            while answers.count(b"HTTP/1.1 403") < each:
                piece = connection.recv(1 << 20)
                assert piece, "not all are answered"
                answers += piece
            connection.close()
        whole = time.monotonic() - begun
        assert waited < whole / 3, f"the device waited for {waited:.2f} s of {whole:.2f} s"


# --- the machine ------------------------------------------------------------------------------------------------------

def test_repository_on_a_disk_that_answers_eio(tmp_path, image):
    """What is in memory is served; what is not is "not now"; a new file is named as unreadable; and all of it mends by
    itself."""
    fault = tmp_path / "state/fault"  # where a confined server may look
    env = preloaded("fault_disk", FAULT_READS=fault)
    with Server(tmp_path, rescan_interval="1s", image_idle="10m", log_level="info", env=env) as server:
        assert check(server, "/update/door").body == image
        other = make_image("esp8266", tmp_path / "firmware/lamp/1.0.0.bin", seed=2)
        server.wait_log("event=image_added file=lamp/1.0.0.bin")
        order(fault, errno.EIO)
        assert check(server, "/update/door", mac="5C:CF:7F:00:00:02").body == image
        reply = check(server, "/update/lamp", version="0.1.0")
        assert (reply.status, reply.reason) == (304, "not-yet")
        again = device_request("/update/lamp", {**ESP8266, "Connection": "keep-alive"}, http="1.1", version="0.1.0")
        ask_often(server, again, 200)
        wait_until(lambda: server.log().count("reason=not-yet") > 50, "the lines that are said")
        assert server.log().count("reason=not-yet") <= 60, "a line for each"
        make_image("esp8266", tmp_path / "firmware/gate/1.0.0.bin", seed=3)
        server.wait_log("event=(image_rejected|repository_unreadable|file_unreadable).*(gate/1.0.0.bin|nput/output)")
        assert check(server, "/update/gate").status == 404
        fault.unlink()
        assert check(server, "/update/lamp", version="0.1.0").body == other
        wait_until(lambda: check(server, "/update/gate", version="0.1.0").status == 200, "the new file to be read after all")


YEAR_S = 31557600


@pytest.mark.parametrize("jumps", [[20 * YEAR_S, -30 * YEAR_S], [-55 * YEAR_S, 60 * YEAR_S]], ids=["ahead", "back"])
def test_the_calendar_jumps(tmp_path, image, jumps):
    """A small computer wakes up in 1970, and is told the time a minute later; or somebody mistypes a year. Devices are
    served, deadlines hold, a rollout goes on, new files are found, and what was written is read again."""
    clock = tmp_path / "state/clock"  # where a confined server may look
    env = preloaded("turn_clock", TURN_CLOCK=clock)
    flags = {"env": env, "idle_timeout": "1s", "head_timeout": "1s"}
    runs = hashlib.md5(image).hexdigest()
    macs = [f"5C:CF:7F:00:02:{i:02X}" for i in range(9)]
    with Server(tmp_path, **flags) as server:
        admin = admin_of(server)
        order_ = {"type": "door", "to": [mac.replace(":", "") for mac in macs], "in_flight": 1}
        rollout = admin.post("/api/v1/rollouts", order_).json["id"]
        for i, offset in enumerate([0, *jumps]):
            order(clock, offset)
            reply = check(server, "/update/door", mac=macs[i], version="1.0.0")
            assert (reply.status, reply.reason) == (200, "published"), offset
            reply = check(server, "/update/door", mac=macs[i], version="2.0.0", md5=runs)
            assert (reply.status, reply.reason) == (304, "same-digest"), offset
            with server.connect() as idle:
                idle.sendall(HEALTHZ)
                begun = time.monotonic()
                read_to_end(idle)
                assert 0.5 < time.monotonic() - begun < 20, offset
            make_image("esp8266", tmp_path / f"firmware/lamp/{i + 1}.0.0.bin", seed=i + 10)
            year = time.gmtime(time.time() + offset).tm_year
            server.wait_log(f"time={year}-.* event=image_added file=lamp/{i + 1}.0.0.bin")
            counts = admin.get(f"/api/v1/rollouts/{rollout}").json
            assert counts["devices"]["confirmed"] == i + 1, counts
            assert admin.get(f"/api/v1/devices/{macs[i].replace(':', '')}").status == 200
    for offset in (0, *jumps):  # and a start at any time
        order(clock, offset)
        with Server(tmp_path, **flags) as server:
            assert admin_of(server).get(f"/api/v1/rollouts/{rollout}").json["devices"]["confirmed"] == 3
            assert check(server, "/update/door", mac=macs[0], version="2.0.0", md5=runs).status == 304


# --- the broker -------------------------------------------------------------------------------------------------------

def test_a_broker_that_floods(tmp_path, image):
    """Messages without end, of strangers and of devices' names, long ones among them: devices are served meanwhile, and
    each message is counted, as read or as dropped."""
    def heard(admin):
        text = admin.get("/metrics").text
        return int(re.search(r'^updraft_mqtt_reports_total\{result="ok"\} (\d+)$', text, re.M)[1])

    def events(admin):
        found = admin.get("/api/v1/devices/5ccf7f000000")
        return [event["word"] for event in found.json["events"]] if found.status == 200 else []

    words = (b"x" * 100, b'{"state":' * 300, b"\xff" * 8000, b'{"state":"failed","error":"\\u0000"}', b"1",
             b'{"state":"failed","error":"it says so"}')
    with Broker(tmp_path / "broker") as broker, Server(tmp_path, mqtt=broker.url, log_level="info") as server, \
            Listener(broker, "none", client_id="flood") as client:
        admin = admin_of(server)
        wait_connected(admin)
        before, begun, slowest = resident_kib(server), time.monotonic(), 0
        for i in range(20000):
            topic = f"updraft/door/5ccf7f{i // 12 % 500:06x}/{('online', 'status')[i // 6 % 2]}"
            client.client.publish(topic, words[i % 6], 0)
            if i % 500 == 0:
                asked = time.monotonic()
                assert check(server, "/update/door", mac=f"5C:CF:7F:01:00:{i // 500:02X}").status == 200
                slowest = max(slowest, time.monotonic() - asked)
        wait_until(lambda: heard(admin) > 500, "the messages to be counted")
        wait_until(lambda: "reported" in events(admin), "what they say of a device")
        assert check(server, "/update/door").status == 200
        assert slowest < 5 + (time.monotonic() - begun) / 10, "devices wait for the flood"
        assert resident_kib(server) - before < 200 << 10
        assert len(server.log()) < 64 << 10, "a line for each"

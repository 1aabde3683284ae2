"""Ending and reloading while devices are at it: a restart of the server must cost no device its download, and a slow
device must not keep the server from ending."""

import signal
import socket
import time

import pytest

from tests.support.admin import Admin
from tests.support.download import LARGE, Download, assert_whole, md5
from tests.support.updraft import (ESP8266, PATIENCE_S, Reply, Server, check, device_request, make_image, read_to_end,
                                   wait_until)

KEEP_ALIVE = {**ESP8266, "Connection": "keep-alive"}


@pytest.fixture
def image(tmp_path):
    return make_image("esp8266", tmp_path / "firmware/door/2.0.0.bin", size=LARGE, seed=1)


def exit_code(server):
    return server.process.wait(PATIENCE_S)


def refuses(server):
    try:
        server.connect().close()
        return False
    except ConnectionRefusedError:
        return True
    except ConnectionResetError:
        return False  # met the very moment of the closing


def send(server, number):
    server.process.send_signal(number)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_transfer_in_flight_ends_whole(tmp_path, image, number):
    with Server(tmp_path, drain_timeout="5m") as server:
        download = Download(server, "/update/door").started()
        send(server, number)
        wait_until(lambda: refuses(server), "new connections to be refused")
        assert server.process.poll() is None
        assert_whole(download.finish(), image)
        assert exit_code(server) == 0
        assert "event=update_sent" in server.log()


def test_kept_connection_ends_with_its_transfer(tmp_path, image):
    """A kept connection has no next request to wait for: waiting out its idle time would delay the end."""
    with Server(tmp_path, drain_timeout="10m", idle_timeout="10m") as server:
        download = Download(server, "/update/door", KEEP_ALIVE, http="1.1").started()
        send(server, signal.SIGTERM)
        server.wait_log("event=stopping")
        assert_whole(download.finish(), image)
        assert exit_code(server) == 0


def test_drain_timeout_cuts(tmp_path, image):
    with Server(tmp_path, drain_timeout="300ms") as server:
        download = Download(server, "/update/door").started()
        send(server, signal.SIGTERM)
        assert exit_code(server) == 0
        assert "event=drain_ended" in server.log()
        server.wait_log(r'event=update_cut .*why="shutting down"')
        download.socket.close()


def test_second_sigterm_ends_at_once(tmp_path, image):
    with Server(tmp_path, drain_timeout="10m") as server:
        download = Download(server, "/update/door").started()
        send(server, signal.SIGTERM)
        server.wait_log("event=stopping .*transfers=1")
        send(server, signal.SIGTERM)
        assert exit_code(server) == 0
        download.socket.close()


def test_idle_connections_do_not_delay_the_end(tmp_path, image):
    """Neither one that rests between requests, nor one that never asked."""
    with Server(tmp_path, drain_timeout="10m", idle_timeout="10m", head_timeout="10m") as server:
        silent = server.connect()
        rested = server.connect()
        rested.sendall(device_request("/healthz", {}, http="1.1"))
        assert Reply(rested.recv(4096)).status == 200
        # Who says nothing is accepted a second later, and has to be for the end to be heard by it.
        wait_until(lambda: Admin(tmp_path / "state/admin.sock").get("/api/v1/status").json["connections"] == 2, "both")
        send(server, signal.SIGTERM)
        assert exit_code(server) == 0
        assert silent.recv(1) == b"" and rested.recv(1) == b""
        silent.close()
        rested.close()


def test_request_begun_before_the_end_is_answered(tmp_path, image):
    """A head that arrives in two segments, the signal in between."""
    request = device_request("/update/door", ESP8266)
    with Server(tmp_path, drain_timeout="10m") as server:
        with server.connect() as connection:
            connection.sendall(request[:40])
            time.sleep(0.2)  # so that the server has it; were it late, the connection would count as silent
            send(server, signal.SIGTERM)
            server.wait_log("event=stopping")
            connection.sendall(request[40:])
            assert_whole(Reply(read_to_end(connection)), image)
        assert exit_code(server) == 0


def test_end_during_the_first_scan(tmp_path):
    """A signal before `ready` must not be lost, nor end in a crash of what is not there yet."""
    for i in range(20):
        make_image("littlefs", tmp_path / f"firmware/t{i}/1.fs.bin", size="1M", seed=i)
    server = Server(tmp_path, wait=False, settle_time="5s")
    time.sleep(0.3)
    send(server, signal.SIGTERM)
    assert exit_code(server) == 0
    server.stop()


# --- SIGHUP -----------------------------------------------------------------------------------------------------------

def test_reload_of_log_level_spares_the_download(tmp_path, image):
    config = tmp_path / "updraft.ini"
    config.write_text("log-level = warn\n")
    with Server(tmp_path, config=config, log_level=None) as server:
        download = Download(server, "/update/door").started()
        assert "event=check" not in server.log()  # told at info
        config.write_text("log-level = info\n")
        send(server, signal.SIGHUP)
        server.wait_log("event=reloaded")
        check(server, "/update/door")
        server.wait_log("event=check reason=newer")
        assert_whole(download.finish(), image)


def test_reload_of_assignments(tmp_path, image):
    """An operator who sends a device back to an older build wants it now, without a restart."""
    old = make_image("esp8266", tmp_path / "firmware/door/1.0.0.bin", seed=2)
    with Server(tmp_path) as server:
        download = Download(server, "/update/door").started()
        assert check(server, "/update").reason == "unassigned"
        assignments = tmp_path / "state/assignments.ini"
        assignments.write_text("[assign]\n5C:CF:7F:B1:E0:42 = door 1.0.0\n")
        send(server, signal.SIGHUP)
        server.wait_log("event=reloaded assignments=1")
        reply = check(server, "/update", version="2.0.0")
        assert reply.reason == "assigned"
        assert_whole(reply, old)
        other = check(server, "/update", version="2.0.0", mac="5C:CF:7F:B1:E0:43")
        assert other.reason == "unassigned"

        assignments.unlink()
        send(server, signal.SIGHUP)
        server.wait_log("event=reloaded assignments=0")
        assert check(server, "/update").reason == "unassigned"
        assert_whole(download.finish(), image)


@pytest.mark.parametrize("text, complaint", [
    ("loop-guard = 2\nidle-timeout = soon\n", r"updraft\.ini.*line 2.*soon"),
    ("loop-guard = 2\n\nno-such-key = 1\n", r"updraft\.ini.*line 3.*no-such-key"),
    ("[assign]\n5C:CF:7F:B1:E0:42 = door 9\nnobody = door 9\n", r"updraft\.ini.*line 3.*nobody"),
])
def test_bad_configuration_keeps_the_old(tmp_path, image, text, complaint):
    """Half a configuration is worse than the old one; a server that ended for a typing error is worst."""
    config = tmp_path / "updraft.ini"
    config.write_text("[assign]\n5C:CF:7F:B1:E0:42 = door 2.0.0\n")
    with Server(tmp_path, config=config) as server:
        download = Download(server, "/update/door").started()
        config.write_text(text)
        send(server, signal.SIGHUP)
        server.wait_log(f"event=reload_failed .*{complaint}")
        assert check(server, "/update").reason == "assigned"
        assert_whole(download.finish(), image)
        assert md5(image) == check(server, "/update").headers["x-MD5"]


def test_reload_of_what_needs_a_start_says_so(tmp_path, image):
    config = tmp_path / "updraft.ini"
    config.write_text("listen = 127.0.0.1:0\n")
    with Server(tmp_path, config=config, listen=None) as server:
        config.write_text("listen = 127.0.0.1:0\nlisten = 127.0.0.1:0\n")
        send(server, signal.SIGHUP)
        server.wait_log("event=reload_partial keys=listen")
        assert check(server, "/healthz").status == 200


def test_reload_of_limits_reaches_open_connections(tmp_path, image):
    """connections-max is raised while somebody waits for room: he must not wait for a connection to leave."""
    config = tmp_path / "updraft.ini"
    config.write_text("connections-max = 1\n")
    with Server(tmp_path, config=config) as server:
        with server.connect() as first, server.connect() as second:
            first.sendall(device_request("/healthz", {}, http="1.1"))
            assert Reply(first.recv(4096)).status == 200
            second.sendall(device_request("/healthz", {}, http="1.1"))
            second.settimeout(0.3)
            with pytest.raises(socket.timeout):
                second.recv(4096)
            config.write_text("connections-max = 2\n")
            send(server, signal.SIGHUP)
            second.settimeout(PATIENCE_S)
            assert Reply(second.recv(4096)).status == 200

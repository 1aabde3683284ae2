"""What the server takes from those who connect, and for how long: a thousand devices with bad links, a scanner and a
forgotten telnet may together not take the place of one device that wants its update."""

import collections
import concurrent.futures
import re
import resource
import select
import socket
import struct
import threading
import time

import pytest

from tests.support.admin import Admin
from tests.support.download import (LARGE, Download, assert_whole, cpu_seconds, descriptors, images_in_memory, md5,
                                    resident_kib)
from tests.support.updraft import (BIN, ESP8266, PATIENCE_S, Reply, Server, check, device_request, make_image,
                                   read_to_end, wait_until)

HEALTHZ = device_request("/healthz", {}, http="1.1")
IS_SANITIZED = any(word in (BIN / "updraftd").read_bytes() for word in (b"__asan_", b"__tsan_"))


@pytest.fixture
def image(tmp_path):
    return make_image("esp8266", tmp_path / "firmware/door/2.0.0.bin", size=LARGE, seed=1)


def healthy(connection):
    """Asks on a kept connection."""
    connection.sendall(HEALTHZ)
    return Reply(connection.recv(4096)).status == 200


def is_waiting(connection, seconds=0.4):
    """Nothing comes: neither an answer nor an end."""
    connection.settimeout(seconds)
    try:
        connection.recv(1)
        return False
    except socket.timeout:
        return True
    finally:
        connection.settimeout(PATIENCE_S)


# --- how many ---------------------------------------------------------------------------------------------------------

def test_connection_limit_makes_wait(tmp_path):
    """Beyond --connections-max one waits for room, without being turned away, and is served as soon as one leaves."""
    with Server(tmp_path, connections_max=4, peer_connections=0) as server:
        held = [server.connect() for _ in range(4)]
        assert all(healthy(connection) for connection in held)
        fifth = server.connect()
        fifth.sendall(HEALTHZ)
        assert is_waiting(fifth)
        assert all(healthy(connection) for connection in held)
        held.pop().close()
        assert Reply(fifth.recv(4096)).status == 200
        for connection in [*held, fifth]:
            connection.close()


def answered(crowd, least):
    """Those to whom something has come, a moment after it has come to so many. Who comes first is the kernel's choice."""
    wait_until(lambda: len(select.select(crowd, [], [], 0)[0]) >= least, f"answers to {least}")
    time.sleep(0.4)
    return select.select(crowd, [], [], 0)[0]


def test_out_of_descriptors(tmp_path, image):
    """A full server goes on for those it has, follows its repository, does not spin, and takes others in again."""
    def few():
        resource.setrlimit(resource.RLIMIT_NOFILE, (96, 96))

    with Server(tmp_path, preexec_fn=few, peer_connections=0, idle_timeout="10m", head_timeout="10m") as server:
        crowd = [server.connect() for _ in range(130)]
        for connection in crowd:
            connection.sendall(HEALTHZ)
        served = answered(crowd, 20)
        assert len(served) < 96 and all(Reply(connection.recv(4096)).status == 200 for connection in served)

        before = cpu_seconds(server)
        for _ in range(4):  # who rests for long makes room
            time.sleep(0.5)
            assert all(healthy(connection) for connection in served)
        assert cpu_seconds(server) - before < 0.5, "spins while it is full"

        first, second = served[:2]
        make_image("esp8266", tmp_path / "firmware/gate/2.0.0.bin", seed=2)
        wait_until(lambda: healthy(first) and healthy(second) and "event=image_added file=gate/2.0.0.bin" in server.log(),
                   "the new image")
        first.sendall(device_request("/update/door", ESP8266, http="1.1"))
        assert_whole(Reply(read_to_end(first)), image)

        for connection in crowd:
            connection.close()
        assert check(server, "/healthz", {}).status == 200
        assert_whole(check(server, "/update/door"), image)


def test_fewer_than_asked_for(tmp_path):
    """Where there are not as many descriptors it is said, once; of those that there are a quarter is for others."""
    def few():
        resource.setrlimit(resource.RLIMIT_NOFILE, (96, 96))

    with Server(tmp_path, preexec_fn=few, connections_max=1000) as server:
        server.wait_log("level=warn event=connections_limited wanted=1000 allowed=48 remedy=.*ulimit")
        server.wait_log("level=info event=peer_connections_limited wanted=2000 allowed=36 remedy=.*ulimit")
        assert server.log().count("connections_limited") == 2


def limit_descriptors(server, soft):
    """The descriptors that the running process may have from now on. Returns the hard limit."""
    hard = resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE)[1]
    resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE, (soft, hard))
    return hard


def is_turned_away(connection):
    """Closed unheard, at once."""
    connection.settimeout(5)
    try:
        connection.sendall(HEALTHZ)
        return connection.recv(4096) == b""
    except (BrokenPipeError, ConnectionResetError):
        return True


def fill(server, held):
    """Takes every descriptor there is, also those that were taken for a moment when the others were counted."""
    away = 0
    while away < 20:
        connection = server.connect()
        if is_turned_away(connection):
            away += 1
            connection.close()
        else:
            away = 0
            held.append(connection)


def refused_for(server, why):
    text = Admin(server.folder / "state/admin.sock").get("/metrics").text
    return int(re.search(rf'^updraft_connections_refused_total\{{why="{why}"\}} (\d+)$', text, re.M)[1])


def test_descriptors_run_out_under_a_running_server(tmp_path, image):
    """Others of the process may take what was kept for connections. Whoever comes then is turned away rather than left
    to wake the loop for ever; those who are there are served; and it is said, once a minute."""
    with Server(tmp_path, idle_timeout="10m") as server:
        held = [server.connect() for _ in range(8)]
        assert all(healthy(connection) for connection in held)
        high = limit_descriptors(server, max(int(number) for number in descriptors(server)) + 1)
        assert high > 100
        before = cpu_seconds(server)
        fill(server, held)
        time.sleep(1)
        assert cpu_seconds(server) - before < 0.5, "spins"
        assert all(healthy(connection) for connection in held)
        assert server.log().count("event=accept_failed") == 1
        server.wait_log('event=accept_failed why="too many open files" .*remedy=".*ulimit -n')

        held.pop().close()
        wait_until(lambda: not is_turned_away(server.connect()), "the place of the one that left")
        limit_descriptors(server, high)
        assert_whole(check(server, "/update/door"), image)
        assert refused_for(server, "no-descriptor") >= 20
        for connection in held:
            connection.close()


def test_not_even_a_spare_descriptor(tmp_path, image):
    """A limit below everything that is open: nobody can even be turned away, so they wait, and nothing spins."""
    with Server(tmp_path, idle_timeout="10m") as server:
        held = [server.connect() for _ in range(2)]
        assert all(healthy(connection) for connection in held)
        high = limit_descriptors(server, 3)
        crowd = [server.connect() for _ in range(5)]
        for connection in crowd:
            connection.sendall(HEALTHZ)
        server.wait_log("event=accept_failed")
        before = cpu_seconds(server)
        assert is_waiting(crowd[-1], 2)
        assert cpu_seconds(server) - before < 0.5, "spins"
        assert all(healthy(connection) for connection in held)
        assert server.log().count("event=accept_failed") == 1
        limit_descriptors(server, high)
        assert all(Reply(connection.recv(4096)).status == 200 for connection in crowd)
        assert_whole(check(server, "/update/door"), image)
        for connection in [*held, *crowd]:
            connection.close()


def test_nothing_is_left_of_connections(tmp_path):
    """Descriptors and memory after many connections of every kind are what they were: this process runs for years."""
    make_image("esp8266", tmp_path / "firmware/door/2.0.0.bin", size="900K", seed=1)

    def crowd(server, rounds):
        for i in range(rounds):
            server.connect().close()
            with server.connect() as partial:
                partial.sendall(b"GET /update/door HTTP/1.0\r\nUser-")
            assert check(server, "/healthz", {}).status == 200
            assert check(server, "/update/none", mac=f"5C:CF:7F:01:00:{i % 256:02X}").status == 404
            Download(server, "/update/door", mac=f"5C:CF:7F:00:00:{i % 256:02X}").started().reset()

    def settled(server):
        wait_until(lambda: images_in_memory(server) == 0, "the image to be let go")
        wait_until(lambda: "socket:" not in str(set(descriptors(server).values()) - sockets), "connections to be gone")

    with Server(tmp_path, image_idle="100ms", log_level="warn", env={"ASAN_OPTIONS": "quarantine_size_mb=1"}) as server:
        sockets = set(descriptors(server).values())
        crowd(server, 100)
        settled(server)
        before = (len(descriptors(server)), resident_kib(server))
        crowd(server, 150)
        settled(server)
        after = (len(descriptors(server)), resident_kib(server))
        assert after[0] == before[0], descriptors(server)
        # 750 connections: 4 MiB would be 5 KiB lost by each. The sanitizer's own books grow.
        assert after[1] - before[1] < (32 << 10 if IS_SANITIZED else 4 << 10)


# --- how long ---------------------------------------------------------------------------------------------------------

def test_head_that_never_ends_is_refused(tmp_path):
    with Server(tmp_path, head_timeout="300ms", idle_timeout="10m") as server:
        reply = Reply(server.ask(b"GET /update/door HTTP/1.0\r\nUser-Agent: ESP82"))
        assert reply.status == 408 and reply.body
        assert reply.headers["Connection"] == "close"


def test_head_that_trickles_is_refused(tmp_path):
    """A byte now and then renews no deadline (slow loris)."""
    with Server(tmp_path, head_timeout="1s", idle_timeout="10m") as server, server.connect() as connection:
        connection.settimeout(0.1)
        answer = b""
        connection.sendall(b"GET /healthz HTTP/1.1\r\nX-Slow: ")
        end = time.monotonic() + PATIENCE_S
        while not answer and time.monotonic() < end:
            connection.sendall(b"a")
            try:
                answer = connection.recv(4096)
            except socket.timeout:
                pass
        assert Reply(answer).status == 408


def test_who_never_asks_is_closed_without_a_word(tmp_path):
    with Server(tmp_path, head_timeout="300ms", idle_timeout="10m") as server:
        assert server.ask(b"") == b""


def test_idle_connection_is_closed_without_a_word(tmp_path):
    """A 408 between requests would be taken for the answer to the next one."""
    with Server(tmp_path, head_timeout="10m", idle_timeout="300ms") as server:
        reply = Reply(server.ask(HEALTHZ))
        assert reply.status == 200 and reply.headers["Connection"] == "keep-alive"
        assert reply.rest == b""


def test_transfer_without_progress_is_cut(tmp_path, image):
    with Server(tmp_path, transfer_timeout="500ms") as server:
        download = Download(server, "/update/door").started()
        server.wait_log(r'event=update_cut .*why="no progress"')
        with pytest.raises(ConnectionResetError):  # the system does not go on offering the rest
            download.finish()
        assert len(download.data) < len(image)


@pytest.mark.parametrize("takes", [True, False])
def test_kept_connection_that_rests_on_its_answer(tmp_path, takes):
    """The system took all of it, the device not yet: that is no rest. Who takes it gets it, who does not is cut."""
    data = make_image("esp8266", tmp_path / "firmware/door/2.0.0.bin", size="400K", seed=1)
    headers = {**ESP8266, "Connection": "keep-alive"}
    with Server(tmp_path, idle_timeout="300ms", transfer_timeout="1s" if not takes else "10m") as server:
        download = Download(server, "/update/door", request=device_request("/update/door", headers, http="1.1")).started()
        server.wait_log("event=update_sent")
        if takes:
            time.sleep(1)
            assert_whole(download.finish(), data)
            return
        wait_until(lambda: "updraft_connections_open 0\n" in Admin(server.folder / "state/admin.sock").get("/metrics").text,
                   "the cut")
        with pytest.raises(ConnectionResetError):
            download.finish()


def test_slow_but_steady_reader_is_not_cut(tmp_path, image):
    """Far slower than --transfer-timeout altogether, but never still that long: a weak link, no dead one."""
    with Server(tmp_path, transfer_timeout="2s") as server:
        download = Download(server, "/update/door").started()
        begun = time.monotonic()
        while "event=update_sent" not in server.log():
            download.read(48 << 10)
            assert "event=update_cut" not in server.log()
            if len(download.data) > len(image):
                break
            time.sleep(0.15)
        assert time.monotonic() - begun > 3, "too fast to prove anything"
        assert_whole(download.finish(), image)


def test_reader_slower_than_the_looks_at_it(tmp_path, image):
    """Bytes move in lumps, with stillness between that is long, yet shorter than the limit."""
    with Server(tmp_path, transfer_timeout="3s") as server:
        download = Download(server, "/update/door").started()
        for _ in range(4):
            time.sleep(1.2)
            download.read(300 << 10)
        assert_whole(download.finish(), image)


# --- half an end ------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("headers", [ESP8266, {**ESP8266, "Connection": "keep-alive"}], ids=["close", "keep-alive"])
def test_peer_that_ends_its_side_gets_its_answer(tmp_path, image, headers):
    """`printf … | nc` and some clients end their side as soon as they have asked."""
    request = device_request("/update/door", headers, http="1.1")
    with Server(tmp_path) as server:
        for _ in range(2):  # the image is read from disk first, then it is in memory
            with server.connect() as connection:
                connection.sendall(request)
                connection.shutdown(socket.SHUT_WR)
                assert_whole(Reply(read_to_end(connection)), image)
        wait_until(lambda: server.log().count("event=update_sent") == 2, "both to be counted as sent")


def test_peer_that_ends_its_side_gets_all_its_answers(tmp_path, image):
    """Requests in one go behind one another, the second short, the first slow."""
    first = device_request("/update/door", {**ESP8266, "Connection": "keep-alive"}, http="1.1")
    with Server(tmp_path) as server, server.connect() as connection:
        connection.sendall(first + HEALTHZ)
        connection.shutdown(socket.SHUT_WR)
        reply = Reply(read_to_end(connection))
        assert md5(reply.body) == md5(image)
        assert Reply(reply.rest).status == 200


def test_herd(tmp_path):
    """A type's whole fleet at once: 60 devices in parallel, each gets all of it."""
    data = make_image("esp8266", tmp_path / "firmware/door/2.0.0.bin", size="300K", seed=1)
    with Server(tmp_path) as server, concurrent.futures.ThreadPoolExecutor(60) as pool:
        replies = pool.map(lambda i: check(server, "/update/door", mac=f"5C:CF:7F:00:00:{i:02X}"), range(60))
        for reply in replies:
            assert_whole(reply, data)
        wait_until(lambda: server.log().count("event=update_sent") == 60, "all to be counted as sent")


def test_peer_that_ends_its_side_while_it_reads(tmp_path, image):
    """It ends after all was handed to the kernel: still not the end of the download, which would be told as cut."""
    with Server(tmp_path) as server:
        download = Download(server, "/update/door").started()
        time.sleep(0.5)
        download.socket.shutdown(socket.SHUT_WR)
        time.sleep(0.5)
        assert_whole(download.finish(), image)
        server.wait_log("event=update_sent .*bytes=" + str(len(image)))
        assert "event=update_cut" not in server.log()


def test_peer_that_ends_its_side_with_three_requests_waiting(tmp_path, image):
    """Each of them was asked before the end, so each is answered."""
    healthz = device_request("/healthz", {}, http="1.1")
    with Server(tmp_path) as server:
        with server.connect() as connection:
            connection.sendall(device_request("/latest/door.bin", {}, http="1.1") + 3 * healthz)
            connection.shutdown(socket.SHUT_WR)
            answers = read_to_end(connection)
        assert answers.count(b"HTTP/1.1 200 OK\r\n") == 4


def test_peer_that_dies_after_it_ended_its_side_frees_its_place(tmp_path, image):
    """After its end the loop hears no reset: the place must not be held until the transfer's deadline."""
    with Server(tmp_path, connections_max=1, transfer_timeout="1h") as server:
        download = Download(server, "/update/door").started()
        download.socket.shutdown(socket.SHUT_WR)
        time.sleep(0.5)
        download.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        download.socket.close()
        assert check(server, "/healthz", {}).status == 200
        server.wait_log("event=update_cut .*reset by the device")


def test_not_yet_is_said_in_the_log_too(tmp_path):
    """What the wire says and what the log says must be one word."""
    with Server(tmp_path) as server:
        make_image("esp8266", server.repo / "door/2.0.0.bin", size="64K")
        wait_until(lambda: check(server, "/update/door", mac="5C:CF:7F:00:00:09").status == 200, "the image")
        server.wait_log("event=update_sent")
    with Server(tmp_path, rescan_interval="1h", image_idle="0ms") as server:
        path = server.repo / "door/2.0.0.bin"
        data = path.read_bytes()
        path.write_bytes(data)  # same bytes, another state of the file: what the catalog knows is gone for a moment
        reply = check(server, "/update/door")
        word = reply.reason
        assert (reply.status, word) in {(304, "not-yet"), (200, "newer")}
        server.wait_log(f"event=check reason={word} status={reply.status} device=5ccf7fb1e042")


# --- the operator's door over TCP: anyone may knock -------------------------------------------------------------------

PLACES, SHARE = 64, 32  # of the door, and of one address
FIRST_HEAD_S = 3


@pytest.fixture
def door(tmp_path):
    """A server that closes nobody by itself in the time of a test, and a token for its door."""
    with Server(tmp_path, admin_listen="127.0.0.1:0", head_timeout="10m", idle_timeout="10m") as server:
        server.token = Admin(tmp_path / "state/admin.sock").post("/api/v1/tokens", {"name": "t", "role": "operate"}).json["token"]
        yield server


def knock(server, source="127.0.0.1", data=b""):
    port = int(next(line for line in server.said if line.startswith("listening admin 127")).rpartition(":")[2])
    connection = socket.create_connection(("127.0.0.1", port), PATIENCE_S, source_address=(source, 0))
    connection.sendall(data)
    return connection


def status_request(server):
    return device_request("/api/v1/status", {"Authorization": f"Bearer {server.token}"}, http="1.1")


def asks(server, source="127.0.0.1"):
    """A proper client's connection: let in, answered at once, and kept."""
    begun = time.monotonic()
    connection = knock(server, source, status_request(server))
    reply = connection.recv(65536)
    assert Reply(reply).status == 200 and time.monotonic() - begun < FIRST_HEAD_S / 2
    return connection


def works(server, source="127.0.0.1"):
    """Let in, and on the way with a body."""
    words = {"Authorization": f"Bearer {server.token}", "Content-Length": "2", "Expect": "100-continue"}
    connection = knock(server, source, device_request("/api/v1/rollouts", words, http="1.1", method="POST"))
    assert connection.recv(4096) == b"HTTP/1.1 100 Continue\r\n\r\n"
    return connection


def is_kept(connection):
    """One at work: an empty order is refused, but heard."""
    connection.sendall(b"{}")
    return Reply(connection.recv(65536)).status == 400


def is_closed(connection):
    try:
        return connection.recv(4096) == b""
    except ConnectionResetError:
        return True


def is_closed_by_now(connection):
    try:
        return not is_waiting(connection, 0.01)
    except ConnectionResetError:
        return True


@pytest.mark.parametrize("data", [b"", b"GET /api/v1/status HTTP/1.1\r\nHost:"], ids=["silent", "part of a head"])
def test_one_address_does_not_take_the_operators_door(door, data):
    """Its own later connections take the place of its first, and nobody else's."""
    proper = works(door)
    crowd = [knock(door, data=data) for _ in range(PLACES + 6)]
    asks(door).close()
    asks(door, "127.0.0.2").close()
    gone = PLACES + 6 + 1 - (SHARE - 1)
    assert sum(is_closed_by_now(connection) for connection in crowd) == gone
    assert not is_closed_by_now(crowd[-1]), "the newest, which may be about to ask"
    assert is_kept(proper)
    assert refused_for(door, "made-room") == gone
    assert refused_for(door, "peer-full") == 0
    door.wait_log("event=connection_refused why=made-room peer=127.0.0.1:[0-9]+ connections=1 remedy=")
    wait_until(lambda: sum(map(int, re.findall("connection_refused .*connections=([0-9]+)", door.log()))) == gone,
               "each of them to be told of")
    assert door.log().count("event=connection_refused") < 6, "a line for each"
    assert Admin(door.folder / "state/admin.sock").get("/api/v1/status").status == 200


def test_flood_from_one_address(door):
    """Knocking without a pause does not keep another address waiting."""
    ends = threading.Event()
    crowd = collections.deque(maxlen=100)

    def flood():
        while not ends.is_set():
            crowd.append(knock(door))

    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        flooding = pool.submit(flood)
        try:
            for _ in range(20):
                asks(door, "127.0.0.2").close()
            # on a loaded machine twenty are done before it is a flood
            wait_until(lambda: asks(door, "127.0.0.2").close() or refused_for(door, "made-room") > 100,
                       "a flood, or the test proves nothing")
        finally:
            ends.set()
        flooding.result()


def test_many_addresses_do_not_take_the_operators_door(door):
    """The door is full: who is silent makes room, those first who have been for longest; who is slow does not."""
    proper = [works(door, "127.0.0.9") for _ in range(4)]
    slow = knock(door, "127.0.0.8", b"GET /api/v1/status HTTP/1.1\r\nHost: a\r\n")
    crowd = [knock(door, f"127.0.0.{i}") for i in (2, 3, 4) for _ in range(19)]
    time.sleep(0.3)
    crowd += [knock(door, f"127.0.0.{i}") for i in (5, 6) for _ in range(9)]
    asks(door, "127.0.0.7").close()
    asks(door, "127.0.0.2").close()
    slow.sendall(status_request(door).partition(b"\r\n")[2].partition(b"\r\n")[2])
    assert Reply(slow.recv(65536)).status == 200
    assert all(is_kept(connection) for connection in proper)
    gone = refused_for(door, "made-room")
    assert 16 < gone < 20
    assert all(is_closed(connection) for connection in crowd[:gone])


def test_those_at_work_stay(door):
    """An address has its share; the rest of the door is for others, and nobody who is at work leaves for anyone."""
    proper = [works(door) for _ in range(SHARE)]
    assert is_closed(knock(door))
    assert refused_for(door, "peer-full") == 1
    door.wait_log("event=connection_refused why=peer-full peer=127.0.0.1:")
    others = [works(door, "127.0.0.2") for _ in range(PLACES - SHARE)]
    late = knock(door, "127.0.0.3", status_request(door))
    assert is_waiting(late)  # full of those at work: it waits for one of them to leave
    others.pop().close()
    assert Reply(late.recv(65536)).status == 200
    assert all(is_kept(connection) for connection in proper + others)


def test_those_at_rest_make_room_at_the_operators_door(door):
    """Else two addresses hold it for ever, with a request now and then, whoever else would operate."""
    resting = [asks(door, f"127.0.0.{1 + i % 2}") for i in range(PLACES)]
    late = knock(door, "127.0.0.3", status_request(door))
    assert Reply(late.recv(65536)).status == 200
    assert refused_for(door, "made-room") >= 1
    for connection in resting:
        connection.close()


def test_who_was_answered_makes_room(door):
    """A flood with wrong tokens: the refused are still let read their answer, but hold no place."""
    crowd = [knock(door, data=device_request("/", {"Authorization": "Bearer no"}, http="1.1")) for _ in range(SHARE)]
    assert {Reply(connection.recv(4096)).status for connection in crowd} == {401, 429}  # few are held back meanwhile
    asks(door)
    assert all(is_closed(connection) for connection in crowd)


def test_first_head_at_the_operators_door(door):
    """Whoever has asked once may be slower; over the Unix socket, and devices, from the first."""
    begun = time.monotonic()
    silent, slow, proper = knock(door), knock(door, data=b"GET / HTTP/1.1\r\n"), asks(door)
    unix = Admin(door.folder / "state/admin.sock").connection()
    unix.connect()
    device = door.connect()
    proper.sendall(b"GET /api/v1/status HTTP/1.1\r\n")
    assert is_closed(silent)
    assert FIRST_HEAD_S - 0.5 < time.monotonic() - begun < FIRST_HEAD_S + 5
    assert Reply(slow.recv(4096)).status == 408
    for connection in (proper, unix.sock, device):
        assert is_waiting(connection, 0.7)
    device.sendall(HEALTHZ)
    assert Reply(device.recv(4096)).status == 200
    for connection in (proper, unix.sock, device, silent, slow):
        connection.close()

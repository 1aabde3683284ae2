"""TLS before those who mean harm, or whose radio does: handshakes that never end, floods, and bytes that are none. The
server goes on, and under AddressSanitizer each of these tests looks at its memory, too."""

import os
import random
import socket
import ssl
import subprocess
import time

import pytest

from tests.support.tls import Relay, TlsServer, dev_cert, read_some, s_client, session_of
from tests.support.updraft import ESP8266, PATIENCE_S, Reply, device_request, make_image, wait_until

V12, V13 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3
HEALTH = b"GET /healthz HTTP/1.0\r\n\r\n"


@pytest.fixture(scope="module")
def certs(tmp_path_factory):
    return dev_cert(dev_cert(tmp_path_factory.mktemp("certs"), "127.0.0.1"), "device", "5C:CF:7F:B1:E0:42")


@pytest.fixture
def server(tmp_path, certs):
    make_image("esp8266", tmp_path / "firmware/door/2.0.bin", seed=1)
    with TlsServer(tmp_path, certs, tls_client_ca=certs / "ca.pem", tls_client="optional", head_timeout="1s",
                   log_level="info") as made:
        yield made
        assert made.tls_ask(HEALTH).endswith(b"ok\n")
        wait_until(lambda: made.metric("updraft_tls_handshakes_under_way") == 0, "all handshakes to be over")


def hello(version=V13):
    """The first bytes of a client that means it."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.maximum_version = version
    with pytest.raises(ssl.SSLWantReadError):
        context.wrap_bio(incoming, outgoing, server_hostname="127.0.0.1").do_handshake()
    return outgoing.read()


def connect(server, source="127.0.0.1"):
    return socket.create_connection(("127.0.0.1", server.tls_port), PATIENCE_S, source_address=(source, 0))


def read_end(connection):
    """Until the server ends it, however it does."""
    data = b""
    try:
        while piece := connection.recv(65536):
            data += piece
    except ConnectionError:
        pass
    connection.close()
    return data


def test_a_handshake_that_never_ends(server):
    """Silent from the beginning, within the first record, between two flights, or a byte at a time."""
    first = hello()
    silent = [(connect(server), data) for data in [b"", first[:3], first[:-1], first] * 5]
    for connection, data in silent:
        connection.sendall(data)
    wait_until(lambda: server.metric("updraft_tls_handshakes_under_way") == 15, "fifteen handshakes")
    slow = connect(server)
    began = time.monotonic()
    try:
        for byte in first:
            slow.sendall(bytes([byte]))
            time.sleep(0.02)
    except ConnectionError:
        pass
    assert time.monotonic() - began < 0.02 * len(first), "no byte renews the deadline"
    for connection, _ in silent:
        read_end(connection)
    slow.close()
    assert server.handshakes("left") == 16 and server.handshakes("failed") == 0


def test_more_than_are_taken(tmp_path, certs):
    make_image("esp8266", tmp_path / "firmware/door/2.0.bin", seed=1)
    with TlsServer(tmp_path, certs, tls_handshakes=4) as server:
        first = hello()
        with server.tls() as kept:
            wait_until(lambda: server.handshakes("full") == 1, "its handshake to be over on the server's side, too")
            waiting = [connect(server, f"127.0.0.{i}") for i in range(2, 6)]
            for connection in waiting:
                connection.sendall(first[:50])
            wait_until(lambda: server.metric("updraft_tls_handshakes_under_way") == 4, "four handshakes")
            for _ in range(3):
                turned_away = connect(server)
                turned_away.sendall(first)
                assert read_end(turned_away) == b""
            assert server.handshakes("refused") == 3
            server.wait_log("level=warn event=tls_refused peer=127.0.0.1:.* under_way=4 of_address=. remedy=")
            assert server.log().count("tls_refused") == 1
            kept.sendall(HEALTH)  # who is through the door is not concerned
            assert read_some(kept, 12) == b"HTTP/1.1 200"
            for connection in waiting:
                connection.close()
            wait_until(lambda: server.metric("updraft_tls_handshakes_under_way") == 0, "the handshakes to end")
        assert server.tls_check().status == 200


def test_one_address_does_not_begin_them_all(tmp_path, certs):
    """Of what may be under way, a quarter is for others."""
    make_image("esp8266", tmp_path / "firmware/door/2.0.bin", seed=1)
    with TlsServer(tmp_path, certs, tls_handshakes=8) as server:
        waiting = [connect(server, "127.0.0.2") for _ in range(6)]
        for connection in waiting:
            connection.sendall(b"\x16")
        wait_until(lambda: server.metric("updraft_tls_handshakes_under_way") == 6, "six handshakes")
        for _ in range(3):
            turned_away = connect(server, "127.0.0.2")
            turned_away.sendall(b"\x16")
            assert read_end(turned_away) == b""
        assert server.handshakes("refused") == 3
        server.wait_log("event=tls_refused peer=127.0.0.2:.* under_way=6 of_address=6 remedy=")
        others = [connect(server, f"127.0.0.{i}") for i in range(3, 6)]  # one may share a place in the table
        for connection in others:
            connection.sendall(b"\x16")
        wait_until(lambda: server.metric("updraft_tls_handshakes_under_way") == 8, "those that come from elsewhere")
        for connection in [waiting.pop(), *others]:
            connection.close()
        wait_until(lambda: server.metric("updraft_tls_handshakes_under_way") == 5, "these to leave")
        again = connect(server, "127.0.0.2")
        again.sendall(b"\x16")
        wait_until(lambda: server.metric("updraft_tls_handshakes_under_way") == 6, "another in its place")
        for connection in [*waiting, again]:
            connection.close()


def test_who_shakes_hands_is_not_silent(tmp_path, certs):
    """A radio needs seconds for a handshake: at a full door those leave for others that have said nothing at all."""
    make_image("esp8266", tmp_path / "firmware/door/2.0.bin", seed=1)
    with TlsServer(tmp_path, certs, connections_max=12, head_timeout="10m") as server:
        half = connect(server)
        half.sendall(hello(V12))
        assert half.recv(1) == b"\x16"
        done = server.tls()  # and asks nothing yet
        silent = [connect(server, f"127.0.1.{i}") for i in range(1, 11)]
        wait_until(lambda: server.metric("updraft_connections_open") == 12, "a full door")
        time.sleep(0.2)  # who has just come has a moment
        for _ in range(5):
            assert server.tls_ask(HEALTH).endswith(b"ok\n")
        assert server.metric("updraft_tls_handshakes_under_way") == 1, "the radio was sent away"
        done.sendall(HEALTH)
        assert done.recv(12) == b"HTTP/1.1 200"
        for connection in [half, done, *silent]:
            connection.close()


@pytest.mark.parametrize("version", [V12, V13])
def test_a_handshake_that_is_taken_back(server, version):
    """As a device does that only wants to know whether small records are to be had (probeMaxFragmentLength): user_canceled,
    close_notify. Nothing failed, and nobody is told."""
    for alerts in [b"\x15\x03\x03\x00\x02\x01\x5a", b""]:
        connection = connect(server)
        connection.sendall(hello(version))
        assert connection.recv(1) == b"\x16"
        connection.sendall(alerts + b"\x15\x03\x03\x00\x02\x01\x00")
        read_end(connection)
    wait_until(lambda: server.handshakes("left") == 2, "two to have left")
    assert server.handshakes("failed") == 0 and "tls_failed" not in server.log()


def test_a_handshake_taken_back_at_once(server):
    """Hello and the word that it is over in one piece: what the server had to say is not said to whoever comes next."""
    for _ in range(5):
        connection = connect(server)
        connection.sendall(hello(V12) + b"\x15\x03\x03\x00\x02\x01\x00")
        read_end(connection)
        assert server.tls_ask(HEALTH).endswith(b"ok\n")
    wait_until(lambda: server.handshakes("left") == 5, "five to have left")


def test_many_at_once(server):
    """More than a turn of the loop takes: each has its turn, whole and none forgotten."""
    first = hello(V12)
    half = [connect(server) for _ in range(100)]
    for connection in half:
        connection.sendall(first)
    for connection in half:
        assert connection.recv(1) == b"\x16"
    for connection in half[::2]:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    for connection in half:
        connection.close()
    wait_until(lambda: server.handshakes("left") == 100, "all to have left")


def interactive(server, version, letter, times):
    """s_client is told to change keys or to renegotiate so often, then to ask. Returns what came back."""
    line = ["openssl", "s_client", "-connect", f"127.0.0.1:{server.tls_port}", "-CAfile", server.certs / "ca.pem", version]
    client = subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, bufsize=0)
    said = b""
    try:
        for i in range(times):
            client.stdin.write(letter)
            while said.count(b"KEYUPDATE") + said.count(b"RENEGOTIATING") <= i:  # a line is a command only where it is read alone
                piece = os.read(client.stdout.fileno(), 65536)
                if not piece:
                    raise BrokenPipeError
                said += piece
        client.stdin.write(HEALTH)
        time.sleep(0.2)
    except BrokenPipeError:
        pass
    rest, _ = client.communicate(timeout=PATIENCE_S)
    return said + rest


class Bare:
    """A TLS client whose bytes go where the test sends them."""

    def __init__(self, server, version, say):
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = server.context(version).wrap_bio(self.incoming, self.outgoing, server_hostname="127.0.0.1")
        self.socket = connect(server)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.say = say
        self.until_done(self.tls.do_handshake)

    def until_done(self, act):
        while True:
            try:
                return act()
            except ssl.SSLWantReadError:
                self.flush()
                piece = self.socket.recv(65536)
                self.incoming.write(piece) if piece else self.incoming.write_eof()

    def flush(self):
        self.say(self.socket, self.outgoing.read())

    def answer(self):
        """All up to the server's end, in order."""
        pieces = []
        try:
            while piece := self.until_done(lambda: self.tls.read(65536)):
                pieces.append(piece)
        except ssl.SSLZeroReturnError:
            pass
        return b"".join(pieces)


@pytest.mark.parametrize("version", [V12, V13])
def test_a_byte_at_a_time(server, version):
    def say(connection, data):
        for byte in data:
            connection.sendall(bytes([byte]))

    client = Bare(server, version, say)
    client.tls.write(HEALTH)
    client.flush()
    assert client.answer().endswith(b"ok\n")
    client.socket.close()


def test_a_peer_that_ends_its_side(server):
    """Behind its request, with a word of TLS or without: what it asked for comes all the same, and the end behind it."""
    data = make_image("esp8266", server.folder / "firmware/gate/1.0.bin", seed=2, size="3M")
    server.wait_log("event=image_added file=gate/1.0.bin")
    for version, says_so in [(V12, True), (V12, False), (V13, True), (V13, False)]:
        client = Bare(server, version, lambda connection, data: connection.sendall(data))
        client.tls.write(b"GET /firmware/gate/1.0.bin HTTP/1.0\r\n\r\n")
        if says_so:
            with pytest.raises(ssl.SSLWantReadError):
                client.tls.unwrap()
        client.flush()
        client.socket.shutdown(socket.SHUT_WR)
        client.say = lambda connection, data: None
        assert Reply(client.answer()).body == data, (version, says_so)
        client.socket.close()


def test_new_keys_now_and_then(server):
    assert b"\r\n\r\nok\n" in interactive(server, "-tls1_3", b"K\n", 3)


def test_new_keys_again_and_again(server):
    """OpenSSL bears 32 in a row, and any number with a byte between them."""
    assert b"HTTP/1.1 200" not in interactive(server, "-tls1_3", b"K\n", 20)


def test_renegotiation(server):
    said = interactive(server, "-tls1_2", b"R\n", 1)
    assert b"HTTP/1.1 200" not in said and b"no renegotiation" in said, said


def test_data_before_the_handshake(tmp_path, server):
    """0-RTT: what could be sent once more by anybody who heard it is not taken, and the handshake goes on without."""
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    listener.close()
    session, early = tmp_path / "session", tmp_path / "early"
    early.write_bytes(device_request("/update/door", ESP8266))
    quiet = {"stdin": subprocess.PIPE, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(["openssl", "s_server", "-accept", f"127.0.0.1:{port}", "-cert", server.certs / "server.pem", "-key",
                           server.certs / "server.key", "-early_data"], **quiet) as other:
        def has_session():
            with subprocess.Popen(["openssl", "s_client", "-connect", f"127.0.0.1:{port}", "-CAfile", server.certs / "ca.pem",
                                   "-tls1_3", "-sess_out", session], **quiet) as client:
                time.sleep(0.1)
                client.kill()
            return session.exists() and session.stat().st_size > 0
        wait_until(has_session, "a session of another server, which takes early data")
        other.kill()
    relay = Relay(server)
    answer, said = s_client(relay.port, server.certs, "-tls1_3", "-sess_in", session, "-early_data", early, request=HEALTH)
    first = relay.join().sent.index(b"\x17\x03\x03")
    assert int.from_bytes(relay.sent[first + 3:first + 5], "big") == early.stat().st_size + 17, "it was not sent"
    assert answer.endswith(b"\r\n\r\nok\n") and answer.count(b"HTTP/1.1") == 1, said
    assert "event=check" not in server.log() and server.handshakes("full") == 1


# --- bytes that are none ----------------------------------------------------------------------------------------------


def recorded(server, version, certificate=None):
    """What a client sent in a whole handshake and a request."""
    relay = Relay(server)
    context = server.context(version, certificate=certificate)
    with server.tls(context, port=relay.port) as connection:
        connection.sendall(device_request("/update/door", ESP8266))
        try:
            while connection.recv(65536):
                pass
        except ssl.SSLError:
            pass
    return relay.join().sent


def mangled(sent, chance):
    """Cut, with bytes changed, doubled, left out, or a record's length or type made another."""
    data = bytearray(sent)
    for _ in range(chance.randint(1, 4)):
        at = chance.randrange(len(data)) if chance.random() < 0.6 else chance.randrange(min(200, len(data)))
        act = chance.randrange(6)
        if act == 0:
            del data[at + 1:]
        elif act == 1:
            data[at] = chance.randrange(256)
        elif act == 2:
            data[at:at] = data[at:at + chance.randrange(300)]
        elif act == 3:
            del data[at:at + chance.randrange(1, 50)]
        elif act == 4:
            data[at] ^= 1 << chance.randrange(8)
        else:
            data[3:5] = chance.choice([b"\0\0", b"\xff\xff", b"\x40\x00", b"\x40\x01", b"\x00\x01"])
    return bytes(data)


def throw(server, data, chance):
    """In one piece or in several; then waits for its end, or goes by a reset."""
    connection = connect(server)
    try:
        while data:
            n = len(data) if chance.random() < 0.5 else chance.randint(1, len(data))
            connection.sendall(data[:n])
            data = data[n:]
        if chance.random() < 0.2:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        else:
            connection.shutdown(socket.SHUT_WR)
            connection.recv(65536)
    except OSError:
        pass
    connection.close()


@pytest.mark.parametrize("kind", ["1.2", "1.3", "certificate", "random"])
def test_what_is_no_handshake(server, certs, kind):
    chance = random.Random(f"tls {kind}")
    certificate = certs / "device-5ccf7fb1e042.pem" if kind == "certificate" else None
    sent = recorded(server, V13 if kind == "1.3" else V12, certificate) if kind != "random" else b""
    for _ in range(400):
        data = mangled(sent, chance) if sent else chance.randbytes(chance.randint(1, 2000))
        if not sent and chance.random() < 0.7:
            data = bytes([chance.choice([20, 21, 22, 23, 24]), 3, chance.randint(0, 4)]) + data
        throw(server, data, chance)
    done = sum(server.handshakes(result) for result in ["full", "resumed", "failed", "left"])
    assert done >= 300 and server.handshakes("full") <= 402


def test_broken_behind_the_handshake(server):
    """Records that are changed on the way are refused, and end the connection."""
    for version in [V12, V13]:
        with server.tls(server.context(version)) as connection:
            plain = socket.socket(fileno=socket.dup(connection.fileno()))
            plain.sendall(b"\x17\x03\x03\x00\x20" + bytes(32))
            with pytest.raises((ssl.SSLError, ConnectionError), match="(?i)bad record mac|decrypt|reset"):
                while connection.recv(100):
                    pass
            plain.close()


def test_a_forged_ticket(server):
    """Another's, or one of another server, is a full handshake and no more."""
    context = server.context(V12)
    session, _ = session_of(server, context)
    with TlsServer(server.folder / "other", server.certs, tls_client_ca=server.certs / "ca.pem",
                   tls_client="optional") as other:
        assert not session_of(other, context, session=session)[1]
        assert other.tls_ask(HEALTH).endswith(b"ok\n")


def test_large_hellos(server):
    """What a library says that knows many things is heard; one without end is not waited for."""
    context = server.context()
    context.set_alpn_protocols([f"{i:0255d}" for i in range(30)] + ["http/1.1"])
    assert server.tls_ask(HEALTH, context=context).endswith(b"ok\n")
    connection = connect(server)
    connection.sendall(b"\x16\x03\x01\x00\x04\x01\x03\x00\x00")
    read_end(connection)
    server.wait_log('event=tls_failed .*why="excessive message size"')


def test_records_of_nothing(server):
    """Empty ones, and warnings, without end: a bounded number is borne."""
    for record in [b"\x16\x03\x03\x00\x00", b"\x15\x03\x03\x00\x02\x01\x5a", b"\x17\x03\x03\x00\x00"]:
        connection = connect(server)
        connection.sendall(hello(V12))
        connection.recv(1)
        try:
            connection.sendall(record * 10000)
        except ConnectionError:
            pass
        read_end(connection)
    assert server.handshakes("failed") == 3

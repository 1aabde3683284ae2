"""TLS as devices meet it: every kind of client is served the same bytes, small radios get small records, and what is
wrong is refused with a word that helps."""

import os
import re
import socket
import ssl
import subprocess
import time

import pytest

from tests.support.download import LARGE, assert_whole, md5
from tests.support.preload import order, preloaded
from tests.support.tls import Relay, TlsServer, dev_cert, openssl, read_some, reload, s_client, session_of
from tests.support.updraft import ESP8266, PATIENCE_S, Reply, device_request, make_image, read_to_end, wait_until

V12, V13 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3
VERSIONS = {"1.2": V12, "1.3": V13}


@pytest.fixture(scope="module")
def certs(tmp_path_factory):
    return dev_cert(tmp_path_factory.mktemp("certs"), "--rsa", "127.0.0.1", "updraft.example")


@pytest.fixture
def server(tmp_path, certs):
    make_image("esp8266", tmp_path / "firmware/door/2.0.bin", size=LARGE, seed=1)
    with TlsServer(tmp_path, certs, ("server", "server-rsa")) as made:
        made.image = (tmp_path / "firmware/door/2.0.bin").read_bytes()
        yield made


# --- who is served ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", VERSIONS)
def test_a_whole_download(server, version):
    """Byte for byte, ended in order, and believed only when it has arrived."""
    reply = server.tls_check(context=server.context(VERSIONS[version]))
    assert_whole(reply, server.image)
    server.wait_log(rf"event=update_sent .*bytes={len(server.image)}")
    assert server.handshakes("full") == 1


def test_a_kept_connection(server):
    """Ranges, conditions and refusals on one connection, and what is asked at once is answered in order."""
    request = device_request("/firmware/door/2.0.bin", {"User-Agent": "curl", "Range": "bytes=1000-200999"}, http="1.1")
    with server.tls() as connection:
        connection.sendall(request * 3 + device_request("/update/porch", ESP8266))
        data = read_to_end(connection)
    for _ in range(3):
        reply = Reply(data)
        assert reply.status == 206 and reply.body == server.image[1000:201000]
        data = reply.rest
    assert Reply(data).reason == "unknown-type"


def test_curl(server):
    done = subprocess.run(["curl", "-sS", "--fail", "--cacert", server.certs / "ca.pem",
                           f"https://127.0.0.1:{server.tls_port}/latest/door.bin"], capture_output=True, timeout=60)
    assert done.returncode == 0 and md5(done.stdout) == md5(server.image), done.stderr


@pytest.mark.parametrize("how, kind", [
    (["-tls1_2", "-cipher", "ECDHE-RSA-AES128-GCM-SHA256"], "RSA"),
    (["-tls1_2", "-cipher", "AES128-SHA"], "RSA"),  # setCiphersLessSecure of the ESP8266 core
    (["-tls1_2", "-cipher", "ECDHE-ECDSA-CHACHA20-POLY1305"], "ECDSA"),
    (["-tls1_3", "-sigalgs", "RSA-PSS+SHA256"], "RSA"),
    (["-tls1_3"], "ECDSA"),
])
def test_each_gets_the_certificate_that_it_understands(server, how, kind):
    _, said = s_client(server.tls_port, server.certs, *how, "-brief", request=b"GET /healthz HTTP/1.0\r\n\r\n")
    if how[-1] == "AES128-SHA":
        assert "Ciphersuite: AES128-SHA" in said
    else:
        assert f"Signature type: {kind}" in said, said


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1")
def test_an_old_client_is_told_apart(server):
    context = server.context(ciphers="DEFAULT@SECLEVEL=0")
    context.minimum_version = ssl.TLSVersion.TLSv1
    context.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises(ssl.SSLError, match="(?i)protocol version|unsupported protocol"):
        server.tls(context)
    server.wait_log(r'event=tls_failed .*remedy="it speaks TLS 1.1 or older')
    assert server.handshakes("failed") == 1


def test_any_name_is_served(server):
    """There is one server: a device that asks by an address, an old name or a strange one is served all the same."""
    context = server.context()
    context.check_hostname = False
    for name in ["updraft.example", "another.example", "a" * 60, None]:
        assert server.tls_ask(b"GET /healthz HTTP/1.0\r\n\r\n", context=context, name=name).endswith(b"ok\n")
    for name in [b"\xff\x01\x80 \"\n", b"*", b".", b"%s%n", b"-" * 255]:
        answer, said = s_client(server.tls_port, server.certs, "-servername", name, request=b"GET /healthz HTTP/1.0\r\n\r\n")
        assert answer.endswith(b"ok\n"), (name, said)


@pytest.mark.parametrize("how", [["-tls1_2", "-cipher", "ECDHE"], ["-tls1_3"]])
def test_keys_that_cost_much(server, how):
    """Each handshake stalls whoever else is served: what no device needs, and takes milliseconds, is not to be had."""
    for group in ["X25519", "P-256", "P-384", "P-521", "X448:P-256"]:
        answer, said = s_client(server.tls_port, server.certs, *how, "-groups", group, request=b"GET /healthz HTTP/1.0\r\n\r\n")
        assert answer.endswith(b"ok\n"), (group, said)
    full = server.handshakes("full")
    for group in ["X448", "ffdhe8192"]:
        answer, _ = s_client(server.tls_port, server.certs, *how, "-groups", group, request=b"GET /healthz HTTP/1.0\r\n\r\n")
        assert answer == b"", group
    assert server.handshakes("full") == full
    server.wait_log('event=tls_failed .*remedy="(its cipher suites|of the groups for key exchange)')


def test_protocols(server):
    for offered, chosen in [(["http/1.1"], "http/1.1"), (["h2", "http/1.1"], "http/1.1"), (["http/1.0"], "http/1.0")]:
        context = server.context()
        context.set_alpn_protocols(offered)
        with server.tls(context) as connection:
            assert connection.selected_alpn_protocol() == chosen
    context = server.context()
    context.set_alpn_protocols(["h2"])
    with pytest.raises(ssl.SSLError, match="(?i)no application protocol"):
        server.tls(context)
    server.wait_log("speaks neither HTTP/1.1 nor HTTP/1.0")


def test_plain_http_at_the_tls_door(server):
    with socket.create_connection(("127.0.0.1", server.tls_port), 60) as connection:
        connection.sendall(device_request("/update/door", ESP8266))
        data = read_to_end(connection)
    reply = Reply(data)
    assert reply.status == 400 and reply.body == b"this address speaks TLS: use https:// in URLs\n" and reply.rest == b""
    server.wait_log(r'event=tls_failed .*remedy="it speaks plain HTTP')


def test_tls_at_the_plain_door(server):
    with socket.create_connection(("127.0.0.1", server.port), 60) as connection:
        connection.sendall(bytes.fromhex("160301020001000201fc0303") + bytes(505))
        assert Reply(connection.recv(65536)).status == 400


# --- what arrives -----------------------------------------------------------------------------------------------------


def test_a_slow_reader(server):
    with server.tls(receive=8192) as connection:
        connection.sendall(device_request("/update/door", ESP8266))
        data = b""
        while piece := connection.recv(16384):
            data += piece
            if len(data) < 500_000:
                time.sleep(0.01)
    assert_whole(Reply(data), server.image)


def test_a_device_that_leaves(server):
    """What it got is told as what it acknowledged, not as what was encrypted for it."""
    connection = server.tls(receive=65536)
    connection.sendall(device_request("/update/door", ESP8266))
    read_some(connection, 700_000)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    os.close(connection.detach())
    arrived = int(server.wait_log(r"event=update_cut .*bytes=(\d+)").group(1))
    assert 650_000 < arrived < 700_000 + 600_000


def test_who_reads_nothing_has_nothing(tmp_path, certs):
    """All fits the system's buffers: handed over is not arrived."""
    data = make_image("esp8266", tmp_path / "firmware/door/2.0.bin", size="400K", seed=1)
    with TlsServer(tmp_path, certs) as server:
        connection = server.tls(receive=8192)
        connection.sendall(device_request("/update/door", ESP8266))
        head = read_some(connection, 1000)
        time.sleep(0.5)
        assert "update_sent" not in server.log()
        rest = read_to_end(connection)
        connection.close()
        assert_whole(Reply(head + rest), data)
        server.wait_log(f"event=update_sent .*bytes={len(data)}")


def test_the_end_of_a_server_lets_downloads_end(server):
    """And handshakes that are not over do not hold it up."""
    connection = server.tls(receive=65536)
    connection.sendall(device_request("/update/door", ESP8266))
    data = read_some(connection, 1000)
    half = socket.create_connection(("127.0.0.1", server.tls_port))
    half.sendall(b"\x16\x03\x01\x02\x00\x01")
    wait_until(lambda: server.metric("updraft_tls_handshakes_under_way") == 1, "a handshake")
    server.process.terminate()
    data += read_to_end(connection)
    connection.close()
    assert_whole(Reply(data), server.image)
    server.process.wait(PATIENCE_S)
    half.close()


def test_the_end_of_a_kept_connection(server):
    """The answer that a stopping server gives last ends in order, too: else it counts as cut short."""
    connection = server.tls(receive=65536)
    connection.sendall(device_request("/firmware/door/2.0.bin", {"User-Agent": "curl"}, http="1.1"))
    data = read_some(connection, 1000)
    server.process.terminate()
    data += read_to_end(connection)
    connection.close()
    assert_whole(Reply(data), server.image)
    server.process.wait(PATIENCE_S)


# --- small records ----------------------------------------------------------------------------------------------------

# What a record may have around its plaintext: a nonce, a tag, a type (RFC 5246, 5288, 8446).
RECORD_EXTRA = 32


@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
@pytest.mark.parametrize("length", [512, 1024, 2048, 4096])
def test_max_fragment_length(tmp_path, certs, length, version):
    """A radio with small buffers breaks off at the first record that is larger, also in the middle of 4 MB."""
    make_image("littlefs", tmp_path / "firmware/door/1.0.fs.bin", size="4M")
    data = (tmp_path / "firmware/door/1.0.fs.bin").read_bytes()
    with TlsServer(tmp_path, certs, ("server", "server-rsa")) as server:
        relay = Relay(server)
        said, _ = s_client(relay.port, certs, "-maxfraglen", str(length), version,
                           request=b"GET /firmware/door/1.0.fs.bin HTTP/1.0\r\n\r\n")
        assert md5(Reply(said).body) == md5(data)
        sizes = [n for kind, n in relay.join().records]
        assert length < max(n for kind, n in relay.records if kind == 23) <= length + RECORD_EXTRA
        assert max(sizes) <= length + RECORD_EXTRA
        assert len(sizes) >= len(data) / length


@pytest.mark.parametrize("size", [512, 1460, 16384])
def test_record_size(tmp_path, certs, size):
    """For devices with small buffers that do not say so."""
    data = make_image("esp8266", tmp_path / "firmware/door/2.0.bin", size="400K", seed=1)
    with TlsServer(tmp_path, certs, tls_record_size=size) as server:
        relay = Relay(server)
        assert_whole(Reply(server.tls_ask(device_request("/update/door", ESP8266), port=relay.port)), data)
        assert size < max(n for _, n in relay.join().records) <= size + RECORD_EXTRA


# --- sessions ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version, by_id", [("1.2", False), ("1.2", True), ("1.3", False)])
def test_resumption(server, version, by_id):
    """A tenth of the work for a radio. By id, too: BearSSL knows no tickets."""
    context = server.context(VERSIONS[version])
    if by_id:
        context.options |= ssl.OP_NO_TICKET
    session, _ = session_of(server, context)
    assert bool(session.ticket_lifetime_hint) == (not by_id)
    assert session_of(server, context, session=session)[1]
    assert (server.handshakes("full"), server.handshakes("resumed")) == (1, 1)
    reload(server)
    assert session_of(server, context, session=session)[1] == (not by_id)  # ids are of the certificates before


@pytest.mark.parametrize("how", [["-tls1_2"], ["-tls1_2", "-no_ticket"], ["-tls1_3"]])
def test_a_session_and_other_records(server, tmp_path, how):
    """A sketch asks for small records where its probe succeeds, and keeps its session: one that was made for others is not
    resumed, and nobody is refused for it (RFC 6066 wants an alert, after which a device would try the same for ever)."""
    small = ["-maxfraglen", "512"]
    for before, after in [([], small), (small, []), (small, ["-maxfraglen", "1024"]), (small, small), ([], [])]:
        resumed = server.handshakes("resumed")
        for more in [[*before, "-sess_out", tmp_path / "session"], [*after, "-sess_in", tmp_path / "session"]]:
            answer, said = s_client(server.tls_port, server.certs, *how, *more, request=b"GET /healthz HTTP/1.0\r\n\r\n")
            assert answer.endswith(b"ok\n"), (before, after, said)
        assert server.handshakes("resumed") - resumed == (before == after), (before, after)


def test_a_session_ends_with_its_ciphers(tmp_path, certs):
    """Which its operator has taken away: else they would be spoken for another day."""
    config = tmp_path / "updraft.ini"
    config.write_text("tls-ciphers = ECDHE-ECDSA-AES128-GCM-SHA256\n")
    with TlsServer(tmp_path, certs, config=config) as server:
        context = server.context(V12)
        session, _ = session_of(server, context)
        assert session_of(server, context, session=session)[1]
        config.write_text("tls-ciphers = ECDHE-ECDSA-AES256-GCM-SHA384\n")
        reload(server)
        assert not session_of(server, context, session=session)[1]


def test_the_keys_of_tickets_change(tmp_path, certs):
    """Every twelve hours, not with a reload; what was made with the one before is good for as long again."""
    clock = tmp_path / "state/clock"  # where a confined server may look
    with TlsServer(tmp_path, certs, env=preloaded("turn_clock", TURN_CLOCK=clock)) as server:

        def key_of(name):
            s_client(server.tls_port, certs, "-tls1_2", "-sess_out", tmp_path / name, request=b"GET /healthz HTTP/1.0\r\n\r\n")
            text = openssl("sess_id", "-in", tmp_path / name, "-noout", "-text").decode()
            return re.search(r"ticket:\n +0000 - (\S+ \S+(?: \S+){13})", text).group(1)

        first = key_of("first")
        reload(server)
        assert key_of("again") == first
        order(clock, 13 * 3600)
        wait_until(lambda: key_of("new") != first, "a new key")
        full = server.handshakes("full")
        for name in ["first", "new"]:
            s_client(server.tls_port, certs, "-tls1_2", "-sess_in", tmp_path / name, request=b"GET /healthz HTTP/1.0\r\n\r\n")
        assert server.handshakes("full") == full and server.handshakes("resumed") == 2

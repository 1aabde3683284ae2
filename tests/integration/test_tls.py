"""TLS as devices meet it: every kind of client is served the same bytes, small radios get small records, and what is
wrong is refused with a word that helps."""

import os
import re
import socket
import ssl
import subprocess
import threading
import time

import pytest

from tests.support.admin import Admin
from tests.support.download import LARGE, assert_whole, md5
from tests.support.tls import Relay, TlsServer, dev_cert, openssl, s_client, sign
from tests.support.updraft import BIN, ESP8266, Reply, device_request, make_image, wait_until

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
        data = b""
        while piece := connection.recv(65536):
            data += piece
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
        data = b""
        while piece := connection.recv(65536):
            data += piece
    reply = Reply(data)
    assert reply.status == 400 and reply.body == b"this address speaks TLS: use https:// in URLs\n" and reply.rest == b""
    server.wait_log(r'event=tls_failed .*remedy="it speaks plain HTTP')


def test_tls_at_the_plain_door(server):
    with socket.create_connection(("127.0.0.1", server.port), 60) as connection:
        connection.sendall(bytes.fromhex("160301020001000201fc0303") + bytes(505))
        assert Reply(connection.recv(65536)).status == 400


# --- what arrives -----------------------------------------------------------------------------------------------------


def read_some(connection, wanted):
    data = b""
    while len(data) < wanted:
        data += connection.recv(min(65536, wanted - len(data)))
    return data


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
        rest = b""
        while piece := connection.recv(65536):
            rest += piece
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
    while piece := connection.recv(65536):
        data += piece
    connection.close()
    assert_whole(Reply(data), server.image)
    server.stop()
    half.close()


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


def session_of(server, context, **how):
    with server.tls(context, **how) as connection:
        connection.sendall(b"GET /healthz HTTP/1.0\r\n\r\n")
        try:
            while connection.recv(65536):
                pass
        except ssl.SSLError:
            pass
        return connection.session, connection.session_reused


def reload(server):
    """SIGHUP, and its effect."""
    before = server.log().count("event=reloaded")
    server.process.send_signal(1)
    wait_until(lambda: server.log().count("event=reloaded") > before, "the reload")


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


# --- clients' certificates --------------------------------------------------------------------------------------------


@pytest.fixture
def own(tmp_path, certs):
    """An authority of devices of its own, so that it may be changed; the server's is another."""
    folder = dev_cert(tmp_path / "own", "device", "5C:CF:7F:B1:E0:42", "5C:CF:7F:B1:E0:43")
    make_image("esp8266", tmp_path / "firmware/door/2.0.bin", seed=1)
    return folder


def refused(server, certificate=None, version=V12):
    """Whether the handshake fails; in TLS 1.3 a client learns of it with its first read."""
    try:
        server.tls_check(context=server.context(version, certificate=certificate))
    except (ssl.SSLError, ConnectionError):
        return True
    return False


def test_required(tmp_path, certs, own):
    other = dev_cert(tmp_path / "other", "device", "5C:CF:7F:B1:E0:42")
    good = own / "device-5ccf7fb1e042.pem"
    with TlsServer(tmp_path, certs, listen="none", tls_client_ca=own / "ca.pem") as server:
        for version in VERSIONS.values():
            assert server.tls_check(context=server.context(version, certificate=good)).status == 200
            assert refused(server, None, version)
            assert refused(server, other / "device-5ccf7fb1e042.pem", version)
            assert refused(server, certs / "server.pem", version)
        server.wait_log('why="peer did not return a certificate" remedy="give the device a certificate')
        assert server.handshakes("failed") == 6 and server.handshakes("full") == 2


def test_optional(tmp_path, certs, own):
    """Who shows none is served as without; who shows a bad one is not."""
    other = dev_cert(tmp_path / "other", "device", "5C:CF:7F:B1:E0:42")
    with TlsServer(tmp_path, certs, tls_client_ca=own / "ca.pem", tls_client="optional",
                   tls_client_mac="required") as server:
        assert server.tls_check().status == 200
        assert server.tls_check(context=server.context(certificate=own / "device-5ccf7fb1e042.pem")).status == 200
        assert refused(server, other / "device-5ccf7fb1e042.pem")


def test_times(tmp_path, certs, own):
    over = sign(own, "over", "5ccf7fb1e042", end="20200201000000Z")
    early = sign(own, "early", "5ccf7fb1e042", start="20980101000000Z")
    wrong_purpose = sign(own, "purpose", "5ccf7fb1e042", purpose="serverAuth")
    with TlsServer(tmp_path, certs, tls_client_ca=own / "ca.pem") as server:
        assert refused(server, over)
        server.wait_log('event=tls_failed .*why="certificate has expired"')
        assert refused(server, early) and refused(server, wrong_purpose)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_session_ends_with_its_certificate(tmp_path, certs, own, version):
    """A resumed session is not verified again: it must not outlive what it was verified by."""
    end = time.time() + 4
    brief = sign(own, "brief", "5ccf7fb1e042", end=time.strftime("%Y%m%d%H%M%SZ", time.gmtime(end)))
    with TlsServer(tmp_path, certs, tls_client_ca=own / "ca.pem") as server:
        context = server.context(VERSIONS[version], certificate=brief)
        session, _ = session_of(server, context)
        assert session_of(server, context, session=session)[1], "it is resumed while the certificate is good"
        time.sleep(max(0.0, end + 1.5 - time.time()))
        with pytest.raises((ssl.SSLError, ConnectionError)):
            with server.tls(context, session=session) as connection:
                connection.sendall(b"GET /healthz HTTP/1.0\r\n\r\n")
                assert connection.recv(100) == b""
                raise ConnectionError
        server.wait_log('event=tls_failed .*why="certificate has expired"')
        assert server.handshakes("resumed") == 1


@pytest.mark.parametrize("version", VERSIONS)
def test_revoked_by_removal(tmp_path, certs, own, version):
    """Certificates listed one by one; out of the file, and the next handshake fails, with a ticket, too."""
    version = VERSIONS[version]
    trusted = tmp_path / "trusted.pem"
    first, second = own / "device-5ccf7fb1e042.pem", own / "device-5ccf7fb1e043.pem"
    trusted.write_text(first.read_text() + second.read_text())
    with TlsServer(tmp_path, certs, tls_client_ca=trusted) as server:
        context = server.context(version, certificate=first)
        session, _ = session_of(server, context)
        assert session_of(server, context, session=session)[1]
        trusted.write_text(second.read_text())
        reload(server)
        with pytest.raises((ssl.SSLError, ConnectionError)):
            server.tls_ask(device_request("/update/door", ESP8266), context=context, session=session)
        assert not refused(server, second, version)


def test_revoked_by_a_list(tmp_path, certs, own):
    bad, good = sign(own, "bad", "5ccf7fb1e042"), own / "device-5ccf7fb1e042.pem"
    openssl("ca", "-config", own / "odd.cnf", "-revoke", bad)
    openssl("ca", "-config", own / "odd.cnf", "-gencrl", "-out", own / "crl.pem")
    trusted = tmp_path / "trusted.pem"
    trusted.write_text((own / "ca.pem").read_text() + (own / "crl.pem").read_text())
    with TlsServer(tmp_path, certs, tls_client_ca=trusted) as server:
        assert refused(server, bad) and not refused(server, good)
        server.wait_log('event=tls_failed .*why="certificate revoked"')


@pytest.mark.parametrize("mode, name, alternative, said, status", [
    ("named", "5ccf7fb1e042", None, "5C:CF:7F:B1:E0:42", 200),
    ("named", "5C:CF:7F:B1:E0:42", None, "5C:CF:7F:B1:E0:42", 200),
    ("named", "5c-cf-7f-b1-e0-42.devices.example", None, "5C:CF:7F:B1:E0:42", 200),
    ("named", "a door", "DNS:5ccf7fb1e042.example,DNS:5ccf7fb1e043.example", "5C:CF:7F:B1:E0:43", 200),
    ("named", "5ccf7fb1e042", None, "5C:CF:7F:B1:E0:43", 403),
    ("named", "a door", "DNS:5ccf7fb1e042.example", "5C:CF:7F:B1:E0:43", 403),
    ("named", "a door", "DNS:door.5ccf7fb1e042.example", "5C:CF:7F:B1:E0:43", 200),  # no MAC where one is looked for
    ("named", "a door", None, "5C:CF:7F:B1:E0:43", 200),
    ("required", "a door", None, "5C:CF:7F:B1:E0:42", 403),
    ("required", "5ccf7fb1e042", None, "5C:CF:7F:B1:E0:42", 200),
    ("required", "5ccf7fb1e042", None, "5C:CF:7F:B1:E0:43", 403),
    ("any", "5ccf7fb1e042", None, "5C:CF:7F:B1:E0:43", 200),
])
def test_macs(tmp_path, certs, own, mode, name, alternative, said, status):
    """What is read out of one device is of no use to be another."""
    shown = sign(own, "shown", name, alternative)
    with TlsServer(tmp_path, certs, tls_client_ca=own / "ca.pem", tls_client_mac=mode) as server:
        context = server.context(certificate=shown)
        reply = server.tls_check(context=context, mac=said)
        assert reply.status == status, reply.head
        anonymous = Reply(server.tls_ask(b"GET /latest/door.bin HTTP/1.0\r\n\r\n", context=context))
        assert anonymous.status == (403 if mode == "required" else 200)
        if status == 403:
            assert reply.reason == "wrong-certificate" and reply.body.startswith(b"wrong-certificate: its certificate ")
            server.wait_log("event=check reason=wrong-certificate status=403 .*why=\"its certificate")
            answer = Admin(tmp_path / "state/admin.sock").get("/api/v1/devices")
            assert said.replace(":", "").lower() not in answer.text, "an impostor must not touch its victim's record"


# --- the operator changes certificates --------------------------------------------------------------------------------


def serial_of(server, context=None):
    with server.tls(context) as connection:
        return connection.getpeercert()["serialNumber"]


def test_reload(tmp_path):
    """What is under way goes on to its end; who comes now gets the new certificate."""
    certs = dev_cert(tmp_path / "certs", "127.0.0.1")
    data = make_image("esp8266", tmp_path / "firmware/door/2.0.bin", size=LARGE, seed=1)
    with TlsServer(tmp_path, certs) as server:
        before = serial_of(server)
        connection = server.tls(receive=65536)
        connection.sendall(device_request("/update/door", ESP8266))
        head = read_some(connection, 1000)
        dev_cert(certs, "127.0.0.1")
        reload(server)
        assert serial_of(server) != before
        rest = b""
        while piece := connection.recv(65536):
            rest += piece
        connection.close()
        assert_whole(Reply(head + rest), data)


@pytest.mark.parametrize("spoil, why", [
    (lambda certs: (certs / "server.pem").write_text("nothing"), "no start line"),
    (lambda certs: (certs / "server.key").unlink(), "No such file"),
    (lambda certs: openssl("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out",
                           certs / "server.key"), "key values mismatch"),
])
def test_a_bad_one_changes_nothing(tmp_path, spoil, why):
    certs = dev_cert(tmp_path / "certs", "127.0.0.1")
    with TlsServer(tmp_path, certs) as server:
        before = serial_of(server)
        context = server.context()
        spoil(certs)
        reload(server)
        server.wait_log(f'level=error event=tls_reload_failed why="--tls-(cert|key) .*/server.(pem|key): {why}')
        assert serial_of(server, context) == before


def test_reload_while_they_come(tmp_path):
    """Nobody is dropped: thirty reloads under handshakes and downloads, each whole."""
    certs = dev_cert(tmp_path / "certs", "127.0.0.1")
    data = make_image("esp8266", tmp_path / "firmware/door/2.0.bin", size="300K", seed=1)
    with TlsServer(tmp_path, certs) as server:
        over, failures, count = threading.Event(), [], [0]

        def come():
            context, session = server.context(), None
            while not over.is_set():
                try:
                    with server.tls(context, session=session) as connection:
                        connection.sendall(device_request("/update/door", ESP8266, mac=f"5C:CF:7F:00:00:{count[0] % 256:02X}"))
                        got = b""
                        while piece := connection.recv(65536):
                            got += piece
                        session = connection.session
                    assert_whole(Reply(got), data)
                    count[0] += 1
                except Exception as exception:  # pylint: disable=broad-except
                    failures.append(exception)
                    return

        threads = [threading.Thread(target=come) for _ in range(3)]
        for thread in threads:
            thread.start()
        for _ in range(30):
            reload(server)
        over.set()
        for thread in threads:
            thread.join(60)
        assert not failures and count[0] > 10
        assert server.handshakes("failed") == 0


@pytest.mark.parametrize("days, event", [(40, None), (20, "level=warn event=tls_expires"), (-5, "level=error event=tls_expired")])
def test_the_end_is_foretold(tmp_path, days, event):
    """Devices that know one authority cannot be told afterwards that the certificate was forgotten."""
    certs = dev_cert(tmp_path / "certs", "127.0.0.1")
    end = int(time.time()) + days * 86400 + 3600
    sign(certs, "server", "127.0.0.1", "DNS:127.0.0.1", end=time.strftime("%Y%m%d%H%M%SZ", time.gmtime(end)),
         purpose="serverAuth")
    with TlsServer(tmp_path, certs) as server:
        assert server.metric("updraft_tls_certificate_end_seconds") == end
        if event:
            server.wait_log(f"{event} file=.*/server.pem at=20.*Z days={days} ".replace("days=-5", "days=-[45]"))
        else:
            assert "tls_expire" not in server.log()


# --- what is refused at the start -------------------------------------------------------------------------------------


def complaints(tmp_path, words):
    """What a start and --check-config say, which must be the same, and of a server that does not run."""
    (tmp_path / "firmware").mkdir(exist_ok=True)
    base = [BIN / "updraftd", "--repo", tmp_path / "firmware", "--state", tmp_path / "state", "--listen", "127.0.0.1:0",
            "--tls-listen", "127.0.0.1:0", *words]
    said = []
    for more in [["--check-config"], []]:
        done = subprocess.run([*base, *more], capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL)
        assert done.returncode == 1, done
        said.append(done.stderr)
    return said


@pytest.mark.parametrize("cert, key, pieces", [
    ("none.pem", "server.key", ["--tls-cert {}/none.pem: ", "No such file", "give a readable PEM file"]),
    ("server.pem", "none.key", ["--tls-key {}/none.key: ", "No such file", "give a readable PEM file"]),
    ("server.pem", "server-rsa.key", ["--tls-key {}/server-rsa.key: ", "no certificate assigned", "of that certificate"]),
    ("server.pem", "ca.key", ["--tls-key {}/ca.key: ", "key values mismatch", "of that certificate"]),
    ("server.pem", "locked.key", ["--tls-key {}/locked.key: ", "no passphrase (openssl pkey -in"]),
    ("server.key", "server.key", ["--tls-cert {}/server.key: ", "give a readable PEM file"]),
    ("empty.pem", "server.key", ["--tls-cert {}/empty.pem: ", "no start line"]),
])
def test_bad_files(tmp_path, certs, cert, key, pieces):
    (certs / "empty.pem").write_text("")
    openssl("pkey", "-in", certs / "server.key", "-aes128", "-passout", "pass:x", "-out", certs / "locked.key")
    for said in complaints(tmp_path, ["--tls-cert", certs / cert, "--tls-key", certs / key]):
        for piece in pieces:
            assert piece.format(certs) in said, said


def test_bad_pairs(tmp_path, certs):
    pair = ["--tls-cert", certs / "server.pem", "--tls-key", certs / "server.key"]
    for said in complaints(tmp_path, pair * 2):
        assert "there is one of this kind of key already: give one ECDSA and one RSA" in said
    for said in complaints(tmp_path, [*pair, "--tls-client-ca", certs / "server.key"]):
        assert f"--tls-client-ca {certs}/server.key: " in said and "give a readable PEM file" in said
    for said in complaints(tmp_path, [*pair, "--tls-ciphers", "HIHG"]):
        assert "--tls-ciphers HIHG: no cipher match: see openssl-ciphers(1)" in said


# --- the only door ----------------------------------------------------------------------------------------------------


def test_no_plain_door(tmp_path, certs):
    """Devices are told https://, by the port that there is."""
    make_image("esp8266", tmp_path / "firmware/door/2.0.bin", seed=1)
    with TlsServer(tmp_path, certs, listen="none") as server:
        assert [line.split(":")[0] for line in server.said] == ["listening https 127.0.0.1", "listening admin " + str(
            tmp_path / "state/admin.sock"), "ready"]
        status = Admin(tmp_path / "state/admin.sock").get("/api/v1/status").json
        assert f"https://127.0.0.1:{server.tls_port}" in str(status), status
        assert server.tls_check().status == 200


def test_both_doors(tmp_path, certs):
    """The plain one is named, also where devices come by the other: not all of them can TLS."""
    make_image("esp8266", tmp_path / "firmware/door/2.0.bin", seed=1)
    with TlsServer(tmp_path, certs) as server:
        for _ in range(3):
            assert server.tls_check().status == 200
            time.sleep(0.25)
        status = Admin(tmp_path / "state/admin.sock").get("/api/v1/status").text
        assert f"http://127.0.0.1:{server.port}" in status and f":{server.tls_port}/" not in status
        assert f"https://127.0.0.1:{server.tls_port}" not in status

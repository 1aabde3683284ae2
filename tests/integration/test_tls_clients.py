"""Certificates that devices show: whom they let in, for how long, and as whom."""

import ssl
import time

import pytest

from tests.support.admin import Admin
from tests.support.preload import order, preloaded
from tests.support.tls import TlsServer, dev_cert, openssl, reload, session_of, sign
from tests.support.updraft import ESP8266, Reply, device_request, make_image

V12, V13 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3
VERSIONS = {"1.2": V12, "1.3": V13}


@pytest.fixture(scope="module")
def certs(tmp_path_factory):
    return dev_cert(tmp_path_factory.mktemp("certs"), "127.0.0.1")


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
    end, clock = time.time() + 2 * 3600, tmp_path / "state/clock"  # where a confined server may look
    brief = sign(own, "brief", "5ccf7fb1e042", end=time.strftime("%Y%m%d%H%M%SZ", time.gmtime(end)))
    with TlsServer(tmp_path, certs, tls_client_ca=own / "ca.pem", env=preloaded("turn_clock", TURN_CLOCK=clock)) as server:
        context = server.context(VERSIONS[version], certificate=brief)
        session, _ = session_of(server, context)
        assert session_of(server, context, session=session)[1], "it is resumed while the certificate is good"
        order(clock, 3 * 3600)
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


@pytest.mark.parametrize("version", VERSIONS)
def test_tickets_end_with_the_list(tmp_path, certs, own, version):
    """A list of those revoked that is out of date judges nobody: a ticket, which is made anew each time, is no way around."""
    sign(own, "any", "5ccf7fb1e042")
    openssl("ca", "-config", own / "odd.cnf", "-gencrl", "-crlhours", "2", "-out", own / "crl.pem")
    trusted, clock = tmp_path / "trusted.pem", tmp_path / "state/clock"  # where a confined server may look
    trusted.write_text((own / "ca.pem").read_text() + (own / "crl.pem").read_text())
    with TlsServer(tmp_path, certs, tls_client_ca=trusted, env=preloaded("turn_clock", TURN_CLOCK=clock)) as server:
        context = server.context(VERSIONS[version], certificate=own / "device-5ccf7fb1e042.pem")
        session, _ = session_of(server, context)
        assert session_of(server, context, session=session)[1]
        order(clock, 3 * 3600)
        with pytest.raises((ssl.SSLError, ConnectionError)):
            server.tls_ask(device_request("/update/door", ESP8266), context=context, session=session)
        server.wait_log('event=tls_failed .*why="CRL has expired"')
        assert server.handshakes("resumed") == 1


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


@pytest.mark.parametrize("version, by_id", [("1.2", False), ("1.2", True), ("1.3", False)])
def test_a_resumed_session_is_bound_as_well(tmp_path, certs, own, version, by_id):
    """No certificate is shown in it: the session remembers whose it is."""
    with TlsServer(tmp_path, certs, tls_client_ca=own / "ca.pem") as server:
        context = server.context(VERSIONS[version], certificate=own / "device-5ccf7fb1e042.pem")
        if by_id:
            context.options |= ssl.OP_NO_TICKET
        session, _ = session_of(server, context)
        for mac, status in [("5C:CF:7F:B1:E0:42", 200), ("5C:CF:7F:B1:E0:43", 403)]:
            reply = server.tls_check(context=context, session=session, mac=mac)
            assert reply.status == status, reply.head
        assert server.handshakes("resumed") == 2


def test_names_of_any_kind(tmp_path, certs, own):
    """A MAC binds a certificate in whichever letters it is written there, and as whichever of its names."""
    wide = own / "wide.cnf"
    wide.write_text("[req]\nprompt = no\ndistinguished_name = subject\nstring_mask = MASK:0x800\n[subject]\n0.CN = a door\n"
                    "1.CN = 5ccf7fb1e042\n")
    openssl("req", "-x509", "-new", "-key", own / "ca.key", "-config", wide, "-out", own / "wide.pem", "-CA", own / "ca.pem",
            "-CAkey", own / "ca.key")
    (own / "wide.key").write_bytes((own / "ca.key").read_bytes())
    with TlsServer(tmp_path, certs, tls_client_ca=own / "ca.pem", tls_client_mac="required") as server:
        context = server.context(certificate=own / "wide.pem")
        assert server.tls_check(context=context).status == 200
        assert server.tls_check(context=context, mac="5C:CF:7F:B1:E0:43").status == 403


def test_a_chain_without_end(tmp_path, certs, own):
    """16 KiB of certificates are heard, no more."""
    leaf = (own / "device-5ccf7fb1e042.pem").read_text()
    for many, is_refused in [(10, False), (60, True)]:
        shown = own / "shown.pem"
        shown.write_text(leaf + (own / "ca.pem").read_text() * many)
        shown.with_suffix(".key").write_bytes((own / "device-5ccf7fb1e042.key").read_bytes())
        with TlsServer(tmp_path / str(many), certs, tls_client_ca=own / "ca.pem") as server:
            for version in VERSIONS.values():
                assert refused(server, shown, version) == is_refused
            if is_refused:
                server.wait_log('event=tls_failed .*why="excessive message size"')


def test_a_file_of_many_devices(tmp_path, certs, own):
    """Listed one by one they are not all named in each handshake: what is longer than 64 KiB cannot be said, and a radio
    would have to hear it."""
    long_name = "".join(f"/OU={'x' * 60}{i:02d}" for i in range(60))
    trusted = tmp_path / "trusted.pem"
    with trusted.open("wb") as file:
        for i in range(16):
            file.write(openssl("req", "-x509", "-new", "-key", own / "ca.key", "-subj", f"{long_name}/CN={i}",
                               "-addext", "basicConstraints=critical,CA:FALSE"))
        file.write((own / "device-5ccf7fb1e042.pem").read_bytes())
    with TlsServer(tmp_path, certs, tls_client_ca=trusted) as server:
        for version in VERSIONS.values():
            context = server.context(version, certificate=own / "device-5ccf7fb1e042.pem")
            assert server.tls_check(context=context).status == 200
            assert refused(server, own / "device-5ccf7fb1e043.pem", version)

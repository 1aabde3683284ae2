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


def is_kept(connection):
    """Whether another request may follow the one that is answered here; if not, the connection ends in order."""
    connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: updraft\r\n\r\n")
    answer = b""
    while not answer.endswith(b"ok\n"):
        piece = connection.recv(1000)
        assert piece, answer
        answer += piece
    kept = b"\r\nConnection: keep-alive\r\n" in answer
    assert kept or connection.recv(1) == b""
    return kept


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
def test_all_ends_with_the_certificate(tmp_path, certs, own, version):
    """Neither a resumed session nor a kept connection is verified again: they must not outlive what they were verified by."""
    end, clock = time.time() + 2 * 3600, tmp_path / "state/clock"  # where a confined server may look
    brief = sign(own, "brief", "5ccf7fb1e042", end=time.strftime("%Y%m%d%H%M%SZ", time.gmtime(end)))
    with TlsServer(tmp_path, certs, tls_client_ca=own / "ca.pem", env=preloaded("turn_clock", TURN_CLOCK=clock)) as server:
        context = server.context(VERSIONS[version], certificate=brief)
        session, _ = session_of(server, context)
        assert session_of(server, context, session=session)[1], "it is resumed while the certificate is good"
        with server.tls(context) as connection:
            assert is_kept(connection)
            order(clock, 3 * 3600)
            assert not is_kept(connection)
        with pytest.raises((ssl.SSLError, ConnectionError)):
            with server.tls(context, session=session) as connection:
                connection.sendall(b"GET /healthz HTTP/1.0\r\n\r\n")
                assert connection.recv(100) == b""
                raise ConnectionError
        server.wait_log('event=tls_failed .*why="certificate has expired"')
        assert server.handshakes("resumed") == 1


@pytest.mark.parametrize("version", VERSIONS)
def test_revoked_by_removal(tmp_path, certs, own, version):
    """Certificates listed one by one; out of the file, and the next handshake fails, with a ticket, too. Who holds its
    connection gets one more answer."""
    version = VERSIONS[version]
    trusted = tmp_path / "trusted.pem"
    first, second = own / "device-5ccf7fb1e042.pem", own / "device-5ccf7fb1e043.pem"
    trusted.write_text(first.read_text() + second.read_text())
    with TlsServer(tmp_path, certs, tls_client_ca=trusted) as server:
        context = server.context(version, certificate=first)
        session, _ = session_of(server, context)
        assert session_of(server, context, session=session)[1]
        with server.tls(context) as connection:
            assert is_kept(connection)
            trusted.write_text(second.read_text())
            reload(server)
            assert not is_kept(connection)
        with pytest.raises((ssl.SSLError, ConnectionError)):
            server.tls_ask(device_request("/update/door", ESP8266), context=context, session=session)
        assert not refused(server, second, version)


def test_who_comes_anew(tmp_path, certs, own):
    """Who showed a certificate, where others are trusted by then; who showed none, where one is wanted. All others need not
    shake hands for a reload."""
    config, trusted, ca = tmp_path / "updraft.ini", tmp_path / "trusted.pem", (own / "ca.pem").read_text()
    config.write_text("tls-client = optional\n")
    trusted.write_text(ca)
    with TlsServer(tmp_path, certs, tls_client_ca=trusted, config=config) as server:
        with server.tls(server.context(certificate=own / "device-5ccf7fb1e042.pem")) as shown, server.tls() as silent:
            reload(server)
            assert is_kept(shown) and is_kept(silent)
            trusted.write_text(ca + (certs / "ca.pem").read_text())
            reload(server)
            assert not is_kept(shown) and is_kept(silent)
            config.write_text("tls-client = required\n")
            reload(server)
            assert not is_kept(silent)


def test_revoked_by_a_list(tmp_path, certs, own):
    bad, good = sign(own, "bad", "5ccf7fb1e042"), own / "device-5ccf7fb1e042.pem"
    openssl("ca", "-config", own / "odd.cnf", "-revoke", bad)
    openssl("ca", "-config", own / "odd.cnf", "-gencrl", "-out", own / "crl.pem")
    trusted = tmp_path / "trusted.pem"
    trusted.write_text((own / "ca.pem").read_text() + (own / "crl.pem").read_text())
    with TlsServer(tmp_path, certs, tls_client_ca=trusted) as server:
        assert refused(server, bad) and not refused(server, good)
        server.wait_log('event=tls_failed .*why="certificate revoked"')


def an_authority(folder, *more):
    """With a certificate that it signed: folder/device.pem."""
    folder.mkdir()
    openssl("req", "-x509", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj",
            f"/CN={folder.name}", "-keyout", folder / "ca.key", "-out", folder / "ca.pem", *more)
    sign(folder, "device", "5ccf7fb1e042")
    return folder


def list_of(authority, *more):
    openssl("ca", "-config", authority / "odd.cnf", "-gencrl", "-out", authority / "crl.pem", *more)
    return (authority / "crl.pem").read_text()


@pytest.mark.parametrize("shown_by", ["device", "file"])
def test_an_authority_revoked_by_a_list(tmp_path, certs, shown_by):
    """One between a root and the devices, where there is a list of the root's; where there is none, none is wanted."""
    make_image("esp8266", tmp_path / "firmware/door/2.0.bin", seed=1)
    root = an_authority(tmp_path / "root")
    middle = an_authority(tmp_path / "middle", "-CA", root / "ca.pem", "-CAkey", root / "ca.key")
    shown, trusted, chain = middle / "device.pem", tmp_path / "trusted.pem", (middle / "ca.pem").read_text()
    known = (root / "ca.pem").read_text() + list_of(middle)
    if shown_by == "file":
        known += chain
    else:
        shown.write_text(shown.read_text() + chain)
    trusted.write_text(known)
    with TlsServer(tmp_path, certs, tls_client_ca=trusted) as server:
        context = server.context(V12, certificate=shown)
        assert server.tls_check(context=context).status == 200
        trusted.write_text(known + list_of(root))
        reload(server)
        assert server.tls_check(context=context).status == 200
        trusted.write_text(known + list_of(root, "-crl_lastupdate", "20200101000000Z", "-crl_nextupdate", "20200201000000Z"))
        reload(server)
        with pytest.raises(ssl.SSLError, match="alert certificate expired"):
            server.tls(context)
        openssl("ca", "-config", root / "odd.cnf", "-revoke", middle / "ca.pem")
        trusted.write_text(known + list_of(root))
        reload(server)
        with pytest.raises(ssl.SSLError, match="alert certificate revoked"):
            server.tls(context)


@pytest.mark.parametrize("version, by_id", [("1.2", False), ("1.2", True), ("1.3", False)])
def test_all_ends_with_the_list(tmp_path, certs, own, version, by_id):
    """A list of those revoked that is out of date judges nobody: neither a ticket, which is made anew each time, nor a
    connection that is kept is a way around. All others shake hands once and are resumed again, up to the next end."""
    sign(own, "any", "5ccf7fb1e042")
    other = an_authority(tmp_path / "other")
    trusted, clock = tmp_path / "trusted.pem", tmp_path / "state/clock"  # where a confined server may look
    trusted.write_text("".join([(own / "ca.pem").read_text(), list_of(own, "-crlhours", "2"),
                                (other / "ca.pem").read_text(), list_of(other, "-crlhours", "4")]))
    with TlsServer(tmp_path, certs, tls_client_ca=trusted, tls_client="optional",
                   env=preloaded("turn_clock", TURN_CLOCK=clock)) as server:
        context = server.context(VERSIONS[version], certificate=own / "device-5ccf7fb1e042.pem")
        others = server.context(VERSIONS[version])
        if by_id:
            context.options |= ssl.OP_NO_TICKET
            others.options |= ssl.OP_NO_TICKET
        session, _ = session_of(server, context)
        assert session_of(server, context, session=session)[1]
        with server.tls(context) as connection:
            assert is_kept(connection)
            order(clock, 3 * 3600)
            assert not is_kept(connection)
        with pytest.raises((ssl.SSLError, ConnectionError)):
            server.tls_ask(device_request("/update/door", ESP8266), context=context, session=session)
        server.wait_log('event=tls_failed .*why="CRL has expired"')
        session, _ = session_of(server, others)
        assert session_of(server, others, session=session)[1]
        order(clock, 5 * 3600)
        assert not session_of(server, others, session=session)[1]
        assert server.handshakes("resumed") == 2


@pytest.mark.parametrize("version", VERSIONS)
def test_an_authority_that_is_over_leaves_others_alone(tmp_path, certs, own, version):
    """Found so when the file is read: whom it vouched for is out, with a ticket of before, too; all others go on being
    resumed."""
    brief = dev_cert(tmp_path / "brief", "device", "5C:CF:7F:B1:E0:44")
    day = openssl("x509", "-in", brief / "ca.pem", "-signkey", brief / "ca.key", "-days", "1").decode()
    trusted, clock = tmp_path / "trusted.pem", tmp_path / "state/clock"  # where a confined server may look
    trusted.write_text((own / "ca.pem").read_text() + day)
    clock.parent.mkdir()
    order(clock, 23 * 3600)
    with TlsServer(tmp_path, certs, tls_client_ca=trusted, env=preloaded("turn_clock", TURN_CLOCK=clock)) as server:
        theirs = server.context(VERSIONS[version], certificate=brief / "device-5ccf7fb1e044.pem")
        others = server.context(VERSIONS[version], certificate=own / "device-5ccf7fb1e042.pem")
        session, _ = session_of(server, theirs)
        assert session_of(server, theirs, session=session)[1]
        order(clock, 25 * 3600)
        reload(server)
        with pytest.raises((ssl.SSLError, ConnectionError)):
            server.tls_ask(device_request("/update/door", ESP8266), context=theirs, session=session)
        server.wait_log('event=tls_failed .*why="certificate has expired"')
        session, _ = session_of(server, others)
        assert session_of(server, others, session=session)[1]
        assert server.handshakes("resumed") == 2


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

"""The operator's certificates: what is refused at the start and at a reload, and how their end is foretold; and the doors
that devices are told of."""

import re
import subprocess
import threading
import time

import pytest

from tests.support.admin import Admin
from tests.support.download import LARGE, assert_whole
from tests.support.preload import order, preloaded
from tests.support.tls import TlsServer, dev_cert, openssl, read_some, reload, sign
from tests.support.updraft import BIN, ESP8266, Reply, device_request, make_image, read_to_end, wait_until

HEALTH = b"GET /healthz HTTP/1.0\r\n\r\n"


@pytest.fixture(scope="module")
def certs(tmp_path_factory):
    return dev_cert(tmp_path_factory.mktemp("certs"), "--rsa", "127.0.0.1")


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
        rest = read_to_end(connection)
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


@pytest.mark.parametrize("start, end", [("20200101000000Z", "20200201000000Z"), ("20980101000000Z", "20990101000000Z")])
def test_one_that_is_not_good_today_changes_nothing(tmp_path, start, end):
    """While the one before is: devices would refuse it."""
    certs = dev_cert(tmp_path / "certs", "127.0.0.1")
    with TlsServer(tmp_path, certs) as server:
        before = serial_of(server)
        sign(certs, "server", "127.0.0.1", "DNS:127.0.0.1", start=start, end=end, purpose="serverAuth")
        reload(server)
        server.wait_log('level=error event=tls_reload_failed why="--tls-cert .*/server.pem: its time is over, or has not begun')
        assert serial_of(server) == before


def test_the_certificate_vanishes_from_the_configuration(tmp_path):
    """The door stays until the next start: without a certificate it would be shut to all."""
    certs = dev_cert(tmp_path / "certs", "127.0.0.1")
    config = tmp_path / "updraft.ini"
    config.write_text(f"tls-listen = 127.0.0.1:0\ntls-cert = {certs}/server.pem\ntls-key = {certs}/server.key\n")
    with TlsServer(tmp_path, certs, tls_listen=None, tls_cert=None, tls_key=None, config=config) as server:
        before = serial_of(server)
        config.write_text("")
        reload(server)
        server.wait_log('event=reload_partial keys=tls-listen')
        server.wait_log('event=tls_reload_failed why="--tls-cert: cannot be used: TLS needs a certificate"')
        assert serial_of(server) == before


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
                        got = read_to_end(connection)
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


def test_the_end_comes_nearer(tmp_path):
    """Said also by a server that was started long before."""
    certs = dev_cert(tmp_path / "certs", "127.0.0.1")
    end = time.strftime("%Y%m%d%H%M%SZ", time.gmtime(time.time() + 40 * 86400))
    sign(certs, "server", "127.0.0.1", "DNS:127.0.0.1,IP:127.0.0.1", end=end, purpose="serverAuth")
    clock = tmp_path / "state/clock"  # where a confined server may look
    with TlsServer(tmp_path, certs, env=preloaded("turn_clock", TURN_CLOCK=clock)) as server:
        order(clock, 15 * 86400)
        server.wait_log("level=warn event=tls_expires file=.*/server.pem .* days=(24|25) ")
        order(clock, 41 * 86400)
        server.wait_log("level=error event=tls_expired file=.*/server.pem ")
        order(clock, 0)
        wait_until(lambda: server.tls_ask(HEALTH).endswith(b"ok\n"), "it goes on")


@pytest.mark.parametrize("whose", ["chain", "client-ca"])
def test_the_end_of_others_is_foretold(tmp_path, certs, whose):
    """Devices are refused, or refuse, as well when an authority's time is over."""
    brief = dev_cert(tmp_path / "brief", "127.0.0.1")
    (brief / "ca.pem").unlink()
    openssl("req", "-x509", "-new", "-key", brief / "ca.key", "-subj", "/CN=Brief", "-days", "10", "-out", brief / "ca.pem")
    flags = {"tls_client_ca": brief / "ca.pem", "tls_client": "optional"}
    if whose == "chain":
        both = tmp_path / "chain.pem"
        both.write_bytes((certs / "server.pem").read_bytes() + (brief / "ca.pem").read_bytes())
        flags = {"tls_cert": both}
    name = "chain.pem" if whose == "chain" else "ca.pem"
    with TlsServer(tmp_path, certs, **flags) as server:
        server.wait_log(f"level=warn event=tls_expires file=.*/{name} at=20.*Z days=(9|10) ")
        assert server.metric("updraft_tls_certificate_end_seconds") < time.time() + 11 * 86400


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
    for name, why in [("server.key", "there is no certificate in it"), ("none.pem", "No such file"), (".", "[Ii]s a directory")]:
        for said in complaints(tmp_path, [*pair, "--tls-client-ca", f"{certs}/{name}"]):
            assert re.search(f"--tls-client-ca {certs}/{re.escape(name)}: {why}.*: give a readable PEM file", said), said
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

"""Devices that show a user and a password: both cores as they send them, reloads, and strangers who guess."""

import base64
import hashlib
import re
import signal
import socket
import subprocess
import time

import pytest

from tests.support.admin import Admin
from tests.support.tls import TlsServer, dev_cert
from tests.support.updraft import BIN, ESP32, ESP8266, PATIENCE_S, ROOT, Reply, Server, device_request, make_image, \
    password_line, read_to_end, wait_until

SLOW = 600_000  # rounds, as of what people type: on a busy machine a stop waits seconds for one digest


@pytest.fixture
def repo(tmp_path):
    make_image("esp8266", tmp_path / "firmware/door_0_4_9.ino.door.bin")
    make_image("esp32", tmp_path / "firmware/shed_0_4_9.ino.shed.bin")
    make_image("esp8266", tmp_path / "firmware/gate_0_4_9.ino.gate.bin", seed=2)
    return tmp_path


def write(folder, *lines):
    (folder / "passwords").write_text("# users of the site\n\n" + "".join(line + "\n" for line in lines))
    return folder / "passwords"


def request(path, headers=ESP8266, user=None, **changes):
    """As the cores send it: the ESP8266's behind User-Agent, the ESP32's behind Connection."""
    if user is None:
        return device_request(path, headers, **changes)
    before = "User-Agent" if headers is ESP8266 else "Connection"
    ordered = {}
    for name, value in headers.items():
        ordered[name] = value
        if name == before:
            ordered["Authorization"] = "Basic " + base64.b64encode(user.encode()).decode()
    return device_request(path, ordered, **changes)


def ask(server, path, headers=ESP8266, user=None, source=None, **changes):
    with socket.socket() as connection:
        connection.settimeout(PATIENCE_S)
        connection.bind((source or "127.0.0.1", 0))
        connection.connect(("127.0.0.1", server.port))
        connection.sendall(request(path, headers, user, **changes))
        return Reply(read_to_end(connection))


def metric(server, name):
    text = Admin(server.folder / "state/admin.sock").get("/metrics").text
    return float(re.search(rf"^{re.escape(name)} (\S+)$", text, re.M).group(1))


def test_both_cores(repo):
    lines = write(repo, password_line("garden", "secret"))
    with Server(repo, device_passwords=lines) as server:
        for path, headers in (("/update/door", ESP8266), ("/update/shed", ESP32)):
            assert ask(server, path, headers).status == 401
            assert ask(server, path, headers, "garden:wrong").status == 401
            for _ in range(3):
                reply = ask(server, path, headers, "garden:secret", version="0.4.8", md5=None, sha256=None)
                assert (reply.status, reply.reason) == (200, "newer")
        log = server.log()
        assert "secret" not in log and base64.b64encode(b"garden:secret").decode() not in log


def test_a_fleet_is_let_in(repo):
    """updraft-sim was written from the real clients' sources, without a look at the server."""
    lines = write(repo, password_line("garden", "secret", rounds=100_000))
    with Server(repo, device_passwords=lines) as server:
        def run(user, devices):
            return subprocess.run([BIN / "updraft-sim", "--server", f"http://{user}@127.0.0.1:{server.port}", "--no-mqtt",
                                   "--devices", str(devices), "--types", "door,shed", "--family", "mixed",
                                   "--check-in-at-start", "--flash-time", "0", "--reboot-time", "10ms", "--duration",
                                   "30s", "--until", f"confirmed={devices}", "--quiet", "--json", "-"],
                                  capture_output=True, text=True, timeout=PATIENCE_S)
        done = run("garden:secret", 60)
        assert done.returncode == 0, done.stderr
        assert '"confirmed_devices":60' in done.stdout.replace(" ", ""), done.stdout
        assert metric(server, "updraft_password_checks_total") == 1


def test_what_was_right_is_not_worked_out_again(repo):
    """A digest takes as long as a thousand answers: each user pays once, also over reloads that leave his line."""
    lines = write(repo, password_line("garden", "secret"), password_line("roof", "other"))
    with Server(repo, device_passwords=lines) as server:
        for _ in range(5):
            assert ask(server, "/update/door", user="garden:secret").status != 401
            assert ask(server, "/update/door", user="garden:wrong").status == 401
        assert metric(server, "updraft_password_checks_total") == 2
        write(repo, password_line("garden", "secret"), password_line("roof", "another"))
        server.process.send_signal(signal.SIGHUP)
        server.wait_log("event=reloaded")
        assert ask(server, "/update/door", user="garden:secret").status != 401
        assert metric(server, "updraft_password_checks_total") == 2
        assert ask(server, "/update/door", user="roof:other").status == 401
        assert ask(server, "/update/door", user="roof:another").status != 401
        assert metric(server, "updraft_password_checks_total") == 4


def test_a_reload_takes_users_away(repo):
    """Who was let in a moment ago is not any more, on a kept connection neither."""
    lines = write(repo, password_line("garden", "secret"))
    with Server(repo, device_passwords=lines) as server:
        assert ask(server, "/update/door", user="garden:secret").status != 401
        write(repo, password_line("garden", "changed"))
        server.process.send_signal(signal.SIGHUP)
        server.wait_log("event=reloaded")
        assert ask(server, "/update/door", user="garden:secret").reason == "wrong-password"
        assert ask(server, "/update/door", user="garden:changed").status != 401


# Every way to spell a question; what comes back is never of the closed type, nor says what there is of it.
QUESTIONS = [
    b"GET /update/door HTTP/1.0\r\n", b"HEAD /update/door HTTP/1.0\r\n", b"POST /update/door HTTP/1.0\r\n",
    b"GET /update/%64oor HTTP/1.0\r\n", b"GET /update/door?version=0.4.9 HTTP/1.0\r\n", b"GET /update/door#x HTTP/1.0\r\n",
    b"GET http://a/update/door HTTP/1.0\r\n", b"GET HTTP://a:1/firmware/door_0_4_9.ino.door.bin HTTP/1.0\r\n",
    b"GET /update/gate/../door HTTP/1.0\r\n", b"GET /update/./door HTTP/1.0\r\n", b"GET //update/door HTTP/1.0\r\n",
    b"GET /UPDATE/door HTTP/1.0\r\n", b"GET /update/DOOR HTTP/1.0\r\n", b"GET /update/door/ HTTP/1.0\r\n",
    b"GET /update/door%00 HTTP/1.0\r\n", b"GET /update/gate%2f..%2fdoor HTTP/1.0\r\n",
    b"GET /update/door HTTP/1.0\r\nx-ESP8266-mode: version\r\n",
    b"GET /latest/door.bin HTTP/1.0\r\n", b"HEAD /latest/door.bin HTTP/1.0\r\n", b"POST /latest/door.bin HTTP/1.0\r\n",
    b"GET /latest/door.bin HTTP/1.0\r\nRange: bytes=0-0\r\n", b"GET /latest/door.bin HTTP/1.0\r\nIf-None-Match: *\r\n",
    b"GET /latest/gate/../door.bin HTTP/1.0\r\n", b"GET /latest/%2e/door.bin HTTP/1.0\r\n",
    b"GET /firmware/door_0_4_9.ino.door.bin HTTP/1.0\r\n", b"GET /firmware/./door_0_4_9.ino.door.bin HTTP/1.0\r\n",
    b"GET /firmware//door_0_4_9.ino.door.bin HTTP/1.0\r\n", b"GET /firmware/%64oor_0_4_9.ino.door.bin.md5 HTTP/1.0\r\n",
    b"GET /firmware/x/../door_0_4_9.ino.door.bin HTTP/1.0\r\n", b"GET /firmware/door_0_4_9.ino.door.bin.sha256 HTTP/1.0\r\n",
    b"GET /firmware/door_0_4_9.ino.door.bin HTTP/1.0\r\nRange: bytes=0-\r\nIf-Range: x\r\n",
    b"GET /firmware/door_0_4_9.ino.door.bin?x HTTP/1.0\r\n", b"GET /firmware/../passwords HTTP/1.0\r\n",
    b"GET /spiffs/door HTTP/1.0\r\n", b"GET /native/door/version HTTP/1.0\r\n", b"GET /manifest/esphome/door.json HTTP/1.0\r\n",
    b"OPTIONS * HTTP/1.0\r\n", b"GET /api/v1/firmware HTTP/1.0\r\n", b"GET /metrics HTTP/1.0\r\n",
]
SHOWN = [b"", b"Authorization: Basic\r\n", b"Authorization: Basic Og==\r\n", b"Authorization: Basic Z2FyZGVuOg==\r\n",
         b"Authorization: Bearer Z2FyZGVuOnNlY3JldA==\r\n", b"Proxy-Authorization: Basic Z2FyZGVuOnNlY3JldA==\r\n",
         b"authorization: Basic Z2FyZGVuOnNlY3JldA==\r\nAuthorization: Basic Z2FyZGVuOnNlY3JldA==\r\n",
         b"Authorization: Basic /////w==\r\n", b"Authorization: Basic " + b"A" * 4096 + b"\r\n"]


def test_no_spelling_gets_round_the_password(repo):
    lines = write(repo, password_line("garden", "secret", types="door"))
    image = (repo / "firmware/door_0_4_9.ino.door.bin").read_bytes()
    told = [image[:64], b"0.4.9", b"0_4_9", hashlib.md5(image).hexdigest().encode(), hashlib.sha256(image).hexdigest().encode()]
    headers = b"".join(f"{name}: {value}\r\n".encode() for name, value in {**ESP8266, "x-ESP8266-version": "0.4.8"}.items()
                       if name not in ("Connection", "x-ESP8266-mode"))
    routes = re.findall(r'{ "(/[^"]*)", device_api_\w+ }', (ROOT / "server/router.c").read_text())
    asked = {question.split()[1].decode() for question in QUESTIONS}
    assert {one for one in routes if not any(path.startswith(one) for path in asked)} <= {"/healthz"}, "who may ask that?"
    with Server(repo, device_passwords=lines) as server:
        for question in QUESTIONS:
            for shown in SHOWN if question is QUESTIONS[0] or b"firmware/%64" in question else SHOWN[:1]:
                answer = server.ask(question + shown + headers + b"\r\n")
                head, _, body = answer.partition(b"\r\n\r\n")
                assert answer.split()[1] in (b"400", b"401", b"403", b"404", b"405"), (question, shown, answer)
                if b"/door" in question and answer.split()[1] == b"401":
                    assert b"\r\nWWW-Authenticate: Basic realm=\"Updraft\"\r\n" in head
                assert not any(word in head + body for word in told), (question, shown, answer)
        # On a kept connection each request is asked for itself: behind a refused one, and behind one that was let in.
        word = base64.b64encode(b"garden:secret")
        path = b"GET /firmware/door_0_4_9.ino.door.bin.md5 HTTP/1.1\r\nHost: u\r\n"
        asked = [path, path + b"Authorization: Basic " + word + b"\r\n", path, path + b"Authorization: Basic eDp5\r\n",
                 path + b"Connection: close\r\n"]
        answers = server.ask(b"".join(one + b"\r\n" for one in asked))
        assert re.findall(rb"HTTP/1.1 (\d+)", answers) == [b"401", b"200", b"401", b"401", b"401"]
        assert answers.count(told[3]) == 1


BAD = {
    "no hash": ("garden", "no hash"),
    "plain password": ("garden:secret", "no hash"),
    "few rounds": ("garden:pbkdf2-sha256$10$" + "a" * 32 + "$" + "b" * 64, "no hash"),
    "blank in the name": (password_line("gar den", "x"), "name"),
    "empty type": (password_line("roof", "x") + ":d1_mini,", "types"),
    "bad type": (password_line("roof", "x") + ":a b", "types"),
    "twice": (password_line("garden", "secret"), "line 3"),
}


@pytest.mark.parametrize("what", BAD)
def test_a_bad_line(repo, what):
    """Is named with its number, ends a start, and undoes a reload; what it says is not shown."""
    line, why = BAD[what]
    lines = write(repo, password_line("garden", "secret"))
    with Server(repo, device_passwords=lines) as server:
        write(repo, password_line("garden", "secret"), line)
        server.process.send_signal(signal.SIGHUP)
        server.wait_log("event=reload_failed")
        said = [line for line in server.log().splitlines() if "reload_failed" in line][0]
        assert "passwords:4: " in said and why in said and "pbkdf2" not in said
        assert ask(server, "/update/door").status == 401
        assert ask(server, "/update/door", user="garden:secret").status != 401
        for words in (["--check-config"], []):
            done = subprocess.run([BIN / "updraftd", "--repo", repo / "firmware", "--state", repo / "other",
                                   "--listen", "127.0.0.1:0", "--device-passwords", lines, *words],
                                  capture_output=True, text=True, timeout=PATIENCE_S)
            assert done.returncode == 1 and "passwords:4: " in done.stderr and why in done.stderr


def test_a_reload_that_cannot_close_the_door_changes_nothing(repo):
    """Else what was to come into effect behind passwords does so without them."""
    config = repo / "updraftd.ini"
    config.write_text("")
    with Server(repo, config=config) as server:
        assert ask(server, "/update/door").status == 304
        config.write_text(f"device-passwords = {repo / 'missing'}\nunknown-devices = refuse\n")
        server.process.send_signal(signal.SIGHUP)
        server.wait_log("event=reload_failed .*missing.* remedy=\"the configuration before stays in effect")
        assert ask(server, "/update/door").status == 304
        assert "event=reloaded" not in server.log()


@pytest.mark.parametrize("text", ["", "# nobody yet\n"])
def test_a_file_without_users_opens_nothing(repo, text):
    """Else a file that was emptied by mistake, or is being written, would let everyone in."""
    (repo / "passwords").write_text(text)
    done = subprocess.run([BIN / "updraftd", "--repo", repo / "firmware", "--state", repo / "state", "--listen",
                           "127.0.0.1:0", "--device-passwords", repo / "passwords"], capture_output=True, text=True,
                          timeout=PATIENCE_S)
    assert done.returncode == 1 and "no user is in it" in done.stderr


def guess(server, source, number, connections):
    connection = socket.socket()
    connection.settimeout(PATIENCE_S)
    connection.bind((source, 0))
    connection.connect(("127.0.0.1", server.port))
    connection.sendall(request("/update/door", user=f"garden:guess-{source}-{number}"))
    connections.append(connection)


def test_guesses_slow_nobody(repo):
    """Thousands of wrong passwords from many addresses: one is worked out at a time, few wait, the others hear "not
    now" at once; and a device that was let in before is answered while all of that waits."""
    lines = write(repo, password_line("garden", "secret"), password_line("roof", "x", rounds=SLOW))
    with Server(repo, device_passwords=lines) as server:
        assert ask(server, "/update/door", user="garden:secret").status != 401
        connections = []
        for host in range(2, 130):
            for number in range(18):
                guess(server, f"127.0.0.{host}", number, connections)
        for _ in range(20):
            assert ask(server, "/update/door", user="garden:secret", source="127.0.0.2").status != 401
            assert ask(server, "/update/gate", user="garden:secret").status != 401
            assert metric(server, "updraft_password_checks_under_way") <= 1
            assert metric(server, "updraft_password_checks_waiting") <= 64
        # 64 wait, or have been answered meanwhile; the others were turned away unchecked.
        worked_out = metric(server, "updraft_password_checks_total")
        wait_until(lambda: server.log().count("reason=not-yet") >= len(connections) - 64 - worked_out - 20,
                   "the others were answered")
        assert worked_out < 100
        for connection in connections:
            connection.close()


def test_a_guesser_is_slowed(repo):
    """Sixteen at once from one address, then one in ten seconds; another address does not feel it."""
    lines = write(repo, password_line("garden", "secret"), password_line("roof", "other"))
    with Server(repo, device_passwords=lines) as server:
        statuses = [ask(server, "/update/door", user=f"garden:{i}", source="127.0.0.2").status for i in range(30)]
        assert statuses[:16] == [401] * 16 and statuses[-1] == 304
        assert statuses.count(401) <= 18, "how long the test took decides between 16 and 18"
        plain = ask(server, "/latest/door.bin", {"User-Agent": "curl/8", "x-ESP8266-STA-MAC": ""}, "garden:late",
                    source="127.0.0.2")
        assert plain.status in (401, 503)
        assert ask(server, "/update/door", user="garden:secret", source="127.0.0.3").status != 401


def test_a_crowd_with_one_password_pays_once(repo):
    """A fleet behind one NAT comes back after a restart of the server, all with the same user: one digest, and all are
    answered."""
    lines = write(repo, password_line("garden", "secret", rounds=200_000))
    with Server(repo, device_passwords=lines) as server:
        connections = []
        for _ in range(40):
            connection = socket.socket()
            connection.settimeout(PATIENCE_S)
            connection.connect(("127.0.0.1", server.port))
            connection.sendall(request("/update/door", user="garden:secret", version="0.4.8", md5=None))
            connections.append(connection)
        for connection in connections:
            reply = Reply(read_to_end(connection))
            assert (reply.status, reply.reason) == (200, "newer")
            connection.close()
        assert metric(server, "updraft_password_checks_total") == 1


def test_requests_behind_one_that_waits(repo):
    """A kept connection: what came behind the request that waits is answered behind it."""
    lines = write(repo, password_line("garden", "secret", rounds=200_000))
    with Server(repo, device_passwords=lines) as server:
        word = base64.b64encode(b"garden:secret").decode()
        with server.connect() as connection:
            connection.sendall((f"GET /firmware/door_0_4_9.ino.door.bin.md5 HTTP/1.1\r\nHost: u\r\n"
                                f"Authorization: Basic {word}\r\n\r\n").encode() +
                               b"GET /healthz HTTP/1.1\r\nHost: u\r\nConnection: close\r\n\r\n")
            answers = read_to_end(connection)
        assert re.findall(rb"HTTP/1.1 (\d+)", answers) == [b"200", b"200"] and answers.endswith(b"ok\n")


def test_over_tls(repo):
    """Where passwords belong: an image that waited for its password goes out whole, and what came behind it too."""
    certs = dev_cert(repo / "certs", "127.0.0.1")
    lines = write(repo, password_line("garden", "secret", rounds=200_000))
    with TlsServer(repo, certs, listen="none", device_passwords=lines) as server:
        image = (repo / "firmware/door_0_4_9.ino.door.bin").read_bytes()
        assert "config_doubtful" not in server.log()
        for _ in range(2):
            reply = Reply(server.tls_ask(request("/update/door", user="garden:secret", version="0.4.8", md5=None)))
            assert (reply.status, reply.body) == (200, image)
        assert Reply(server.tls_ask(request("/update/door", user="garden:wrong"))).status == 401
        assert Reply(server.tls_ask(request("/update/door"))).status == 401


def test_explain_says_that_a_password_is_needed(repo):
    """Else it would promise an image to a device that hears 401."""
    lines = write(repo, password_line("garden", "secret", "door"))
    with Server(repo, device_passwords=lines) as server:
        admin = Admin(server.folder / "state/admin.sock")
        make_image("littlefs", repo / "firmware/littlefs_1.0_4M.bin")
        server.wait_log("event=image_added file=littlefs_1.0_4M.bin")
        for question, needs in (("type=door", True), ("type=gate", False), ("type=gate&mode=fs&flash=4194304", True)):
            steps = admin.get(f"/api/v1/explain?{question}&client=esp8266").json["next"]
            assert any("needs a user and a password" in step for step in steps) == needs


def test_a_mistyped_type_is_warned_of(repo):
    """It leaves open what it was meant to close."""
    lines = write(repo, password_line("garden", "secret", "door"))
    with Server(repo, device_passwords=lines) as server:
        def warnings():
            return [one for one in Admin(repo / "state/admin.sock").get("/api/v1/status").json["warnings"] if "passwords" in one]
        assert warnings() == []
        for types, named in (("door,gaet,shde,gaet", True), (None, False)):
            write(repo, password_line("garden", "secret", "gate"), password_line("roof", "secret", types))
            server.process.send_signal(signal.SIGHUP)
            wait_until(lambda: len(warnings()) == named, "the reload")
            assert not named or re.search('"gaet", and others, that users are for', warnings()[0])


def test_who_leaves_while_he_waits_and_the_end(repo):
    """Connections that go away meanwhile take nothing with them; a stop waits for one digest, not for all."""
    lines = write(repo, password_line("garden", "secret", rounds=SLOW))
    server = Server(repo, device_passwords=lines)
    connections = []
    for number in range(12):
        guess(server, "127.0.0.2", number, connections)
    wait_until(lambda: metric(server, "updraft_password_checks_waiting") == 12, "they wait")
    for connection in connections[:6]:
        connection.close()
    began = time.monotonic()
    server.stop()
    assert time.monotonic() - began < 30
    for connection in connections[6:]:
        with connection:
            assert Reply(read_to_end(connection)).status in (304, 401)


def test_plain_http_is_doubted(repo):
    """Basic over plain HTTP can be read by all: said at the start, unless only this machine gets there."""
    lines = write(repo, password_line("garden", "secret"))
    for listen, doubts in (("0.0.0.0:0", True), ("127.0.0.1:0", False), ("[::1]:0", False)):
        done = subprocess.run([BIN / "updraftd", "--repo", repo / "firmware", "--state", repo / "state", "--listen",
                               listen, "--device-passwords", lines, "--check-config"], capture_output=True, text=True,
                              timeout=PATIENCE_S)
        assert done.returncode == 0
        assert ("can read them" in done.stderr) == doubts


def test_the_line_that_the_command_prints(repo):
    """What an operator types is let in; a drawn password too, which stands nowhere but on stderr."""
    typed = subprocess.run([BIN / "updraft", "device-password", "garden", "--type", "door"], input="Gänse füßchen\n",
                           capture_output=True, text=True, check=True)
    drawn = subprocess.run([BIN / "updraft", "device-password", "roof", "--random"], capture_output=True, text=True,
                           check=True)
    password = re.search(r"The password is (\S{22})\n", drawn.stderr).group(1)
    assert "füßchen" not in typed.stdout + typed.stderr and password not in drawn.stdout
    lines = write(repo, typed.stdout.strip(), drawn.stdout.strip())
    with Server(repo, device_passwords=lines) as server:
        assert ask(server, "/update/door", user="garden:Gänse füßchen").status != 401
        assert ask(server, "/update/door", user=f"roof:{password}").status != 401
        assert ask(server, "/update/shed", ESP32, user=f"roof:{password}").status != 401


@pytest.mark.parametrize("words, text", [
    (["gar:den"], "x\n"), (["garden"], ""), (["garden"], "\n"), (["garden"], "a" * 129 + "\n"), (["garden"], "a\tb\n"),
    (["garden", "--type", "a,,b"], "x\n"), (["garden", "--type", "a,"], "x\n"), (["garden", "--type", "a,.b"], "x\n"),
    (["garden", "--type", "a" * 65], "x\n"), ([], "x\n"), (["garden", "secret"], ""),
])
def test_what_the_command_refuses(words, text):
    done = subprocess.run([BIN / "updraft", "device-password", *words], input=text, capture_output=True, text=True)
    assert done.returncode in (1, 2) and done.stdout == "" and done.stderr

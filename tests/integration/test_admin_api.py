"""The operator's side of a real server, over the Unix socket and over TCP. What makes it hard: answers that come later
than their request, while bodies arrive in any shape, connections end, and the server itself does."""

import concurrent.futures
import ctypes
import fcntl
import http.client
import json
import os
import re
import resource
import select
import shlex
import signal
import socket
import stat
import subprocess
import time
import urllib.parse

import pytest

from tests.support.admin import SOCKET_PATH_MAX, Admin, Answer
from tests.support.download import LARGE, Download, assert_whole
from tests.support.updraft import BIN, ESP32, ESP8266, PATIENCE_S, Reply, Server, check, make_image, wait_until

MIB = 1 << 20
UPLOAD_MAX = 32 * MIB
NOWHERE = "mqtt://127.0.0.1:1"  # a broker that is away: commands are taken, and wait
PUBLIC = "http://192.0.2.1:8080"


def admin_of(server):
    return Admin(server.folder / "state/admin.sock")


def tcp_address(server):
    ports = [re.fullmatch(r"listening admin 127\.0\.0\.1:(\d+)", line) for line in server.said]
    return "127.0.0.1", int(next(found for found in ports if found).group(1))


def image_bytes(folder, kind="esp8266", **options):
    return make_image(kind, folder / "made.image", **options)


def upload(admin, body, type="door", version="1.0", **words):
    query = urllib.parse.urlencode({"type": type, "version": version, **words})
    return admin.post(f"/api/v1/firmware?{query}", body)


def listed(admin, query=""):
    return admin.get(f"/api/v1/firmware{query}").json["images"]


def files(admin):
    return [image["file"] for image in listed(admin)]


def wait_seen(admin, images, rejected):
    """Until so many files are served, and so many rejected."""
    def seen():
        repository = admin.get("/api/v1/status").json["repository"]
        return (repository["images"], repository["rejected"]) == (images, rejected)
    wait_until(seen, f"{images} images, {rejected} rejected")


def remove(admin, file, query=""):
    return admin.delete(f"/api/v1/firmware/{urllib.parse.quote(file)}{query}")


def on_disk(server):
    return sorted(str(path.relative_to(server.repo)) for path in server.repo.rglob("*"))


def latest(server, type="door"):
    return Reply(server.ask(f"GET /latest/{type}.bin HTTP/1.0\r\n\r\n".encode()))


class Wire:
    """One connection to the admin API, byte for byte."""

    def __init__(self, server, tcp=False):
        if tcp:
            self.socket = socket.create_connection(tcp_address(server), PATIENCE_S)
        else:
            connection = admin_of(server).connection()
            connection.connect()
            self.socket = connection.sock
        self.input = b""

    def send(self, data):
        self.socket.sendall(data)

    def reply(self):
        """The next answer, an interim one too."""
        while b"\r\n\r\n" not in self.input:
            self.more()
        head = self.input.partition(b"\r\n\r\n")[0] + b"\r\n\r\n"
        length = int((re.search(rb"\r\nContent-Length: (\d+)", head) or [b"", b"0"])[1])
        while len(self.input) < len(head) + length:
            self.more()
        whole, self.input = self.input[:len(head) + length], self.input[len(head) + length:]
        return Reply(whole)

    def more(self):
        piece = self.socket.recv(65536)
        assert piece, f"ended by the server behind {self.input!r}"
        self.input += piece

    def is_ended(self):
        """The server sends nothing more."""
        return self.input == b"" and self.socket.recv(65536) == b""

    def close(self):
        self.socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def post_head(length, path="/api/v1/firmware?type=door&version=1.0", *lines):
    return "\r\n".join([f"POST {path} HTTP/1.1", "Host: updraft", f"Content-Length: {length}", *lines, "", ""]).encode()


def error_of(reply):
    """The code; an error is JSON with code, message and remedy, whatever went wrong."""
    assert reply.headers["Content-Type"] == "application/json", reply.head
    error = json.loads(reply.body)["error"]
    assert set(error) >= {"code", "message", "remedy"} and all(error.values()), error
    return error["code"]


def refused(answer, status, code):
    """The answer is this refusal; returns its message and remedy."""
    assert (answer.status, answer.error) == (status, code), answer
    error = answer.json["error"]
    assert error["message"] and error["remedy"], error
    return f'{error["message"]} | {error["remedy"]}'


def ends(server):
    """After a SIGTERM: exit code 0. (A second SIGTERM at the very end would kill it.)"""
    server.process.wait(PATIENCE_S)
    server.stop()


def healthy(server):
    return admin_of(server).get("/api/v1/status").status == 200


@pytest.fixture
def server(tmp_path):
    with Server(tmp_path, admin_listen="127.0.0.1:0") as running:
        yield running


@pytest.fixture
def admin(server):
    return admin_of(server)


# --- adding -----------------------------------------------------------------------------------------------------------

def test_upload_is_served_when_it_is_answered(server, admin, tmp_path):
    """Else `firmware add` followed by `publish-update` would announce what no device can have."""
    body = image_bytes(tmp_path)
    answer = upload(admin, body)
    assert answer.status == 201, answer
    assert answer.json["file"] == "door/1.0.bin" and answer.json["kind"] == "sketch" and answer.json["newest"]
    assert latest(server).body == body
    assert listed(admin) == [answer.json]
    assert on_disk(server) == ["door", "door/1.0.bin"]  # nothing half-written is left
    assert stat.S_IMODE((server.repo / "door/1.0.bin").stat().st_mode) == 0o644


@pytest.mark.parametrize("kind, made, options, words, file, gzip", [
    ("sketch", "esp32", {"version": "1.0"}, {}, "door/1.0.bin", False),
    ("sketch", "esp8266", {"gzip": 1}, {}, "door/1.0.bin.gz", True),
    ("sketch", "esp8266", {"gzip": 1}, {"gzip": "yes"}, "door/1.0.bin.gz", True),
    ("fs", "littlefs", {}, {"kind": "fs"}, "door/1.0.fs.bin", False),
    ("fs", "littlefs", {"gzip": 1}, {"kind": "fs"}, "door/1.0.fs.bin.gz", True),
    ("user1", "user1", {}, {"kind": "user1"}, "door/1.0.user1.bin", False),
    ("user2", "user2", {}, {"kind": "user2"}, "door/1.0.user2.bin", False),
])
def test_each_kind_has_its_place(server, admin, tmp_path, kind, made, options, words, file, gzip):
    answer = upload(admin, image_bytes(tmp_path, made, **options), **words)
    assert answer.status == 201, answer
    assert (answer.json["file"], answer.json["kind"], answer.json["gzip"]) == (file, kind, gzip)
    assert (server.repo / file).is_file()


@pytest.mark.parametrize("made, options, words, fault", [
    ("html", {}, {}, "html-page"),
    ("factory", {"chip": "esp32c3"}, {}, "factory-image"),
    ("esp8266", {"break": "checksum"}, {}, "bad-checksum"),
    ("esp32", {"break": "truncate"}, {}, "truncated"),
    ("littlefs", {}, {}, "wrong-kind"),
    ("esp8266", {}, {"kind": "fs"}, "wrong-kind"),
    ("esp8266", {}, {"kind": "user1"}, "wrong-kind"),
])
def test_what_fails_its_checks_is_not_placed(server, admin, tmp_path, made, options, words, fault):
    answer = upload(admin, image_bytes(tmp_path, made, **options), **words)
    refused(answer, 422, "rejected")
    assert answer.json["error"]["fault"] == fault
    assert on_disk(server) == []


def test_compressed_bytes_under_a_plain_name(server, admin, tmp_path):
    """gzip=no on compressed bytes, gzip=yes on plain ones: the next scan would reject the file by its name."""
    for made, said in (({"gzip": 1}, "no"), ({}, "yes")):
        answer = upload(admin, image_bytes(tmp_path, **made), version=f"1.{len(said)}", gzip=said)
        assert "gzip=yes" in refused(answer, 422, "rejected")
        assert answer.json["error"]["fault"] == "wrong-kind"
    assert on_disk(server) == []


@pytest.mark.parametrize("inside, said, contradicts", [
    ("2.0.0", "1.0.0", True),
    ("1.0.1", "1.0", True),
    ("1.2.0", "1_2", False),  # the same in another spelling
    ("v1.2.0", "1.2.0", False),
    ("1", "1.0.7", False),  # what build systems leave behind when nobody says a version
    ("arduino-lib-builder", "1.0", False),
    ("f1e2d3c", "1.0", False),
])
def test_version_inside_against_version_said(server, admin, tmp_path, inside, said, contradicts):
    answer = upload(admin, image_bytes(tmp_path, "esp32", version=inside), version=said)
    if contradicts:
        words = refused(answer, 422, "contradicts-version")
        assert inside in words and said in words
        assert on_disk(server) == []
    else:
        assert answer.status == 201, answer


def test_chip_against_the_type_s_other_images(server, admin, tmp_path):
    assert upload(admin, image_bytes(tmp_path, "esp32", chip="esp32c3", version="1.0")).status == 201
    words = refused(upload(admin, image_bytes(tmp_path), version="1.1"), 422, "contradicts-chip")
    assert "ESP8266" in words and "ESP32-C3" in words
    other = image_bytes(tmp_path, "esp32", chip="esp32s3", version="1.1")
    refused(upload(admin, other, version="1.1"), 422, "contradicts-chip")
    assert upload(admin, image_bytes(tmp_path, "littlefs"), version="1.1", kind="fs").status == 201
    assert upload(admin, image_bytes(tmp_path), type="porch").status == 201
    # The one image that says otherwise may be replaced: it was the mistake.
    assert upload(admin, image_bytes(tmp_path), replace="yes").status == 201


def test_exists_and_replace(server, admin, tmp_path):
    first, second = image_bytes(tmp_path, seed=1), image_bytes(tmp_path, seed=2)
    assert upload(admin, first).status == 201
    assert "replace" in refused(upload(admin, second), 409, "exists")
    assert "replace" in refused(upload(admin, second, replace="no"), 409, "exists")
    assert latest(server).body == first
    answer = upload(admin, second, replace="yes")
    assert answer.status == 201 and latest(server).body == second
    assert upload(admin, second, replace="yes").status == 201  # the same bytes once more


def test_same_version_under_another_name(server, admin, tmp_path):
    """It would be rejected as a duplicate by the next scan: refused before, with the name of the file in the way."""
    make_image("esp8266", server.repo / "truc_1_0.ino.door.bin")
    wait_until(lambda: files(admin), "the file is served")
    for words in ({}, {"replace": "yes"}):
        assert "truc_1_0.ino.door.bin" in refused(upload(admin, image_bytes(tmp_path), **words), 409, "exists")


@pytest.mark.parametrize("name", ["truc_1_0.ino.door.bin", "a/b/truc_1.0.ino.door.bin", "-truc_1.0.ino.door.bin",
                                  "it's(50%)$x_1.0.ino.door.bin", "*_1.0.ino.door.bin"])
def test_what_is_printed_makes_room(server, admin, tmp_path, name):
    """The command in the refusal is pasted into a shell: it must name this file and no other."""
    make_image("esp8266", server.repo / name)
    wait_until(lambda: files(admin), "the file is served")
    for words in ({}, {"replace": "yes"}):
        answer = upload(admin, image_bytes(tmp_path), **words)
        said = refused(answer, 409, "exists")
        assert "under another name" in said and name in answer.json["error"]["message"]
        assert ("--replace replaces a file of the same name alone, door/1.0.bin" in said) == bool(words)
    command = re.match("`([^`]*)`", answer.json["error"]["remedy"])[1]
    assert shlex.split(command) == ["updraft", "firmware", "rm"] + ["--"] * name.startswith("-") + [name]
    subprocess.run(["sh", "-c", f"PATH={BIN}:$PATH; {command}"], check=True, stdout=subprocess.DEVNULL, cwd=tmp_path)
    assert upload(admin, image_bytes(tmp_path)).status == 201
    assert files(admin) == ["door/1.0.bin"]


def test_version_without_a_digit(server, admin, tmp_path):
    said = refused(upload(admin, image_bytes(tmp_path), version="main"), 400, "bad-version")
    assert said == '"main" cannot be a version: it has no digit | a version needs a digit, such as 0.4.10 or 1_2_0-rc1'


def test_a_rejected_file_can_be_replaced(server, admin, tmp_path):
    """The answer must be of the new bytes, not of what the catalog knew of the old ones."""
    make_image("html", server.repo / "door/1.0.bin")
    wait_until(lambda: admin.get("/api/v1/firmware/rejected").json["total"] == 1, "the page is rejected")
    refused(upload(admin, image_bytes(tmp_path)), 409, "exists")
    answer = upload(admin, image_bytes(tmp_path), replace="yes")
    assert answer.status == 201, answer
    assert admin.get("/api/v1/firmware/rejected").json["total"] == 0


@pytest.mark.parametrize("words, code", [
    ({"type": ""}, "bad-type"),
    ({"type": "../door"}, "bad-type"),
    ({"type": "a/b"}, "bad-type"),
    ({"type": ".door"}, "bad-type"),
    ({"type": "d" * 65}, "bad-type"),
    ({"type": "tür"}, "bad-type"),
    ({"version": ""}, "bad-version"),
    ({"version": "../1.0"}, "bad-version"),
    ({"version": "none"}, "bad-version"),
    ({"version": "1.0.fs"}, "bad-version"),
    ({"version": "1.0.user1"}, "bad-version"),
    ({"version": "1 0"}, "bad-version"),
    ({"version": "1" * 65}, "bad-version"),
    ({"kind": "label"}, "bad-request"),
    ({"gzip": "maybe"}, "bad-request"),
    ({"replace": "1"}, "bad-request"),
    ({"color": "red"}, "bad-request"),
])
def test_names_that_cannot_be(server, admin, tmp_path, words, code):
    answer = upload(admin, image_bytes(tmp_path), **words)
    said = refused(answer, 400, code)
    if "color" in words:
        assert "color" in said
    assert on_disk(server) == []


def test_names_that_are_missing(server, admin, tmp_path):
    body = image_bytes(tmp_path)
    refused(admin.post("/api/v1/firmware?version=1.0", body), 400, "bad-type")
    refused(admin.post("/api/v1/firmware?type=door", body), 400, "bad-version")
    refused(admin.post("/api/v1/firmware?type=door&type=porch&version=1.0", body), 400, "bad-request")
    refused(admin.post("/api/v1/firmware?type=%zz&version=1.0", body), 400, "bad-request")
    refused(admin.post(f"/api/v1/firmware?type={'d' * 300}&version=1.0", body), 400, "bad-request")
    refused(admin.post("/api/v1/firmware?type=door&version=1.0"), 400, "bad-request")  # no body


def no_override():
    """As root one may write anywhere: the server gives that up. (PR_CAPBSET_DROP of CAP_DAC_OVERRIDE and _READ_SEARCH.)
    """
    for capability in (1, 2):
        ctypes.CDLL(None).prctl(24, capability, 0, 0, 0)


def test_repository_that_is_read_only(tmp_path):
    with Server(tmp_path, preexec_fn=no_override) as server:
        admin = admin_of(server)
        make_image("esp8266", server.repo / "door/1.0.bin")
        wait_until(lambda: files(admin), "the image is served")
        (server.repo / "door").chmod(0o555)
        server.repo.chmod(0o555)
        body = image_bytes(tmp_path)
        for type in ("door", "porch"):
            assert "write to its --repo" in refused(upload(admin, body, type=type, version="2"), 500, "not-written")
        assert "write to its --repo" in refused(remove(admin, "door/1.0.bin"), 500, "not-removed")
        assert files(admin) == ["door/1.0.bin"]
        (server.repo / "door").chmod(0o755)
        server.repo.chmod(0o755)
        assert upload(admin, body, version="2").status == 201  # and nothing is in the way of the next


def test_a_file_where_the_type_s_folder_should_be(server, admin, tmp_path):
    (server.repo / "door").write_text("notes")
    refused(upload(admin, image_bytes(tmp_path)), 500, "not-written")
    assert on_disk(server) == ["door"]


def test_folder_that_leads_out_of_the_repository(tmp_path):
    """It is served, where --sandbox-read lets it be read; but what lies elsewhere is not the server's to change."""
    with Server(tmp_path, sandbox_read=tmp_path) as server:
        admin = admin_of(server)
        outside = make_image("esp8266", tmp_path / "elsewhere/1.0.bin")
        (server.repo / "door").symlink_to(tmp_path / "elsewhere")
        wait_until(lambda: files(admin) == ["door/1.0.bin"], "the image is served")
        said = refused(upload(admin, image_bytes(tmp_path), version="1.1"), 500, "not-written")
        assert "door is a link that may lead out of the repository" in said
        assert "out of the repository" in refused(upload(admin, b"\xe9" + outside[1:], replace="yes"), 500, "not-written")
        assert "out of the repository" in refused(remove(admin, "door/1.0.bin"), 500, "not-removed")
        assert [path.name for path in (tmp_path / "elsewhere").iterdir()] == ["1.0.bin"]
        assert (tmp_path / "elsewhere/1.0.bin").read_bytes() == outside and files(admin) == ["door/1.0.bin"]
        server.wait_log("level=warn event=firmware_added .*refused=not-written why=.*leads? out.* remedy=")


def test_folder_that_leads_to_another(server, admin, tmp_path):
    (server.repo / "gate").mkdir()
    (server.repo / "door").symlink_to("gate")
    assert upload(admin, image_bytes(tmp_path)).status == 201
    assert sorted(files(admin)) == ["door/1.0.bin", "gate/1.0.bin"]
    assert remove(admin, "door/1.0.bin").status == 200
    assert on_disk(server) == ["door", "gate"] and files(admin) == []  # the link is somebody's


def test_disk_that_has_no_room(tmp_path):
    """Cut off halfway by a limit, which ends a program that does not look out (SIGXFSZ): the upload fails, and no more.
    """
    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))

    with Server(tmp_path, preexec_fn=limit) as server:
        admin = admin_of(server)
        large, small = image_bytes(tmp_path, "littlefs", size="2M"), image_bytes(tmp_path)
        said = refused(upload(admin, large, kind="fs"), 500, "not-written")
        assert "door takes no file as large" in said and "LimitFSIZE" in said
        assert on_disk(server) == []
        assert upload(admin, small).status == 201


def test_rest_of_an_upload_that_was_killed(server, admin, tmp_path):
    """Its temporary file is in nobody's way and is not served."""
    (server.repo / "door").mkdir()
    (server.repo / "door/.updraft-upload.tmp").write_bytes(b"half")
    assert upload(admin, image_bytes(tmp_path)).status == 201
    assert on_disk(server) == ["door", "door/1.0.bin"]


def test_rests_go_at_the_start(tmp_path):
    """All but what another server, of the same repository, is just writing."""
    rests = [tmp_path / f"firmware/{name}" for name in ("door/.updraft-upload-1.tmp", "gate/.updraft-upload-2.tmp",
                                                        "gate/.updraft-upload-3.tmp")]
    for rest in rests:
        rest.parent.mkdir(parents=True, exist_ok=True)
        rest.write_bytes(b"half")
    with open(rests[2], "rb") as held:
        fcntl.flock(held, fcntl.LOCK_SH)
        with Server(tmp_path) as server:
            server.wait_log("event=uploads_swept files=2")
            assert on_disk(server) == ["door", "gate", "gate/.updraft-upload-3.tmp"]


def test_killed_while_it_writes(tmp_path):
    """Whatever lies there after a restart was there before or is whole, and nothing is left beside it."""
    images = [image_bytes(tmp_path, "littlefs", size="16M", seed=seed) for seed in (1, 2)]
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        server = Server(tmp_path)
        assert upload(admin_of(server), images[0], kind="fs").status == 201
        second = pool.submit(upload, admin_of(server), images[1], kind="fs", replace="yes")
        wait_until(lambda: second.done() or any(server.repo.rglob("*.tmp")), "the second is being written")
        server.process.kill()
        server.stop(expect=-signal.SIGKILL)
        concurrent.futures.wait([second], PATIENCE_S)
    with Server(tmp_path) as server:
        wait_until(lambda: not any(server.repo.rglob("*.tmp")), "the rest is gone")
        wait_until(lambda: files(admin_of(server)) == ["door/1.0.fs.bin"], "the image is served")
        assert (server.repo / "door/1.0.fs.bin").read_bytes() in images
        assert on_disk(server) == ["door", "door/1.0.fs.bin"]


# --- bodies -----------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("tcp", [False, True], ids=["unix", "tcp"])
def test_32_mib_and_no_more(server, admin, tcp):
    token = admin.post("/api/v1/tokens", {"name": "t", "role": "admin"}).json["token"]
    with Wire(server, tcp) as wire:  # refused by its length alone
        wire.send(post_head(UPLOAD_MAX + 1, "/api/v1/firmware?type=door&version=1", f"Authorization: Bearer {token}"))
        reply = wire.reply()
        assert (reply.status, error_of(reply)) == (413, "too-large")
        assert "33554432" in reply.body.decode() and wire.is_ended()
    with Wire(server, tcp) as wire:
        wire.send(post_head(UPLOAD_MAX, "/api/v1/firmware?type=door&version=1", f"Authorization: Bearer {token}"))
        wire.send(bytes(UPLOAD_MAX))
        reply = wire.reply()
        assert (reply.status, error_of(reply)) == (422, "rejected")


def test_lengths_of_other_bodies(server, admin):
    for path, most in (("rollouts", 256 * 1024), ("tokens", 64 * 1024)):
        refused(admin.post(f"/api/v1/{path}", b" " * most), 400, "bad-request")
        refused(admin.post(f"/api/v1/{path}", b" " * (most + 1)), 413, "too-large")
    refused(admin.delete("/api/v1/tokens/t", body=b"{}"), 413, "too-large")
    with Wire(server) as wire:
        wire.send(post_head(2, "/api/v1/status").replace(b"POST", b"GET") + b"{}")
        assert error_of(wire.reply()) == "too-large" and wire.is_ended()
    with Wire(server) as wire:
        wire.send(post_head(10 ** 18, "/api/v1/rollouts"))
        assert error_of(wire.reply()) == "too-large" and wire.is_ended()


def test_chunks_are_not_taken(server):
    with Wire(server) as wire:
        wire.send(b"POST /api/v1/rollouts HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n")
        reply = wire.reply()
        assert (reply.status, error_of(reply)) == (411, "length-required") and wire.is_ended()


def test_expect_continue(server, tmp_path):
    """curl asks before it sends a large body: told to go on where it is wanted, told why not where it is not."""
    body = image_bytes(tmp_path)
    with Wire(server) as wire:
        wire.send(post_head(len(body), "/api/v1/firmware?type=door&version=1.0", "Expect: 100-continue"))
        assert wire.reply().status_line == "HTTP/1.1 100 Continue"
        wire.send(body)
        assert wire.reply().status == 201  # and the connection is kept
        wire.send(post_head(UPLOAD_MAX + 1, "/api/v1/firmware?type=door&version=1.0", "Expect: 100-continue"))
        assert wire.reply().status == 413 and wire.is_ended()
    with Wire(server) as wire:
        wire.send(post_head(5, "/api/v1/nothing", "Expect: 100-continue"))
        assert wire.reply().status == 404 and wire.is_ended()
    with Wire(server, tcp=True) as wire:
        wire.send(post_head(5, "/api/v1/firmware?type=door&version=1.0", "Expect: 100-continue"))
        assert wire.reply().status == 401 and wire.is_ended()


@pytest.mark.parametrize("tcp", [False, True], ids=["unix", "tcp"])
def test_body_in_pieces(server, admin, tmp_path, tcp):
    token = admin.post("/api/v1/tokens", {"name": "t", "role": "admin"}).json["token"]
    body = image_bytes(tmp_path)
    data = post_head(len(body), "/api/v1/firmware?type=door&version=1.0", f"Authorization: Bearer {token}") + body
    with Wire(server, tcp) as wire:
        wire.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1) if tcp else None
        for i in range(300):  # across the border of head and body
            wire.send(data[i:i + 1])
        at = 300
        for i in range(40):
            wire.send(data[at:at + 37 * i])
            at += 37 * i
            time.sleep(0.002)
        wire.send(data[at:])
        assert wire.reply().status == 201
    assert latest(server).body == body


def test_requests_behind_a_body(server, tmp_path):
    """Sent at once, answered in order, though the first is answered later than the others could be."""
    body = image_bytes(tmp_path)
    get = b"GET /api/v1/%s HTTP/1.1\r\nHost: a\r\n\r\n"
    with Wire(server) as wire:
        wire.send(get % b"status" + post_head(len(body)) + body + get % b"firmware" +
                  post_head(2, "/api/v1/rollouts") + b"{}" + get % b"tokens")
        assert [wire.reply().status for _ in range(2)] == [200, 201]
        assert json.loads(wire.reply().body)["images"][0]["file"] == "door/1.0.bin"
        assert error_of(wire.reply()) == "bad-request"
        assert json.loads(wire.reply().body) == {"tokens": []}


def test_more_behind_a_body_than_is_kept(server, tmp_path):
    """While an answer is awaited the server stops reading what follows, and goes on with it afterwards."""
    body = image_bytes(tmp_path)
    count = 3000  # of about 60 bytes: far over what it keeps
    with Wire(server) as wire:
        data = post_head(len(body)) + body + b"GET /api/v1/tokens HTTP/1.1\r\nHost: a\r\n\r\n" * count
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            sent = pool.submit(wire.send, data)
            assert wire.reply().status == 201
            assert all(wire.reply().status == 200 for _ in range(count))
            sent.result(PATIENCE_S)


def test_connection_is_kept_after_an_answer_that_came_later(server, admin, tmp_path):
    connection = admin.connection()
    for version in ("1.0", "1.1", "1.2"):
        connection.request("POST", f"/api/v1/firmware?type=door&version={version}", image_bytes(tmp_path))
        assert Answer(connection.getresponse()).status == 201
    connection.request("POST", "/api/v1/tokens", b'{"name": "t"}')
    assert Answer(connection.getresponse()).status == 201
    connection.request("DELETE", "/api/v1/firmware/door/1.0.bin")
    answer = connection.getresponse()
    assert answer.headers["Connection"] == "keep-alive" and Answer(answer).status == 200
    before = connection.sock
    connection.request("GET", "/api/v1/status")
    assert Answer(connection.getresponse()).status == 200 and connection.sock is before
    connection.close()


def test_half_closed_while_the_answer_is_awaited(server, tmp_path):
    """`nc` says that it sends no more and waits: it is answered, then the connection ends."""
    body = image_bytes(tmp_path)
    with Wire(server) as wire:
        wire.send(post_head(len(body)) + body)
        wire.socket.shutdown(socket.SHUT_WR)
        assert wire.reply().status == 201 and wire.is_ended()


def test_dropped_in_the_middle_of_a_body(server, admin, tmp_path):
    """Its memory comes back: in all far more is announced than the server takes at once."""
    for _ in range(8):
        with Wire(server) as wire:
            wire.send(post_head(UPLOAD_MAX) + b"\xe9" * MIB)
    with Wire(server) as wire:
        wire.send(post_head(UPLOAD_MAX)[:-2])
    wait_until(lambda: upload(admin, image_bytes(tmp_path)).status in (201, 409), "an upload is taken")
    assert on_disk(server) == ["door", "door/1.0.bin"]


@pytest.mark.parametrize("tcp", [False, True], ids=["unix", "tcp"])
def test_dropped_while_the_answer_is_awaited(server, admin, tmp_path, tcp):
    """Ctrl-C behind `firmware add`: what was sent whole is placed all the same, and nobody misses the connection."""
    token = admin.post("/api/v1/tokens", {"name": "t", "role": "admin"}).json["token"]
    body = image_bytes(tmp_path)
    with Wire(server, tcp) as wire:
        wire.send(post_head(len(body), "/api/v1/firmware?type=door&version=1.0", f"Authorization: Bearer {token}") +
                  body)
        if tcp:  # a reset, not an orderly end
            wire.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    wait_until(lambda: files(admin) == ["door/1.0.bin"], "the image is served")
    assert latest(server).body == body


def test_one_change_at_a_time(tmp_path):
    with Server(tmp_path, settle_time="2s") as server:
        admin, body = admin_of(server), image_bytes(tmp_path)
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            first = pool.submit(upload, admin, body)
            wait_until(lambda: (server.repo / "door/1.0.bin").exists(), "the first is written")
            refused(upload(admin, body, version="1.1"), 503, "busy")
            assert healthy(server)
            assert first.result(PATIENCE_S).status == 201
        refused(remove(admin, "door/1.1.bin"), 404, "unknown-file")
        assert upload(admin, body, version="1.1").status == 201


def test_the_same_file_while_it_is_being_added(tmp_path):
    """"Come again" would be untrue: who comes again is refused, since the other has won."""
    with Server(tmp_path, settle_time="2s") as server:
        admin, bodies = admin_of(server), [image_bytes(tmp_path, seed=seed) for seed in (1, 2)]
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            first = pool.submit(upload, admin, bodies[0])
            wait_until(lambda: (server.repo / "door/1.0.bin").exists(), "the first is written")
            for words in ({}, {"replace": "yes"}):
                assert "being added" in refused(upload(admin, bodies[1], **words), 409, "under-way")
            assert first.result(PATIENCE_S).status == 201
            first = pool.submit(upload, admin, bodies[1], replace="yes")
            wait_until(lambda: (server.repo / "door/1.0.bin").read_bytes() == bodies[1], "the second is written")
            assert "being added" in refused(remove(admin, "door/1.0.bin"), 409, "under-way")
            assert first.result(PATIENCE_S).status == 201
        assert remove(admin, "door/1.0.bin").status == 200


def test_one_name_at_once(server, admin, tmp_path):
    """One wins and is served; no other is told that it was placed."""
    bodies = [image_bytes(tmp_path, seed=seed) for seed in range(1, 9)]
    with concurrent.futures.ThreadPoolExecutor(len(bodies)) as pool:
        answers = list(pool.map(lambda body: upload(admin, body), bodies))
    winners = [body for body, answer in zip(bodies, answers) if answer.status == 201]
    assert len(winners) == 1 and latest(server).body == winners[0]
    for answer in answers:
        if answer.status != 201:
            assert answer.error in ("exists", "under-way") and "door/1.0.bin" in refused(answer, 409, answer.error)
    assert on_disk(server) == ["door", "door/1.0.bin"]


def resident_bytes(server):
    return int(re.search(r"VmRSS:\s+(\d+)", open(f"/proc/{server.process.pid}/status").read())[1]) * 1024


def test_memory_of_bodies_is_bounded(server, admin, tmp_path):
    """Three of the largest at once; who comes then is asked to come again, until one has gone."""
    wires = [Wire(server) for _ in range(4)]
    for wire in wires[:3]:
        wire.send(post_head(UPLOAD_MAX, "/api/v1/firmware?type=door&version=1.0", "Expect: 100-continue"))
        assert wire.reply().status == 100
    wires[3].send(post_head(UPLOAD_MAX))
    reply = wires[3].reply()
    assert (reply.status, error_of(reply)) == (503, "busy") and wires[3].is_ended()
    assert resident_bytes(server) < 300 * MIB
    wires[0].close()
    wait_until(lambda: upload(admin, image_bytes(tmp_path)).status == 201, "there is room again")
    for wire in wires[1:]:
        wire.close()


def test_body_that_stops_coming(tmp_path):
    with Server(tmp_path, transfer_timeout="500ms") as server, Wire(server) as wire:
        wire.send(post_head(1000) + b"\xe9" * 10)
        reply = wire.reply()
        assert (reply.status, error_of(reply)) == (408, "timeout") and wire.is_ended()


# --- the server ends --------------------------------------------------------------------------------------------------

def test_sigterm_while_an_upload_is_awaited(tmp_path):
    """Its client learns that the file is written, and the server does not wait for the scan."""
    with Server(tmp_path, settle_time="30s") as server, Wire(server) as wire:
        body = image_bytes(tmp_path)
        wire.send(post_head(len(body)) + body)
        wait_until(lambda: (server.repo / "door/1.0.bin").exists(), "the image is written")
        began = time.monotonic()
        server.process.send_signal(signal.SIGTERM)
        reply = wire.reply()
        assert (reply.status, error_of(reply)) == (503, "busy") and b"is written" in reply.body
        assert wire.is_ended()
        ends(server)
        assert time.monotonic() - began < 10


def test_sigterm_in_the_middle_of_a_body(tmp_path):
    """Who is quick is still answered, with a refusal; who is not is cut by --drain-timeout."""
    with Server(tmp_path, drain_timeout="1s") as server, Wire(server) as quick, Wire(server) as slow:
        body = image_bytes(tmp_path)
        quick.send(post_head(len(body), "/api/v1/firmware?type=door&version=1.0", "Expect: 100-continue"))
        slow.send(post_head(len(body), "/api/v1/firmware?type=door&version=1.1", "Expect: 100-continue"))
        assert quick.reply().status == 100 and slow.reply().status == 100
        server.process.send_signal(signal.SIGTERM)
        server.wait_log("stopping")
        quick.send(body)
        reply = quick.reply()
        assert (reply.status, error_of(reply)) == (503, "busy") and quick.is_ended()
        ends(server)
        assert on_disk(server) == []


def test_sigterm_with_a_broker_and_requests_under_way(tmp_path):
    """The session ends before the operator's last requests do: whoever asks in between must not reach for it. Many
    commands and connections, so that some fall in between."""
    with Server(tmp_path, mqtt=NOWHERE, public_url=PUBLIC) as server:
        make_image("esp8266", server.repo / "door/1.0.bin")
        make_image("littlefs", server.repo / "door/1.0.fs.bin")
        admin = admin_of(server)
        wait_until(lambda: len(files(admin)) == 2, "the images are served")
        for mode in ("sketch", "fs"):
            order = {"type": "door", "mode": mode, "to": [f"5ccf7f{i:06x}" for i in range(3000)]}
            assert admin.post("/api/v1/rollouts", order).status == 202
        requests = [b"GET /api/v1/status HTTP/1.1\r\nHost: a\r\n\r\n", b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n",
                    post_head(15, "/api/v1/rollouts") + b'{"type":"door"}'] * 16
        wires = [Wire(server) for _ in requests]
        for wire, request in zip(wires, requests):
            wire.send(request[:-1])
        wait_until(lambda: len(os.listdir(f"/proc/{server.process.pid}/fd")) > len(wires), "all are connected")
        time.sleep(0.2)
        server.process.send_signal(signal.SIGTERM)
        for wire, request in zip(wires, requests):
            time.sleep(0.001)
            wire.send(request[-1:])
        for i, wire in enumerate(wires):
            assert wire.reply().status in ((200,), (200,), (202, 409, 503))[i % 3] and wire.is_ended()
            wire.close()
        ends(server)


# --- removing ---------------------------------------------------------------------------------------------------------

def test_remove(server, admin, tmp_path):
    body = image_bytes(tmp_path)
    for version in ("1.0", "1.1"):
        assert upload(admin, body, version=version).status == 201
    answer = remove(admin, "door/1.1.bin")
    assert (answer.status, answer.json) == (200, {"removed": "door/1.1.bin"})
    assert files(admin) == ["door/1.0.bin"] and on_disk(server) == ["door", "door/1.0.bin"]
    refused(remove(admin, "door/1.1.bin"), 404, "unknown-file")
    assert remove(admin, "door/1.0.bin").status == 200
    assert on_disk(server) == [] and latest(server).status == 404  # with the folder that it was alone in


def test_remove_what_is_rejected_or_oddly_named(server, admin, tmp_path):
    names = ["door/1.0.bin", "my truc_1.0.ino.porch.bin", "50%_1.0.ino.porch2.bin", "türe_1.0.ino.gate.bin"]
    make_image("html", server.repo / names[0])
    for name in names[1:]:
        make_image("esp8266", server.repo / name)
    wait_seen(admin, 2, 2)
    for name in names:
        answer = remove(admin, name)
        assert (answer.status, answer.json) == (200, {"removed": name}), answer
    assert on_disk(server) == []


@pytest.mark.parametrize("path", ["../state/lock", "..%2Fstate%2Flock", "door/../../state/lock", "/etc/passwd",
                                  "door", "door/", "rejected", "%00", "notes.txt"])
def test_only_firmware_can_be_removed(server, admin, tmp_path, path):
    (server.repo / "notes.txt").write_text("mine")
    assert upload(admin, image_bytes(tmp_path)).status == 201
    assert admin.delete(f"/api/v1/firmware/{path}").status in (400, 404, 405)
    assert (server.repo / "notes.txt").exists() and (tmp_path / "state/lock").exists()
    assert files(admin) == ["door/1.0.bin"]


def test_remove_the_image_of_a_rollout(tmp_path):
    with Server(tmp_path, mqtt=NOWHERE, public_url=PUBLIC) as server:
        admin = admin_of(server)
        for version in ("1.0", "1.1"):
            assert upload(admin, image_bytes(tmp_path, seed=version[-1]), version=version).status == 201
        id = admin.post("/api/v1/rollouts", {"type": "door"}).json["id"]
        assert id in refused(remove(admin, "door/1.1.bin"), 409, "in-rollout")
        assert remove(admin, "door/1.0.bin").status == 200
        refused(remove(admin, "door/1.1.bin", "?force=perhaps"), 400, "bad-request")
        assert remove(admin, "door/1.1.bin", "?force=yes").status == 200
        assert admin.get(f"/api/v1/rollouts/{id}").json["image"]["file"] == "door/1.1.bin"  # still told of


def test_remove_while_it_is_downloaded(server, admin, tmp_path):
    """The device that has begun gets what it was promised; the next gets what there is then."""
    old, new = (image_bytes(tmp_path, size=LARGE, seed=seed) for seed in (1, 2))
    assert upload(admin, old).status == 201 and upload(admin, new, version="2.0").status == 201
    download = Download(server, "/update/door").started()
    assert remove(admin, "door/2.0.bin").status == 200
    assert latest(server).body == old
    assert_whole(download.finish(), new)
    server.wait_log(f"event=update_sent .*bytes={len(new)}")


# --- looking ----------------------------------------------------------------------------------------------------------

def test_list_of_many(server, admin, tmp_path):
    body = image_bytes(tmp_path, size=8192)
    for i in range(1100):
        (server.repo / f"truc_0_{i}.ino.type{i % 11}.bin").write_bytes(body)
    wait_until(lambda: admin.get("/api/v1/firmware?limit=0").json["total"] == 1100, "all are served")
    whole = listed(admin)
    assert len(whole) == 1000
    page = admin.get("/api/v1/firmware?offset=1000&limit=60").json
    assert (page["total"], page["offset"], len(page["images"])) == (1100, 1000, 60)
    pieces = [image["file"] for offset in range(0, 1100, 300)
              for image in listed(admin, f"?offset={offset}&limit=300")]
    assert len(set(pieces)) == 1100 and pieces[:1000] == [image["file"] for image in whole]
    assert listed(admin, "?offset=1100") == [] and listed(admin, "?offset=5000") == []
    of_type = admin.get("/api/v1/firmware?type=type3&limit=7&offset=98").json
    assert of_type["total"] == 100 and [image["version"] for image in of_type["images"]] == ["0_14", "0_3"]
    assert [image["file"] for image in whole if image["newest"]][:2] == ["truc_0_1089.ino.type0.bin",
                                                                        "truc_0_1090.ino.type1.bin"]
    assert admin.get("/api/v1/firmware?type=none").json["total"] == 0
    for query in ("limit=1001", "limit=-1", "limit=x", "offset=", "page=2"):
        refused(admin.get(f"/api/v1/firmware?{query}"), 400, "bad-request")


def overtaken(many, other, path):
    """Sixteen are asked for in one piece, of which nothing but heads is to be sent. How many are answered before who asks
    behind the first answer is."""
    many.send(16 * f"HEAD {path} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
    many.more()
    other.send(b"GET /api/v1/groups HTTP/1.1\r\nHost: a\r\n\r\n")
    assert other.reply().status == 200
    while select.select([many.socket], [], [], 0)[0]:
        many.more()
    count = many.input.count(b"\r\n\r\n")
    while many.input.count(b"\r\n\r\n") < 16:
        many.more()
    many.input = b""
    return count


def test_long_lists_keep_nobody_waiting(tmp_path):
    good, repo = image_bytes(tmp_path, size=8192), tmp_path / "firmware"
    for folder in (repo, tmp_path / "state"):
        folder.mkdir()
    for i in range(400):
        (repo / f"truc_{i}.ino.door.bin").write_bytes(good)
        (repo / f"truc_{i}.ino.hut.bin").write_bytes(b"<html>404</html>")
    (tmp_path / "state/tokens").write_text("".join(f"{i:064x} 1 t{i} read - -\n" for i in range(256)))
    with Server(tmp_path) as server, Wire(server) as many, Wire(server) as other:
        wait_seen(admin_of(server), 400, 400)
        for path in ("/api/v1/tokens", "/api/v1/firmware", "/api/v1/firmware/rejected"):
            assert any(overtaken(many, other, path) < 16 for _ in range(5)), path  # this test itself may be late


def test_names_that_are_no_utf_8(server, admin):
    """Else one file dropped in by a careless share would make every list fail."""
    folder = os.fsencode(server.repo)
    good = make_image("esp8266", server.repo / ".made")
    for name in (b"tr\xffuc_1.0.ino.door.bin", b"LABEL\xfe.bin", b"porch\xfd/1.0.bin", b"gate/1.0\xfc.bin",
                 b"new\nline_1.0.ino.hut.bin", b"\x1b[31m_1.0.ino.red.bin"):
        os.makedirs(os.path.dirname(os.path.join(folder, name)), exist_ok=True)
        with open(os.path.join(folder, name), "wb") as file:
            file.write(good)
    wait_until(lambda: admin.get("/api/v1/status").json["repository"]["rejected"] == 6, "the files are seen")
    rejected = admin.get("/api/v1/firmware/rejected").json["files"]
    assert r"tr\xffuc_1.0.ino.door.bin" in [file["file"] for file in rejected] and files(admin) == []


def test_status(server, admin):
    status = admin.get("/api/v1/status").json
    assert status["ready"] and status["mqtt"] == {"configured": False, "state": "off"}
    assert status["listeners"] == [f"http 127.0.0.1:{server.port}"]
    assert status["repository"]["images"] == 0
    check(server, "/update/door")
    assert admin.get("/api/v1/status").json["devices"]["seen"] == 0  # of a type that nobody has
    make_image("esp8266", server.repo / "door/1.0.bin")
    wait_until(lambda: files(admin), "the image is served")
    check(server, "/update/door")
    assert admin.get("/api/v1/status").json["devices"]["seen"] == 1


MD5 = "0123456789abcdef0123456789abcdef"


def explain(admin, **said):
    return admin.get("/api/v1/explain?" + urllib.parse.urlencode(said))


@pytest.fixture
def repository(server, admin, tmp_path):
    make_image("esp8266", server.repo / "door/1.0.bin", seed=1, size="300K")
    make_image("esp8266", server.repo / "door/2.0.bin", seed=2, size="300K")
    make_image("littlefs", server.repo / "door/1.5.fs.bin")
    make_image("esp32", server.repo / "porch/2.0.bin", chip="esp32c3", version="2.0")
    make_image("html", server.repo / "bad/1.0.bin")
    (tmp_path / "state/assignments.ini").write_text("[assign]\n5C:CF:7F:B1:E0:01 = door 1.0\n")
    server.process.send_signal(signal.SIGHUP)
    wait_seen(admin, 4, 1)
    wait_until(lambda: explain(admin, mac="5ccf7fb1e001").json["assignment"], "the assignment is read")
    images = {image["file"]: image for image in listed(admin)}
    yield images


def header_changes(said):
    """The same as `said`, as the changes of a real check."""
    changes = dict.fromkeys(("version", "md5", "sha256", "flash", "free", "size", "mac"))
    changes.update({key: value for key, value in said.items() if key not in ("type", "client", "mode")})
    size = changes.pop("size")
    changes["sketch-size"] = size
    if "mode" in said:
        changes["mode"] = "spiffs" if said["mode"] == "fs" else said["mode"]
    if changes["mac"] is None:
        changes["mac"] = "02:00:00:00:00:00"
    return changes


@pytest.mark.parametrize("said, reason", [
    ({}, "unknown-build"),
    ({"version": "1.0"}, "newer"),
    ({"version": "2.0"}, "up-to-date"),
    ({"version": "3.0"}, "device-newer"),
    ({"version": "1.0", "free": "1000"}, "does-not-fit"),
    ({"version": "1.0", "flash": "524288"}, "wrong-flash"),
    ({"version": "1.0", "client": "esp32"}, "wrong-chip"),
    ({"md5": "door/2.0.bin"}, "same-digest"),
    ({"md5": "door/1.0.bin", "version": "9.9"}, "newer"),
    ({"md5": MD5, "version": "1.0"}, None),
    ({"mode": "fs", "version": "1.0"}, "newer"),
    ({"mode": "fs", "version": "1.5"}, "up-to-date"),
    ({"mode": "version", "version": "1.0"}, "newer"),
    ({"mac": "5C:CF:7F:B1:E0:01", "version": "2.0"}, "assigned"),
    ({"mac": "5C:CF:7F:B1:E0:01", "type": None}, "assigned"),
    ({"mac": "5C:CF:7F:B1:E0:02", "type": None}, "unassigned"),
    ({"type": "bad"}, "rejected"),
    ({"type": "shed"}, "unknown-type"),
    ({"type": "porch", "client": "esp32", "version": "1.0"}, "newer"),
    ({"type": "porch", "client": "esp32", "sha256": "AB" * 32, "version": "2.0"}, None),
    ({"size": "44304", "version": "1.0"}, "newer"),
])
def test_explain_says_what_a_check_is_told(server, admin, repository, said, reason):
    """Same words, same reason; and a question leaves no trace."""
    said = {"type": "door", **said}
    if said["type"] is None:
        del said["type"]
    if said.get("md5") in repository:
        said["md5"] = repository[said["md5"]]["md5"]
    if "client" in said and said["client"] == "esp32":
        headers = ESP32
    else:
        headers = ESP8266
    answer = explain(admin, **said)
    assert answer.status == 200, answer
    path = f"/update/{said['type']}" if "type" in said else "/update"
    assert admin.get("/api/v1/status").json["devices"]["seen"] == 0
    real = check(server, path, headers, **header_changes(said))
    assert (answer.json["reason"], answer.json["status"]) == (real.reason, real.status), answer
    assert reason in (None, real.reason)
    has_image = real.status == 200 and said.get("mode") != "version"
    assert answer.json["serves"] == (real.status == 200)
    if has_image:
        assert answer.json["image"]["md5"] == real.headers["x-MD5"]
    assert answer.json["text"]


@pytest.mark.parametrize("said, about", [
    ({"mac": "5c:cf"}, "mac"), ({"mode": "dream"}, "mode"), ({"client": "esp31"}, "client"), ({"md5": "12"}, "md5"),
    ({"md5": "z" * 32}, "md5"), ({"sha256": "ab"}, "sha256"), ({"flash": "big"}, "flash"), ({"free": "-1"}, "free"),
    ({"size": "0x10"}, "size"), ({"colour": "red"}, "colour"), ({"version": "1" * 300}, "query"),
])
def test_explain_refuses_what_it_cannot_read(admin, said, about):
    """A device's header that makes no sense counts as not said; an operator's is a slip of the finger."""
    assert about in refused(explain(admin, type="door", **said), 400, "bad-request")


# --- tokens and doors -------------------------------------------------------------------------------------------------

def test_tcp_needs_a_token_and_the_unix_socket_none(server, admin):
    over_tcp = Admin(address=tcp_address(server))
    for method, path in (("GET", "/api/v1/status"), ("GET", "/metrics"), ("GET", "/api/v1/none"), ("HEAD", "/metrics"),
                         ("POST", "/api/v1/tokens"), ("DELETE", "/api/v1/tokens/t")):
        answer = over_tcp.ask(method, path)
        assert answer.status == 401 and answer.headers["WWW-Authenticate"] == "Bearer", answer
        assert answer.headers["Connection"] == "close"
        if method != "HEAD":
            refused(answer, 401, "unauthorized")
    assert over_tcp.post("/api/v1/tokens", {"name": "mine"}).status == 401
    assert admin.get("/api/v1/tokens").json == {"tokens": []}
    made = admin.post("/api/v1/tokens", {"name": "grafana", "role": "admin"})
    assert made.status == 201 and made.json["name"] == "grafana"
    token = made.json["token"]
    assert token.startswith("updraft_")
    for header in (f"Bearer {token}", f"bearer {token}", f"BEARER   {token}"):
        assert over_tcp.get("/metrics", headers={"Authorization": header}).status == 200
    for header in ("Bearer", "Bearer ", f"Bearer {token}x", f"Bearer {token[:-1]}", f"Basic {token}", token,
                   f"Bearer {token} {token}", f"Bearer x{token}", "Bearer updraft_"):
        assert over_tcp.get("/metrics", headers={"Authorization": header}).status == 401, header
    assert token not in admin.get("/api/v1/tokens").text and token not in server.log()
    known = Admin(address=tcp_address(server), token=token)
    assert known.get("/api/v1/tokens").json["tokens"][0]["name"] == "grafana"
    assert known.delete("/api/v1/tokens/grafana").json == {"removed": "grafana"}
    assert known.get("/api/v1/status").status == 401


def test_names_of_tokens(server, admin):
    assert admin.post("/api/v1/tokens", {"name": "a"}).status == 201
    refused(admin.post("/api/v1/tokens", {"name": "a"}), 409, "exists")
    for name in ("", "a b", "a/b", "x" * 65, "tür", "a\nb"):
        refused(admin.post("/api/v1/tokens", {"name": name}), 400, "bad-name")
    for body in ({}, {"name": 5}, {"name": None}):
        refused(admin.post("/api/v1/tokens", body), 400, "bad-name")
    refused(admin.post("/api/v1/tokens", {"name": "b", "color": "red"}), 400, "bad-request")
    refused(admin.delete("/api/v1/tokens/b"), 404, "unknown-token")
    refused(admin.delete("/api/v1/tokens/" + "x" * 400), 404, "unknown-token")
    assert [token["name"] for token in admin.get("/api/v1/tokens").json["tokens"]] == ["a"]


def test_tokens_outlive_the_server(tmp_path):
    with Server(tmp_path) as server:
        token = admin_of(server).post("/api/v1/tokens", {"name": "a"}).json["token"]
        assert stat.S_IMODE((tmp_path / "state/tokens").stat().st_mode) & 0o077 == 0
        assert token not in (tmp_path / "state/tokens").read_text()
    with Server(tmp_path, admin_listen="127.0.0.1:0") as server:
        assert Admin(address=tcp_address(server), token=token).get("/api/v1/status").status == 200


def test_mode_and_end_of_the_socket(server):
    path = server.folder / "state/admin.sock"
    assert stat.S_ISSOCK(path.stat().st_mode) and stat.S_IMODE(path.stat().st_mode) == 0o660
    assert "listening admin" in "\n".join(server.said)
    server.stop()
    assert not path.exists()


def test_socket_that_a_killed_server_left(tmp_path):
    server = Server(tmp_path)
    server.process.kill()
    server.process.wait()
    server.process.stdout.close()
    server.log_file.close()
    assert (tmp_path / "state/admin.sock").exists()
    with Server(tmp_path) as server:
        assert healthy(server)


def complaint(*words):
    done = subprocess.run([BIN / "updraftd", "--listen", "127.0.0.1:0", *map(str, words)], capture_output=True,
                          text=True, timeout=PATIENCE_S)
    assert done.returncode == 1 and "ready" not in done.stdout, done
    assert done.stderr.startswith("updraftd: ") and done.stderr.count("\n") == 1, done.stderr
    return done.stderr


def test_second_server_on_the_same_state(server):
    said = complaint("--repo", server.repo, "--state", server.folder / "state")
    assert "another updraftd uses this folder" in said and "--state" in said
    assert healthy(server)


def test_second_server_on_the_same_socket(server, tmp_path):
    path = server.folder / "state/admin.sock"
    said = complaint("--repo", server.repo, "--state", tmp_path / "state2", "--admin-socket", path)
    assert "another server listens there" in said
    assert healthy(server)


def test_places_where_no_socket_can_be(tmp_path):
    (tmp_path / "firmware").mkdir()
    (tmp_path / "file").write_text("mine")
    folders = ["--repo", tmp_path / "firmware", "--state", tmp_path / "state"]
    assert "no socket has this name" in complaint(*folders, "--admin-socket", tmp_path / "file")
    assert (tmp_path / "file").read_text() == "mine"
    assert "--admin-socket" in complaint(*folders, "--admin-socket", tmp_path / "none/admin.sock")
    assert "--admin-socket" in complaint(*folders, "--admin-socket", tmp_path / ("x" * 200))
    assert "address and a port" in complaint(*folders, "--admin-listen", "8090")


def test_path_longer_than_a_socket_s(tmp_path):
    """A socket's name has 107 bytes; an operator's folders need not know that."""
    folder = tmp_path / ("long" * 30)
    folder.mkdir()
    path = folder / "admin.sock"
    assert len(str(path)) > SOCKET_PATH_MAX
    with Server(tmp_path, admin_socket=path) as server:
        assert f"listening admin {path}" in server.said
        assert Admin(path).get("/api/v1/status").status == 200
        assert stat.S_IMODE(path.stat().st_mode) == 0o660
    assert not path.exists()


# --- what is no request -----------------------------------------------------------------------------------------------

@pytest.mark.parametrize("method, path, status, allow", [
    ("POST", "/api/v1/status", 405, "GET"),
    ("DELETE", "/api/v1/status", 405, "GET"),
    ("PUT", "/api/v1/firmware", 405, "GET, POST"),
    ("DELETE", "/api/v1/rollouts", 405, "GET, POST"),
    ("POST", "/api/v1/rollouts/1", 405, "GET"),
    ("GET", "/api/v1/firmware/door/1.0.bin", 405, "DELETE"),
    ("POST", "/api/v1/firmware/rejected", 405, "GET, DELETE"),
    ("PATCH", "/api/v1/tokens/t", 405, "DELETE"),
    ("OPTIONS", "/metrics", 405, "GET"),
    ("GET", "/", 404, None),
    ("GET", "/api/v1", 404, None),
    ("GET", "/api/v1/", 404, None),
    ("GET", "/api/v1/status/", 404, None),
    ("GET", "/api/v1/firmware/", 404, None),
    ("DELETE", "/api/v1/firmware/", 404, None),
    ("GET", "/api/v2/status", 404, None),
    ("GET", "/update/door", 404, None),
    ("GET", "/healthz", 404, None),
])
def test_methods_and_paths(admin, method, path, status, allow):
    answer = admin.ask(method, path)
    refused(answer, status, "method-not-allowed" if allow else "not-found")
    assert answer.headers["Allow"] == allow


def test_devices_do_not_reach_the_api(server):
    """What opens to the whole network is the devices' side alone."""
    for path in ("/api/v1/status", "/metrics", "/api/v1/tokens"):
        assert Reply(server.ask(f"GET {path} HTTP/1.0\r\n\r\n".encode())).status == 404


def test_head_is_answered_without_a_body(server):
    with Wire(server) as wire:
        wire.send(b"HEAD /api/v1/tokens HTTP/1.1\r\nHost: a\r\n\r\nGET /api/v1/tokens HTTP/1.1\r\nHost: a\r\n\r\n")
        data = b""
        while data.count(b"HTTP/1.1 200") < 2 or not data.endswith(b'{"tokens":[]}'):
            data += wire.socket.recv(65536)
        head, _, rest = data.partition(b"\r\n\r\n")
        assert b"Content-Length: 13" in head and rest.startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize("data, status, code", [
    (b"get / HTTP/1.1\r\n\r\n", 400, "bad-request"),
    (b"\x16\x03\x01\x02\x00", 400, "bad-request"),
    (b"GET /api/v1/status HTTP/1.1\r\n\r\n", 400, "bad-request"),
    (b"GET /api/v1/status HTTP/1.1\nHost: a\n\n", 400, "bad-request"),
    (b"GET /%zz HTTP/1.1\r\nHost: a\r\n\r\n", 400, "bad-request"),
    (b"GET / HTTP/2.0\r\nHost: a\r\n\r\n", 505, "bad-request"),
    (b"GET /" + b"a" * 3000 + b" HTTP/1.1\r\nHost: a\r\n\r\n", 414, "too-large"),
    (b"GET / HTTP/1.1\r\nHost: a\r\nA: " + b"b" * 9000 + b"\r\n\r\n", 431, "too-large"),
    (b"POST /api/v1/rollouts HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}", 400,
     "bad-request"),
    (b"POST /api/v1/rollouts HTTP/1.1\r\nHost: a\r\nContent-Length: -2\r\n\r\n{}", 400, "bad-request"),
])
def test_malformed_requests_are_refused_in_json(server, data, status, code):
    with Wire(server) as wire:
        wire.send(data)
        reply = wire.reply()
        assert (reply.status, error_of(reply)) == (status, code)
        assert wire.is_ended()


def test_head_that_takes_too_long(tmp_path):
    with Server(tmp_path, head_timeout="300ms") as server, Wire(server) as wire:
        wire.send(b"GET /api/v1/status HTTP/1.1\r\n")
        reply = wire.reply()
        assert (reply.status, error_of(reply)) == (408, "timeout")


# --- rollouts ---------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("body, about", [
    (b"", "object"),
    (b"[]", "object"),
    (b"{", "object"),
    (b'{"type":"door"} x', "object"),
    (b'{"type":"door","type":"porch"}', "object"),
    (b"[" * 60000, "deeper than 8"),
    (b'{"type":' + b"[" * 8 + b"]" * 8 + b"}", "deeper than 8"),
    (b'{"type":' + b"[" * 7 + b"]" * 7 + b"}", "type"),
    (b'{"type":"\xff"}', "object"),
    (b'{"type":"a\\u0000b"}', "object"),
    (b"{}", "type"),
    (b'{"type":5}', "type"),
    (b'{"type":"door","version":5}', "version"),
    (b'{"type":"door","version":""}', "version"),
    (b'{"type":"door","version":"' + b"1" * 65 + b'"}', "version"),
    (b'{"type":"door","mode":"spiffs"}', "mode"),
    (b'{"type":"door","window_s":-1}', "window_s"),
    (b'{"type":"door","window_s":1.5}', "window_s"),
    (b'{"type":"door","window_s":86401}', "window_s"),
    (b'{"type":"door","window_s":"10"}', "window_s"),
    (b'{"type":"door","timeout_s":0}', "timeout_s"),
    (b'{"type":"door","timeout_s":1e999}', "object"),
    (b'{"type":"door","plan":"yes"}', "plan"),
    (b'{"type":"door","to":[]}', "to"),
    (b'{"type":"door","to":"5ccf7fb1e042"}', "to"),
    (b'{"type":"door","to":["5ccf7fb1e04"]}', "to"),
    (b'{"type":"door","to":[5]}', "to"),
    (b'{"type":"door","to":["5ccf7fb1e042","5C:CF:7F:B1:E0:42"]}', "to"),
    (b'{"type":"door","group":""}', "group"),
    (b'{"type":"door","group":5}', "group"),
    (b'{"type":"door","percent":0}', "percent"),
    (b'{"type":"door","percent":101}', "percent"),
    (b'{"type":"door","canary":10001}', "canary"),
    (b'{"type":"door","canary":-1}', "canary"),
    (b'{"type":"door","in_flight":100001}', "in_flight"),
    (b'{"type":"door","max_failures":101}', "max_failures"),
    (b'{"type":"door","to":["5ccf7fb1e042"],"group":"a"}', "group"),
    (b'{"type":"door","to":["5ccf7fb1e042"],"percent":50}', "percent"),
    (b'{"type":"door","to":["5ccf7fb1e042"],"canary":1}', "canary"),
], ids=lambda value: repr(value[:40]))
def test_orders_that_cannot_be_read(admin, body, about):
    assert about in refused(admin.post("/api/v1/rollouts", body), 400, "bad-request")
    assert admin.get("/api/v1/rollouts").json == {"total": 0, "rollouts": []}


@pytest.fixture
def away(tmp_path):
    """A server whose broker is away."""
    with Server(tmp_path, mqtt=NOWHERE, public_url=PUBLIC) as server:
        make_image("esp8266", server.repo / "door/1.0.bin", seed=1)
        make_image("esp8266", server.repo / "door/2.0.bin", seed=2)
        make_image("html", server.repo / "bad/1.0.bin")
        make_image("littlefs", server.repo / "hut/1.0.fs.bin")
        make_image("esp8266", server.repo / "DOOR-7.bin", seed=3)
        wait_seen(admin_of(server), 4, 1)
        yield server


@pytest.mark.parametrize("order, status, code, about", [
    ({"type": "doro"}, 404, "unknown-type", "door"),
    ({"type": ""}, 404, "unknown-type", "door"),
    ({"type": "é\u001b" * 200}, 404, "unknown-type", "door"),
    ({"type": "door", "version": "3.0"}, 404, "unknown-version", "2.0, 1.0"),
    ({"type": "door", "mode": "fs"}, 404, "no-image", "file system"),
    ({"type": "hut"}, 404, "no-image", "sketch"),
    ({"type": "bad"}, 409, "rejected", "failed its checks"),
    ({"type": "door", "group": "attic"}, 404, "unknown-group", "attic"),
])
def test_orders_that_are_refused(away, order, status, code, about):
    admin = admin_of(away)
    for plan in (False, True):
        assert about in refused(admin.post("/api/v1/rollouts", {**order, "plan": plan}), status, code)
    assert admin.get("/api/v1/rollouts").json["total"] == 0


def test_a_label_is_no_version_to_be_rolled_out(away):
    """It is served to devices assigned to it alone: a command that sends others there would be answered with nothing,
    or with the newest."""
    answer = admin_of(away).post("/api/v1/rollouts", {"type": "door", "version": "DOOR-7", "plan": True})
    refused(answer, 404, "unknown-version")


def test_orders_without_a_way(tmp_path):
    """Nobody can be told, so the rollout stands, and devices get it when they ask; the plan says so."""
    with Server(tmp_path, public_url=PUBLIC, offer="published") as server:
        make_image("esp8266", server.repo / "door/1.0.bin")
        admin = admin_of(server)
        wait_until(lambda: files(admin), "the image is served")
        assert check(server, "/update/door", version="0.9").reason == "unpublished"
        plan = admin.post("/api/v1/rollouts", {"type": "door", "plan": True}).json["plan"]
        assert plan["how"].startswith("nobody can be told") and plan["messages"] == [] and plan["url"] == ""
        rollout = admin.post("/api/v1/rollouts", {"type": "door"}).json
        assert rollout["state"] == "running" and rollout["commands"]["sent"] == 0
        assert check(server, "/update/door", version="0.9").reason == "published"
    with Server(tmp_path / "homie", mqtt=NOWHERE, mqtt_preset="homie", public_url=PUBLIC) as server:
        make_image("esp8266", server.repo / "door/1.0.bin")
        admin = admin_of(server)
        wait_until(lambda: files(admin), "the image is served")
        plan = admin.post("/api/v1/rollouts", {"type": "door", "plan": True}).json["plan"]
        assert plan["how"].startswith("nobody can be told"), "no device is known, and its firmware has no topic for all"
        plan = admin.post("/api/v1/rollouts", {"type": "door", "to": ["5ccf7fb1e042"], "plan": True}).json["plan"]
        assert plan["how"].startswith("a command to each device")
        id = admin.post("/api/v1/rollouts", {"type": "door", "to": ["5ccf7fb1e042"]}).json["id"]
        wait_until(lambda: admin.get(f"/api/v1/rollouts/{id}").json["commands"]["sent"] == 1, "the device is told")


def test_plan_publishes_nothing(away):
    admin = admin_of(away)
    check(away, "/update/door")
    macs = [f"5ccf7fb1e{i:03x}" for i in range(0x30, 0x4e)]  # 042 has been here
    plan = admin.post("/api/v1/rollouts", {"type": "door", "version": "1.0", "to": macs, "window_s": 7,
                                           "plan": True}).json["plan"]
    assert plan["url"] == f"{PUBLIC}/update/door?version=1.0"
    assert len(plan["messages"]) == 20
    first = plan["messages"][0]
    assert first["topic"] == "updraft/door/5ccf7fb1e030/update"
    payload = json.loads(first["payload"])
    assert (payload["window_s"], payload["mode"], payload["version"]) == (7, "sketch", "1.0")
    assert plan["devices"] == {"known": 1, "current": 0, "to_update": 30, "chosen": 30, "away": 0}
    first = plan["selected"].pop("first")
    assert len(first) == 20 and first[0] == "5ccf7fb1e030" and plan["message_count"] == 30
    assert plan["selected"] == {"members": 30, "skipped": [], "canary": 0, "percent": 100, "group": ""}
    assert plan["how"].startswith("a command to each") and (plan["in_flight"], plan["seconds"]) == (0, None)
    assert plan["image"]["file"] == "door/1.0.bin" and plan["image"]["chip"] == "ESP8266"
    whole = admin.post("/api/v1/rollouts", {"type": "door", "plan": True}).json["plan"]
    assert [message["topic"] for message in whole["messages"]] == ["updraft/door/update"]
    assert whole["url"] == f"{PUBLIC}/update/door" and whole["version"] == "2.0"
    assert admin.get("/api/v1/rollouts").json["total"] == 0
    assert admin.get("/api/v1/status").json["mqtt"]["waiting"] == 0


def test_rollout_while_the_broker_is_away(away):
    """Taken, waited for, superseded by a newer one; ended with a reason when its time is over."""
    admin = admin_of(away)
    first = admin.post("/api/v1/rollouts", {"type": "door", "timeout_s": 60})
    assert first.status == 202 and first.json["state"] == "running"
    assert first.headers["Location"] == f"/api/v1/rollouts/{first.json['id']}"
    assert admin.get("/api/v1/status").json["mqtt"]["waiting"] == 1
    second = admin.post("/api/v1/rollouts", {"type": "door", "timeout_s": 1}).json
    assert second["supersedes"] == first.json["id"]
    gave_way = admin.get(first.headers["Location"]).json
    assert (gave_way["state"], gave_way["why"]) == ("aborted", f"superseded by {second['id']}")
    assert admin.get("/api/v1/status").json["mqtt"]["waiting"] == 1
    ended = wait_until(lambda: (found := admin.get(f"/api/v1/rollouts/{second['id']}").json)["state"] == "aborted" and
                       found, "the rollout is given up")
    assert "broker" in ended["why"] and ended["commands"]["acknowledged"] == 0 and ended["ended"]
    wait_until(lambda: admin.get("/api/v1/status").json["mqtt"]["waiting"] == 0, "the command is withdrawn")
    assert [found["id"] for found in admin.get("/api/v1/rollouts").json["rollouts"]] == [second["id"],
                                                                                       first.json["id"]]


def test_devices_of_a_rollout(away):
    admin = admin_of(away)
    macs = [f"5ccf7fb1e{i:03x}" for i in range(5)]
    id = admin.post("/api/v1/rollouts", {"type": "door", "to": macs}).json["id"]
    wait_until(lambda: admin.get(f"/api/v1/rollouts/{id}").json["devices"]["triggered"] == 5, "all are to be told")
    whole = admin.get(f"/api/v1/rollouts/{id}?devices=yes").json
    assert [device["mac"] for device in whole["device_list"]] == macs == whole["order"]["to"]
    assert whole["devices"]["triggered"] == whole["devices"]["members"] == whole["window"]["in_flight"] == 5
    page = admin.get(f"/api/v1/rollouts/{id}?devices=yes&offset=3&limit=1").json
    assert [device["mac"] for device in page["device_list"]] == macs[3:4] and page["unlisted"] == 1
    some = admin.get(f"/api/v1/rollouts/{id}?devices=yes&state=triggered&limit=2").json
    assert [device["mac"] for device in some["device_list"]] == macs[:2] and some["unlisted"] == 3
    assert admin.get(f"/api/v1/rollouts/{id}?devices=yes&state=silent").json["device_list"] == []
    assert "device_list" not in admin.get(f"/api/v1/rollouts/{id}").json
    refused(admin.get(f"/api/v1/rollouts/{id}?devices=true"), 400, "bad-request")
    refused(admin.get(f"/api/v1/rollouts/{id}?state=tired"), 400, "bad-request")
    for other in ("0" * 16, id + "0", id[:-1], "%00x", "a/b"):
        assert admin.get(f"/api/v1/rollouts/{other}").status in (400, 404)


def test_an_operators_word_on_a_rollout(away):
    """Each goes from the states that allow it, and says which those are elsewhere."""
    admin = admin_of(away)
    macs = [f"5ccf7fb1e{i:03x}" for i in range(5)]
    id = admin.post("/api/v1/rollouts", {"type": "door", "to": macs}).json["id"]

    def say(word, body=None):
        return admin.post(f"/api/v1/rollouts/{id}/{word}", {} if body is None else body)

    assert "running" in refused(say("resume"), 409, "wrong-state")
    assert say("pause").json["state"] == "paused"
    now = lambda: admin.get(f"/api/v1/rollouts/{id}").json
    wait_until(lambda: now()["devices"]["queued"] == 5, "what was not sent yet is taken back, in the turns that follow")
    assert now()["window"]["in_flight"] == 0 and admin.get("/api/v1/status").json["mqtt"]["waiting"] == 0
    assert check(away, "/update/door", mac=macs[0], version="1.0").reason == "paused"
    assert "paused" in refused(say("pause"), 409, "wrong-state")
    assert say("resume").json["state"] == "running"
    refused(say("abort", {"why": 5}), 400, "bad-request")
    refused(say("abort", {"colour": "red"}), 400, "bad-request")
    aborted = say("abort", {"why": "the relay clicks"}).json
    assert (aborted["state"], aborted["why"]) == ("aborted", "the relay clicks") and aborted["ended"]
    for word in ("pause", "resume", "abort"):
        assert "aborted" in refused(say(word), 409, "wrong-state")
        refused(admin.post(f"/api/v1/rollouts/{'0' * 16}/{word}", {}), 404, "unknown-rollout")
    refused(admin.post(f"/api/v1/rollouts/{id}/forget", {}), 405, "method-not-allowed")


def test_too_many_rollouts(away):
    """64 at once, of types of their own; the 65th is told to wait, and the server goes on."""
    admin = admin_of(away)
    body = (away.repo / "door/1.0.bin").read_bytes()
    for i in range(65):
        (away.repo / f"truc_1_0.ino.type{i}.bin").write_bytes(body)
    wait_until(lambda: admin.get("/api/v1/status").json["repository"]["images"] == 69, "all are served")
    answers = [admin.post("/api/v1/rollouts", {"type": f"type{i}"}) for i in range(65)]
    assert [answer.status for answer in answers] == [202] * 64 + [503]
    refused(answers[-1], 503, "busy")
    admin.post(f"/api/v1/rollouts/{answers[3].json['id']}/abort", {})
    assert admin.post("/api/v1/rollouts", {"type": "type64"}).status == 202


def test_full_queue_of_commands(tmp_path):
    """Who finds no room in it waits: no device, and no image, has failed by that."""
    with Server(tmp_path, mqtt=NOWHERE, mqtt_queue=10, public_url=PUBLIC) as server:
        make_image("esp8266", server.repo / "door/1.0.bin")
        admin = admin_of(server)
        wait_until(lambda: files(admin), "the image is served")
        macs = [f"5ccf7fb1e{i:03x}" for i in range(15)]
        id = admin.post("/api/v1/rollouts", {"type": "door", "to": macs}).json["id"]
        some = wait_until(lambda: (now := admin.get(f"/api/v1/rollouts/{id}").json)["commands"]["sent"] == 15 and now,
                          "all are to be told")
        assert (some["commands"]["failed"], some["devices"]["triggered"], some["failures"]) == (0, 15, 0)
        assert admin.get("/api/v1/status").json["mqtt"]["waiting"] == 10


def test_http_client_of_the_library(server, admin):
    """Two answers in a row over TCP as a program's client reads them: lengths and types are as they say."""
    token = admin.post("/api/v1/tokens", {"name": "t", "role": "admin"}).json["token"]
    connection = http.client.HTTPConnection(*tcp_address(server), timeout=PATIENCE_S)
    for path, kind in (("/metrics", "text/plain; version=0.0.4"), ("/api/v1/status", "application/json")):
        connection.request("GET", path, headers={"Authorization": f"Bearer {token}"})
        response = connection.getresponse()
        assert (response.status, response.headers["Content-Type"]) == (200, kind) and response.read()
    connection.close()


# --- ends behind, and within, a body ----------------------------------------------------------------------------------

@pytest.fixture(params=[False, True], ids=["unix", "tcp"])
def knock(request, server, admin):
    """knock(): a Wire over either way, and the line of a head that lets a request over it in."""
    token = admin.post("/api/v1/tokens", {"name": "t", "role": "admin"}).json["token"]
    return lambda: (Wire(server, request.param), f"Authorization: Bearer {token}")


def half_close(wire):
    wire.socket.shutdown(socket.SHUT_WR)


def half_closed(knock, path, body, size=None):
    """The answer to a body of which `size` bytes are announced, with the client's end behind it."""
    wire, key = knock()
    with wire:
        wire.send(post_head(len(body) if size is None else size, path, key))
        for at in range(0, len(body), 100000):
            wire.send(body[at:at + 100000])
        half_close(wire)
        reply = wire.reply()
        assert wire.is_ended()
        return reply


@pytest.mark.parametrize("size", ["8K", "900K"])
def test_half_closed_behind_a_body(knock, tmp_path, size):
    """Some clients say that they send no more as soon as that is so: they get what they asked for."""
    assert half_closed(knock, "/api/v1/firmware?type=door&version=1.0", image_bytes(tmp_path, size=size)).status == 201
    wait_until(lambda: half_closed(knock, "/api/v1/tokens", b'{"name":"other"}').status == 201,
               "a token; when one was last used may be on its way to the disk")
    assert "missing" in half_closed(knock, "/api/v1/rollouts", b"{}").body.decode()


@pytest.mark.parametrize("sent, announced", [(0, 5), (4, 5), (300000, 900000)])
def test_half_closed_within_a_body(knock, admin, sent, announced):
    """Else a copy that broke off in the client looks as if the server had gone."""
    upload_path = "/api/v1/firmware?type=door&version=1.0"
    reply = half_closed(knock, upload_path, b"\xe9" * sent, announced)
    assert (reply.status, error_of(reply)) == (400, "bad-request")
    assert f"after {sent} of the {announced} bytes" in json.loads(reply.body)["error"]["message"]
    assert upload(admin, b"").status == 400  # the room of the body is free, the server well
    assert files(admin) == []


def test_half_closed_within_a_body_while_another_is_answered(knock, tmp_path):
    """The end is there before the body's beginning is looked at."""
    wire, key = knock()
    body = image_bytes(tmp_path)
    with wire:
        wire.send(post_head(len(body), "/api/v1/firmware?type=door&version=1.0", key) + body +
                  post_head(9, "/api/v1/tokens", key) + b'{"name')
        half_close(wire)
        assert wire.reply().status == 201
        reply = wire.reply()
        assert reply.status == 400 and "after 6 of the 9 bytes" in reply.body.decode() and wire.is_ended()


# --- what is wrong, in words ------------------------------------------------------------------------------------------

@pytest.mark.parametrize("body, what", [
    (b"[1]", "it is an array"), (b'"door"', "it is a string"), (b"5", "it is a number"), (b"5.5", "it is a number"),
    (b"true", "it is true"), (b"false", "it is false"), (b"null", "it is null"), (b"", "there is none"),
    (b"{", "'}'"), (b'{"name":"a","name":"b"}', '"name"'), (b"\xff", "byte 0xff"),
])
def test_bodies_that_are_no_object(admin, body, what):
    answer = admin.post("/api/v1/tokens", body)
    refused(answer, 400, "bad-request")
    begins = "the body is no JSON object: "
    message = answer.json["error"]["message"]
    assert message.startswith(begins) and what in message[len(begins):] and message.isprintable()


@pytest.mark.parametrize("name, shown", [
    ("page", "page"), ("hält", "hält"), ("a\x1b[31m", r"a\x1b[31m"), ('a" is "b', r'a\" is \"b'), ("a\\b", r"a\\b"),
    (b"a\xff", r"a\xff"),
], ids=lambda value: repr(value))
def test_a_foreign_part_is_escaped_and_the_sentence_is_not(admin, name, shown):
    """`parameter \\"a\\x1b\\" is not known` is no English, and a raw escape sequence is no name."""
    answer = admin.get(f"/api/v1/status?{urllib.parse.quote(name)}=1")
    refused(answer, 400, "bad-request")
    assert answer.json["error"]["message"] == f'parameter "{shown}" is not known here'
    if isinstance(name, str):
        answer = admin.post("/api/v1/tokens", {name: 1})
        assert answer.json["error"]["message"] == f'member "{shown}" is not known here'
        answer = admin.post("/api/v1/tokens", {"name": name + "/"})
        assert answer.json["error"]["message"] == f'"{shown}/" cannot name a token'

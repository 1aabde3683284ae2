"""Who may do what on the operators' side, what is noted of it, and what happens to those who guess."""

import json
import os
import pathlib
import pwd
import re
import socket
import stat
import threading
import time

import pytest

from tests.support import small_disk
from tests.support.admin import Admin
from tests.support.cli import says
from tests.support.updraft import ROOT, Server, make_image, read_to_end, wait_until

ROLES = ["read", "operate", "admin"]
DOCUMENT = json.loads((ROOT / "docs/openapi.json").read_text())
OPERATIONS = [(path, method, item[method]) for path, item in DOCUMENT["paths"].items() for method in item]
needs_disk = pytest.mark.skipif(small_disk.why_not() is not None, reason=str(small_disk.why_not()))


@pytest.fixture
def server(tmp_path):
    make_image("esp8266", tmp_path / "firmware/door/1.0.0.bin", seed=1)
    with Server(tmp_path, admin_listen="127.0.0.1:0") as running:
        yield running


def local(server):
    return Admin(server.folder / "state/admin.sock")


def remote(server, token=None, source=None):
    line = next(line for line in server.said if line.startswith("listening admin 127.0.0.1:"))
    return Admin(address=("127.0.0.1", int(line.rpartition(":")[2])), token=token, source=source)


def make_token(server, name, **more):
    answer = local(server).post("/api/v1/tokens", {"name": name, **more})
    assert answer.status == 201, answer
    return answer.json["token"]


def acts(server, count, **query):
    """The newest acts, oldest first, once there are so many."""
    def those():
        found = local(server).get("/api/v1/audit?limit=1000").json["acts"]
        return found[::-1] if len(found) >= count else None
    return wait_until(those, f"{count} acts noted")


# --- roles ------------------------------------------------------------------------------------------------------------

def test_each_role_may_what_the_table_says(server):
    """Every operation with every role: 403 exactly where the role is too little, before anything else is looked at."""
    for role in ROLES:
        asks = remote(server, make_token(server, role, role=role))
        for path, method, operation in OPERATIONS:
            body = b"" if method in ("post", "patch") else None
            address = re.sub(r"{\w+}", "nobody", path)
            answer = asks.ask(method.upper(), address, body)
            wanted = ROLES.index(operation["x-role"])
            for spelling in ("http://a" + address, address.replace("s", "%73", 1), address + "?", address + "#x"):
                assert asks.ask(method.upper(), spelling, body).status == answer.status, (role, method, spelling)
            if method == "get":
                assert asks.ask("HEAD", address).status == answer.status, (role, address)
            assert (answer.status == 403) == (ROLES.index(role) < wanted), (role, method, path, answer)
            assert str(answer.status) in operation["responses"] or answer.status in (404, 405), (method, path, answer)
            if answer.status == 403:
                error = answer.json["error"]
                assert error["code"] == "forbidden" and role in error["message"]
                assert f"--role {operation['x-role']}" in error["remedy"]
            assert answer.status != 401


def test_a_token_is_for_reading_unless_said(server):
    answer = local(server).post("/api/v1/tokens", {"name": "grafana"}).json
    assert (answer["role"], answer["expires"]) == ("read", None)
    asks = remote(server, answer["token"])
    assert asks.get("/metrics").status == 200
    assert asks.get("/api/v1/tokens").status == 403
    assert asks.post("/api/v1/rollouts", {"type": "door"}).status == 403
    (listed,) = local(server).get("/api/v1/tokens").json["tokens"]
    assert listed["role"] == "read" and listed["last_used"] is not None and not listed["expired"]


def test_an_operator_sends_but_changes_no_firmware(server):
    asks = remote(server, make_token(server, "ci", role="operate"))
    begun = asks.post("/api/v1/rollouts", {"type": "door"})
    assert begun.status in (201, 202), begun
    assert asks.post(f"/api/v1/rollouts/{begun.json['id']}/abort", {"why": "a mistake"}).status == 200
    for refused in (asks.delete("/api/v1/firmware/door/1.0.0.bin"), asks.post("/api/v1/firmware?type=door&version=2", b"x"),
                    asks.post("/api/v1/tokens", {"name": "more", "role": "admin"}), asks.get("/api/v1/audit")):
        assert refused.status == 403
    assert (server.repo / "door/1.0.0.bin").exists()
    assert len(local(server).get("/api/v1/tokens").json["tokens"]) == 1


def test_who_shows_two_tokens_shows_none(server):
    """What stands before the server may have looked at the other one; and what comes behind a refusal is not heard."""
    word = b"Authorization: Bearer " + make_token(server, "root", role="admin").encode() + b"\r\n"
    asks = remote(server)
    head = b"GET /api/v1/tokens HTTP/1.1\r\nHost: a\r\n"
    for shown in (word + b"authorization: Bearer x\r\n", b"Authorization: Basic eDp5\r\n" + word, word + word):
        with socket.create_connection(asks.address, timeout=10) as wire:
            wire.sendall(head + shown + b"\r\n" + head + word + b"\r\n")
            answers = read_to_end(wire)
        assert re.findall(rb"HTTP/1.1 (\d+)", answers) == [b"401"], answers


def test_what_is_refused_takes_no_body(server):
    """Else whoever may read can have the server collect 32 MiB."""
    asks = remote(server, make_token(server, "reader"))
    with socket.create_connection(asks.address) as wire:
        wire.sendall(b"POST /api/v1/firmware?type=door&version=2 HTTP/1.1\r\nHost: a\r\nContent-Length: 30000000\r\n"
                     b"Authorization: Bearer " + asks.token.encode() + b"\r\nExpect: 100-continue\r\n\r\n")
        wire.settimeout(10)
        assert wire.recv(1000).startswith(b"HTTP/1.1 403 ")


def test_a_token_is_revoked_while_its_order_is_on_its_way(server):
    """Who was let in with the head is asked again when the body is there."""
    asks = remote(server, make_token(server, "leaked", role="admin"))
    make_image("esp8266", server.folder / "new.bin", seed=2)
    image = (server.folder / "new.bin").read_bytes()
    with socket.create_connection(asks.address) as wire:
        wire.sendall(b"POST /api/v1/firmware?type=door&version=2 HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n"
                     b"Authorization: Bearer %s\r\nExpect: 100-continue\r\n\r\n" % (len(image), asks.token.encode()))
        wire.settimeout(10)
        assert wire.recv(1000).startswith(b"HTTP/1.1 100 ")
        assert local(server).delete("/api/v1/tokens/leaked").status == 200
        wire.sendall(image)
        assert wire.recv(1000).startswith(b"HTTP/1.1 401 ")
    assert not (server.repo / "door/2.bin").exists()


def test_tokens_of_before_there_were_roles(tmp_path):
    (tmp_path / "state").mkdir()
    (tmp_path / "state/tokens").write_text("72d38114de55394bcc05fea0ef838cd9bf9f2feb3503ac37e527b6b4c7b577f8 1795244400 old\n")
    with Server(tmp_path, admin_listen="127.0.0.1:0") as server:
        server.wait_log("event=token_without_role name=old role=admin")
        assert remote(server, "updraft_AAAA").get("/api/v1/audit").status == 200


# --- the end of a token -----------------------------------------------------------------------------------------------

def test_a_token_expires(server):
    token = make_token(server, "brief", role="admin", expires_in_s=2)
    asks = remote(server, token)
    assert asks.get("/api/v1/status").status == 200
    answer = wait_until(lambda: (lambda got: got if got.status == 401 else None)(asks.get("/api/v1/status")),
                        "its end")
    assert answer.error == "expired" and '"brief"' in answer.json["error"]["message"]
    assert answer.headers["WWW-Authenticate"] == "Bearer"
    stranger = remote(server, token[:-1] + ("A" if token[-1] != "A" else "B")).get("/api/v1/status")
    assert stranger.error == "unauthorized" and "brief" not in stranger.text
    (listed,) = local(server).get("/api/v1/tokens").json["tokens"]
    assert listed["expired"] and listed["expires"] is not None
    refused = acts(server, 2)[-1]
    assert (refused["act"], refused["token"], refused["code"], refused["status"]) == ("login", "brief", "expired", 401)


def test_a_clock_that_jumps_cannot_make_a_token_last(tmp_path):
    """What counts is when it ends, not how long it was: a token whose end is past is refused from the start on."""
    (tmp_path / "state").mkdir()
    (tmp_path / "state/tokens").write_text(
        "72d38114de55394bcc05fea0ef838cd9bf9f2feb3503ac37e527b6b4c7b577f8 1 old admin 2 -\n")
    with Server(tmp_path, admin_listen="127.0.0.1:0") as server:
        assert remote(server, "updraft_AAAA").get("/api/v1/status").error == "expired"


# --- the audit log ----------------------------------------------------------------------------------------------------

def test_acts_are_noted_with_who_and_what(server):
    admin = local(server)
    token = make_token(server, "ci", role="operate")
    asks = remote(server, token)
    begun = asks.post("/api/v1/rollouts", {"type": "door"}).json["id"]
    assert asks.post(f"/api/v1/rollouts/{begun}/abort", {"why": "a mistake"}).status == 200
    assert asks.post(f"/api/v1/rollouts/{begun}/pause", {}).status == 409
    assert asks.delete("/api/v1/firmware/door/1.0.0.bin").status == 403
    admin.ask("PATCH", "/api/v1/devices/5c:cf:7f:b1:e0:42", {"pin": "1.0.0"})
    make_image("esp8266", server.folder / "new.bin", seed=2)
    image = (server.folder / "new.bin").read_bytes()
    assert admin.post("/api/v1/firmware?type=door&version=2.0.0", image).status == 201
    assert admin.delete("/api/v1/tokens/ci").status == 200
    assert admin.get("/api/v1/devices").status == 200  # changes nothing: no line
    assert admin.post("/api/v1/rollouts", {"type": "door", "plan": True}).status == 200  # nor does this
    noted = acts(server, 8)
    assert [(one["act"], one["object"], one["status"], one["result"]) for one in noted] == [
        ("token-new", "", 201, "done"),
        ("rollout-begin", begun, noted[1]["status"], "done"),
        ("rollout-abort", begun, 200, "done"),
        ("rollout-pause", begun, 409, "refused"),
        ("firmware-remove", "/api/v1/firmware/door/1.0.0.bin", 403, "refused"),
        ("device-change", "5c:cf:7f:b1:e0:42", 200, "done"),
        ("firmware-add", "?type=door&version=2.0.0", 201, "done"),
        ("token-revoke", "ci", 200, "done"),
    ]
    assert json.loads(noted[0]["order"]) == {"name": "ci", "role": "operate"}
    assert json.loads(noted[2]["order"]) == {"why": "a mistake"}
    assert noted[3]["code"] == "wrong-state" and "aborted" in noted[3]["why"]
    assert noted[4]["code"] == "forbidden" and noted[4]["role"] == "operate"
    for one in noted[1:5]:
        assert (one["token"], one["role"], one["from"], one["uid"]) == ("ci", "operate", "127.0.0.1", None)
    for one in noted[5:]:
        assert (one["token"], one["role"], one["from"]) == (None, "admin", "socket")
        assert (one["uid"], one["gid"], one["user"]) == (os.getuid(), os.getgid(), pwd.getpwuid(os.getuid()).pw_name)
    server.wait_log(rf"event=operator_act act=rollout-abort token=ci role=operate from=127.0.0.1 status=200 object={begun}")
    path = server.folder / "state/audit.log"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert token not in path.read_text() + server.log()
    assert len(path.read_text().splitlines()) == 8


def test_each_act_of_the_table_is_noted_once(server):
    """Also where nothing comes of it; and what only looks leaves no line."""
    admin, wanted = local(server), []
    for path, method, operation in OPERATIONS:
        answer = admin.ask(method.upper(), re.sub(r"{\w+}", "nobody", path), b"{}" if method in ("post", "patch") else None)
        if "x-audit" in operation:
            wanted.append((operation["x-audit"], answer.status, answer.error))
        assert ("x-audit" in operation) == (method != "get")
    assert len(wanted) >= 10 and wanted == [(one["act"], one["status"], one["code"]) for one in acts(server, len(wanted))]
    assert all(re.fullmatch(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", one["time"]) for one in acts(server, len(wanted)))


def test_what_operators_say_breaks_no_line(server):
    admin = local(server)
    for word in ('a"b', "a\nb", "\x1b[2J", "ä", "%00", "x" * 3000):
        admin.ask("PATCH", "/api/v1/devices/5c:cf:7f:b1:e0:42", {"note": word})
    admin.ask("PATCH", "/api/v1/devices/5c:cf:7f:b1:e0:42", b'{"note":"\xff\xfe\x00"}')
    admin.ask("DELETE", "/api/v1/tokens/%22%0a%ff?a=%0a")
    noted = acts(server, 8)
    assert len(noted) == 8
    lines = (server.folder / "state/audit.log").read_bytes()
    assert lines.count(b"\n") == 8 and all(32 <= byte < 128 or byte > 127 for byte in lines.replace(b"\n", b""))


def test_nothing_pushes_out_what_was_ordered(server):
    """Blanks, empty parameters, long texts and long lists are where somebody hides the rest."""
    admin = local(server)
    admin.ask("PATCH", "/api/v1/devices/5c:cf:7f:b1:e0:42", b" " * 3000 + b'{"pin":\n"1.0.0"}')
    macs = [f"5ccf7f00{number:04x}" for number in range(500)]
    begun = admin.post("/api/v1/rollouts", {"to": macs, "type": "door", "window_s": 7})
    assert begun.status in (201, 202), begun
    admin.post(f"/api/v1/rollouts/{begun.json['id']}/abort", {"why": "ä" * 2000})
    admin.post("/api/v1/firmware?" + "&" * 500 + "type=%64oor&version=2.0.0", b"no image")
    noted = acts(server, 4)
    assert noted[0]["order"] == '{"pin":"1.0.0"}'
    assert json.loads(noted[1]["order"]) == {"to": macs[:4] + ["… of 500"], "type": "door", "window_s": 7}
    assert json.loads(noted[2]["order"]) == {"why": "ä" * 32 + "…"}
    assert noted[3]["object"] == "?type=door&version=2.0.0"


def test_the_address_behind_a_trusted_proxy(tmp_path):
    """And nobody else's word on it."""
    with Server(tmp_path, admin_listen="127.0.0.1:0", trusted_proxy="127.0.0.1") as server:
        token = make_token(server, "ci", role="admin")
        for source in ("127.0.0.1", "127.0.0.2"):
            remote(server, token, source).delete("/api/v1/tokens/x", headers={"X-Forwarded-For": "203.0.113.7"})
        assert [one["from"] for one in acts(server, 3)] == ["socket", "203.0.113.7", "127.0.0.2"]


def test_pages(server):
    admin = local(server)
    for number in range(25):
        admin.delete(f"/api/v1/tokens/t{number}")
    acts(server, 25)
    page = admin.get("/api/v1/audit?limit=10").json
    assert [one["object"] for one in page["acts"]] == [f"t{n}" for n in range(24, 14, -1)] and page["more"]
    page = admin.get("/api/v1/audit?limit=10&offset=20&within_s=3600").json
    assert [one["object"] for one in page["acts"]] == ["t4", "t3", "t2", "t1", "t0"] and not page["more"]
    assert admin.get("/api/v1/audit?limit=0").json == {"acts": [], "more": True}
    time.sleep(1.1)
    assert admin.get("/api/v1/audit?within_s=0").json == {"acts": [], "more": False}
    for bad in ("limit=1001", "offset=-1", "since=x", "within_s=1d"):
        assert admin.get("/api/v1/audit?" + bad).status == 400


def test_it_outlives_the_server_and_a_cut_line(tmp_path):
    with Server(tmp_path) as server:
        local(server).delete("/api/v1/tokens/before")
    log = tmp_path / "state/audit.log"
    assert len(log.read_text().splitlines()) == 1  # written although the server ended at once
    with log.open("a") as file:
        file.write('{"time":"2026-11-2')
    with Server(tmp_path) as server:
        local(server).delete("/api/v1/tokens/after")
        assert [one["object"] for one in acts(server, 2)] == ["before", "after"]


def test_a_file_that_is_none_stops_the_start(tmp_path):
    """Else acts would go unnoted without anybody having decided so."""
    (tmp_path / "state/audit.log").mkdir(parents=True)
    server = Server(tmp_path, wait=False)
    assert server.process.wait(30) == 1
    assert "audit.log cannot be written" in server.log()
    server.stop(expect=1)
    words = ["--check-config", "--repo", tmp_path / "firmware", "--state", tmp_path / "state"]
    says("audit.log cannot be written", *words, program="updraftd", code=1)
    (tmp_path / "state/audit.log").rmdir()
    says("", *words, program="updraftd")
    assert not (tmp_path / "state/audit.log").exists()


def test_refusals_do_not_wash_acts_out(server):
    """Who may little could else fill the file with what he may not."""
    asks = remote(server, make_token(server, "reader"))
    for _ in range(80):
        assert asks.get("/api/v1/tokens").status == 403
    assert local(server).delete("/api/v1/tokens/reader").status == 200
    make_token(server, "another")
    noted = acts(server, 63)
    assert [one["act"] for one in noted] == ["token-new"] + ["see"] * 60 + ["token-revoke", "token-new"]
    assert [one["unsaid"] for one in noted] == [0] * 61 + [20, 0]  # once
    server.wait_log("event=operator_act act=token-revoke .* unsaid=20 ")
    assert server.log().count("unsaid=") == 1
    says(r"token-revoke +reader +done.*before it 20 refusals more", "audit", "--admin-socket", server.folder / "state/admin.sock")


@needs_disk
def test_a_full_disk_stops_no_act(tmp_path):
    """An abort on a full disk is what matters most; it is said, and the lines come when there is room."""
    folder = tmp_path / "s"
    make_image("esp8266", folder / "firmware/door/1.0.0.bin", seed=1)
    with small_disk.SmallDisk(folder / "state", "4m") as disk:
        with Server(folder, preexec_fn=disk.enter, admin_socket=folder / "admin.sock", store="none") as server:
            admin = Admin(folder / "admin.sock")
            begun = admin.post("/api/v1/rollouts", {"type": "door"}).json["id"]
            server.wait_log("event=operator_act act=rollout-begin")
            wait_until(lambda: (disk.path / "audit.log").stat().st_size > 0, "a line")
            disk.fill()
            assert admin.post(f"/api/v1/rollouts/{begun}/pause", {"why": "x" * 900}).status == 200
            for number in range(30):  # what is left of the file's last page is soon full
                admin.post(f"/api/v1/rollouts/{begun}/pause", {"why": "x" * 900})
            assert admin.post(f"/api/v1/rollouts/{begun}/abort", {}).status == 200
            server.wait_log("level=error event=audit_failing .*the disk is full")
            assert "\nupdraft_audit_failing 1\n" in admin.get("/metrics").text
            assert any("audit" in line for line in admin.get("/api/v1/status").json["warnings"])
            disk.empty()
            server.wait_log("event=audit_recovered")
            assert [one["act"] for one in admin.get("/api/v1/audit").json["acts"]][:2] == ["rollout-abort", "rollout-pause"]
            assert "\nupdraft_audit_lost_total 0\n" in admin.get("/metrics").text
            assert len(admin.get("/api/v1/audit").json["acts"]) == 33


@needs_disk
def test_a_full_disk_keeps_no_revoked_token(tmp_path):
    folder = tmp_path / "s"
    with small_disk.SmallDisk(folder / "state", "4m") as disk:
        with Server(folder, preexec_fn=disk.enter, admin_socket=folder / "admin.sock", admin_listen="127.0.0.1:0",
                    store="none") as server:
            admin = Admin(folder / "admin.sock")
            admin.post("/api/v1/tokens", {"name": "kept"})
            leaked = remote(server, admin.post("/api/v1/tokens", {"name": "leaked"}).json["token"])
            assert leaked.get("/metrics").status == 200
            disk.fill()
            answer = admin.delete("/api/v1/tokens/leaked")
            assert (answer.status, answer.error) == (500, "not-written") and "refused from now on" in answer.text
            assert leaked.get("/metrics").error == "unauthorized"
            says(r"leaked +read .*\(revoked, not written down yet\)", "token", "ls", "--admin-socket", folder / "admin.sock")
            disk.empty()
            assert admin.delete("/api/v1/tokens/leaked").status == 200
            assert [one["name"] for one in admin.get("/api/v1/tokens").json["tokens"]] == ["kept"]


@needs_disk
def test_a_start_on_a_disk_that_is_read_only(tmp_path):
    """It serves what it can, as without an audit log: and says so."""
    folder = tmp_path / "s"
    with small_disk.SmallDisk(folder / "state", "4m") as disk:
        with Server(folder, preexec_fn=disk.enter, admin_socket=folder / "admin.sock", store="none"):
            pass
        (disk.path / "audit.log").unlink()
        disk.read_only()
        with Server(folder, preexec_fn=disk.enter, admin_socket=folder / "admin.sock", store="none") as server:
            server.wait_log("level=error event=audit_failing")
            admin = Admin(folder / "admin.sock")
            assert admin.get("/api/v1/audit").json == {"acts": [], "more": False}
            assert admin.ask("PATCH", "/api/v1/devices/5c:cf:7f:b1:e0:42", {"blocked": True}).status == 200
            disk.writable()
            server.wait_log("event=audit_recovered")
            assert [one["act"] for one in admin.get("/api/v1/audit").json["acts"]] == ["device-change"]


# --- who guesses ------------------------------------------------------------------------------------------------------

def timed(asks):
    started = time.monotonic()
    answer = asks.get("/api/v1/status")
    return answer, time.monotonic() - started


def guesses(server):
    return int(re.search(r"^updraft_admin_logins_failed_total (\d+)$", local(server).get("/metrics").text, re.M).group(1))


def test_who_guesses_waits_and_nobody_else(server):
    token = make_token(server, "right")
    guesser, neighbour, other = remote(server, "updraft_wrong"), remote(server, token), remote(server, "updraft_wrong", "127.0.0.2")
    usual = sum(timed(neighbour)[1] for _ in range(5))  # on this machine, with all that it has to do
    asked = [timed(guesser) for _ in range(5)]
    assert {answer.status for answer, _ in asked} == {401} and sum(took for _, took in asked) < 3 + 2 * usual
    for least in (0.25, 0.5, 1, 2):
        # The loop counts in whole milliseconds: what is held 250 of them may be answered after 249.1.
        assert least - 0.002 <= timed(guesser)[1] < least + 4 + usual
    for tries in range(1, 4):  # one is enough, but where the machine has too much to do: 4 s, then 8
        held = threading.Thread(target=timed, args=(guesser,))
        held.start()
        wait_until(lambda: guesses(server) == 8 + 2 * tries, "the guess to be held")
        assert neighbour.get("/api/v1/status").status == 200  # of the same address, with a right token
        assert other.get("/api/v1/status").status == 401
        nobody_else = held.is_alive()
        assert remote(server).get("/api/v1/status").status == 401  # without one: no guess
        held.join()
        if nobody_else:
            break
    assert nobody_else and guesses(server) == 9 + 2 * tries
    assert len(re.findall("event=login_failed door=admin peer=127.0.0.1 ", server.log())) == 1
    assert "updraft_wrong" not in server.log()


def test_what_is_held_is_bounded(server):
    """Four of an address; who comes beyond is sent away at once, and leaves room for others."""
    token = make_token(server, "right")
    for _ in range(9):
        timed(remote(server, "updraft_wrong"))
    found = []
    waiting = [threading.Thread(target=lambda: found.append(timed(remote(server, "updraft_wrong")))) for _ in range(12)]
    for one in waiting:
        one.start()
    wait_until(lambda: len(found) >= 8, "those beyond the bound")
    assert {answer.status for answer, _ in found[:8]} == {429}
    assert all(answer.error == "slow-down" and int(answer.headers["Retry-After"]) >= 4 for answer, _ in found[:8])
    assert timed(remote(server, token))[0].status == 200
    started = time.monotonic()
    server.stop()  # those held do not hold it
    for one in waiting:
        one.join()
    assert time.monotonic() - started < 4
    assert sorted(answer.status for answer, _ in found)[:4] == [401] * 4


# --- the doors --------------------------------------------------------------------------------------------------------

def test_no_door_answers_what_is_behind_the_other(server):
    """Both tables, walked at the wrong door."""
    devices = re.findall(r'{ "(/[^"]*)", device_api_\w+ }', (ROOT / "server/router.c").read_text())
    assert len(devices) >= 7
    token = make_token(server, "root", role="admin")
    for path in devices:
        for asks in (local(server), remote(server, token)):
            answer = asks.get(path + "door" if path.endswith("/") and path != "/" else path)
            assert (answer.status, answer.error) == (404, "not-found"), path
    public = Admin(address=("127.0.0.1", server.port), token=token)
    for path, method, _ in OPERATIONS:
        answer = public.ask(method.upper(), re.sub(r"{\w+}", "door", path), None if method in ("get", "delete") else b"{}")
        assert answer.status == (404 if method == "get" else 405), (method, path, answer)
        assert "json" not in answer.headers["Content-Type"]


# --- the command line -------------------------------------------------------------------------------------------------

def test_the_command_line(server):
    socket_path = pathlib.Path(server.folder / "state/admin.sock")
    here = ["--admin-socket", socket_path]
    token = says("updraft_", "token", "new", "ci", "--role", "operate", "--expires", "90d", *here).strip()
    address = "http://%s:%d" % remote(server).address
    says("operate", "token", "ls", *here)
    says(r"forbidden|has the role operate", "firmware", "rm", "door/1.0.0.bin", "--server", address, "--token", token, code=1)
    says("who uses it is refused from now on", "token", "revoke", "ci", *here)
    acts(server, 3)
    out = says("TIME +WHO", "audit", *here)
    assert re.search(r"ci \(operate\) +127\.0\.0\.1 +firmware-remove .*refused: 403", out), out
    assert re.search(r" socket +token-revoke +ci +done", out), out
    document = json.loads(says("", "audit", "--since", "1h", "--limit", "1", "--json", *here))
    assert [one["act"] for one in document["acts"]] == ["token-revoke"] and document["more"]
    says("--role", "token", "new", "x", "--role", "root", *here, code=2)
    says("--expires", "token", "new", "x", "--expires", "soon", *here, code=2)

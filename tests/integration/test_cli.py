"""The operator's program against a real server and a real broker; and against a stand-in, where the server has to say
what the real one will not say on demand: control bytes, nonsense, nothing at all."""

import contextlib
import fcntl
import grp
import json
import os
import pathlib
import pty
import re
import shutil
import signal
import socket
import struct
import subprocess
import tempfile
import termios
import threading
import time

import pytest

from tests.support.admin import Admin
from tests.support.cli import ID, MAC, StandIn, environment, rollout, run, says, with_devices
from tests.support.mqtt import Broker
from tests.support.updraft import BIN, PATIENCE_S, ROOT, Server, check, make_image, wait_until

# --- bad usage --------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("words, expected", [
    ([], "a verb is missing"),
    (["statsu"], r'unknown verb "statsu": did you mean status\?'),
    (["gadgets"], r'unknown verb "gadgets": "updraft help" lists'),
    (["push", "10.0.0.1"], r'unknown verb "push"'),
    (["firmware", "lst"], r'firmware has no "lst": did you mean ls\?'),
    (["status", "--jsn"], r"unknown flag --jsn: did you mean --json\?"),
    (["publish-update", "door", "--percent", "0"], r'--percent: "0" is not usable: give a percentage from 1 to 100'),
    (["publish-update", "door", "--max-failures", "101%"], r'--max-failures: "101%" is not usable: .* from 0 to 100'),
    (["publish-update", "door", "--canary=10001"], r"--canary: .* from 0 to 10000"),
    (["publish-update", "door", "--in-flight=0"], r"--in-flight: .* from 1 to 100000"),
    (["publish-update", "door", "--to", MAC, "--canary", "1"], "--to names each device, --canary chooses among them.*one"),
    (["publish-update", "door", "--group=g", "--to", MAC], "--to names each device, --group chooses"),
    (["rollouts", "show"], "ID is missing: updraft rollouts show ID"),
    (["rollouts", "show", "0011", "--state", "gone"], r"--state: .* give one of queued\|triggered\|"),
    (["rollouts", "halt", "0011"], 'rollouts has no "halt"'),
    (["rollouts", "pause", "0011", "--why", "x"], "unknown flag --why"),
    (["devices", "show"], "MAC is missing: updraft devices show MAC"),
    (["devices", "show", "door"], r'MAC: "door" is not usable: give a device\'s MAC address, such as 5c:cf'),
    (["devices", "pin", MAC], "VERSION is missing: updraft devices pin MAC VERSION"),
    (["devices", "pin", MAC, ""], "VERSION is empty"),
    (["devices", "pin", MAC, "1", "2"], r'"2" is a word too many: "updraft devices pin --help"'),
    (["devices", "pin", "d", "1"], 'MAC: "d" is not usable'),
    (["devices", "unblok", MAC], r"did you mean unblock\?"),
    (["devices", "group", MAC], r"\+NAME is missing"),
    (["devices", "group", MAC, "kitchen"], r'"kitchen" is no change: write \+kitchen or -kitchen'),
    (["devices", "group", MAC, "+"], r"a group has no name: write \+NAME or -NAME"),
    (["devices", "group", MAC, "--kitchen"], "unknown flag --kitchen"),
    (["publish-update"], "TYPE is missing: updraft publish-update TYPE"),
    (["publish-update", ""], "TYPE is empty"),
    (["publish-update", "door", "porch"], r'"porch" is a word too many'),
    (["publish-update", "door", "--mode", "eeprom"], r'--mode: "eeprom" is not usable: give one of sketch\|fs'),
    (["publish-update", "door", "--to", "5ccf7fb1e04"], r'--to: "5ccf7fb1e04" is not usable: give MAC addresses'),
    (["publish-update", "door", "--to", f"{MAC},"], "--to: .*is not usable"),
    (["publish-update", "door", "--timeout", "soon"], '--timeout: "soon" is not usable: give whole seconds'),
    (["publish-update", "door", "--timeout", "0"], '--timeout: "0" is not usable: .* from 1s to 24h'),
    (["publish-update", "door", "--timeout", "25h"], '--timeout: "25h" is not usable: .* from 1s to 24h'),
    (["publish-update", "door", "--window", "86401"], '--window: "86401" is not usable: .* from 0 to 24h'),
    (["publish-update", "door", "--window", "-1"], '--window: "-1" is not usable'),
    (["publish-update", "door", "--version"], "--version needs a value: --version V"),
    (["publish-update", "door", "--version", "--plan"], "--version needs a value"),
    (["publish-update", "door", "--plan=yes"], '--plan takes no value: leave "=yes" out'),
    (["publish-update", "door", "--to", MAC, "--to", MAC], "--to is given twice: give it once, with commas"),
    (["firmware", "add", "x.bin", "--version", "1"], "--type is missing"),
    (["firmware", "add", "--type", "door", "--version", "1"],
     "FILE is missing: updraft firmware add FILE --type T --version V\n$"),
    (["audit", "--limit", "0"], '--limit: "0" is not usable: give a whole number from 1 to 1000'),
    (["device-password", "a:b"], '"a:b" cannot be a user\'s name'),
    (["device-password", "a", "--type", "a/b"], '"a/b" is no list of types'),
    (["explain", "door", "--md5", "abc"], "give 32 hexadecimal digits"),
    (["explain", "door", "--flash", "many"], "give a size such as"),
    (["explain", "door", "--free=0"], '--free: "0" is not usable: give a size .* from 1 to'),
    (["firmware", "nope"], 'firmware has no "nope": "updraft help firmware" lists'),
    (["version"], r'unknown verb "version": did you mean --version\?'),
    (["hlep"], r"did you mean help\?"),
    (["status", "--server", "127.0.0.1:80"], r'--server: "127.0.0.1:80" is no address .*http://HOST:PORT'),
    (["status", "--server", "ftp://x"], "write it as http://HOST:PORT"),
    (["status", "--server", "http://a", "--admin-socket", "b"], "name two servers: give one"),
    (["status", "--server", "http://a", "--token", "a\nX-Evil: 1"], "--token: a token has neither blanks nor control"),
    (["status", "--token", "t"], "--token is for --server"),
    (["status", "--token", "t", "--admin-socket", "s"], "--token is for --server"),
    (["status", "--admin-socket", "x" * 108], "a socket's path may have 107 bytes, .* has 108: go to its folder"),
])
def test_bad_usage_is_2_and_names_word_and_remedy(words, expected):
    code, out, error = run(*words)
    assert (code, out) == (2, ""), (code, out, error)
    assert re.search(expected, error, re.S), error
    assert error.startswith("updraft: ")


def test_help_is_there_without_a_server(tmp_path):
    for words in [["help"], ["--help"], ["help", "firmware", "add"], ["firmware", "add", "--help"], ["token", "-h"],
                  ["--server", "http://h", "status", "--help"], ["help", "help"], ["firmware", "help"],
                  ["token", "help", "new"], ["devices", "group", "--help"], ["help", "rollouts", "show"]]:
        code, out, error = run(*words, cwd=tmp_path)
        assert (code, error) == (0, "") and out.startswith("usage: updraft"), words
        assert max(len(line) for line in out.splitlines()) <= 80
    assert run("firmware", "help", "add")[1] == run("help", "firmware", "add")[1]
    assert run("help", "firmware")[1].count("--admin-socket") == 1, "what all parts take is said once"
    says(r"^updraft \d+\.\d+\.\d+$", "--version", cwd=tmp_path)
    says(r"^updraft \d+\.\d+\.\d+$", "--version", program="publish-update", cwd=tmp_path)
    says("usage: updraft publish-update TYPE", "--help", program="publish-update", cwd=tmp_path)


def test_the_manual_lists_every_flag_and_verb():
    manual = (ROOT / "docs/updraft.1").read_text()
    out = run("help")[1]
    verbs = re.findall(r"^  ([a-z][a-z-]*(?: [a-z]+)?)\b", out, re.M)
    assert len(verbs) > 8
    for verb in verbs:
        assert re.search(rf"^\.(It|Ic|Nm).*{verb.split()[-1]}", manual, re.M), f"docs/updraft.1 does not have {verb}"
    flags = set()
    for verb in verbs:
        flags |= set(re.findall(r"^  --([a-z0-9-]+)", run("help", *verb.split())[1], re.M))
    listed = set(re.findall(r"^\.It Fl -([a-z0-9-]+)", manual, re.M))
    assert flags | {"version"} == listed, "docs/updraft.1 and cli/ must list the same flags"


# --- no server --------------------------------------------------------------------------------------------------------

def test_no_server_is_3_and_says_where_it_looked(tmp_path):
    says(r"no server at the socket \./state/admin\.sock: No such file.*remedy: start updraftd, or name its socket",
         "status", code=3, cwd=tmp_path)
    says(r"no server at the socket there/admin\.sock: No such", "status", code=3, cwd=tmp_path,
         env={"UPDRAFT_STATE": "there"})
    dead = tmp_path / "dead.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(dead))
    says(r"dead\.sock: Connection refused.*remedy: updraftd has ended", "status", "--admin-socket", dead, code=3)
    plain = tmp_path / "plain"
    plain.write_text("")
    says("remedy: that is no socket", "status", "--admin-socket", plain, code=3)
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
        says(rf"no server at {url}: .*--admin-listen", "status", "--server", url, code=3)
        code, out, said = run("status", "--server", url, "--json")
        error = json.loads(out)["error"]
        assert (code, error["code"]) == (3, "no-server")
        assert said == f"updraft: {error['message']}\n  remedy: {error['remedy']}\n"
    code, out, _ = run("status", "--admin-socket", b"\xff.sock", "--json", cwd=tmp_path)
    assert code == 3 and r"socket \xff.sock: No such file" in json.loads(out)["error"]["message"]


def test_flags_win_over_the_environment(tmp_path):
    env = {"UPDRAFT_ADMIN_SOCKET": "from-env.sock"}
    says(r"from-env\.sock", "status", code=3, cwd=tmp_path, env=env)
    says(r"from-flag\.sock", "status", "--admin-socket", "from-flag.sock", code=3, cwd=tmp_path, env=env)
    says(r"socket from-flag\.sock", "--admin-socket", "from-flag.sock", "status", code=3, cwd=tmp_path,
         env={"UPDRAFT_SERVER": "http://127.0.0.1:1"})
    both = {**env, "UPDRAFT_SERVER": "http://127.0.0.1:1"}
    says(r"http://127\.0\.0\.1:2: ", "status", "--server", "http://127.0.0.1:2", code=3, cwd=tmp_path, env=both)
    says(r"socket from-flag\.sock", "status", "--admin-socket", "from-flag.sock", code=3, cwd=tmp_path, env=both)
    says(r"UPDRAFT_ADMIN_SOCKET and UPDRAFT_SERVER name two servers: unset one of them, or say with --admin-socket or "
         r"--server", "status", code=2, cwd=tmp_path, env=both)
    says(r"UPDRAFT_TOKEN and UPDRAFT_TOKEN_FILE both give a token", "status", "--server", "http://127.0.0.1:1", code=2,
         env={"UPDRAFT_TOKEN": "a", "UPDRAFT_TOKEN_FILE": "b"})
    says(r"http://127\.0\.0\.1:1: ", "status", "--server", "http://127.0.0.1:1", "--token", "t", code=3,
         env={"UPDRAFT_TOKEN": "a", "UPDRAFT_TOKEN_FILE": "b"})
    says(r"socket \./state", "status", code=3, cwd=tmp_path, env={"UPDRAFT_SERVER": "", "UPDRAFT_ADMIN_SOCKET": ""})


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become somebody without rights")
def test_a_socket_of_another_group_is_named_with_it():
    folder = pathlib.Path(tempfile.mkdtemp(dir="/tmp"))  # pytest's own are for its user alone
    folder.chmod(0o755)
    path = folder / "admin.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        path.chmod(0o660)
        group = grp.getgrgid(path.stat().st_gid).gr_name
        program = folder / "updraft"
        shutil.copy(BIN / "updraft", program)
        program.chmod(0o755)
        done = subprocess.run([program, "status", "--admin-socket", path], env=environment(), capture_output=True,
                              text=True, timeout=PATIENCE_S, user=65534, group=65534, extra_groups=[])
    shutil.rmtree(folder)
    assert done.returncode == 3, done
    assert re.search(rf"admin\.sock: Permission denied\n  remedy: the socket is for the group {group}: ", done.stderr)


# --- a stand-in for the server ----------------------------------------------------------------------------------------

def publishes(stand_in, *rollouts):
    """The stand-in's rollout goes through these."""
    address = "/api/v1/rollouts"
    stand_in.answers[("POST", address)] = [(202, rollouts[0])]
    stand_in.answers[("GET", f"{address}/{ID}")] = [(200, one) for one in rollouts[1:]]


def test_what_the_server_names_cannot_move_the_cursor(stand_in, tmp_path):
    evil = "a\x1b[2Jb\u202ec\x07.bin"
    stand_in.answers[("GET", "/api/v1/firmware")] = [(200, {"total": 1, "offset": 0, "images": [
        {"file": evil, "type": "d\r1", "version": "1", "kind": "sketch", "bytes": 5, "md5": "00ff" * 8}]})]
    stand_in.answers[("GET", "/api/v1/status")] = [(500, {"error": {"code": "x", "message": evil, "remedy": evil}})]
    for code, words in [(0, ["firmware"]), (0, ["firmware", "ls", "--json"]), (1, ["status"]), (1, ["status", "--json"])]:
        got, out, error = run(*words, cwd=tmp_path)
        assert got == code
        assert re.fullmatch(r"[\n -~]*", out + error), (out, error)
    assert r"a\x1b[2Jb\xe2\x80\xaec\x07.bin" in run("firmware", cwd=tmp_path)[1]


def test_json_is_one_document_and_refusals_keep_their_words(stand_in, tmp_path):
    error = {"error": {"code": "unknown-type", "message": "no file is for \"d1_mni\"", "remedy": "types: d1_mini",
                       "fault": "x"}}
    stand_in.answers[("POST", "/api/v1/rollouts")] = [(404, error)]
    code, out, said = run("publish-update", "d1_mni", "--json", cwd=tmp_path)
    assert (code, json.loads(out)) == (1, error)
    assert said == 'updraft: x: no file is for "d1_mni"\n  remedy: types: d1_mini\n'
    code, out, said = run("d1_mni", cwd=tmp_path, program="publish-update")
    assert (code, out) == (1, "") and said.startswith("publish-update: x: no file")


@pytest.mark.parametrize("status, body", [(200, b"<html>hello</html>"), (404, b"not here\n"), (200, b"[1]"), (502, b""),
                                          (301, b"{}"), (403, b'{"error":"x"}')])
def test_another_server_is_no_server(stand_in, tmp_path, status, body):
    stand_in.answers[("GET", "/api/v1/status")] = [(status, body)]
    says(rf"what answers there \({status}\) does not speak the admin API.*remedy: name updraftd's socket", "status",
         code=3, cwd=tmp_path)


def test_no_proxy_and_no_redirect_on_the_socket(stand_in, tmp_path):
    stand_in.answers[("GET", "/api/v1/tokens")] = [(200, {"tokens": []})]
    says("there are no tokens", "token", cwd=tmp_path,
         env={"http_proxy": "http://127.0.0.1:1", "all_proxy": "http://127.0.0.1:1"})


def test_the_order_says_what_was_asked(stand_in, tmp_path):
    publishes(stand_in, rollout())
    says("^00112233aabbccdd running\n$", "publish-update", "d1_mini", "--no-wait", "--version", "0.4.10", "--mode=fs",
         "--to", "5C:CF:7F:B1:E0:42,5ccf.7fb1.e043, 5c-cf-7f-b1-e0-42", "--window", "5m", "--timeout", "90", cwd=tmp_path)
    assert json.loads(stand_in.asked[-1][2]) == {
        "type": "d1_mini", "version": "0.4.10", "mode": "fs", "to": [MAC, "5ccf7fb1e043"], "window_s": 300,
        "timeout_s": 90}
    run("publish-update", "d1_mini", "--no-wait", "--group", "kitchen", "--percent", "10%", "--canary=5", "--in-flight=100",
        "--max-failures", "15%", cwd=tmp_path)
    assert json.loads(stand_in.asked[-1][2]) == {"type": "d1_mini", "group": "kitchen", "percent": 10, "canary": 5,
                                                 "in_flight": 100, "max_failures": 15}
    run("--json", "publish-update", "--no-wait", "--", "d1_mini", cwd=tmp_path)
    assert json.loads(stand_in.asked[-1][2]) == {"type": "d1_mini"}


def test_names_travel_encoded(stand_in, tmp_path):
    name = "a b/100%?x=1&y#z\u00e9.bin"
    encoded = "/api/v1/firmware/a%20b/100%25%3Fx%3D1%26y%23z%C3%A9.bin"
    stand_in.answers[("DELETE", encoded)] = [(200, {"removed": name})]
    says(r"removed a b/100%\?x=1&y#z\\xc3\\xa9\.bin", "firmware", "rm", name, "--force", cwd=tmp_path)
    assert stand_in.asked[-1][1] == encoded + "?force=yes"
    stand_in.answers[("GET", "/api/v1/explain")] = [(200, {"reason": "newer", "status": 200, "text": "It would."})]
    says("^It would.\nreason   newer .status 200.\n$", "explain", "a&b", "--mac", "5C-CF-7F-B1-E0-42", "--flash", "4M",
         cwd=tmp_path)
    assert stand_in.asked[-1][1] == f"/api/v1/explain?type=a%26b&mac={MAC}&flash=4194304"


@pytest.mark.parametrize("words, answer, expected", [
    ([], {"reason": "unknown-build"}, "\nnext     give what the device reports"),
    (["--md5", "0" * 32], {"reason": "unknown-build"}, "next"),
    ([], {"reason": "newer"}, "next"),
    ([], {"reason": "unknown-build", "next": "Add the build.\x07"}, "\nnext     Add the build.\\x07\n"),
    ([], {"reason": "unknown-type", "next": ["One.", "Two."]}, "\nnext     One.\nnext     Two.\n"),
])
def test_explain_says_what_to_do_next(stand_in, tmp_path, words, answer, expected):
    stand_in.answers[("GET", "/api/v1/explain")] = [(200, {"status": 200, "text": "It would.", **answer})]
    out = says("^It would.\nreason ", "explain", "door", *words, cwd=tmp_path)
    assert (expected in out) == (expected != "next"), out
    assert "next" in answer or expected == "next" or out.count("next ") == 1


def test_long_lists_come_whole(stand_in, tmp_path):
    images = [{"file": f"{i}.bin", "type": "t", "version": "1", "kind": "sketch", "bytes": i, "md5": "0" * 32}
              for i in range(2500)]
    stand_in.answers[("GET", "/api/v1/firmware")] = [
        (200, {"total": 2500, "offset": start, "images": images[start:start + 1000]}) for start in (0, 1000, 2000)]
    listed = json.loads(run("firmware", "ls", "--type", "t", "--json", cwd=tmp_path)[1])
    assert listed == {"total": 2500, "offset": 0, "images": images}
    assert [path.split("?")[1] for _, path, _ in stand_in.asked] == [
        f"type=t&offset={start}&limit=1000" for start in (0, 1000, 2000)]


# --- watching, against the stand-in -----------------------------------------------------------------------------------

def test_without_a_terminal_a_line_a_change(stand_in, tmp_path):
    publishes(stand_in, rollout("planned", broker="waiting"), rollout("planned", broker="waiting"),
              rollout("canary", canaries=(0, 1), triggered=1, queued=2),
              rollout("canary", canaries=(0, 1), triggered=1, queued=2, bytes=10),
              rollout(triggered=1, downloading=1, confirmed=1), rollout("paused", triggered=1, confirmed=2),
              rollout("done", confirmed=3, bytes=3000))
    code, out, error = run("publish-update", "d1_mini", cwd=tmp_path)
    assert (code, error) == (0, "")
    lines = out.splitlines()
    assert all(re.match(r"\d\d:\d\d:\d\d ", line) for line in lines[:-1]), lines
    assert [line[9:] for line in lines[:-1]] == [
        "d1_mini 0.4.10: waiting for the broker (connection refused)",
        "d1_mini 0.4.10: canaries 0/1: 1 triggered, 2 queued of 3",
        "d1_mini 0.4.10: 1 confirmed, 1 downloading, 1 triggered of 3",
        "d1_mini 0.4.10: paused: 2 confirmed, 1 triggered of 3",
        "d1_mini 0.4.10: 3 confirmed of 3"]
    assert lines[-1] == "d1_mini 0.4.10: done in 12 s: 3 confirmed of 3 devices, 2.9 KiB"


@pytest.mark.parametrize("last, devices, code, expected", [
    (rollout("done", confirmed=1, silent=2), [], 0, "1 confirmed, 2 silent of 3 devices"),
    (rollout("done", skipped=3), [], 0, "done in 12 s: 3 skipped"),
    (rollout("done", skipped=3), [(MAC, "skipped", "runs it already")], 0, "done in 12 s: 3 skipped"),
    (rollout("done", skipped=1, members=1), [(MAC, "skipped", "wrong-chip")], 1,
     f"no device of this type can take it\n  {MAC} skipped: wrong-chip\n  remedy: .updraft explain d1_mini --mac MAC"),
    (rollout("done", skipped=3) | {"skipped": [{"reason": "runs it already", "count": 3}]}, [], 0,
     "done in 12 s: nothing to do, all 3 run it already"),
    (rollout("done", confirmed=1, skipped=3) | {"skipped": [{"reason": "runs it already", "count": 2},
                                                            {"reason": "pinned", "count": 1}]}, [], 0,
     r"1 confirmed of 1 device, 3 skipped \(2 run it already, 1 pinned\)"),
    (rollout("done", confirmed=2, failed=1), [], 1, "not updated: 1 failed of 3 devices\n.*updraft devices show MAC.* retry"),
    (rollout("done", silent=3), [], 1, "no device came for the update.*subscribes to the command topic.*can reach the url"),
    (rollout("done", silent=3, bytes=9), [], 1, "none came back with the new build in time"),
    (rollout("done", members=0), [], 1, "done in 12 s: no device came"),
    (rollout("done", members=0, anonymous=2, bytes=2000), [], 0, "done in 12 s: 2 without a name, 2.0 KiB"),
    (rollout("aborted", silent=3, why="no broker for 300 s") | {"commands": {"acknowledged": 0}}, [], 1,
     "aborted in 12 s: 3 not told of 3 devices.*the rollout was aborted: no broker for 300 s.*updraft status"),
    (rollout("aborted", confirmed=1, silent=2, why="superseded by 77") | {"superseded_by": "77"}, [], 1,
     "1 confirmed, 2 silent of 3.*aborted: superseded by 77\n.*the newer one is followed"),
    (rollout("aborted", confirmed=1, silent=2, why="superseded by events"), [], 1, "aborted: superseded by events\n.*publish once more"),
    (rollout("aborted", confirmed=1, silent=2, why="too hot"), [], 1, "aborted: too hot\n.*publish once more"),
])
def test_how_it_ended_is_the_exit_code(stand_in, tmp_path, last, devices, code, expected):
    publishes(stand_in, rollout(), with_devices(last, devices))
    says(expected, "publish-update", "d1_mini", code=code, cwd=tmp_path)
    got, out, error = run("publish-update", "d1_mini", "--json", cwd=tmp_path)
    said = json.loads(out)
    assert (got, said["state"]) == (code, last["state"])
    assert (code == 0) == (said["why"] == ""), "a program must learn why, as people do"
    assert code == 0 or said["why"] in error
    assert said | {"why": ""} == last | {"why": ""}


def test_a_halted_rollout_ends_the_waiting(stand_in, tmp_path):
    """Nothing more happens until an operator says what: who waits must learn of it, and what to type."""
    why = "3 failed of 9 finished; the limit is 20 % of at least 9"
    last = rollout("halted", members=20, confirmed=6, failed=3, queued=11, failures=3, why=why)
    publishes(stand_in, rollout(), with_devices(last, [(MAC, "failed", "it rolled back")]))
    code, out, error = run("d1_mini", cwd=tmp_path, program="publish-update")
    assert code == 1
    assert out.endswith("d1_mini 0.4.10: halted in 12 s: 6 confirmed, 11 queued, 3 failed of 20 devices, 0 B\n")
    assert error == (f"publish-update: the rollout halted: {why}\n  {MAC} failed: it rolled back\n  and 2 more\n"
                     "  remedy: see to the cause, then let it go on (what failed so far is forgiven), end it, or go back to an "
                     f"older version:\n    updraft rollouts resume {ID}\n    updraft rollouts abort {ID}\n"
                     "    publish-update d1_mini --version OLD\n")
    code, out, error = run("publish-update", "d1_mini", "--json", "--admin-socket", "state/admin.sock", cwd=tmp_path)
    assert code == 1 and json.loads(out) == last
    assert error.endswith(f"\n    updraft rollouts abort {ID} --admin-socket state/admin.sock\n"
                          "    publish-update d1_mini --version OLD --admin-socket state/admin.sock\n")


def test_many_failures_are_counted_by_their_reasons(stand_in, tmp_path):
    """One that rolls back and twenty whose WiFi is poor are two stories; a list of devices tells neither."""
    whys = ["cut at 37 %: it closed", "it rolled back", *[f"cut at {i} %: it closed" for i in range(20)]]
    last = rollout("halted", members=99, confirmed=6, failed=22, queued=71, failures=22, why="22 of 28 failed")
    publishes(stand_in, rollout(), with_devices(last, [(f"5ccf7f0000{i:02x}", "failed", why) for i, why in enumerate(whys)]))
    code, _, error = run("publish-update", "d1_mini", cwd=tmp_path)
    assert code == 1 and error.splitlines()[1:4] == [
        "  21 failed: cut at N %: it closed", "  1 failed: it rolled back", "  5ccf7f000000 failed: cut at 37 %: it closed"]
    assert "  5ccf7f000013 failed: " in error and "5ccf7f000014" not in error and "\n  and 2 more\n" in error


OTHER = "5ccf7fb1e043"


@pytest.mark.parametrize("words, devices, code, expected", [
    (["--to", f"{MAC},{OTHER}"], [("confirmed", ""), ("silent", "")], 1,
     f"publish-update: not updated: 1 silent of 2 named devices\n  {OTHER} silent: nothing was heard of it in 12 s\n"
     "  remedy: check that they are on"),
    (["--to", f"{MAC},{OTHER}"], [("skipped", "runs it already"), ("failed", "cut: at 3 %")], 1,
     f"publish-update: not updated: 1 failed of 2 named devices\n  {OTHER} failed: cut: at 3 %\n  remedy: "),
    (["--to", f"{MAC},{OTHER}"], [("confirmed", ""), ("skipped", "wrong-chip")], 1,
     f"publish-update: not updated: 1 skipped of 2 named devices\n  {OTHER} skipped: wrong-chip\n  remedy: \"updraft ex"),
    (["--to", f"{MAC},{OTHER}"], [("confirmed", ""), ("skipped", "runs it already")], 0, ""),
    ([], [("confirmed", ""), ("silent", "")], 0, ""),
    ([], [("confirmed", ""), ("skipped", "wrong-chip: for another chip")], 1,
     f"publish-update: not updated: 1 skipped of 2 devices\n  {OTHER} skipped: wrong-chip: for another chip\n  remedy: \"updraft ex"),
    ([], [("confirmed", ""), ("skipped", "loop-guard: sent whole 3 times")], 1,
     f"publish-update: not updated: 1 skipped of 2 devices\n  {OTHER} skipped: loop-guard: sent whole 3 times\n"
     "  remedy: \"updraft devices retry MAC\""),
    ([], [("confirmed", ""), ("skipped", "pinned: 1.0")], 0, ""),
    ([], [("confirmed", ""), ("skipped", "runs it already")], 0, ""),
])
def test_each_named_device_counts(stand_in, tmp_path, words, devices, code, expected):
    listed = [(mac, state, why) for mac, (state, why) in zip([MAC, OTHER], devices)]
    counts = {state: 1 for state, _ in devices}
    publishes(stand_in, rollout(), with_devices(rollout("done", members=2, **counts), listed))
    got, out, error = run("d1_mini", *words, cwd=tmp_path, program="publish-update")
    assert got == code and error.startswith(expected) and (error == "") == (code == 0), (got, out, error)
    assert MAC not in out + error, "who has it is not named"
    got, out, error = run("d1_mini", *words, "--json", cwd=tmp_path, program="publish-update")
    assert got == code and error.startswith(expected)
    assert ("device_list" in json.loads(out)) == bool(words)
    assert not words or [(one["mac"], one["state"], one["why"]) for one in json.loads(out)["device_list"]] == listed


def test_devices_of_a_rollout_that_reached_nobody_were_not_told(stand_in, tmp_path):
    why = "the broker's ACL denies publishing to updraft/d1_mini/update: grant the user updraft write on it " * 8
    last = rollout("aborted", why=why.strip(), silent=2, members=2) | {"commands": {"sent": 1, "acknowledged": 0}}
    publishes(stand_in, rollout("planned"), with_devices(last, [(MAC, "silent", why.strip())]))
    code, out, error = run("publish-update", "d1_mini", cwd=tmp_path)
    assert code == 1 and "d1_mini 0.4.10: aborted: 2 not told of 2\n" in out and "silent" not in out + error
    assert error.startswith(f"updraft: the rollout was aborted: {why.strip()}\n  {MAC} not told\n  and 1 more\n  remedy: ")


def test_notes_are_said_and_no_more(stand_in, tmp_path):
    notes = ["5C:CF:7F:00:00:01 asks as door, not d1_mini", "5C:CF:7F:00:00:02 was never \x1b seen"]
    publishes(stand_in, {**rollout(), "notes": notes}, {**rollout("done", confirmed=3), "notes": notes})
    said = f"note: {notes[0]}\nnote: 5C:CF:7F:00:00:02 was never \\x1b seen\n"
    for words in [[], ["--json"], ["--no-wait"], ["--no-wait", "--json"]]:
        code, out, error = run("publish-update", "d1_mini", *words, cwd=tmp_path)
        assert (code, error) == (0, said)
    assert json.loads(out)["notes"] == notes
    publishes(stand_in, rollout("planned"), rollout("planned") | {"notes": notes[:1]}, rollout() | {"notes": notes},
              rollout("done", confirmed=3) | {"notes": notes})
    assert run("publish-update", "d1_mini", cwd=tmp_path)[2] == said, "also those that come later, and each once"
    stand_in.answers[("POST", "/api/v1/rollouts")] = [(200, {"plan": {"type": "d1_mini", "notes": notes}})]
    code, out, error = run("publish-update", "d1_mini", "--plan", cwd=tmp_path)
    assert (code, error) == (0, "") and f"\nnote      {notes[0]}\nnote      5C:CF:7F:00:00:02 was never \\x1b" in out


def test_a_plan_says_who_how_and_how_long(stand_in, tmp_path):
    plan = {"type": "d1_mini", "version": "0.4.10", "mode": "sketch", "devices": {"known": 120, "current": 3, "to_update": 56,
                                                                                     "chosen": 6, "away": 0},
            "selected": {"members": 15, "canary": 5, "percent": 10, "group": "kitchen", "skipped": [
                {"reason": "wrong-chip", "count": 3, "detail": "the image is for another chip", "first": [MAC, OTHER]},
                {"reason": "pinned", "count": 1, "detail": "", "first": [MAC]}]},
            "in_flight": 0, "seconds": 420, "seconds_text": "about 7 min at 12 devices a minute",
            "how": "a command to each device", "broker": {"state": "connected", "error": ""}, "notes": []}
    stand_in.answers[("POST", "/api/v1/rollouts")] = [(200, {"plan": plan})]
    out = run("publish-update", "d1_mini", "--plan", cwd=tmp_path)[1]
    assert ("devices   120 known, 3 run it already, 56 to update, of the group kitchen, 10 % of them: "
            "about 6; 5 of them first\n"
            f"skipped   3 wrong-chip: the image is for another chip ({MAC}, {OTHER}, ...)\n          1 pinned ({MAC})\n"
            "how       a command to each device\n"
            "at once   as many as the network carries, found out while it goes\n"
            "takes     about 7 min at 12 devices a minute\nbroker    connected\n") in out, out
    stand_in.answers[("POST", "/api/v1/rollouts")] = [(200, {"plan": {**plan, "in_flight": 7, "seconds": None,
                                                                      "seconds_text": ""}})]
    plan["devices"] |= {"chosen": 3, "away": 2}
    out = run("publish-update", "d1_mini", "--plan", cwd=tmp_path)[1]
    assert "\nat once   7 devices at most\ntakes     nothing was measured yet\n" in out
    assert "about 3; all of them as canaries; 2 said that they are gone, and get it when they come" in " ".join(out.split())


def test_failed_and_silent_devices_are_named_with_why(stand_in, tmp_path):
    devices = [(f"5ccf7f{i:06x}", "failed" if i % 2 else "silent", "cut at 10 %" if i % 2 else "") for i in range(60)]
    publishes(stand_in, rollout(), with_devices(rollout("done", members=61, confirmed=1, failed=30, silent=30),
                                                devices + [(MAC, "confirmed", "")]))
    out, error = run("publish-update", "d1_mini", cwd=tmp_path)[1:]
    assert "  5ccf7f000001 failed: cut at 10 %\n  5ccf7f000003 failed: cut at 10 %\n" in error
    assert "\n  30 failed: cut at N %\n  30 silent\n" in error.replace(": nothing was heard of it in 12 s", "")
    assert error.count("\n  5ccf7f") == 20 and MAC not in error and "\n  and 40 more\n" in error
    assert "5ccf7f" not in out
    assert [path.split("?")[1] for _, path, _ in stand_in.asked if "devices=yes" in path] == [
        "devices=yes&state=failed&limit=1000", "devices=yes&state=silent&limit=1000"], "no more than a page of each"


@contextlib.contextmanager
def watching(*words, cwd, program="publish-update"):
    process = subprocess.Popen([BIN / program, *words], env=environment(), cwd=cwd, stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def test_a_server_that_goes_for_a_while_is_waited_for(stand_in, tmp_path):
    publishes(stand_in, rollout(triggered=3))
    stand_in.answers[("GET", "/api/v1/rollouts/00112233aabbccdd")] = [(200, rollout(triggered=3))]
    with watching("d1_mini", cwd=tmp_path) as process:
        wait_until(lambda: len(stand_in.asked) > 1, "the first look")
        stand_in.close()
        assert "no server at the socket ./state/admin.sock: " in process.stderr.readline()
        assert "trying again for 30 s" in process.stderr.readline()
        again = StandIn(stand_in.path)
        again.answers[("GET", "/api/v1/rollouts/00112233aabbccdd")] = [
            (200, rollout(triggered=2, confirmed=1)), (200, rollout("done", confirmed=3))]
        out, error = process.communicate(timeout=PATIENCE_S)
        again.close()
    assert process.returncode == 0 and error == "publish-update: the server answers again\n", (out, error)


@pytest.mark.waits_long
def test_a_server_that_stays_away_is_no_server(stand_in, tmp_path):
    publishes(stand_in, rollout(triggered=3), rollout(triggered=3))
    with watching("d1_mini", cwd=tmp_path) as process:
        wait_until(lambda: len(stand_in.asked) > 1, "the first look")
        stand_in.close()
        begun = time.monotonic()
        out, error = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 3 and 28 < time.monotonic() - begun < 45
    assert error.count("no server at the socket") == 2, "said when it went, and when it was given up"


def test_a_server_started_anew_has_forgotten(stand_in, tmp_path):
    publishes(stand_in, rollout(triggered=3))
    stand_in.answers[("GET", "/api/v1/rollouts/00112233aabbccdd")] = [
        (404, {"error": {"code": "not-found", "message": "no such rollout", "remedy": ""}})]
    says("no longer knows this rollout: it was started anew", "publish-update", "d1_mini", code=1, cwd=tmp_path)


def test_interrupting_leaves_the_rollout(stand_in, tmp_path):
    publishes(stand_in, rollout(triggered=3), rollout(triggered=3))
    for words in [["d1_mini"], ["d1_mini", "--json"]]:
        stand_in.asked.clear()
        with watching(*words, cwd=tmp_path) as process:
            wait_until(lambda: len(stand_in.asked) > 1, "the first look")
            process.send_signal(signal.SIGINT)
            out, error = process.communicate(timeout=PATIENCE_S)
        assert process.returncode == 0
        assert error == "publish-update: the rollout 00112233aabbccdd goes on without being watched\n"
    assert json.loads(out)["state"] == "running"


# --- on a terminal ----------------------------------------------------------------------------------------------------

class Terminal:
    """As much of a terminal as the program may rely on; fails on anything else. Folds lines as a real one does."""

    def __init__(self, columns, rows=24):
        self.columns, self.lines, self.row, self.column = columns, [""], 0, 0
        self.colours, self.folded, self.raw = False, False, ""
        self.master, self.slave = pty.openpty()
        self.resize(columns, rows)

    def resize(self, columns, rows=24):
        self.columns = columns
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def feed(self, text):
        self.raw += text
        for match in re.finditer(r"\x1b\[(\d*)([A-Za-z])|[\r\n]|[ -~]|.", text, re.S):
            piece, number, letter = match.group(0), match.group(1), match.group(2)
            if letter == "A":
                self.row -= int(number or 1)
                assert not self.folded, f"a block wider than {self.columns}: {self.lines}"
                assert self.row >= 0, "it went above its own block"
            elif letter == "K":
                self.lines[self.row] = self.lines[self.row][:self.column]
            elif letter == "J":
                self.lines[self.row] = self.lines[self.row][:self.column]
                del self.lines[self.row + 1:]
            elif letter == "m":
                self.colours = True
            elif piece == "\r":
                self.column = 0
            elif piece == "\n":
                self.row, self.column = self.row + 1, 0
                while len(self.lines) <= self.row:
                    self.lines.append("")
            else:
                assert " " <= piece <= "~", f"{piece!r} is not for a terminal"
                if self.column == self.columns:
                    self.folded, self.row, self.column = True, self.row + 1, 0
                    self.lines.insert(self.row, "")
                line = self.lines[self.row].ljust(self.column)
                self.lines[self.row] = line[:self.column] + piece + line[self.column + 1:]
                self.column += 1

    def run(self, *words, cwd, env=None, on_text=None, program="updraft", together=False):
        """`together`: what goes to stderr is on the terminal too."""
        process = subprocess.Popen([BIN / program, *words], stdout=self.slave,
                                   stderr=self.slave if together else subprocess.PIPE, cwd=cwd,
                                   env=environment({"TERM": "xterm", **(env or {})}), text=True)
        os.close(self.slave)
        try:
            while data := self.read():
                self.feed(data.decode("ascii"))
                if on_text:
                    on_text(self)
            self.error = process.communicate(timeout=PATIENCE_S)[1]
        finally:
            process.kill()
            os.close(self.master)
        return process.returncode

    def read(self):
        try:
            return os.read(self.master, 65536)
        except OSError:  # the last writer has gone
            return b""


@pytest.mark.parametrize("columns", [20, 40, 79, 80, 200])
def test_the_block_is_redrawn_in_place(stand_in, tmp_path, columns):
    publishes(stand_in, rollout("planned", broker="waiting"), rollout(triggered=3),
              rollout(triggered=1, downloading=2, bytes=1500), rollout(flashed=1, confirmed=1, failed=1, bytes=3000),
              rollout("done", confirmed=3, bytes=3000))
    terminal = Terminal(columns)
    assert terminal.run("publish-update", "d1_mini", cwd=tmp_path) == 0, terminal.error
    assert terminal.raw.count("\x1b[") > 10
    text = " ".join(line.strip() for line in terminal.lines[2:]).strip()
    assert text == "d1_mini 0.4.10: done in 12 s: 3 confirmed of 3 devices, 2.9 KiB", terminal.lines
    assert terminal.lines[0].startswith("d1_mini 0.4.10 "[:columns - 1]), terminal.lines
    assert terminal.lines[1].startswith("triggered 0" if columns >= 79 else "confirmed 3"), terminal.lines
    if columns >= 79:
        assert re.fullmatch(r"d1_mini 0\.4\.10 \[#+\] 100% +3/3 devices", terminal.lines[0])
        assert len(set(re.findall(r"\[[#-]+\]", terminal.raw))) > 1
        assert len({len(bar) for bar in re.findall(r"\[[#-]+\]", terminal.raw)}) == 1, "the bar jumps"
        assert terminal.lines[1] == "triggered 0  downloading 0  flashed 0  confirmed 3  failed 0  silent 0"
        assert "waiting for the broker, 4:48 left: connection refused" in terminal.raw
        assert re.search(r"\[#+-+\]\x1b\[0m  50% +0/3 devices +[\d.]+ \w+/s +\d:\d\d left", terminal.raw)


def test_a_terminal_made_narrower_keeps_one_block(stand_in, tmp_path):
    """The terminal folds what it shows already; the program has to go up by the folded rows, once, and to draw for the
    new width from then on."""
    publishes(stand_in, *[rollout(triggered=3, bytes=n) for n in range(12)], rollout("done", confirmed=3))
    terminal = Terminal(100)
    terminal.feed = lambda text: setattr(terminal, "raw", terminal.raw + text)  # folding is beyond this Terminal

    def narrow(one):
        if one.columns == 100 and one.raw.count("\x1b[J") > 3:
            one.resize(30)
    assert terminal.run("publish-update", "d1_mini", cwd=tmp_path, on_text=narrow) == 0
    drawings = terminal.raw.split("\x1b[J")
    ups = [int(up) for up in re.findall(r"\x1b\[(\d+)A", terminal.raw)]
    folded = [i for i, up in enumerate(ups) if up > 3]
    assert len(folded) == 1, ups

    def lines(drawing):
        return re.sub(r"\x1b\[\d*[A-Za-z]|\r", "", drawing).rstrip("\n").split("\n")
    rows = sum(-(-len(line) // 30) for line in lines(drawings[folded[0]]))
    assert ups[folded[0]] == rows > 4, (ups, rows)
    for drawing in drawings[folded[0] + 1:-1]:
        assert all(len(line) < 30 for line in lines(drawing)), drawing


@pytest.mark.parametrize("env, live, colours", [
    ({}, True, True), ({"NO_COLOR": "1"}, True, False), ({"TERM": "dumb"}, False, False), ({"TERM": ""}, False, False)])
def test_colours_and_movement_only_where_wanted(stand_in, tmp_path, env, live, colours):
    publishes(stand_in, rollout(triggered=2, failed=1), rollout("done", confirmed=3))
    terminal = Terminal(80)
    assert terminal.run("publish-update", "d1_mini", cwd=tmp_path, env=env) == 0
    assert ("\x1b[J" in terminal.raw, terminal.colours) == (live, colours)


def test_a_note_stands_above_the_block(stand_in, tmp_path):
    publishes(stand_in, rollout("planned"), rollout(triggered=3, broker="waiting") | {"notes": ["it asks as door"]},
              rollout("done", confirmed=3) | {"notes": ["it asks as door"]})
    terminal = Terminal(80)
    assert terminal.run("publish-update", "d1_mini", cwd=tmp_path, together=True) == 0
    assert terminal.lines[0] == "note: it asks as door" and terminal.lines[1].startswith("d1_mini 0.4.10 [")
    assert terminal.raw.count("note: ") == 1 and len(terminal.lines) == 5, terminal.lines


@pytest.mark.parametrize("columns", [40, 60])
def test_a_long_reason_is_wrapped_and_not_cut(stand_in, tmp_path, columns):
    why = "refused: the broker's ACL denies publishing to updraft/d1_mini/update: grant the user updraft write on it"
    publishes(stand_in, rollout("planned"), with_devices(rollout("aborted", why=why, failed=1, members=1),
                                                           [(MAC, "failed", "cut " + why)]))
    terminal = Terminal(columns)
    assert terminal.run("publish-update", "d1_mini", cwd=tmp_path, together=True) == 1
    assert all(len(line) < columns for line in terminal.lines), terminal.lines
    text = " ".join(line.strip() for line in terminal.lines)
    assert f"updraft: the rollout was aborted: {why} {MAC} failed: cut {why} remedy: " in text, terminal.lines


def test_json_draws_nothing(stand_in, tmp_path):
    publishes(stand_in, rollout(triggered=3), rollout("done", confirmed=3))
    terminal = Terminal(80)
    assert terminal.run("publish-update", "d1_mini", "--json", cwd=tmp_path) == 0
    assert json.loads(terminal.raw)["devices"]["confirmed"] == 3 and "\x1b" not in terminal.raw


# --- files ------------------------------------------------------------------------------------------------------------

def test_what_is_no_image_is_not_sent(stand_in, tmp_path):
    (tmp_path / "empty.bin").write_bytes(b"")
    (tmp_path / "folder.bin").mkdir()
    os.mkfifo(tmp_path / "pipe.bin")
    with open(tmp_path / "big.bin", "wb") as big:
        big.truncate((32 << 20) + 1)
    for name, expected in [("empty", "the file is empty"), ("folder", "that is a folder"), ("pipe", "that is no file"),
                           ("big", r"32\.0 MiB is more than any image has"), ("none", "No such file")]:
        says(rf"{name}\.bin: {expected}.*\n  remedy: ", "firmware", "add", f"{name}.bin", "--type", "t", "--version",
             "1", code=1, cwd=tmp_path)
    assert stand_in.asked == []


def test_an_upload_shows_a_bar_and_leaves_one_line(stand_in, tmp_path):
    data = os.urandom(4 << 20)
    (tmp_path / "x.bin").write_bytes(data)
    stand_in.answers[("POST", "/api/v1/firmware")] = [(201, {
        "file": "t/1.bin", "chip": "ESP32", "bytes": len(data), "md5": "0" * 32})]
    terminal = Terminal(60)
    assert terminal.run("firmware", "add", "x.bin", "--type", "t", "--version=1", "--kind", "fs", "--replace",
                        cwd=tmp_path) == 0, terminal.error
    assert "being checked" in terminal.raw
    assert stand_in.asked == [("POST", "/api/v1/firmware?type=t&version=1&kind=fs&replace=yes", data)]
    assert "".join(terminal.lines) == f"added t/1.bin: ESP32, 4.0 MiB, md5 {'0' * 32}"


# --- the real server --------------------------------------------------------------------------------------------------

def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


@pytest.fixture(scope="module")
def broker(tmp_path_factory):
    """A mosquitto of our own; its port."""
    folder, port = tmp_path_factory.mktemp("broker"), free_port()
    (folder / "mosquitto.conf").write_text(f"listener {port} 127.0.0.1\nallow_anonymous true\n")
    process = subprocess.Popen(["/usr/sbin/mosquitto", "-c", folder / "mosquitto.conf"], stdout=subprocess.DEVNULL,
                               stderr=subprocess.DEVNULL)

    def there():
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return True
    wait_until(there, "mosquitto")
    yield port
    process.terminate()
    process.wait(PATIENCE_S)


@pytest.fixture
def server(tmp_path):
    with Server(tmp_path) as one:
        yield one


def image(server, version, kind="esp8266", **options):
    """An image of d1_mini in the repository, served."""
    data = make_image(kind, server.repo / f"truc_{version}.ino.d1_mini.bin", **options)
    wait_until(lambda: f"truc_{version}" in run("firmware", cwd=server.folder)[1], "the image in the catalog")
    return data


def test_status_of_a_server(server):
    out = says("updraftd +[0-9.]+, ready, up ", "status", cwd=server.folder)
    assert f"listening   http 127.0.0.1:{server.port}\n" in out and "0 images of 0 types, 0 rejected" in out
    assert "MQTT        off: devices are served when they ask" in out
    document = json.loads(run("status", "--json", "--admin-socket", server.folder / "state/admin.sock")[1])
    assert document["ready"] is True and document["mqtt"]["configured"] is False


def test_an_image_is_added_listed_explained_and_removed(server, tmp_path):
    data = make_image("esp8266", tmp_path / "new.bin")
    says(rf"^added d1_mini/0\.4\.10\.bin: ESP8266, .* md5 [0-9a-f]{{32}}\n$", "firmware", "add", tmp_path / "new.bin",
         "--type", "d1_mini", "--version", "0.4.10", cwd=server.folder)
    assert (server.repo / "d1_mini/0.4.10.bin").read_bytes() == data
    assert check(server, "/update/d1_mini", version="0.4.9").status == 200, "the answer comes when it is served"
    says(r"exists|already.*remedy: .*--replace", "firmware", "add", tmp_path / "new.bin", "--type", "d1_mini",
         "--version", "0.4.10", code=1, cwd=server.folder)
    says(r"FILE +TYPE +VERSION +KIND +CHIP +SIZE +MD5\nd1_mini/0\.4\.10\.bin +d1_mini +0\.4\.10 +sketch +ESP8266 .*newest",
         "firmware", cwd=server.folder)
    says("reason   newer .status 200.", "explain", "d1_mini", "--version", "0.4.9", "--mac", MAC, cwd=server.folder)
    says("reason   up-to-date|same", "explain", "d1_mini", "--version", "0.4.10", "--mac", MAC, cwd=server.folder)
    make_image("littlefs", tmp_path / "fs.bin")
    says(r"wrong-kind: (?s:(?!rename).)*--kind fs of a file system", "firmware", "add", tmp_path / "fs.bin", "--type", "d1_mini",
         "--version", "0.4.11", code=1, cwd=server.folder)
    says(r"^added d1_mini/0\.4\.10\.fs\.bin: file system, [\d.]+ KiB, md5 [0-9a-f]{32}\n$", "firmware", "add",
         tmp_path / "fs.bin", "--type", "d1_mini", "--version", "0.4.10", "--kind", "fs", cwd=server.folder)
    says(r"image    d1_mini/0\.4\.10\.fs\.bin, version 0\.4\.10, [\d.]+ KiB, md5 ", "explain", "d1_mini", "--mode", "fs",
         "--version", "0.4.9", cwd=server.folder)
    says("removed d1_mini/0.4.10.bin", "firmware", "rm", "d1_mini/0.4.10.bin", cwd=server.folder)
    assert not (server.repo / "d1_mini/0.4.10.bin").exists()
    says("remedy", "firmware", "rm", "d1_mini/0.4.10.bin", code=1, cwd=server.folder)


def test_a_rejected_file_says_why_and_what_to_do(server, tmp_path):
    (tmp_path / "page.bin").write_bytes(b"<!DOCTYPE html><html>" * 100)
    says("html.*remedy: ", "firmware", "add", tmp_path / "page.bin", "--type", "door", "--version", "1", code=1,
         cwd=server.folder)
    shutil.copy(tmp_path / "page.bin", server.repo / "truc_1_0.ino.door.bin")
    wait_until(lambda: "truc_1_0" in run("firmware", "rejected", cwd=server.folder)[1], "the file among the rejected")
    says(r"FILE +FAULT +DETAIL\ntruc_1_0\.ino\.door\.bin +html-page .*\n    \w", "firmware", "rejected",
         cwd=server.folder)


def test_refusals_to_publish_name_the_reason(server):
    image(server, "0_4_10")
    says("d1_mni.*remedy: .*d1_mini", "publish-update", "d1_mni", code=1, cwd=server.folder)
    says("9.9", "publish-update", "d1_mini", "--version", "9.9", code=1, cwd=server.folder)
    says("nobody could be told.*remedy: no broker is configured: .*--mqtt URL", "publish-update", "d1_mini", code=1, cwd=server.folder)


def device(broker, server, data, seen):
    """A device that obeys: gets the command, pulls, comes back with the new digest."""
    import hashlib
    import paho.mqtt.client as mqtt

    def on_message(client, _, message):
        if not message.topic.endswith("/update"):
            return  # the server's own online, which is retained
        seen.append((message.topic, json.loads(message.payload)))
        assert check(server, "/update/d1_mini", version="0.4.9").body == data
        check(server, "/update/d1_mini", version="0.4.10", md5=hashlib.md5(data).hexdigest())
    client = mqtt.Client()
    client.on_message = on_message
    client.connect("127.0.0.1", broker)
    ready = threading.Event()
    client.on_subscribe = lambda *_: ready.set()
    client.loop_start()
    client.subscribe("updraft/#", 1)
    assert ready.wait(PATIENCE_S)
    return client


@contextlib.contextmanager
def simulated(broker, server, *words):
    process = subprocess.Popen(
        [BIN / "updraft-sim", "--server", f"http://127.0.0.1:{server.port}", "--mqtt", f"mqtt://127.0.0.1:{broker}",
         "--types", "d1_mini", "--check-in-at-start", "--seed", "1", "--quiet", *map(str, words)],
        stdout=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def known(server, count):
    wait_until(lambda: json.loads(run("status", "--json", cwd=server.folder)[1])["devices"]["seen"] == count,
               f"{count} devices")


def test_no_byte_is_counted_twice_while_downloads_end(tmp_path, broker):
    """A look between two of the server's own looks must not see a transfer both as under way and as ended."""
    with Server(tmp_path, mqtt=f"mqtt://127.0.0.1:{broker}", public_url=None) as server:
        image(server, "0_4_9")
        with simulated(broker, server, "--devices", 8, "--image", server.repo / "truc_0_4_9.ino.d1_mini.bin", "--rate",
                       "100K", "--flash-time", "1", "--reboot-time", "1"):
            known(server, 8)
            size = len(image(server, "0_4_10", size="150K", seed=2))
            admin, seen = Admin(server.folder / "state/admin.sock"), []
            place = "/api/v1/rollouts/" + admin.post("/api/v1/rollouts", {"type": "d1_mini"}).json["id"]
            while not seen or seen[-1]["state"] not in ("done", "aborted"):
                seen.append(admin.get(place).json)
                time.sleep(0.005)
        assert seen[-1]["devices"]["confirmed"] == 8 and seen[-1]["bytes"] == 8 * size
        counted = [one["bytes"] for one in seen]
        assert counted == sorted(counted) and counted[-1] == 8 * size and len(set(counted)) > 3, counted


def test_a_real_fleet_on_a_terminal(tmp_path, broker):
    with Server(tmp_path, mqtt=f"mqtt://127.0.0.1:{broker}", public_url=None) as server:
        image(server, "0_4_9")
        with simulated(broker, server, "--devices", 5, "--image", server.repo / "truc_0_4_9.ino.d1_mini.bin", "--rate",
                       "100K", "--flash-time", "1", "--reboot-time", "1"):
            known(server, 5)
            image(server, "0_4_10", size="150K", seed=2)
            terminal = Terminal(80)
            assert terminal.run("publish-update", "d1_mini", "--timeout", "30", cwd=tmp_path, together=True) == 0
        bars = re.findall(r"\[([#-]+)\]", terminal.raw)
        assert len({len(bar) for bar in bars}) == 1 and len(set(bars)) > 2, bars
        assert [bar.count("#") for bar in bars] == sorted(bar.count("#") for bar in bars), "the bar went back"
        assert re.fullmatch(r"d1_mini 0_4_10 \[#+\] 100% +5/5 devices", terminal.lines[0]), terminal.lines
        while_restarting = re.findall(r"downloading 0  flashed 5 ", terminal.raw)
        rates = re.findall(r"5 devices +([\d.]+ \w+)/s[^\n]*\n[^\n]*downloading 0  flashed 5 ", terminal.raw)
        assert len(rates) == len(while_restarting) > 0 and len(set(rates)) == 1, "the rate sinks while none downloads"


@pytest.mark.parametrize("words, code, expected", [
    (["--to", "5ccf7f000001,5ccf7f0000ff"], 1,
     r"^publish-update: not updated: 1 silent of 2 named devices\n  5ccf7f0000ff silent: was told, and has not asked"
     r"\n  remedy: check that they are on"),
    (["--to", "5ccf7f000001"], 0, "^$"),
])
def test_who_is_named_must_come(tmp_path, broker, words, code, expected):
    with Server(tmp_path, mqtt=f"mqtt://127.0.0.1:{broker}", public_url=None) as server:
        image(server, "0_4_9")
        with simulated(broker, server, "--devices", 1, "--image", server.repo / "truc_0_4_9.ino.d1_mini.bin",
                       "--flash-time", "0.2", "--reboot-time", "0.2"):
            known(server, 1)
            image(server, "0_4_10", seed=2)
            got, out, error = run("d1_mini", *words, "--timeout", "3", program="publish-update", cwd=tmp_path)
        assert got == code and "1 confirmed" in out, (got, out, error)
        assert re.search(expected, re.sub(r"^note: .*\n", "", error, flags=re.M)), error


def test_a_broker_that_denies_says_it_whole(tmp_path):
    (tmp_path / "acl").write_text("topic read #\ntopic write updraft/server/online\n")
    with Broker(tmp_path / "broker", f"acl_file {tmp_path / 'acl'}") as denying, \
            Server(tmp_path, mqtt=denying.url, public_url="http://127.0.0.1:1") as server:
        image(server, "0_4_10")
        wait_until(lambda: "connected" in run("status", cwd=tmp_path)[1], "the broker")
        code, out, error = run("publish-update", "d1_mini", cwd=tmp_path)
        why = json.loads(run("publish-update", "d1_mini", "--json", cwd=tmp_path)[1])["why"]
        assert code == 1 and why and f"the rollout was aborted: {why}\n" in error, (out, error, why)
        assert "no device was told" in out and "published" not in out and "silent" not in out + error


@pytest.mark.parametrize("program, words", [("publish-update", []), ("updraft", ["publish-update"])])
def test_the_whole_circle(tmp_path, broker, program, words):
    with Server(tmp_path, mqtt=f"mqtt://127.0.0.1:{broker}", public_url="http://127.0.0.1:1") as server:
        data, seen = image(server, "0_4_10"), []
        check(server, "/update/d1_mini", version="0_4_10")  # it is known, and asks
        client = device(broker, server, data, seen)
        out = says(r"d1_mini 0_4_10: done in \d+ s: 1 confirmed of 1 device,", *words, "d1_mini", "--timeout", "30",
                   program=program, cwd=tmp_path)
        client.loop_stop()
        commands = [message for topic, message in seen if topic == "updraft/d1_mini/update"]
        assert len(commands) == 1 and commands[0]["version"] == "0_4_10", seen
        assert re.match(r"\d\d:\d\d:\d\d d1_mini 0_4_10: ", out)


def test_a_plan_publishes_nothing(tmp_path, broker):
    with Server(tmp_path, mqtt=f"mqtt://127.0.0.1:{broker}", public_url="http://127.0.0.1:1") as server:
        image(server, "0_4_10")
        out = says("nothing was published", "publish-update", "d1_mini", "--plan", cwd=tmp_path)
        assert re.search(r"update    d1_mini 0_4_10 \(sketch\)\nimage     truc_0_4_10\.ino\.d1_mini\.bin, ", out), out
        assert re.search(r"command   updraft/d1_mini/update\n          \{.*\"version\"", out), out
        assert json.loads(run("status", "--json", cwd=tmp_path)[1])["rollouts_running"] == 0
        plan = json.loads(run("publish-update", "d1_mini", "--plan", "--json", cwd=tmp_path)[1])["plan"]
        assert plan["messages"][0]["topic"] == "updraft/d1_mini/update"


def test_a_broker_that_stays_away_ends_it(tmp_path):
    with Server(tmp_path, mqtt=f"mqtt://127.0.0.1:{free_port()}", public_url="http://127.0.0.1:1") as server:
        image(server, "0_4_10")
        begun = time.monotonic()
        out = says("the rollout was aborted: ", "publish-update", "d1_mini", "--timeout", "2", code=1, cwd=tmp_path)
        assert time.monotonic() - begun < 20
        assert "waiting for the broker" in out


def test_tokens_open_the_tcp_door(tmp_path):
    port = free_port()
    with Server(tmp_path, admin_listen=f"127.0.0.1:{port}") as server:
        url = f"http://127.0.0.1:{port}"
        says("unauthorized|token", "status", "--server", url, code=1)
        says(r"--admin-listen speaks http://", "status", "--server", url.replace("http:", "https:"), code=3)
        code, token, note = run("token", "new", "grafana", cwd=server.folder)
        assert (code, token.count("\n")) == (0, 1) and "only time" in note
        says("ready", "status", "--server", url, "--token", token.strip())
        (tmp_path / "token").write_text(token)
        says("ready", "status", env={"UPDRAFT_SERVER": url, "UPDRAFT_TOKEN_FILE": str(tmp_path / "token")})
        says("ready", "status", env={"UPDRAFT_SERVER": url, "UPDRAFT_TOKEN": token.strip()})
        says(r"NAME +ROLE +CREATED +EXPIRES +LAST USED\ngrafana +read +2\S+ +never +\d+ s ago", "token", "ls", cwd=server.folder)
        says("removed grafana", "token", "revoke", "grafana", cwd=server.folder)
        says("", "status", "--server", url, "--token", token.strip(), code=1)
        assert token.strip() not in server.log()


def test_a_long_way_to_the_socket(tmp_path):
    """A socket's name has at most 107 bytes; folders of containers and home directories are longer."""
    folder = tmp_path / ("deep" * 30)
    with Server(folder):
        says("listening|http", "status", "--admin-socket", folder / "state/admin.sock")

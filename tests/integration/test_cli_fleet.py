"""The verbs devices and rollouts against a stand-in: what they ask the server for, and what a person and a program see
of its answers. A fleet is large, so it matters what is not asked for too."""

import datetime
import json

import pytest

from tests.support.cli import ID, MAC, rollout, run, says, with_devices

PLACE = f"/api/v1/devices/{MAC}"
OTHER_ID = "00119999aabbccdd"


def ago(seconds):
    moment = datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(seconds=seconds)
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def device(mac=MAC, **members):
    policy = {"blocked": False, "approved": False, "pin": "", "assigned": {"type": "", "label": "", "source": ""},
              "groups": [], "note": "", "at": None, **members.pop("policy", {})}
    return {"mac": mac, "type": "d1_mini", "client": "esp8266", "chip": "ESP8266", "flash_bytes": 4 << 20,
            "flash_mode": "dio", "free_bytes": 2 << 20, "version": "0.4.9", "fs_version": "", "md5": "ab" * 16,
            "sdk": "2.2.2", "address": "192.168.1.7", "via_proxy": False, "first_seen": "2026-11-01T00:00:00Z",
            "last_seen": ago(185), "online": None, "reason": "up-to-date", "reason_mode": "sketch", "transfer": None,
            "outcome": "confirmed", "failures": 0, "policy": policy, "never_again": [], "rollouts": [], **members}


# --- devices ----------------------------------------------------------------------------------------------------------

def test_the_fleet_is_a_table(stand_in, tmp_path):
    policy = {"blocked": True, "pin": "0.4.8", "assigned": {"type": "door", "label": "DOOR-7", "source": "operator"},
              "groups": ["kitchen", "cellar"]}
    stand_in.answers[("GET", "/api/v1/devices")] = [(200, {"total": 3, "devices": [
        device(), device("5ccf7fb1e043", version="x\x1b[2J", policy=policy, outcome="old-build", reason="loop-guard"),
        device("5ccf7fb1e044", type="", version="", last_seen=None, outcome="none", reason="",
               policy={"approved": True})]})]
    out = run("devices", cwd=tmp_path)[1]
    lines = [line.split() for line in out.splitlines()]
    assert lines[0] == ["MAC", "TYPE", "VERSION", "SEEN", "OUTCOME", "REASON", "POLICY"]
    assert lines[1][:3] + lines[1][-2:] == [MAC, "d1_mini", "0.4.9", "confirmed", "up-to-date"]
    assert " 3 min " in out and " s ago  confirmed" in out
    assert out.splitlines()[2].startswith("5ccf7fb1e043  d1_mini  x\\x1b[2J  ")
    assert out.splitlines()[2].endswith("  old-build  loop-guard  blocked, pin 0.4.8, assigned door/DOOR-7, in kitchen, cellar")
    assert lines[3] == ["5ccf7fb1e044", "-", "-", "-", "none", "-", "approved"]
    assert len({line.index(word) for line, word in zip(out.splitlines()[1:], ["confirmed", "old-build", "none"])}) == 1


def test_a_fleet_comes_whole_and_filtered_by_the_server(stand_in, tmp_path):
    whole = [device(f"5ccf7f{i:06x}") for i in range(1500)]

    def page(query):
        start = int(query["offset"])
        return {"total": 1500, "devices": whole[start:start + int(query["limit"])]}
    stand_in.answers[("GET", "/api/v1/devices")] = [(200, page)]
    listed = json.loads(run("devices", "ls", "--json", "--type", "d1 mini", "--group=g", "--outcome", "cut", "--reason",
                            "paused", "--online", cwd=tmp_path)[1])
    assert len(listed["devices"]) == listed["total"] == 1500
    assert stand_in.asked[0][1] == ("/api/v1/devices?type=d1%20mini&group=g&outcome=cut&reason=paused&online=yes"
                                    "&offset=0&limit=1000")
    stand_in.answers[("GET", "/api/v1/devices")] = [(200, {"total": 0, "devices": []})]
    says("^no devices yet", "devices", cwd=tmp_path)
    says("^no such devices", "devices", "ls", "--online", cwd=tmp_path)
    says("^no device that is known here is of type nosuch; ", "devices", "--type", "nosuch", cwd=tmp_path)
    says("^no device that is known here is in group nosuch; ", "devices", "--group", "nosuch", cwd=tmp_path)


def test_one_device_is_shown_with_its_time_line(stand_in, tmp_path):
    one = device(fs_version="0.3", online=False, via_proxy=True, failures=2, outcome="rolled-back",
                 transfer={"version": "0.4.10", "bytes": 1024, "of": 2048, "ms": 1500, "at": "2026-11-21T06:59:00Z",
                           "mode": "sketch"},
                 policy={"pin": "0.4.9", "note": "the \x07 old relay"},
                 never_again=[{"md5": "cd" * 16, "failures": 1, "rolled_back": True, "at": "2026-11-21T07:00:00Z"}],
                 rollouts=[{"id": ID, "state": "running", "member": "queued"}],
                 events=[{"at": "2026-11-21T07:00:00Z", "word": "rolled-back", "text": "it runs 0.4.9 again"},
                         {"at": "2026-11-21T06:59:00Z", "word": "sent", "text": ""}], events_why="")
    stand_in.answers[("GET", PLACE)] = [(200, one)]
    out = run("devices", "show", "5C-CF-7F-B1-E0-42", cwd=tmp_path)[1]
    for line in [f"device    {MAC}", "type      d1_mini", f"runs      0.4.9, md5 {'ab' * 16}, file system 0.3, SDK 2.2.2",
                 "hardware  ESP8266, esp8266, flash mode dio, 4.0 MiB of flash, 2.0 MiB free for an update",
                 "address   192.168.1.7, through a proxy", "answered  up-to-date (sketch)",
                 "sent      0.4.10 (sketch), 1.0 KiB of 2.0 KiB in 1.5 s, 2026-11-21T06:59:00Z",
                 "outcome   rolled-back, 2 failures", "policy    pin 0.4.9", r"note      the \x07 old relay",
                 f"failed    md5 {'cd' * 16}, it rolled back from it, 2026-11-21T07:00:00Z: not offered again",
                 f"rollouts  {ID} running: it is queued",
                 "\nAT                    WHAT\n2026-11-21T07:00:00Z  rolled-back  it runs 0.4.9 again",
                 "2026-11-21T06:59:00Z  sent"]:
        assert line + "\n" in out, (line, out)
    assert "seen      3 min " in out and ", first 2026-11-01T00:00:00Z, offline\n" in out
    assert json.loads(run("devices", "show", MAC, "--json", cwd=tmp_path)[1]) == one
    stand_in.answers[("GET", PLACE)] = [(200, device(last_seen=None, events=[], events_why="the disk is full"))]
    out = run("devices", "show", MAC, cwd=tmp_path)[1]
    assert "seen      never\n" in out and "time-line the disk is full\n" in out and "address" not in out
    unasked = device(last_seen=None, online=True, client="plain", chip="", flash_mode="", flash_bytes=0, free_bytes=0,
                     rollouts=[{"id": ID, "state": "done", "version": "1.0", "member": "skipped", "why": "pinned"}],
                     kept="2.0 is newer", events=[], events_why="",
                     never_again=[{"md5": "cd" * 16, "failures": 1, "rolled_back": False, "version": "2.0",
                                   "file": "door/2.0.bin", "at": "2026-11-21T07:00:00Z"}])
    stand_in.answers[("GET", PLACE)] = [(200, unasked)]
    out = run("devices", "show", MAC, cwd=tmp_path)[1]
    for text in ("seen      it has not asked yet; online (MQTT)\n", f"rollouts  {ID}, 1.0 done: it is skipped: pinned\n",
                 "kept      2.0 is newer\n", "failed    2.0, door/2.0.bin, md5 "):
        assert text in out, (text, out)
    assert "hardware" not in out and "not offered again" not in out


DONE = {"unpin": "unpinned; ", "unassign": "unassigned; ", "unblock": "unblocked; "}  # said first


@pytest.mark.parametrize("words, body", [
    (["pin", "5C:CF:7F:B1:E0:42", "0.4.9"], {"pin": "0.4.9"}),
    (["pin", MAC, "0.4.9", "--note", "old relay"], {"pin": "0.4.9", "note": "old relay"}),
    (["unpin", MAC], {"pin": None}),
    (["assign", MAC, "door"], {"assign": {"type": "door", "label": ""}}),
    (["assign", MAC, "door", "DOOR-7"], {"assign": {"type": "door", "label": "DOOR-7"}}),
    (["unassign", MAC], {"assign": None}),
    (["block", MAC], {"blocked": True}),
    (["unblock", MAC], {"blocked": False}),
    (["approve", MAC], {"approved": True}),
    (["group", MAC, "+kitchen", "-cellar", "+a.b"], {"groups_add": ["kitchen", "a.b"], "groups_remove": ["cellar"]}),
    (["group", MAC, "-cellar"], {"groups_remove": ["cellar"]}),
    (["--json", "group", "--", MAC, "-h"], {"groups_remove": ["h"]}),
])
def test_what_is_decided_of_a_device_is_one_order(stand_in, tmp_path, words, body):
    answer = device(policy={"pin": "0.4.9", "groups": ["kitchen"]})
    stand_in.answers[("PATCH", PLACE)] = [(200, answer)]
    code, out, error = run("devices", *words, cwd=tmp_path)
    assert (code, error) == (0, "")
    assert json.loads(out) == answer if "--json" in words else out == f"{MAC}: {DONE.get(words[0], '')}pin 0.4.9, in kitchen\n"
    assert [(method, path, json.loads(sent)) for method, path, sent in stand_in.asked] == [("PATCH", PLACE, body)]


def test_what_was_not_written_down_is_said(stand_in, tmp_path):
    stand_in.answers[("PATCH", PLACE)] = [(200, device() | {"warning": "not written down yet: the disk is full"})]
    code, out, error = run("devices", "block", MAC, cwd=tmp_path)
    assert (code, out, error) == (0, f"{MAC}: nothing is decided of it\n",
                                  "warning: not written down yet: the disk is full\n")
    for word in ("unpin", "unassign", "unblock"):
        assert run("devices", word, MAC, cwd=tmp_path)[1] == f"{MAC}: {DONE[word].strip('; ')}\n"
    stand_in.answers[("PATCH", PLACE)] = [(503, {"error": {"code": "store-failing", "message": "disk", "remedy": "mend"}})]
    says("updraft: disk\n  remedy: mend", "devices", "pin", MAC, "1", code=1, cwd=tmp_path)


def test_groups_retry_and_forget(stand_in, tmp_path):
    stand_in.answers[("GET", "/api/v1/groups")] = [(200, {"total": 1, "groups": [{"name": "kitchen", "devices": 12}]})]
    stand_in.answers[("POST", PLACE + "/retry")] = [(200, {"mac": MAC, "forgotten": 2})]
    stand_in.answers[("DELETE", PLACE)] = [(200, {"removed": MAC})]
    says(r"^GROUP    DEVICES\nkitchen       12\n$", "devices", "groups", cwd=tmp_path)
    says(f"^{MAC}: 2 images forgotten that it failed with; no failure keeps ", "devices", "retry", MAC, cwd=tmp_path)
    assert stand_in.asked[-1] == ("POST", PLACE + "/retry", b"{}")
    says(f"^forgot {MAC} and what was decided", "devices", "forget", MAC, cwd=tmp_path)
    stand_in.answers[("DELETE", PLACE)] = [(200, {"removed": MAC, "notes": ["the broker keeps it"]})]
    assert "note: the broker keeps it" in "".join(run("devices", "forget", MAC, cwd=tmp_path)[1:])
    stand_in.answers[("GET", "/api/v1/groups")] = [(200, {"total": 0, "groups": []})]
    says("^there are no groups; ", "devices", "groups", cwd=tmp_path)


# --- rollouts ---------------------------------------------------------------------------------------------------------

def remembers(stand_in, *rollouts):
    stand_in.answers[("GET", "/api/v1/rollouts")] = [(200, {"total": len(rollouts), "rollouts": list(rollouts)})]


def test_rollouts_are_a_table(stand_in, tmp_path):
    both = [rollout("halted", members=5, confirmed=2, failed=1, queued=1, skipped=1, why="1 of 3 failed") |
            {"created": ago(30), "skipped": [{"reason": "pinned", "count": 1}]}, rollout("done", confirmed=3) | {"id": OTHER_ID, "mode": "fs"}]
    remembers(stand_in, *both)
    out = run("rollouts", cwd=tmp_path)[1].splitlines()
    assert out[0].split() == ["ID", "TYPE", "VERSION", "MODE", "STATE", "CONFIRMED", "FAILED", "SILENT", "SKIPPED", "BEGUN"]
    assert out[1].split()[:8] == [ID, "d1_mini", "0.4.10", "sketch", "halted", "2/4", "1", "0"] and out[1].endswith(" s ago")
    assert out[2] == "    1 of 3 failed; skipped: 1 pinned"
    assert out[3].split()[:9] == [OTHER_ID, "d1_mini", "0.4.10", "fs", "done", "3/3", "0", "0", "0"] and len(out) == 4
    assert json.loads(run("rollouts", "ls", "--json", cwd=tmp_path)[1]) == {"total": 2, "rollouts": both}
    remembers(stand_in)
    says('^there are no rollouts; "publish-update TYPE"', "rollouts", cwd=tmp_path)


@pytest.mark.parametrize("word, meant", [
    (ID, ID), ("00112", ID), ("00119", OTHER_ID), ("d1_mini", ID), ("ff", "ff00000000000000"),
])
def test_a_rollout_is_named_by_the_least_that_is_clear(stand_in, tmp_path, word, meant):
    remembers(stand_in, rollout(), rollout("done") | {"id": OTHER_ID}, rollout() | {"id": "ff00000000000000", "type": "ff"})
    stand_in.answers[("POST", f"/api/v1/rollouts/{meant}/pause")] = [(200, rollout("paused", confirmed=3))]
    out = says("is paused; d1_mini 0.4.10: paused: 3 confirmed of 3", "rollouts", "pause", word, cwd=tmp_path)
    assert out.startswith(ID)
    assert stand_in.asked[-1] == ("POST", f"/api/v1/rollouts/{meant}/pause", b"{}")


def test_one_that_left_the_list_is_known_by_its_whole_id(stand_in, tmp_path):
    old, unknown = "cc00000000000000", "dd00000000000000"
    gone = {"error": {"code": "unknown-rollout", "message": "there is no such rollout", "remedy": "GET lists them"}}
    remembers(stand_in, rollout())
    stand_in.answers[("GET", f"/api/v1/rollouts/{old}")] = [(200, rollout("done", confirmed=3) | {"id": old})]
    stand_in.answers[("GET", f"/api/v1/rollouts/{unknown}")] = [(404, gone)]
    says(f"^rollout   {old}, d1_mini 0.4.10", "rollouts", "show", old, cwd=tmp_path)
    assert json.loads(run("rollouts", "show", old, "--json", cwd=tmp_path)[1])["id"] == old
    says(f'^updraft: there is no rollout "{unknown}"\n', "rollouts", "show", unknown, code=1, cwd=tmp_path)
    says('^updraft: there is no rollout "cc000000"\n', "rollouts", "show", "cc000000", code=1, cwd=tmp_path)


@pytest.mark.parametrize("word, expected", [
    ("0011", f'"0011" may be any of 2 rollouts\n  remedy: give more of the id: {ID}, {OTHER_ID}\n'),
    ("d1_mini", '"d1_mini" may be any of 2 rollouts\n  remedy: give more of the id: '),
    ("door", "no rollout of door is under way\n  remedy: the last was aa00000000000000, which is done\n"),
    ("d1", 'there is no rollout "d1"\n  remedy: "updraft rollouts" lists'),
])
def test_what_may_mean_two_is_refused(stand_in, tmp_path, word, expected):
    """An abort that hit another rollout could not be taken back."""
    remembers(stand_in, rollout(), rollout("halted") | {"id": OTHER_ID},
              rollout("done") | {"id": "aa00000000000000", "type": "door"},
              rollout("aborted") | {"id": "bb00000000000000", "type": "door"})
    code, out, error = run("rollouts", "abort", word, cwd=tmp_path)
    assert (code, out) == (1, "") and error.startswith(f"updraft: {expected}"), error
    assert json.loads(run("rollouts", "abort", word, "--json", cwd=tmp_path)[1])["error"]["code"] in (
        "ambiguous", "unknown-rollout")
    assert {method for method, _, _ in stand_in.asked} == {"GET"}


def test_an_operators_word(stand_in, tmp_path):
    remembers(stand_in, rollout("halted"))
    stand_in.answers[("POST", f"/api/v1/rollouts/{ID}/abort")] = [(200, rollout("aborted", why="too hot"))]
    stand_in.answers[("POST", f"/api/v1/rollouts/{ID}/resume")] = [
        (200, rollout() | {"warning": "not written down yet: disk"}),
        (409, {"error": {"code": "wrong-state", "message": "the rollout is done", "remedy": "it is over"}})]
    says(f"^{ID} is aborted; ", "rollouts", "abort", ID, "--why", "too hot", cwd=tmp_path)
    assert json.loads(stand_in.asked[-1][2]) == {"why": "too hot"}
    code, out, error = run("rollouts", "resume", ID, cwd=tmp_path)
    assert (code, error) == (0, "warning: not written down yet: disk\n") and out.startswith(f"{ID} is running; ")
    says("updraft: the rollout is done\n  remedy: it is over", "rollouts", "resume", ID, code=1, cwd=tmp_path)


def test_a_rollout_is_shown_with_its_devices_by_state(stand_in, tmp_path):
    queued = [(f"5ccf7f{i:06x}", "queued", "") for i in range(100)]
    one = rollout("canary", members=103, queued=100, confirmed=1, failed=1, skipped=1, canaries=(1, 2), left=95,
                  bytes=2048)
    one["order"] |= {"group": "kitchen", "percent": 50, "canary": 2}
    remembers(stand_in, one)
    stand_in.answers[("GET", f"/api/v1/rollouts/{ID}")] = [(200, with_devices(one, [
        (MAC, "failed", "it rolled \x1b back"), *queued, ("5ccf7fb1e044", "skipped", "runs it already"),
        ("5ccf7fb1e043", "confirmed", "")]))]
    out = run("rollouts", "show", "d1_mini", cwd=tmp_path)[1]
    for line in [f"rollout   {ID}, d1_mini 0.4.10 (sketch)", "state     canary",
                 "order     halts above 20 % failures; the group kitchen; 50 %; 2 first",
                 "pace      0 of 32 at once (adaptive); 1 of 2 canaries confirmed; about 1 min 35 s left",
                 "devices   1 confirmed, 100 queued, 1 failed of 102, 1 skipped"]:
        assert line + "\n" in out, (line, out)
    table = out[out.index("\n\n") + 2:].splitlines()
    assert table[0].split() == ["MAC", "STATE", "TRIES", "CHANGED", "CANARY", "WHY"]
    assert table[1].startswith(f"{MAC}  failed") and table[1].endswith(r"  -       it rolled \x1b back")
    assert table[2].startswith("5ccf7fb1e043  confirmed") and table[3].startswith("5ccf7fb1e044  skipped")
    assert [line.split()[1] for line in table[4:24]] == ["queued"] * 20
    assert table[24] == "    and 80 more: --state queued"
    assert [path.split("?")[1] for _, path, _ in stand_in.asked[2:]] == [
        f"devices=yes&state={state}&limit=20" for state in ["failed", "confirmed", "skipped", "queued"]]
    out = run("rollouts", "show", ID, "--state", "queued", cwd=tmp_path)[1]
    assert out.count("  queued  ") == 100 and "more" not in out and "confirmed  " not in out
    shown = json.loads(run("rollouts", "show", ID, "--json", cwd=tmp_path)[1])
    assert len(shown["device_list"]) == 103 and shown["unlisted"] == 0
    shown = json.loads(run("rollouts", "show", ID, "--json", "--state", "failed", cwd=tmp_path)[1])
    assert [entry["mac"] for entry in shown["device_list"]] == [MAC]


def test_one_that_is_over_lists_who_has_it(stand_in, tmp_path):
    one = rollout("done", members=2, confirmed=1, failed=1)
    remembers(stand_in, one)
    lists = {"failed": [(MAC, "failed", "cut")], "confirmed": [("5ccf7fb1e043", "confirmed", "")]}
    stand_in.answers[("GET", f"/api/v1/rollouts/{ID}")] = [(200, one), *((200, with_devices(one, lists[state])) for state in lists)]
    out = run("rollouts", "show", "d1_mini", cwd=tmp_path)[1]
    assert "state     done after 12 s\n" in out and "\npace " not in out
    assert f"\n{MAC}  failed" in out and "\n5ccf7fb1e043  confirmed" in out

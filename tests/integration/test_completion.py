"""Completion in a real bash: what is offered after which words. Types and files are the server's own; without a server
nothing is said and nothing is offered."""

import shlex
import subprocess

import pytest

from tests.support.cli import ID, rollout
from tests.support.updraft import BIN, PATIENCE_S, ROOT, Server, make_image, wait_until

# Functions are called as bash calls them: the words of the line, the number of the one under the cursor.
ASK = """
source {script}
compopt() {{ :; }}
COMP_WORDS=({words})
COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))
_updraft
printf '%s\\n' "${{COMPREPLY[@]}}"
"""


def offers(*words, cwd, program="updraft"):
    """What bash would offer for the last of these words."""
    script = ASK.format(script=shlex.quote(str(ROOT / "cli/updraft.bash-completion")),
                        words=" ".join(shlex.quote(str(word)) for word in [BIN / program, *words]))
    done = subprocess.run(["bash", "--norc", "-c", script], cwd=cwd, capture_output=True,
                          text=True, timeout=PATIENCE_S, env={"PATH": "/usr/bin:/bin", "HOME": str(BIN)})
    assert done.stderr == "", "completion must be quiet"
    return sorted(done.stdout.split("\n")[:-1]) if done.stdout.strip() else []


@pytest.mark.parametrize("words, expected", [
    ([""], ["audit", "device-password", "devices", "explain", "firmware", "help", "publish-update", "rollouts", "sign", "status", "token"]),
    (["st"], ["status"]),
    (["--admin-socket", "x", "fi"], ["firmware"]),
    (["firmware", ""], ["add", "ls", "rejected", "rm"]),
    (["firmware", "r"], ["rejected", "rm"]),
    (["devices", ""], ["approve", "assign", "block", "forget", "group", "groups", "ls", "pin", "retry", "show", "unassign",
                       "unblock", "unpin"]),
    (["devices", "--type", "x", "un"], ["unassign", "unblock", "unpin"]),
    (["rollouts", ""], ["abort", "ls", "pause", "resume", "show"]),
    (["rollouts", "show", "x", "--state", "s"], ["silent", "skipped"]),
    (["rollouts", "pause", ""], []),
    (["devices", "pin", ""], []),
    (["help", "to"], ["token"]),
    (["help", "token", ""], ["ls", "new", "revoke"]),
    (["publish-update", "door", "--mode", ""], ["fs", "sketch"]),
    (["publish-update", "door", "--mode", "=", "f"], ["fs"]),
    (["publish-update", "door", "--mode", "="], ["fs", "sketch"]),
    (["publish-update", "door", "--p"], ["--percent", "--plan"]),
    (["firmware", "add", "x", "--re"], ["--replace"]),
    (["firmware", "rm", "x", "--fo"], ["--force"]),
    (["explain", "door", "--client", "esp3"], ["esp32"]),
    (["status", "--j"], ["--json"]),
    (["status", ""], []),
    (["publish-update", "door", "--timeout", ""], []),
    (["publish-update", ""], []),
    (["nonsense", ""], []),
    (["a/b/e", ""], []),
    (["--server", "http", ":", "//h", ":", "80", "sta"], ["status"]),  # bash breaks words at colons
    (["--server", "=", "http", ":", "//h", ":", "80", "sta"], ["status"]),
    (["publish-update", "door", "--to", "5c", ":", "cf", "--pl"], ["--plan"]),
])
def test_words_and_flags_without_a_server(tmp_path, words, expected):
    assert offers(*words, cwd=tmp_path) == expected


def test_rollouts_are_offered_by_type_and_id(stand_in, tmp_path):
    stand_in.answers[("GET", "/api/v1/rollouts")] = [(200, {"total": 1, "rollouts": [rollout()]})]
    assert offers("rollouts", "pause", "", cwd=tmp_path) == [ID, "d1_mini"]
    assert offers("rollouts", "show", "0", cwd=tmp_path) == [ID]
    assert offers("rollouts", "show", ID, "", cwd=tmp_path) == []


def test_every_flag_of_a_verb_is_offered(tmp_path):
    offered = offers("publish-update", "--", cwd=tmp_path)
    assert {"--version", "--mode", "--to", "--group", "--percent", "--canary", "--in-flight", "--max-failures", "--timeout", "--window", "--plan", "--no-wait", "--json", "--server",
            "--admin-socket", "--token", "--help"} == set(offered)
    assert offered == offers("--", cwd=tmp_path, program="publish-update")


def test_files_are_offered_where_a_file_is_wanted(tmp_path):
    (tmp_path / "door.ino.bin").write_text("")
    (tmp_path / "other").write_text("")
    assert offers("firmware", "add", "do", cwd=tmp_path) == ["door.ino.bin"]
    assert offers("status", "--admin-socket", "o", cwd=tmp_path) == ["other"]


def test_the_server_is_asked_for_types_versions_and_files(tmp_path):
    with Server(tmp_path / "server") as server:
        for name in ["truc_0_4_9.ino.d1_mini.bin", "truc_0_4_10.ino.d1_mini.bin", "a(b_1_0.ino.door.bin"]:
            make_image("esp8266", server.repo / name)
        place = ["--admin-socket", server.folder / "state/admin.sock"]
        wait_until(lambda: offers(*place, "publish-update", "", cwd=tmp_path) == ["d1_mini", "door"], "all types")
        assert offers("d1", cwd=server.folder, program="publish-update") == ["d1_mini"]
        assert offers("explain", "do", cwd=server.folder) == ["door"]
        assert offers("firmware", "ls", "--type", "", cwd=server.folder) == ["d1_mini", "door"]
        assert offers("publish-update", "d1_mini", "--version", "0_4_1", cwd=server.folder) == ["0_4_10"]
        assert offers("publish-update", "door", "--version", "", cwd=server.folder) == ["1_0"]
        assert offers("firmware", "rm", "a", cwd=server.folder) == [r"a\(b_1_0.ino.door.bin"]
        assert offers("devices", "assign", "5ccf7fb1e042", "d", cwd=server.folder) == ["d1_mini", "door"]
        assert offers("devices", "pin", "5ccf7fb1e042", "d", cwd=server.folder) == []
        subprocess.run([BIN / "updraft", "devices", "group", "5ccf7fb1e042", "+kitchen"], cwd=server.folder, check=True,
                       capture_output=True)
        assert offers("publish-update", "d1_mini", "--group", "", cwd=server.folder) == ["kitchen"]
        subprocess.run([BIN / "updraft", "token", "new", "grafana"], cwd=server.folder, check=True,
                       capture_output=True)
        assert offers("token", "revoke", "", cwd=server.folder) == ["grafana"]

"""The first minute of an operator with Updraft: what is wrong is said at once, with the thing, the reason and the
remedy; and what is in effect can be read."""

import os
import re
import socket
import subprocess

import pytest

from tests.support.updraft import BIN, PATIENCE_S, Reply, Server, check, make_image, read_to_end


def run(*words, env=None, cwd=None):
    """updraftd to its end: (exit code, stdout, stderr)."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith("UPDRAFT_")}
    done = subprocess.run([BIN / "updraftd", *map(str, words)], env={**clean, **(env or {})}, cwd=cwd,
                          capture_output=True, text=True, timeout=PATIENCE_S)
    return done.returncode, done.stdout, done.stderr


def complaint(*words, **options):
    """The one line that a start with a mistake ends with."""
    code, out, error = run(*words, **options)
    assert code == 1, (code, out, error)
    assert "ready" not in out
    assert error.startswith("updraftd: ") and error.count("\n") == 1, error
    return error


def effective(*words, **options):
    """What --check-config prints: {key: (value, source)}, a list's values joined by commas."""
    code, out, error = run("--check-config", *words, **options)
    assert (code, error) == (0, ""), (code, error)
    found = {}
    for line in out.splitlines():
        match = re.fullmatch(r"([a-z-]+) = (.*) ; (\w+)", line)
        if match:
            key, value, source = match.groups()
            found[key] = (f"{found[key][0]},{value}" if key in found else value, source)
        else:
            assert line.startswith(";"), line
    return found


@pytest.fixture
def folders(tmp_path):
    """Flags of a start that would work."""
    (tmp_path / "firmware").mkdir()
    return ["--repo", tmp_path / "firmware", "--state", tmp_path / "state", "--listen", "127.0.0.1:0"]


# --- mistakes ---------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("words, expected", [
    (["--listen", "300.0.0.1:80"], r"--listen 300\.0\.0\.1:80: .*use 0\.0\.0\.0:8080"),
    (["--listen", "8080"], r'--listen: "8080" is not usable: give an address and a port'),
    (["--listen", "127.0.0.1:99999"], r'--listen: "127\.0\.0\.1:99999" .*give an address and a port'),
    (["--listen", "192.0.2.1:0"], r"--listen 192\.0\.2\.1:0: .*use 0\.0\.0\.0"),
    (["--drain-timeout", "soon"], r'--drain-timeout: "soon" is not usable: give a time from .* such as'),
    (["--drain-timeout", "30"], r'--drain-timeout: "30" is not usable: give a time'),
    (["--head-timeout", "1ms"], r'--head-timeout: "1ms" .*from 100ms to'),
    (["--image-memory", "1M"], r'--image-memory: "1M" .*from 32M to'),
    (["--image-memory", "99999999999999999999G"], r"--image-memory: .*give a size"),
    (["--loop-guard", "-1"], r'--loop-guard: "-1" .*give a number from 1 to 1000'),
    (["--loop-guard", "0"], r'--loop-guard: "0" .*give a number from 1 to 1000'),
    (["--fs-gzip", "maybe"], r'--fs-gzip: "maybe" .*yes or no'),
    (["--log-level", "loud"], r'--log-level: "loud" .*error, warn, info or debug'),
    (["--log-format", "xml"], r'--log-format: "xml" .*logfmt or json'),
    (["--frobnicate", "1"], r"--frobnicate: not known.*--help"),
    (["--tls-listen", "0.0.0.0:8443"], r"--tls-listen: not known.*--help"),
    (["--repo"], r"--repo: .*value is missing.*--help"),
    (["firmware"], r"firmware: only flags are taken.*--help"),
    (["--config", "/nowhere/updraft.ini"], r"/nowhere/updraft\.ini: No such file"),
])
def test_mistake_in_a_flag(folders, words, expected):
    """Each names the flag, the value, and what to write instead."""
    assert re.search(expected, complaint(*folders, *words))


def test_repository_missing(folders, tmp_path):
    """A typing error in --repo must not become an empty repository that answers 404 to a fleet."""
    text = complaint(*folders, "--repo", tmp_path / "firmwear")
    assert re.search(r"--repo .*/firmwear: No such file or directory: .*readable", text)
    assert not (tmp_path / "firmwear").exists()


def test_repository_is_a_file(folders, tmp_path):
    (tmp_path / "plain").write_text("")
    assert re.search(r"--repo .*/plain: Not a directory", complaint(*folders, "--repo", tmp_path / "plain"))


def test_parent_of_state_missing(folders, tmp_path):
    text = complaint(*folders, "--state", tmp_path / "nowhere/state")
    assert re.search(r"--state .*/nowhere/state: No such file or directory: make its parent", text)


def test_state_is_a_file(folders, tmp_path):
    (tmp_path / "state").write_text("")
    assert re.search(r"--state .*/state: Not a directory", complaint(*folders))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_state_not_writable(folders, tmp_path):
    (tmp_path / "state").mkdir(mode=0o500)
    assert re.search(r"--state .*: Permission denied: .*write", complaint(*folders))


def test_port_in_use(folders):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        address = f"127.0.0.1:{other.getsockname()[1]}"
        text = complaint(*folders, "--listen", address)
        assert re.search(rf"--listen {address}: .*in use.*choose another", text)


def test_port_of_another_updraftd(tmp_path, folders):
    with Server(tmp_path / "other") as other:
        assert f":{other.port}: " in complaint(*folders, "--listen", f"127.0.0.1:{other.port}")
        assert check(other, "/healthz", {}).status == 200


@pytest.mark.parametrize("text, expected", [
    ("loop-guard = 2\n\n# tuned\nrepository = /srv\n", r'line 4: key "repository" is not known.*--help'),
    ("loop-guard = 2\nidle-timeout = 5 parsecs\n", r'line 2: idle-timeout: "5 parsecs" .*give a time'),
    ("config = other.ini\n", r'line 1: key "config" is not known'),
    ("loop-guard\n", r"line 1: neither \[section\] nor key = value"),
    ("[server]\nloop-guard = 2\n", r"line 2: section \[server\] is not known"),
    ("[assign]\nloop-guard = 2\n", r"line 2: loop-guard: the key is no MAC"),
    ("[assign]\n5C:CF:7F:B1:E0:42 = a 1\n5c-cf-7f-b1-e0-42 = b 1\n", r"line 3: .*assigned already"),
    ("[assign]\n5C:CF:7F:B1:E0:42 =\n", r"line 2: .*give a label"),
    ("log-level = " + "x" * 300 + "\n", r"line 1: longer than 198 characters"),
])
def test_mistake_in_the_file(tmp_path, folders, text, expected):
    """Every one with file and line: such a file has hundreds of lines, one a device."""
    path = tmp_path / "updraft.ini"
    path.write_text(text)
    assert re.search(r"/updraft\.ini: " + expected, complaint(*folders, "--config", path))
    assert re.search(r"/updraft\.ini: " + expected, complaint(*folders, "--config", path, "--check-config"))


@pytest.mark.parametrize("text, expected", [
    ("[assign]\n\nthe front door = door 1\n", r"line 3: the front door: .*no MAC"),
    ("[assign]\n5C:CF:7F:B1:E0:42 = door 1 please\n", r"line 2: .*give a label, or a type and a label"),
    ("loop-guard = 2\n", r"line 1: write \[assign\] above"),
])
def test_mistake_in_the_assignments(tmp_path, folders, text, expected):
    """A device that silently loses its assignment gets whatever is newest."""
    (tmp_path / "state").mkdir()
    (tmp_path / "state/assignments.ini").write_text(text)
    assert re.search(r"/state/assignments\.ini: " + expected, complaint(*folders))


def test_mistake_in_the_environment(folders):
    text = complaint(*folders, env={"UPDRAFT_LOOP_GUARD": "many"})
    assert re.search(r'UPDRAFT_LOOP_GUARD: .*"many" .*give a number', text)


# --- what is in effect ------------------------------------------------------------------------------------------------

def test_flags_environment_file_defaults(tmp_path):
    """In this order, whichever of them are there."""
    path = tmp_path / "updraft.ini"
    path.write_text("loop-guard = 5\nidle-timeout = 5s\nhead-timeout = 5s\n")
    env = {"UPDRAFT_LOOP_GUARD": "6", "UPDRAFT_IDLE_TIMEOUT": "6s"}
    found = effective("--config", path, "--loop-guard", "7", env=env)
    assert found["loop-guard"] == ("7", "flag")
    assert found["idle-timeout"] == ("6s", "environment")
    assert found["head-timeout"] == ("5s", "file")
    assert found["drain-timeout"] == ("30s", "default")


def test_stronger_source_replaces_a_list(tmp_path):
    """Whoever names his addresses does not want those of the file open too."""
    path = tmp_path / "updraft.ini"
    path.write_text("listen = 127.0.0.1:1\nlisten = 127.0.0.1:2\n")
    assert effective("--config", path)["listen"] == ("127.0.0.1:1,127.0.0.1:2", "file")
    env = {"UPDRAFT_CONFIG": str(path), "UPDRAFT_LISTEN": "127.0.0.1:3,[::1]:4"}
    assert effective(env=env)["listen"] == ("127.0.0.1:3,[::1]:4", "environment")
    assert effective("--listen", "127.0.0.1:5", env=env)["listen"] == ("127.0.0.1:5", "flag")


def test_empty_variable_is_none():
    """Compose files set variables to nothing."""
    assert effective(env={"UPDRAFT_LOOP_GUARD": "", "UPDRAFT_CONFIG": ""})["loop-guard"] == ("3", "default")


def test_printed_configuration_is_a_configuration(tmp_path):
    """What --check-config prints can be kept as the file, and means the same."""
    words = ["--repo", tmp_path / "my firmware", "--listen", "127.0.0.1:1", "--listen", "[::1]:2",
             "--image-memory", "64M", "--settle-time", "250ms", "--idle-timeout", "90s", "--fs-gzip", "yes",
             "--log-format", "json", "--log-level", "warn", "--connections-max", "100"]
    code, printed, _ = run("--check-config", *words)
    assert code == 0
    path = tmp_path / "printed.ini"
    path.write_text(printed)
    before, after = effective(*words), effective("--config", path)
    assert {key: value for key, (value, _) in before.items()} == {key: value for key, (value, _) in after.items()}
    assert {source for _, source in after.values()} == {"file"}
    assert before["repo"][0] == f"{tmp_path}/my firmware"


def test_check_config_touches_nothing(tmp_path):
    code, _, _ = run("--check-config", "--state", "new", cwd=tmp_path)
    assert code == 0 and list(tmp_path.iterdir()) == []


def test_help_lists_every_key():
    code, text, error = run("--help")
    assert (code, error) == (0, "")
    for key, (value, _) in effective().items():
        assert re.search(rf"^  --{key} ", text, re.M), f"--help does not tell of {key}"
    for action in ("config", "check-config", "version", "help"):
        assert re.search(rf"^  --{action}\b", text, re.M)
    assert all(len(line) <= 120 for line in text.splitlines())


def test_version():
    code, text, error = run("--version")
    assert code == 0 and error == "" and re.fullmatch(r"updraftd \d+\.\d+\.\d+\S*\n", text)


# --- the start --------------------------------------------------------------------------------------------------------

def has_ipv6():
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
        return True
    except OSError:
        return False


def ask_at(address, family=socket.AF_INET):
    with socket.socket(family) as connection:
        connection.settimeout(PATIENCE_S)
        connection.connect(address)
        connection.sendall(b"GET /healthz HTTP/1.0\r\n\r\n")
        return Reply(read_to_end(connection))


def test_says_where_it_listens_then_ready(tmp_path):
    """One line a listener, with the port that port 0 became: scripts read these."""
    with Server(tmp_path, listen=["127.0.0.1:0", "127.0.0.2:0"]) as server:
        assert len(server.said) == 4 and server.said[3] == "ready"
        assert server.said[2] == f"listening admin {tmp_path}/state/admin.sock"
        for line, host in zip(server.said, ("127.0.0.1", "127.0.0.2")):
            match = re.fullmatch(rf"listening http {host}:(\d+)", line)
            assert match and int(match.group(1)) > 0
            assert ask_at((host, int(match.group(1)))).status == 200


@pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6")
def test_ipv6(tmp_path):
    with Server(tmp_path, listen="[::1]:0") as server:
        match = re.fullmatch(r"listening http \[::1\]:(\d+)", server.said[0])
        assert match
        assert ask_at(("::1", int(match.group(1))), socket.AF_INET6).status == 200


def test_state_folder_is_made(tmp_path):
    with Server(tmp_path):
        assert (tmp_path / "state").is_dir()
        assert (tmp_path / "state").stat().st_mode & 0o007 == 0, "assignments are nobody else's business"


def test_ready_means_the_repository_is_known(tmp_path):
    """A device that asks at `ready` must not hear that its type is unknown: it would wait until its next check."""
    data = make_image("esp8266", tmp_path / "firmware/door/2.0.0.bin", size="500K", seed=1)
    with Server(tmp_path) as server:
        reply = check(server, "/update/door")
        assert (reply.status, reply.body == data) == (200, True)


def test_empty_repository_starts(tmp_path):
    """The folder is there before its first file is."""
    with Server(tmp_path) as server:
        assert check(server, "/update/door").reason == "unknown-type"

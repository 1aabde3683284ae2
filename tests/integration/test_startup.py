"""The first minute of an operator with Updraft: what is wrong is said at once, with the thing, the reason and the
remedy; and what is in effect can be read."""

import os
import re
import signal
import socket
import subprocess

import pytest

from tests.support.updraft import BIN, PATIENCE_S, Reply, Server, check, make_image, read_to_end


def run(*words, env=None, cwd=None, **options):
    """updraftd to its end: (exit code, stdout, stderr)."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith("UPDRAFT_")}
    done = subprocess.run([BIN / "updraftd", *map(str, words)], env={**clean, **(env or {})}, cwd=cwd,
                          capture_output=True, text=True, timeout=PATIENCE_S, **options)
    return done.returncode, done.stdout, done.stderr


def complaint(*words, **options):
    """The one line that a start with a mistake ends with."""
    code, out, error = run(*words, **options)
    assert code == 1, (code, out, error)
    assert "ready" not in out
    assert error.startswith("updraftd: ") and error.count("\n") == 1, error
    return error


def effective(*words, repo=("--repo", "/"), **options):
    """What --check-config prints: {key: (value, source)}, a list's values joined by commas. `repo`: one must be there."""
    code, out, error = run("--check-config", *repo, *words, **options)
    assert (code, error) == (0, ""), (code, error)
    found = {}
    for line in out.splitlines():
        match = re.fullmatch(r"([a-z-]+) = (.*) ; (.*)", line)
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
    (["--tls-listen", "0.0.0.0:8443"], r"--tls-listen 0.0.0.0:8443: TLS needs a certificate"),
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
    assert re.search(r"--repo .*/firmwear: No such file or directory: make the folder, or", text)
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


@pytest.mark.parametrize("text, variables, words, expected", [
    ("\nmqtt-preset = homy\n", {}, [], r"--config .*/updraft\.ini: line 2: mqtt-preset homy: there are updraft, tasmota"),
    ("mqtt-preset = homy\n", {"UPDRAFT_MQTT_PRESET": "homi"}, [], r"UPDRAFT_MQTT_PRESET: mqtt-preset homi: there are"),
    ("mqtt-preset = homy\n", {}, ["--mqtt-preset", "hom"], r"--mqtt-preset hom: there are"),
    ("mqtt = mqtt://broker\nmqtt-password = hunter2\n", {}, [], r"line 2: mqtt-password: .*a user: give --mqtt-user"),
    ("mqtt = mqtt://broker\n", {"UPDRAFT_MQTT_PASSWORD": "hunter2"}, [], r"UPDRAFT_MQTT_PASSWORD: .*give --mqtt-user"),
    ("mqtt-user = updraft\n", {}, [], r"line 1: mqtt-user updraft: no broker is named: give --mqtt"),
    ("mqtt = mqtt://broker\nmqtt-ca = ca.pem\n", {}, [], r"line 2: mqtt-ca ca\.pem: only mqtts:// uses it"),
    ("mqtt = mqtts://broker\nmqtt-cert = a.pem\n", {}, [], r"line 2: mqtt-cert a\.pem: .*give --mqtt-key"),
    ("mqtt = mqtts://broker\nmqtt-key = a.key\n", {}, [], r"line 2: mqtt-key a\.key: .*give --mqtt-cert"),
    ("[assign]\n5C:CF:7F:B1:E0 = door\n", {}, [], r"line 2: 5C:CF:7F:B1:E0: the key is no MAC"),
    ("repo = \x1b[2J\n", {}, [], r"line 1: not plain text: take control characters out"),
])
def test_mistake_beside_others(tmp_path, folders, text, variables, words, expected):
    """What is wrong only together is complained of where it was written, and never with a byte that moves a cursor."""
    path = tmp_path / "updraft.ini"
    path.write_text(text)
    for more in ([], ["--check-config"]):
        said = complaint(*folders, "--config", path, *words, *more, env=variables)
        assert re.search(expected, said) and said.rstrip("\n").isprintable() and "hunter2" not in said, said


def test_password_without_a_user_from_a_file(tmp_path, folders):
    """It would be ignored, and the broker's refusal be a riddle."""
    (tmp_path / "secret").write_text("hunter2\n")
    said = complaint(*folders, "--mqtt", "mqtt://broker", env={"UPDRAFT_MQTT_PASSWORD_FILE": str(tmp_path / "secret")})
    assert said.startswith("updraftd: UPDRAFT_MQTT_PASSWORD_FILE: mqtt-password: ") and "--mqtt-user" in said


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
    assert found["idle-timeout"] == ("6s", "environment UPDRAFT_IDLE_TIMEOUT")
    assert found["head-timeout"] == ("5s", f"{path}:3")
    assert found["drain-timeout"] == ("30s", "default")


def test_stronger_source_replaces_a_list(tmp_path):
    """Whoever names his addresses does not want those of the file open too."""
    path = tmp_path / "updraft.ini"
    path.write_text("listen = 127.0.0.1:1\nlisten = 127.0.0.1:2\n")
    assert effective("--config", path)["listen"] == ("127.0.0.1:1,127.0.0.1:2", f"{path}:2")
    env = {"UPDRAFT_CONFIG": str(path), "UPDRAFT_LISTEN": "127.0.0.1:3,[::1]:4"}
    assert effective(env=env)["listen"] == ("127.0.0.1:3,[::1]:4", "environment UPDRAFT_LISTEN")
    assert effective("--listen", "127.0.0.1:5", env=env)["listen"] == ("127.0.0.1:5", "flag")


def test_empty_variable_is_none():
    """Compose files set variables to nothing."""
    assert effective(env={"UPDRAFT_LOOP_GUARD": "", "UPDRAFT_CONFIG": ""})["loop-guard"] == ("3", "default")


def test_printed_configuration_is_a_configuration(tmp_path):
    """What --check-config prints can be kept as the file, and means the same."""
    (tmp_path / "my firmware").mkdir()
    words = ["--repo", tmp_path / "my firmware", "--listen", "127.0.0.1:1", "--listen", "[::1]:2",
             "--image-memory", "64M", "--settle-time", "250ms", "--idle-timeout", "90s", "--fs-gzip", "yes",
             "--log-format", "json", "--log-level", "warn", "--connections-max", "100"]
    code, printed, _ = run("--check-config", *words)
    assert code == 0
    path = tmp_path / "printed.ini"
    path.write_text(printed)
    before, after = effective(*words), effective("--config", path, repo=())
    assert {key: value for key, (value, _) in before.items()} == {key: value for key, (value, _) in after.items()}
    assert all(source.startswith(f"{path}:") for _, source in after.values())
    assert before["repo"][0] == f"{tmp_path}/my firmware"


def test_printed_assignments_are_the_files(tmp_path, folders):
    """A file made of what is printed must not lose its devices, nor take those of STATE: said twice, they are refused."""
    path = tmp_path / "updraft.ini"
    path.write_text("[assign]\n5C:CF:7F:B1:E0:42 = door 0.5.0 ; the front\n5C:CF:7F:B1:E0:43=DOOR-7\n")
    (tmp_path / "state").mkdir()
    (tmp_path / "state/assignments.ini").write_text("[assign]\n5C:CF:7F:B1:E0:44 = door newest\n")
    code, printed, _ = run("--check-config", "--config", path, *folders)
    assert code == 0
    assert printed.endswith("\n\n[assign]\n5ccf7fb1e042 = door 0.5.0\n5ccf7fb1e043 = DOOR-7\n")
    assert "; 3 devices have an assignment, 1 of them in " in printed
    path.write_text(printed)
    assert run("--check-config", "--config", path)[0] == 0


def test_check_config_touches_nothing(tmp_path):
    (tmp_path / "firmware").mkdir()
    code, _, error = run("--check-config", "--state", "new", cwd=tmp_path)
    assert (code, error) == (0, "") and [path.name for path in tmp_path.iterdir()] == ["firmware"]


def unprivileged(tmp_path):
    """Options for run: as somebody whom permissions bind."""
    if os.geteuid() != 0:
        return {}
    for folder in [tmp_path, *tmp_path.parents][:-2]:
        folder.chmod(folder.stat().st_mode | 0o055)
    return {"user": 65534, "group": 65534, "extra_groups": []}


def make_state(tmp_path, kind):
    state = tmp_path / "state"
    if kind == "a file":
        state.write_text("")
    elif kind == "no parent":
        return f"{tmp_path}/nowhere/state/"
    elif kind == "parent not writable":
        (tmp_path / "locked").mkdir(mode=0o555)
        return tmp_path / "locked/state"
    elif kind == "parent is a file":
        (tmp_path / "plain").write_text("")
        return tmp_path / "plain/state"
    elif kind == "a link to nowhere":
        state.symlink_to("nowhere")
    else:
        state.mkdir()
        state.chmod({"not readable": 0o333, "not writable": 0o555}.get(kind, 0o777))
    for name in ("lock", "tokens"):
        if kind == f"{name} not readable":
            (state / name).write_text("")
            (state / name).chmod(0)
    return state


@pytest.mark.parametrize("kind, expected", [
    ("a file", r"--state .*/state: Not a directory: .*write there"),
    ("no parent", r"--state .*/nowhere/state/: No such file or directory: make its parent"),
    ("parent not writable", r"--state .*/locked/state: Permission denied: the user .* may not make it there: `install -d -o "),
    ("parent is a file", r"--state .*/plain/state: Not a directory: "),
    ("a link to nowhere", r"--state .*/state: No such file or directory: .*write there"),
    ("not readable", r"--state .*/state: Permission denied: .*write there"),
    ("not writable", r"--state .*/state: Permission denied: .*write there"),
    ("lock not readable", r"--state .*/state/lock: .*ermission denied: .*write there"),
    ("tokens not readable", r"/state/tokens .*ermission denied"),
])
def test_check_config_refuses_what_a_start_would(tmp_path, folders, kind, expected):
    """It is asked before a restart: what it lets pass would be found when no server is running any more."""
    state = make_state(tmp_path, kind)
    before = sorted(tmp_path.rglob("*"))
    options = unprivileged(tmp_path)
    code, out, error = run("--check-config", *folders, "--state", state, **options)
    assert code == 1 and out.startswith(f"repo = {tmp_path}/firmware ; flag\n")
    assert error.startswith("updraftd: ") and error.count("\n") == 1 and re.search(expected, error), error
    assert sorted(tmp_path.rglob("*")) == before
    code, _, error = run(*folders, "--state", state, **options)
    assert code == 1 and "updraftd: " in error, error


def test_check_config_repository(tmp_path):
    path = tmp_path / "updraft.ini"
    path.write_text("\nrepo = firmwear\n")
    for words, expected in [(["--repo", "/nowhere"], "--repo /nowhere: No such file"),
                            (["--repo", path], f"--repo {path}: Not a directory: "),
                            (["--config", path], f"--config {path}: line 2: repo firmwear: No such file or directory: ")]:
        code, out, error = run("--check-config", *words, cwd=tmp_path)
        assert code == 1 and out.startswith("repo = ") and error.startswith(f"updraftd: {expected}"), error
        assert error.count("\n") == 1


def test_check_config_beside_the_running_server(tmp_path):
    """Who asks before a reload has a server that uses these very folders and addresses."""
    with Server(tmp_path) as server:
        words = ["--repo", server.repo, "--state", tmp_path / "state", "--listen", f"127.0.0.1:{server.port}"]
        assert run("--check-config", *words)[::2] == (0, "")


# --- what is taken and looks like a mistake ---------------------------------------------------------------------------

def test_unknown_variables(tmp_path):
    """A mistyped one leaves the default in effect. A server starts all the same, and says so; a check fails."""
    env = {"UPDRAFT_LOOPGUARD": "5", "UPDRAFT_REPO_FILE": "/x", "UPDRAFT_SERVER": "http://a", "UPDRAFT_TOKEN": "t",
           "UPDRAFT_IMAGE": "updraft", "UPDRAFT_SERVICE_PORT": "8080", "UPDRAFT_LOG_LEVEL": ""}
    code, out, error = run("--check-config", "--repo", tmp_path, env=env)
    assert code == 1 and "loop-guard = 3 ; default\n" in out
    assert sorted(error.splitlines()) == [
        "updraftd: UPDRAFT_LOOPGUARD: no setting is called so, and it has no effect: did you mean UPDRAFT_LOOP_GUARD?",
        "updraftd: UPDRAFT_REPO_FILE: no setting is called so, and it has no effect: only secrets are read from files of "
        "their own: set UPDRAFT_REPO"]
    with Server(tmp_path, env=env) as server:
        said = re.findall(r"level=warn event=config_doubtful why=\"(UPDRAFT_\w+): .*did you mean|event=config_doubtful",
                          server.log())
        assert len(said) == 2 and "UPDRAFT_LOOPGUARD" in said


def test_doubts_are_no_mistakes(tmp_path):
    words = ["--repo", tmp_path, "--settle-time", "2s", "--rescan-interval", "1s", "--mqtt-version", "5"]
    code, _, error = run("--check-config", *words)
    assert code == 0 and error.splitlines() == [
        "updraftd: warning: mqtt-version: without effect, because no broker is named: give --mqtt",
        "updraftd: warning: --rescan-interval: 1s is less than settle-time, which is 2s: the repository is looked through "
        "more often than a file can come to rest: raise the one, or lower the other"]


def test_doubts_after_a_reload(tmp_path):
    """The file may have been made doubtful since the start."""
    path = tmp_path / "updraft.ini"
    path.write_text("settle-time = 100ms\n")
    with Server(tmp_path, config=path) as server:
        assert "config_doubtful" not in server.log()
        path.write_text("\nrescan-interval = 1s\nsettle-time = 2s\n")
        server.process.send_signal(signal.SIGHUP)
        server.wait_log(r"event=reloaded")
        assert re.search(r'event=config_doubtful why="--config \S+/updraft\.ini: line 2: rescan-interval: ', server.log())


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

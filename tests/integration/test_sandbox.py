"""What a running server may still do, said and seen from outside. What it is refused, call by call, is in
tests/unit/server/test_sandbox.c; and all other tests run inside, since `--sandbox auto` is the default."""

import ctypes
import os
import pathlib
import platform
import pwd
import re
import shutil
import signal
import socket
import ssl
import struct
import subprocess
import tempfile

import pytest

from tests.support import small_disk
from tests.support.admin import Admin
from tests.support.mqtt import Broker, certificates, wait_connected
from tests.support.updraft import BIN, PATIENCE_S, Reply, Server, check, make_image

IS_SANITIZED = any(word in (BIN / "updraftd").read_bytes() for word in (b"__asan_", b"__tsan_"))
LIBC = ctypes.CDLL(None, use_errno=True)
LANDLOCK = 444  # landlock_create_ruleset, on every architecture
SECCOMP = {"x86_64": 317, "aarch64": 277, "armv7l": 383}.get(platform.machine())
HAS_LANDLOCK = LIBC.syscall(LANDLOCK, None, ctypes.c_size_t(0), 1) > 0

landlocked = pytest.mark.skipif(not HAS_LANDLOCK, reason="this kernel has no Landlock")
as_root = pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")


def forbid(*calls):
    """For Popen's preexec_fn: a container's filter, to which these system calls are not known."""
    load, equal, say = 0x20, 0x15, 0x06
    steps = [(load, 0, 0, 0)]
    steps += [(equal, len(calls) - i, 0, call) for i, call in enumerate(calls)]
    steps += [(say, 0, 0, 0x7FFF0000), (say, 0, 0, 0x00050000 | 38)]  # allow; ENOSYS
    program = b"".join(struct.pack("HBBI", *step) for step in steps)

    def act():
        kept = ctypes.create_string_buffer(program)
        head = struct.pack("HxxxxxxP" if struct.calcsize("P") == 8 else "HxxP", len(steps), ctypes.addressof(kept))
        assert LIBC.prctl(38, 1, 0, 0, 0) == 0  # no_new_privs
        assert LIBC.prctl(22, 2, ctypes.create_string_buffer(head)) == 0  # seccomp, filter
    return act


def status_of(server):
    """Of each of its threads, as the kernel has it: a list of dicts."""
    folder = pathlib.Path(f"/proc/{server.process.pid}/task")
    return [dict(re.findall(r"^(\w+):\s+(.*)$", (task / "status").read_text(), re.M)) for task in folder.iterdir()]


def refuse_start(tmp_path, *words, **options):
    (tmp_path / "firmware").mkdir(exist_ok=True)
    done = subprocess.run([BIN / "updraftd", "--listen", "127.0.0.1:0", "--repo", tmp_path / "firmware", "--state",
                           tmp_path / "state", *words], capture_output=True, text=True, timeout=PATIENCE_S, **options)
    assert done.returncode == 1, done.stderr
    return done.stderr


# --- what is in force -------------------------------------------------------------------------------------------------

def test_every_thread_is_confined(tmp_path):
    make_image("esp8266", tmp_path / "firmware/door/2.0.0.bin")
    with Broker(tmp_path / "broker") as broker, Server(tmp_path, mqtt=broker.url) as server:
        wait_connected(Admin(tmp_path / "state/admin.sock"))
        assert check(server, "/update/door").status == 200
        server.wait_log(r"level=info event=sandbox user=\S+ no_new_privs=yes .*landlock=" + ("abi[0-9]" if HAS_LANDLOCK else "no"))
        threads = status_of(server)
        assert len(threads) > 3 and all(thread["NoNewPrivs"] == "1" for thread in threads)
        assert all(thread["Seccomp"] == ("0" if IS_SANITIZED else "2") for thread in threads)


@pytest.mark.skipif(not IS_SANITIZED, reason="a server that is built to be run")
def test_sanitizers_leave_system_calls_open_and_say_so(tmp_path):
    with Server(tmp_path) as server:
        server.wait_log("level=info event=sandbox .*seccomp=no seccomp_why=.*sanitizers")


@pytest.mark.skipif(IS_SANITIZED, reason="a server whose system calls are left open")
def test_newer_libuv(tmp_path):
    """It would set up an io_uring with the loop, and abort when the filter refuses its use: so there is none."""
    with Server(tmp_path, env={"LD_PRELOAD": str(BIN / "make_ring.so")}) as server:
        server.wait_log("^io_uring: Function not implemented")
        server.wait_log("event=sandbox .*seccomp=yes")


def test_off(tmp_path):
    with Server(tmp_path, sandbox="off") as server:
        server.wait_log(r"event=sandbox user=\S+ state=off")
        assert {(thread["NoNewPrivs"], thread["Seccomp"]) for thread in status_of(server)} == {("0", "0")}


CONTAINERS = [pytest.param((LANDLOCK,), "landlock=no landlock_why=.*no Landlock", "Landlock: .*no Landlock", id="landlock")]
if SECCOMP and not IS_SANITIZED:
    CONTAINERS.append(pytest.param((LANDLOCK, SECCOMP), "seccomp=no seccomp_why=", "Landlock: .* seccomp: ", id="both"))


@pytest.mark.parametrize("calls, said, refused", CONTAINERS)
def test_in_a_container_that_forbids_it(tmp_path, calls, said, refused):
    """`auto` goes on with what there is, and says what is not; `on` does not start."""
    make_image("esp8266", tmp_path / "firmware/door/2.0.0.bin")
    with Server(tmp_path, preexec_fn=forbid(*calls)) as server:
        server.wait_log(f"event=sandbox .*{said}")
        assert check(server, "/update/door").status == 200
    error = refuse_start(tmp_path, "--sandbox", "on", preexec_fn=forbid(*calls))
    assert re.search(f"updraftd: --sandbox on: .*{refused}.*--sandbox auto", error), error


# --- the user ---------------------------------------------------------------------------------------------------------

@pytest.fixture
def open_path():
    """A folder that others than its maker can come to; pytest's own cannot be."""
    path = pathlib.Path(tempfile.mkdtemp(prefix="updraft-test-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


def give(path, name="nobody"):
    path.mkdir(exist_ok=True)
    shutil.chown(path, name)


@as_root
def test_root_becomes_the_user(open_path):
    user = pwd.getpwnam("nobody")
    make_image("esp8266", open_path / "firmware/door/2.0.0.bin")
    give(open_path / "state")
    with Server(open_path, user="nobody") as server:
        server.wait_log("event=sandbox user=nobody ")
        for thread in status_of(server):
            assert set(thread["Uid"].split()) == {str(user.pw_uid)} and set(thread["Gid"].split()) == {str(user.pw_gid)}
            assert thread["Groups"].split() == [str(user.pw_gid)]
            assert int(thread["CapEff"], 16) == int(thread["CapPrm"], 16) == int(thread["CapAmb"], 16) == 0
        assert check(server, "/update/door").status == 200
        owners = {path.name: path.stat().st_uid for path in (open_path / "state").iterdir()}
        assert {"admin.sock", "lock", "updraft.db"} <= owners.keys() and set(owners.values()) == {user.pw_uid}
        text = Admin(open_path / "state/admin.sock").get("/metrics").text
        for name in ("process_resident_memory_bytes", "process_open_fds"):  # of /proc/self
            assert float(re.search(rf"^{name} (\S+)$", text, re.M).group(1)) > 0
        assert "running_as_root" not in server.log()


@as_root
def test_ports_and_keys_that_only_root_has(open_path):
    files = certificates(open_path / "tls")
    files["server.key"].chmod(0o600)
    give(open_path / "state")
    with Server(open_path, user="nobody", listen=["127.0.0.1:0", "127.83.17.5:81"], tls_listen="127.0.0.1:0", tls_cert=files["server.pem"],
                tls_key=files["server.key"]) as server:
        assert "listening http 127.83.17.5:81" in server.said
        server.wait_log("level=warn event=not_read_again file=.*server.key .*user=nobody "
                        "effect=.SIGHUP cannot read it again. remedy=.*folder")
        server.process.send_signal(signal.SIGHUP)
        server.wait_log("event=tls_reload_failed .*certificates before stay")


@as_root
def test_root_that_stays(tmp_path):
    with Server(tmp_path) as server:
        server.wait_log("level=warn event=running_as_root remedy=.*--user")
    with Server(tmp_path, user="root") as server:
        server.wait_log("event=sandbox user=root")
        server.stop()
        assert server.log().count("running_as_root") == 1


def test_user_that_is_not_there(tmp_path):
    error = refuse_start(tmp_path, "--user", "no-such-user")
    assert error.startswith("updraftd: --user no-such-user: there is no such user: make it")
    error = refuse_start(tmp_path, "--user", "no-such-user", "--check-config")
    assert "--user no-such-user: there is no such user" in error


@as_root
def test_only_root_becomes_another(open_path):
    error = refuse_start(open_path, "--user", "daemon", user="nobody")
    assert error.startswith("updraftd: --user daemon: only root can become another user")


@as_root
def test_state_that_is_not_the_user_s(open_path):
    """It does not serve with less than it was asked for."""
    (open_path / "state").mkdir(mode=0o700)
    for words in ((), ("--check-config",)):
        error = refuse_start(open_path, "--user", "nobody", *words)
        assert re.search("updraftd: --state .*must be able to write there: `chown -R nobody ", error), error


# --- files ------------------------------------------------------------------------------------------------------------

def newest(server, type_):
    return Reply(server.ask(f"GET /latest/{type_}.bin HTTP/1.0\r\n\r\n".encode())).body


@landlocked
def test_links_out_of_the_repository(tmp_path):
    """They are refused, and named with what helps; that is how the rest of the machine stays unread."""
    make_image("esp8266", tmp_path / "outside/2.0.0.bin", seed=2)
    data = make_image("esp8266", tmp_path / "firmware/door/1.0.0.bin", seed=1)
    repo = tmp_path / "firmware"
    (repo / "door/2.0.0.bin").symlink_to(tmp_path / "outside/2.0.0.bin")
    (repo / "door/3.0.0.bin").symlink_to("/etc/shadow")
    (repo / "gate").symlink_to(tmp_path / "outside")
    with Server(tmp_path) as server:
        for name in ("door/2.0.0.bin", "door/3.0.0.bin", "gate"):
            server.wait_log(f"event=image_rejected file={name} .*ermission denied.*--sandbox-read")
        assert newest(server, "door") == data
        assert check(server, "/update/gate").reason == "unknown-type"
    shutil.rmtree(tmp_path / "state")
    with Server(tmp_path, sandbox_read=tmp_path / "outside") as server:
        assert check(server, "/update/gate").status == 200
        server.wait_log("landlock=abi[^$]*landlock=abi[^$]*event=image_rejected file=door/3.0.0.bin .*ermission denied")


def test_folder_to_read_that_is_not_there(tmp_path):
    for words in ((), ("--check-config",)):
        error = refuse_start(tmp_path, "--sandbox-read", tmp_path / "nowhere", *words)
        assert re.search("updraftd: --sandbox-read .*nowhere: No such file or directory: name a folder", error), error


@landlocked
def test_links_within_the_repository(tmp_path):
    data = make_image("esp8266", tmp_path / "firmware/shared/2.0.0.bin")
    repo = tmp_path / "firmware"
    (repo / "door").symlink_to("shared")
    (repo / "gate").symlink_to(repo / "shared")
    (repo / "hall").mkdir()
    (repo / "hall/2.0.0.bin").symlink_to(repo / "shared/2.0.0.bin")
    (tmp_path / "by-link").symlink_to("firmware")
    with Server(tmp_path, repo=tmp_path / "by-link") as server:
        for type_ in ("shared", "door", "gate", "hall"):
            assert newest(server, type_) == data


@landlocked
def test_repository_made_anew(tmp_path):
    """To the kernel it is another folder. What was served before is served on, and the log says what helps."""
    make_image("esp8266", tmp_path / "firmware/door/2.0.0.bin", seed=1)
    with Server(tmp_path, rescan_interval="1s") as server:
        assert check(server, "/update/door").status == 200
        server.repo.rename(tmp_path / "away")
        make_image("esp8266", server.repo / "door/2.0.1.bin", seed=2)
        server.wait_log("event=repository_unreadable .*made anew needs a restart")
        assert check(server, "/update/door").status == 200


@pytest.mark.skipif(small_disk.why_not() is not None, reason="no file system of our own")
def test_disk_below_the_repository(tmp_path):
    """A file system of its own, mounted in the repository; and the state on that disk, too."""
    make_image("esp8266", tmp_path / "door.bin")
    disk = small_disk.SmallDisk(tmp_path / "firmware/disk", "8M")
    shutil.copy(tmp_path / "door.bin", disk.path / "2.0.0.bin")
    with Server(tmp_path, preexec_fn=disk.enter, state=disk.folder / ".state") as server:
        assert check(server, "/update/disk").status == 200
        server.wait_log("event=sandbox .*landlock=")


# --- what is read while it runs ---------------------------------------------------------------------------------------

def certificate_shown(port):
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with socket.create_connection(("127.0.0.1", port), PATIENCE_S) as plain, context.wrap_socket(plain) as link:
        return link.getpeercert(binary_form=True)


def test_certificates_are_renewed(tmp_path):
    """As certbot has it: a folder of links, whose ends lie elsewhere under new names each time; and a configuration
    that is replaced by rename."""
    archive, live, etc = tmp_path / "archive", tmp_path / "live", tmp_path / "etc"
    for folder in (archive, live, etc):
        folder.mkdir()
    for round_ in (1, 2):
        files = certificates(tmp_path / f"made{round_}")
        for kind in ("pem", "key"):
            shutil.copy(files[f"server.{kind}"], archive / f"server{round_}.{kind}")
    for kind in ("pem", "key"):
        (live / f"server.{kind}").symlink_to(f"../archive/server1.{kind}")
    (etc / "u.ini").write_text("loop-guard = 3\n")
    with Server(tmp_path, config=etc / "u.ini", tls_listen="127.0.0.1:0", tls_cert=live / "server.pem",
                tls_key=live / "server.key") as server:
        port = int(re.search(r"listening https .*:(\d+)", "\n".join(server.said)).group(1))
        before = certificate_shown(port)
        for kind in ("pem", "key"):
            (live / f".new.{kind}").symlink_to(f"../archive/server2.{kind}")
            (live / f".new.{kind}").rename(live / f"server.{kind}")
        (etc / "new").write_text("loop-guard = 3\n[assign]\n5C:CF:7F:B1:E0:42 = door newest\n")
        (etc / "new").rename(etc / "u.ini")
        server.process.send_signal(signal.SIGHUP)
        server.wait_log("event=reloaded assignments=1")
        assert "tls_reload_failed" not in server.log()
        assert certificate_shown(port) != before


@landlocked
def test_signing_keys_and_signatures_elsewhere(tmp_path):
    """What lies where the start did not look is not read, and the log says what helps."""
    for folder in ("etc", "new"):
        (tmp_path / folder).mkdir()
        subprocess.run([BIN / "updraft", "sign", "--new-key", tmp_path / folder / "fleet", "--kind", "ed25519"], check=True)
    make_image("esp32", tmp_path / "firmware/porch/1.0.bin")
    (tmp_path / "new/sig").write_bytes(bytes(64))
    (tmp_path / "firmware/porch/1.0.bin.sig").symlink_to(tmp_path / "new/sig")
    config = tmp_path / "etc/u.ini"
    config.write_text(f"signing-key = {tmp_path}/etc/fleet.pub.pem\n")
    with Server(tmp_path, config=config) as server:
        server.wait_log("event=image_rejected file=porch/1.0.bin fault=unreadable .*--sandbox-read")
        config.write_text(f"signing-key = {tmp_path}/new/fleet.pub.pem\n")
        server.process.send_signal(signal.SIGHUP)
        server.wait_log("event=reload_failed .*new/fleet.pub.pem: .*restart the server")


def test_broker_by_name_over_tls(tmp_path):
    files = certificates(tmp_path / "tls")
    with Broker(tmp_path / "broker", f"cafile {files['ca.pem']}", f"certfile {files['server.pem']}",
                f"keyfile {files['server.key']}") as broker:
        with Server(tmp_path, mqtt=f"mqtts://localhost:{broker.port}", mqtt_ca=files["ca.pem"]) as server:
            admin = Admin(tmp_path / "state/admin.sock")
            wait_connected(admin)
            broker.stop()  # and reads all of it again
            server.wait_log("event=mqtt_lost")
            broker.start()
            wait_connected(admin)


def test_socket_in_a_folder_of_its_own(tmp_path):
    """It goes with the server, which may do nothing else there."""
    (tmp_path / "run").mkdir()
    with Server(tmp_path, admin_socket=tmp_path / "run/admin.sock") as server:
        status = Admin(tmp_path / "run/admin.sock").get("/api/v1/status")
        assert status.status == 200
        server.stop()
        assert not (tmp_path / "run/admin.sock").exists()

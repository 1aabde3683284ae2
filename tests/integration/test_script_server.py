"""The newcomer's first minute: `script/server --with-devices`, and in a second terminal `publish-update demo-lamp`."""

import datetime
import json
import os
import pathlib
import re
import signal
import subprocess

import pytest

from tests.support.mqtt import MOSQUITTO, free_port
from tests.support.updraft import BIN, PATIENCE_S, ROOT, wait_until

STRANGERS_S = 15  # fleet/rollout.c: how long nobody must be heard of where nobody was expected

# The script builds and runs the release programs of its own checkout; elsewhere it would build what nobody asked for.
pytestmark = pytest.mark.skipif(BIN != ROOT / "build/release/bin", reason="needs this checkout's release build")


class Script:
    """script/server in a folder of its own; .said is what it has printed so far."""

    def __init__(self, folder, *words, env=None):
        self.folder = folder
        self.log = open(folder / "said", "wb")
        clean = {key: value for key, value in os.environ.items() if not key.startswith("UPDRAFT_")}
        self.process = subprocess.Popen([ROOT / "script/server", "--listen", "127.0.0.1:0", *words], cwd=folder, stdout=self.log,
                                        stderr=subprocess.STDOUT, env={**clean, **(env or {})}, start_new_session=True)

    @property
    def said(self):
        return (self.folder / "said").read_text()

    def wait(self, pattern):
        def look():
            assert self.process.poll() is None or re.search(pattern, self.said, re.M), self.said
            return re.search(pattern, self.said, re.M)
        return wait_until(look, f"{pattern!r} is said", 2 * PATIENCE_S)

    def time_of(self, event):
        """When it last happened, in seconds."""
        *_, last = re.findall(rf"^time=(\S+) .*event={event} ", self.said, re.M)
        return datetime.datetime.fromisoformat(last.replace("Z", "+00:00")).timestamp()

    def end(self):
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(PATIENCE_S)
        self.log.close()
        return code


def children_of(pid):
    """Of the process and its descendants: their command lines."""
    listed = subprocess.run(["ps", "-eo", "pid=,ppid=,args="], capture_output=True, text=True, check=True).stdout
    rows = [line.split(None, 2) for line in listed.splitlines()]
    found, names = {pid}, []
    for _ in rows:
        for number, parent, words in rows:
            if int(parent) in found and int(number) not in found:
                found.add(int(number))
                names.append(words)
    return names


def publish(folder, *words):
    """What publish-update demo-lamp says as JSON, in the script's folder."""
    done = subprocess.run([BIN / "publish-update", "demo-lamp", "--json", *words], cwd=folder, capture_output=True,
                          text=True, timeout=2 * PATIENCE_S)
    assert done.returncode == 0, done
    return json.loads(done.stdout)


def test_the_whole_circle(tmp_path):
    """It ends with the third device. A server that does not know whom to wait for would first sit out a silence of 15 s,
    in which the newcomer wonders what is wrong."""
    script = Script(tmp_path, "--with-devices")
    try:
        script.wait(r"^ready$")
        script.wait(r"3 devices")
        assert sum("mosquitto" in words for words in children_of(script.process.pid)) == 1
        wait_until(lambda: publish(tmp_path, "--plan")["plan"]["devices"]["to_update"] == 3, "three devices are known")
        rollout = publish(tmp_path)
        devices = rollout["devices"]
        assert (rollout["state"], devices["members"], devices["confirmed"]) == ("done", 3, 3), rollout
        assert devices["failed"] == devices["silent"] == 0, rollout
        script.wait(r"event=rollout .*state=done")  # the log's lines come a moment later
        sent, ended = script.time_of("update_sent"), script.time_of("rollout")
        assert 0 < ended - sent < STRANGERS_S, script.said  # flashing and rebooting take five seconds
    finally:
        code = script.end()
    assert code == 0, script.said


def test_a_broker_of_ones_own_is_left_alone(tmp_path):
    """Who names a broker gets no second one; that it is away is no error."""
    script = Script(tmp_path, "--mqtt", f"mqtt://127.0.0.1:{free_port()}")
    try:
        script.wait(r"event=mqtt_failed")
        assert not any("mosquitto" in words for words in children_of(script.process.pid))
    finally:
        code = script.end()
    assert code == 0, script.said


def test_a_foreign_broker_on_the_usual_port(tmp_path):
    """Debian's package may have started one: it is neither used nor stopped, and the script does not fail on it."""
    config = tmp_path / "foreign.conf"
    config.write_text("listener 1883 127.0.0.1\nallow_anonymous false\n")
    foreign = subprocess.Popen([MOSQUITTO, "-c", config], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    script = Script(tmp_path)
    try:
        script.wait(r"^ready$")
        script.wait(r"event=mqtt_connected")
        assert not re.search(r"event=mqtt_connected broker=127.0.0.1:1883 ", script.said)
    finally:
        code = script.end()
        foreign.terminate()
        foreign.wait()
    assert code == 0, script.said


def test_a_mistake_ends_it_with_updraftds_own_code(tmp_path):
    script = Script(tmp_path, "--repo", str(tmp_path / "nowhere"))
    assert script.process.wait(2 * PATIENCE_S) == 1
    script.log.close()
    assert "nowhere" in script.said and not children_of(script.process.pid)
    assert pathlib.Path(tmp_path / "nowhere").exists() is False

"""The sketch that users copy, with a host's compiler and stand-ins for the Arduino libraries (tests/support/arduino):
what it makes of the commands that a real server publishes. That it compiles with the real ones is not proved here."""

import subprocess

import pytest

from tests.support.admin import Admin
from tests.support.mqtt import Broker, Listener
from tests.support.updraft import PATIENCE_S, ROOT, Server, make_image, wait_until

MAC = "5ccf7fb1e042"  # the stand-in's
OLDER = "0.4.9-rc.1+g14f53a19"  # long enough that PubSubClient's own buffer would not do
URL = "http://192.168.1.10:8080/update/d1_mini"  # the sketch's own


@pytest.fixture(scope="module", params=["-DESP8266", "-DESP32"])
def sketch(request, tmp_path_factory):
    program = tmp_path_factory.mktemp("sketch") / "run"
    subprocess.run(["clang++", "-std=c++17", "-Wall", "-Wextra", "-Werror", "-fsanitize=address,undefined", request.param,
                    "-I", ROOT, "-I", ROOT / "tests/support/arduino", "-o", program,
                    ROOT / "tests/support/arduino/run_sketch.cpp"], check=True)
    return program


def run(sketch, *messages):
    """What it does at its start, and of each message."""
    done = subprocess.run([sketch], input="".join(f"{topic} {payload}\n" for topic, payload in messages), check=True,
                          capture_output=True, text=True, timeout=PATIENCE_S)
    start, *rest = [part.splitlines() for part in done.stdout.split("message\n")]
    return start, rest


def test_its_start(sketch):
    """It asks once by itself: that check is what confirms an update."""
    start, _ = run(sketch)
    assert start == [f"connect updraft-{MAC} device", "subscribe updraft/d1_mini/update 1",
                     f"subscribe updraft/d1_mini/{MAC}/update 1", f"update {URL} 0.4.9"]


@pytest.fixture(scope="module")
def commands(tmp_path_factory):
    """As a real server publishes them: to the type, to this device, and an older version."""
    folder = tmp_path_factory.mktemp("server")
    make_image("esp8266", folder / f"firmware/d1_mini/{OLDER}.bin", seed=1)
    make_image("esp8266", folder / "firmware/d1_mini/0.4.10.bin", seed=2)
    with Broker(folder / "broker") as broker, Listener(broker, "updraft/#") as listener, \
            Server(folder, mqtt=broker.url, public_url="http://updates.example:8080") as server:
        admin = Admin(server.folder / "state/admin.sock")
        told = lambda: [(topic, payload.decode()) for topic, payload, _ in listener.messages if topic.endswith("/update")]
        for n, order in enumerate(({}, {"to": [MAC]}, {"version": OLDER, "to": [MAC]}), 1):
            assert admin.post("/api/v1/rollouts", {"type": "d1_mini", **order}).status == 202
            wait_until(lambda: len(told()) == n, "the command")  # before the next one would take its place
        return told()


def test_it_obeys(sketch, commands):
    """Each command once, at its own address; one that comes twice (QoS 1) is one."""
    all_, one, older = commands
    _, did = run(sketch, all_, all_, one, older, older)
    newest = ["update http://updates.example:8080/update/d1_mini 0.4.9"]
    assert did == [newest, [], newest, [f"update http://updates.example:8080/update/d1_mini?version={OLDER.replace('+', '%2B')} 0.4.9"], []]


def test_foreign_messages_do_no_harm(sketch, commands):
    """No address is asked that no command named; and it goes on."""
    foreign = ["nonsense", "", '{"id":"', '{"url":"http://elsewhere/"}', "x" * 2000]
    _, did = run(sketch, commands[0], *(("updraft/d1_mini/update", one) for one in foreign), commands[2])
    assert did[1:-1] == [[]] * len(foreign) and len(did[-1]) == 1

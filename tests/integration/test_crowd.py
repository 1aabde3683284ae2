"""All devices at once, as after a command to a whole type, while the loop is kept from accepting: each is answered as
soon as the loop is free. In a network of the test's own, whose limits it may set, and whose counters are its own."""

import json
import os
import signal

import pytest

from tests.support import networks as support
from tests.support.networks import Networks
from tests.support.updraft import ESP8266, PATIENCE_S, Server, device_request, make_image

WHY_NOT = support.why_not()
pytestmark = pytest.mark.skipif(WHY_NOT is not None, reason=str(WHY_NOT))

PLACES = 1024  # of one queue
DEVICES = 3000

# Connects them all, then has each ask, then lets the server (argv[2]) go on, and prints how many were answered with
# 304, as JSON with the others' ends.
CROWD = f"""
import collections, json, os, resource, signal, socket, sys
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
crowd = []
for i in range(int(sys.argv[3])):
    crowd.append(socket.socket())
    crowd[i].setblocking(False)
    crowd[i].connect_ex(("127.0.0.1", int(sys.argv[1])))
ends = collections.Counter()
for device in crowd:
    try:
        device.sendall(bytes.fromhex(sys.argv[4]))
    except BlockingIOError:
        ends["not connected"] += 1
os.kill(int(sys.argv[2]), signal.SIGCONT)
for device in crowd:
    device.settimeout({PATIENCE_S})
    try:
        ends[device.recv(4096)[9:12].decode() or "closed"] += 1
    except OSError as error:
        ends[str(error)] += 1
print(json.dumps(ends))
"""


@pytest.fixture
def alone():
    with Networks() as networks:
        networks.add("server")
        yield networks


def limit_queues(networks, places):
    networks.run("server", "sh", "-c", f"echo {places} >/proc/sys/net/core/somaxconn || true")
    if networks.run("server", "cat", "/proc/sys/net/core/somaxconn").split() != [str(places)]:
        pytest.skip("net.core.somaxconn cannot be set without root")


def counted(networks):
    """Of the network's kernel: {"ListenOverflows": 0, ...}."""
    names, values = (line.split()[1:] for line in networks.run("server", "cat", "/proc/net/netstat").splitlines()[:2])
    return dict(zip(names, map(int, values)))


def test_a_crowd_while_the_loop_is_held(tmp_path, alone):
    limit_queues(alone, PLACES)
    make_image("esp8266", tmp_path / "firmware/door/2.0.0.bin")
    request = device_request("/update/door", ESP8266, version="2.0.0", md5=None).hex()
    with Server(tmp_path, preexec_fn=alone.enter("server"), log_level="info") as server:
        os.kill(server.process.pid, signal.SIGSTOP)
        ends = alone.run("server", "/usr/bin/python3", "-c", CROWD, server.port, server.process.pid, DEVICES, request)
        assert json.loads(ends) == {"304": DEVICES}
        kernel = counted(alone)
        assert (kernel["ListenOverflows"], kernel["SyncookiesSent"]) == (0, 0)


def test_short_queues_are_told_of(tmp_path, alone):
    limit_queues(alone, 128)
    with Server(tmp_path, preexec_fn=alone.enter("server")) as server:
        line = server.wait_log(r"level=warn event=listen_queue_short.*")[0]
        assert f"listen=127.0.0.1:{server.port} places=512" in line and "sysctl net.core.somaxconn=4096" in line


def test_long_queues_are_not(tmp_path, alone):
    limit_queues(alone, 4096)
    with Server(tmp_path, preexec_fn=alone.enter("server")) as server:
        pass
    assert "listen_queue_short" not in server.log()

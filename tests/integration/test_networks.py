"""Which address devices are told, on machines with several networks, bridges and containers: each a set of network
namespaces that live as long as the test, with the real server in one of them and devices in others."""

import pytest

from tests.support import networks as support
from tests.support.admin import Admin
from tests.support.networks import Networks
from tests.support.updraft import ESP8266, PATIENCE_S, Server, device_request, make_image

WHY_NOT = support.why_not()
pytestmark = pytest.mark.skipif(WHY_NOT is not None, reason=str(WHY_NOT))

# A device in another namespace: checks, slowly enough that each is looked at, and prints the statuses.
DEVICE = f"""
import socket, sys, time
for i in range(int(sys.argv[3])):
    with socket.create_connection((sys.argv[1], int(sys.argv[2])), {PATIENCE_S}) as connection:
        connection.sendall(bytes.fromhex(sys.argv[4]))
        print(connection.makefile("rb").readline().split()[1].decode())
    time.sleep(0.25)
"""


class Site:
    """Networks, with updraftd in the one named "server"."""

    def __init__(self, folder):
        self.networks = Networks()
        self.folder = folder
        self.server = None

    def start(self, **flags):
        make_image("esp8266", self.folder / "firmware/truc_0_4_9.ino.d1_mini.bin", size="40K")
        self.server = Server(self.folder, preexec_fn=self.networks.enter("server"),
                             **{"listen": "0.0.0.0:0", "mqtt": "mqtt://127.0.0.1:9", **flags})
        self.admin = Admin(self.folder / "state/admin.sock")

    def check(self, name, host, count=1):
        """A device in network `name` asks at `host`; the image's own version, so that nothing is sent."""
        request = device_request("/update/d1_mini", ESP8266, version="0.4.9", md5=None).hex()
        printed = self.networks.run(name, "/usr/bin/python3", "-c", DEVICE, host, self.server.port, count, request)
        assert printed.split() == ["304"] * count

    def public_url(self):
        return self.admin.get("/api/v1/status").json["public_url"]

    def url(self, host):
        return f"http://{host}:{self.server.port}"

    def close(self, *exception):
        try:
            if self.server is not None:
                self.server.__exit__(*(exception or [None]))  # raises where it crashed
        finally:
            self.networks.close()

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.close(*exception)


@pytest.fixture
def site(tmp_path):
    with Site(tmp_path / "s") as made:
        made.networks.add("server")
        yield made


def two_networks(site):
    for i, name in enumerate(("house", "barn"), 1):
        site.networks.add(name)
        site.networks.link("server", f"lan{i}", f"10.71.{i}.1/24", name, f"10.71.{i}.2/24", bridge=True)


def test_devices_in_two_networks_are_told_of(site):
    """Else half of the fleet is told an address that it cannot reach, and nobody hears why it does not come."""
    two_networks(site)
    site.start()
    site.check("house", "10.71.1.1")
    before = site.public_url()
    assert (before["url"], before["source"], before["warning"]) == (site.url("10.71.1.1"), "used", "")
    site.check("barn", "10.71.2.1", 4)
    assert site.public_url()["warning"] == ""  # so few may be somebody who tries something out
    site.check("house", "10.71.1.1", 11)
    site.check("barn", "10.71.2.1", 4)
    now = site.public_url()
    assert (now["url"], now["source"]) == (site.url("10.71.1.1"), "used")
    for words in ("60 % to 10.71.1.1 and 40 % to 10.71.2.1", "set --public-url (UPDRAFT_PUBLIC_URL)"):
        assert words in now["warning"]
    assert f"public-url: {now['warning']}" in site.admin.get("/api/v1/status").json["warnings"]
    plan = site.admin.post("/api/v1/rollouts", {"type": "d1_mini", "plan": True}).json["plan"]
    assert plan["url"] == site.url("10.71.1.1") + "/update/d1_mini"
    assert plan["public_url_warning"] == now["warning"]
    order = site.admin.post("/api/v1/rollouts", {"type": "d1_mini"})
    assert order.status == 202 and now["warning"] in order.json["notes"]
    site.server.wait_log(r"level=warn .*public_url .* % to 10\.71\.2\.1")


def test_the_operators_word_ends_the_warning(site):
    """Else the remedy is none."""
    two_networks(site)
    site.start(public_url="http://updraft.lan:8080")
    site.check("house", "10.71.1.1", 6)
    site.check("barn", "10.71.2.1", 6)
    assert site.public_url() == {"url": "http://updraft.lan:8080", "source": "configured", "warning": ""}


def test_the_devices_network_is_found(site):
    """Else devices are told an address of a network that is not theirs, because its interface came first."""
    two_networks(site)
    site.start()
    site.check("barn", "10.71.2.1", 2)
    assert (site.public_url()["url"], site.public_url()["source"]) == (site.url("10.71.2.1"), "used")
    site.server.wait_log(rf"level=info .*public_url url={site.url('10.71.2.1')}")


def test_a_bridge_to_containers_is_not_advertised(site):
    """Else devices are told an address that only containers of this machine reach, since a simulator in one asked."""
    site.networks.add("house")
    site.networks.add("container")
    site.networks.link("server", "docker0", "172.31.0.1/16", "container", "172.31.0.2/16", bridge=True)
    site.networks.link("server", "lan1", "10.71.1.1/24", "house", "10.71.1.2/24", bridge=True)
    site.start()
    site.check("container", "172.31.0.1", 12)
    assert (site.public_url()["url"], site.public_url()["warning"]) == (site.url("10.71.1.1"), "")
    site.check("house", "10.71.1.1", 6)
    assert (site.public_url()["url"], site.public_url()["warning"]) == (site.url("10.71.1.1"), "")


def test_a_containers_own_address_is_not_advertised(site):
    """Else the classic failure: devices are told the container's address, which none of them reaches."""
    site.networks.add("host")
    site.networks.link("server", "eth0", "172.31.0.2/16", "host", "172.31.0.1/16")
    site.start(env={"container": "docker"})
    site.check("host", "172.31.0.2", 6)
    public_url = site.public_url()
    assert (public_url["url"], public_url["source"]) == ("", "unknown")
    assert "whose own address (172.31.0.2) no device reaches" in public_url["warning"]
    refusal = site.admin.post("/api/v1/rollouts", {"type": "d1_mini"})
    assert (refusal.status, refusal.error) == (409, "no-public-url")

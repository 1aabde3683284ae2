"""Devices that come through proxies: whose address it is, and that nobody outside of a trusted proxy can forge it."""

import os
import re
import shutil
import signal
import socket
import subprocess

import pytest

from tests.support.updraft import ESP8266, PATIENCE_S, ROOT, Reply, Server, device_request, make_image, read_to_end, \
    wait_until

NGINX = shutil.which("nginx", path=os.environ.get("PATH", "") + ":/usr/sbin")


def check_from(server, source, lines="", host="127.0.0.1", family=socket.AF_INET):
    """A check from a local address; returns the `peer` of its line in the log, which the device's own MAC names."""
    before = server.log().count("event=check")
    request = device_request("/update/door", ESP8266).replace(b"\r\n\r\n", f"\r\n{lines}\r\n".encode(), 1)
    with socket.socket(family) as connection:
        connection.settimeout(PATIENCE_S)
        connection.bind((source, 0))
        connection.connect((host, server.port))
        connection.sendall(request)
        Reply(read_to_end(connection))
    wait_until(lambda: server.log().count("event=check") > before, "the check in the log")
    line = [line for line in server.log().splitlines() if "event=check" in line][before]
    quoted, plain = re.search(r'peer=(?:"([^"]*)"|(\S*))$', line).groups()
    return re.sub(r":\d+$", "", quoted or plain)


def test_nobody_outside_a_trusted_proxy_can_forge(tmp_path):
    """127.0.0.2 is the proxy; the same words from its neighbour are nothing but words."""
    lines = "X-Forwarded-For: 203.0.113.7\r\nForwarded: for=203.0.113.7\r\n"
    with Server(tmp_path, trusted_proxy="127.0.0.2") as server:
        assert check_from(server, "127.0.0.2", lines) == "203.0.113.7 via 127.0.0.2"
        assert check_from(server, "127.0.0.3", lines) == "127.0.0.3"
        # Nor by claiming to be the proxy, in the header that it would write.
        assert check_from(server, "127.0.0.3", "X-Forwarded-For: 203.0.113.7, 127.0.0.2\r\n") == "127.0.0.3"
        # Nor through the proxy, which adds whom it sees.
        assert check_from(server, "127.0.0.2", "X-Forwarded-For: 8.8.8.8, 127.0.0.2, 203.0.113.7\r\n") \
            == "203.0.113.7 via 127.0.0.2"


def test_both_families(tmp_path):
    """A socket of both shows IPv4 in the clothes of IPv6: 127.0.0.2 is trusted all the same."""
    lines = "X-Forwarded-For: 2001:db8::7\r\n"
    with Server(tmp_path, listen="[::]:0", trusted_proxy=["127.0.0.2", "::1"]) as server:
        assert check_from(server, "127.0.0.2", lines) == "[2001:db8::7] via [::ffff:127.0.0.2]"
        assert check_from(server, "127.0.0.3", lines) == "[::ffff:127.0.0.3]"
        assert check_from(server, "::1", lines, "::1", socket.AF_INET6) == "[2001:db8::7] via [::1]"


def test_a_reload_changes_whom_to_believe(tmp_path):
    """A proxy is added, or taken away, without a restart."""
    config = tmp_path / "u.ini"
    config.write_text("trusted-proxy = 127.0.0.2\n")
    lines = "X-Forwarded-For: 203.0.113.7\r\n"
    with Server(tmp_path, config=config) as server:
        assert check_from(server, "127.0.0.2", lines) == "203.0.113.7 via 127.0.0.2"
        config.write_text("trusted-proxy = 127.0.0.3\n")
        server.process.send_signal(signal.SIGHUP)
        server.wait_log("event=reloaded")
        assert check_from(server, "127.0.0.2", lines) == "127.0.0.2"
        assert check_from(server, "127.0.0.3", lines) == "203.0.113.7 via 127.0.0.3"

        config.write_text("log-level = debug\ntrusted-proxy = 127.0.0.3/8\n")
        server.process.send_signal(signal.SIGHUP)
        server.wait_log(r"event=reload_failed why=.*u\.ini: line 2: trusted-proxy: .*127\.0\.0\.3/8.* is not usable: give")
        assert check_from(server, "127.0.0.3", lines) == "203.0.113.7 via 127.0.0.3"


class Nginx:
    """A proxy as docs/operations.md writes it, on a free port."""

    def __init__(self, folder, server):
        folder.mkdir()
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        page = (ROOT / "docs/operations.md").read_text()
        location = re.search(r"^    location / \{\n.*?^    \}\n", page, re.M | re.S).group(0)
        assert "127.0.0.1:8080" in location
        paths = "".join(f"{kind}_temp_path {folder}/{kind}; "
                        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
        user = "user root;\n" if os.getuid() == 0 else ""
        (folder / "nginx.conf").write_text(
            f"{user}daemon off; worker_processes 1; pid {folder}/pid; error_log {folder}/error.log;\n"
            f"events {{}}\nhttp {{ access_log off; {paths}\nserver {{ listen 127.0.0.1:{self.port};\n"
            f"{location.replace('127.0.0.1:8080', f'127.0.0.1:{server.port}')} }} }}\n")
        self.process = subprocess.Popen([NGINX, "-c", folder / "nginx.conf", "-e", folder / "error.log"],
                                        stderr=subprocess.DEVNULL)

    def is_there(self):
        assert self.process.poll() is None, "nginx ended"
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def __enter__(self):
        wait_until(self.is_there, "nginx")
        return self

    def __exit__(self, *exception):
        self.process.terminate()
        self.process.wait(PATIENCE_S)


@pytest.mark.skipif(NGINX is None, reason="nginx is not installed")
def test_behind_nginx(tmp_path):
    """The configuration that the manual gives: a device is served as before, and seen, whatever it invents."""
    data = make_image("esp8266", tmp_path / "firmware/door/2.0.0.bin", size="300K")
    invented = "X-Forwarded-For: 8.8.8.8\r\nForwarded: for=8.8.8.8\r\n"
    request = device_request("/update/door", ESP8266).replace(b"\r\n\r\n", f"\r\n{invented}\r\n".encode(), 1)
    with Server(tmp_path, trusted_proxy="127.0.0.1") as server, Nginx(tmp_path / "nginx", server) as nginx:
        with socket.socket() as connection:
            connection.settimeout(PATIENCE_S)
            connection.bind(("127.0.0.9", 0))
            connection.connect(("127.0.0.1", nginx.port))
            connection.sendall(request)
            reply = Reply(read_to_end(connection))
        assert (reply.status, reply.body) == (200, data)
        assert reply.headers["x-MD5"]  # as devices search for it
        server.wait_log(r'event=check .*peer="127\.0\.0\.9 via 127\.0\.0\.1:\d+"')
        server.wait_log(r'event=update_sent .*peer="127\.0\.0\.9 via 127\.0\.0\.1:\d+"')

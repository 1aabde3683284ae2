"""A real mosquitto for a test, on a loopback port of its own, and an independent client (Eclipse Paho's for Python)."""

import os
import pathlib
import shutil
import signal
import socket
import subprocess
import threading
import time

import paho.mqtt.client as paho

from tests.support.updraft import PATIENCE_S, wait_until

MOSQUITTO = shutil.which("mosquitto", path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return probe.getsockname()[1]


class Broker:
    """`lines` are further lines of its configuration. The port stays the same across restarts."""

    def __init__(self, folder, *lines, anonymous=True):
        self.folder = pathlib.Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        self.config = self.folder / "mosquitto.conf"
        # Saved after each change: what was acknowledged must survive a SIGKILL, so that a loss is not the broker's.
        lines = [f"listener {self.port} 127.0.0.1", f"allow_anonymous {'true' if anonymous else 'false'}",
                 "persistence true", f"persistence_location {self.folder}/", "autosave_on_changes true",
                 "autosave_interval 1", "max_queued_messages 0", *lines]
        self.config.write_text("\n".join(lines) + "\n")
        self.process = None
        self.start()

    @property
    def url(self):
        return f"mqtt://127.0.0.1:{self.port}"

    def start(self):
        environment = {**os.environ, "LD_PRELOAD": ""}
        command = [MOSQUITTO, "-c", self.config]
        if os.getuid() == 0:  # else mosquitto would become another user, who cannot read the folder
            self.config.write_text(self.config.read_text().replace("user root\n", "") + "user root\n")
        self.log = open(self.folder / "mosquitto.log", "ab")
        self.process = subprocess.Popen(command, stdout=self.log, stderr=self.log, env=environment)
        wait_until(self.answers, "mosquitto listens")

    def answers(self):
        assert self.process.poll() is None, (self.folder / "mosquitto.log").read_text()
        try:
            socket.create_connection(("127.0.0.1", self.port), 1).close()
            return True
        except OSError:
            return False

    def freeze(self):
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self):
        self.process.send_signal(signal.SIGCONT)

    def kill(self):
        self.process.kill()
        self.process.wait(PATIENCE_S)
        self.log.close()

    def stop(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.terminate()
            self.process.wait(PATIENCE_S)
        self.log.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()


class Listener:
    """Subscribes, and keeps what comes: .messages of (topic, payload, retain), in order."""

    def __init__(self, broker, *topics, client_id="listener", clean=True, user=None, password=None,
                 version=4):
        self.messages = []
        self.subscribed = threading.Event()
        self.expiries = []  # of MQTT 5 messages
        self.client = paho.Client(client_id=client_id, protocol=version, **({"clean_session": clean} if version == 4 else {}))
        if user is not None:
            self.client.username_pw_set(user, password)
        self.client.reconnect_delay_set(1, 1)

        def on_connect(client, *_):
            client.subscribe([(topic, 1) for topic in topics])

        self.client.on_connect = on_connect
        self.client.on_subscribe = lambda *_: self.subscribed.set()
        self.client.on_message = self.on_message
        self.client.connect("127.0.0.1", broker.port, 30)
        self.client.loop_start()
        assert self.subscribed.wait(PATIENCE_S), "the listener did not get its subscription"

    def on_message(self, _client, _data, message):
        self.expiries.append(getattr(getattr(message, "properties", None), "MessageExpiryInterval", None))
        self.messages.append((message.topic, message.payload, message.retain))

    def topics(self):
        return [topic for topic, _payload, _retain in list(self.messages)]

    def wait(self, count, what="messages"):
        return wait_until(lambda: len(self.messages) >= count and list(self.messages), f"{count} {what}")

    def publish(self, topic, payload, retain=False):
        self.client.publish(topic, payload, 1, retain).wait_for_publish()

    def close(self):
        self.client.disconnect()
        self.client.loop_stop()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def wait_connected(admin):
    """Until the server says that it is connected."""
    return wait_until(lambda: admin.get("/api/v1/status").json["mqtt"]["state"] == "connected", "the broker is connected")


def certificates(folder, name="localhost"):
    """A CA, a server's certificate for `name` and 127.0.0.1, and a client's: a dict of paths."""
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)

    def openssl(*words):
        subprocess.run(["openssl", *map(str, words)], check=True, cwd=folder, capture_output=True)

    openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", "ca.key", "-out",
            "ca.pem", "-days", 2, "-subj", "/CN=updraft test CA")
    for who, extension in (("server", f"subjectAltName=DNS:{name},IP:127.0.0.1"), ("client", "extendedKeyUsage=clientAuth")):
        openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", f"{who}.key", "-out",
                f"{who}.csr", "-subj", f"/CN={who}")
        (folder / "extension").write_text(extension + "\n")
        openssl("x509", "-req", "-in", f"{who}.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", 2,
                "-extfile", "extension", "-out", f"{who}.pem")
    return {path.name: path for path in folder.iterdir()}

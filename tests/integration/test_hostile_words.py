"""What a device, a file or a message calls itself breaks nothing: hostile bytes at every place that is ever shown, and
then each line of the log, /metrics and every answer of the API read as strictly as any program would."""

import json
import os
import re
import urllib.parse

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.support.admin import Admin
from tests.support.cli import run
from tests.support.mqtt import Broker, Listener, wait_connected
from tests.support.updraft import ESP32, ESP8266, Server, device_request, make_image, wait_until

FORGED = b'forged'
WORDS = [
    b'a" level=error event="forged',
    b"a event=forged",
    b'a","event":"forged',
    b'"} 1 forged{a="',
    b"a\\",
    b"a\\\" event=forged \\\"",
    b"a\\u0000b\\n",
    b"\x1b[31mforged\x1b[2J",
    b"a\tb",
    b"a\x7fb",
    b"a\xff\xfe\xfdb",
    b"a\xc0\xafb",                      # overlong
    b"a\xed\xa0\x80b",                  # half a surrogate
    b"a\xc2\x9b31mb",                   # C1: CSI in one character
    b"a\xe2\x80\xaegnp.b",              # right to left
    b"a\xe2\x80\xa8b",                  # a line's end, to JavaScript
    b"a\xe2\x80\x8f1",                  # a mark that nobody sees, and that turns what stands beside it
    b"<script>alert(1)</script>",
    b"{type}%s%n${x}`x`",
    b"; DROP TABLE devices; --'",
    b"x" * 900,
]
CONTROLS = [b"a\nevent=forged", b"a\r\nX-Forged: 1", b"a\0b", b"\x01\x02"]  # where a name may hold them


def headers_with(headers, name, word):
    return device_request("/update/door", {**headers, name: word.decode("latin-1")})


def requests():
    """Each word in each header, and in each place of an address, as it stands and with % before each byte."""
    for word in WORDS + CONTROLS[2:]:
        for headers in (ESP8266, ESP32):
            for name in (*headers, "X-Forwarded-For", "Forwarded", "Host", "Range", "If-None-Match"):
                yield headers_with(headers, name, word)
        yield device_request("/update/door", {**ESP8266, word.decode("latin-1"): "1"})
    for word in WORDS + CONTROLS:
        escaped = "".join(f"%{byte:02X}" for byte in word)
        for text in (escaped, word.decode("latin-1")):
            for path in ("/update/{}", "/latest/{}.bin", "/firmware/{}", "/native/{}/version", "/{}", "/update/door?{}",
                         "/update/door?version={}", "/native/door/{}"):
                yield device_request(path.format(text), ESP8266)
                yield device_request(path.format(text), {"User-Agent": "curl"})


def send_all(server, word_requests):
    """And no answer has a header that was made of a word."""
    for request in word_requests:
        answer = server.ask(request)
        head = answer.partition(b"\r\n\r\n")[0]
        assert not re.search(rb"forged|[^\t\r\n -~]", head.lower()), (request, answer)


def make_files(folder, image):
    """Types, projects and labels that are hostile; good images and bad ones."""
    for word in WORDS + CONTROLS:
        name = word.replace(b"/", b"_").replace(b"\0", b"")[:80]
        for kind, data in ((b"good", image), (b"bad", b"no image")):
            for path in (b"%s_1.0.ino.%s.bin" % (name, kind), b"p%s_1.0.ino.%s.bin" % (kind, name), b"%s/%s.bin" % (name, kind),
                         b"%s%s/1.0.bin" % (kind, name)):
                whole = os.fsencode(folder) + b"/" + path
                os.makedirs(os.path.dirname(whole), exist_ok=True)
                with open(whole, "wb") as file:
                    file.write(data)


def publish_all(broker):
    """Topics are UTF-8 without control characters, or no broker takes them; payloads are any bytes."""
    with Listener(broker, "none", client_id="hostile") as client:
        for i, word in enumerate(WORDS + CONTROLS):
            try:
                text = word.decode()
            except UnicodeDecodeError:
                text = "plain"
            text = re.sub(r"[\x00-\x1f\x7f-\x9f/+#]", "", text)[:200] or "plain"
            mac = f"5ccf7f0000{i:02x}"
            quoted = json.dumps(word.decode("latin-1")).encode()
            for payload in (word, quoted, b'{"state":%s,"version":%s,"detail":%s,"reason":%s,"error":%s}' % (5 * (quoted,)),
                            b'{"state":"failed","version":"' + word + b'","error":"' + word + b'"}',
                            b'{"state":"failed","error":%s}' % quoted, b"online " + word):
                client.publish(f"updraft/{text}/{mac}/status", payload)
                client.publish(f"updraft/door/{mac}/status", payload)
                client.publish(f"updraft/{text}/{mac}/online", payload)


LOGFMT = re.compile(r'^time=[0-9TZ:.-]+ level=(error|warn|info|debug) event=([a-z_]+)'
                    r'( [a-z_0-9]+=([^\s"=\\]+|"([^"\\]|\\["\\]|\\x[0-9a-f]{2})*"))*$')


def strictly(pairs):
    keys = [key for key, _ in pairs]
    assert len(set(keys)) == len(keys), f"a member twice: {keys}"
    return dict(pairs)


def read_log(text, is_json):
    """Every line; and none is an event that a stranger made up."""
    assert not re.search(r"[^\n -~]", text), "bytes that a terminal acts upon"
    lines = text.splitlines()
    for line in lines:
        if is_json:
            event = json.loads(line, object_pairs_hook=strictly)["event"]
        else:
            found = LOGFMT.match(line)
            assert found, line
            event = found[2]
        assert event != "forged", line
    return len(lines)


def read_metrics(text):
    for family in text_string_to_metric_families(text):
        assert family.name.startswith(("updraft_", "process_")), family.name
        for sample in family.samples:
            assert all(re.fullmatch(r"[a-zA-Z0-9_.+-]+", value) for value in sample.labels.values()), sample
    assert text.isascii()


def read_api(admin):
    def get(path):
        answer = admin.get(path)
        text = answer.body.decode("utf-8")  # strictly
        assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2028\u2029]", text), (path, text)
        return json.loads(text, object_pairs_hook=strictly)

    def pages(path, member):
        found = get(path)
        while True:
            yield from found[member]
            if not found.get("next"):
                return
            found = get(f"{path}{'&' if '?' in path else '?'}after={urllib.parse.quote(str(found['next']))}")

    get("/api/v1/status")
    get("/api/v1/rollouts")
    get("/api/v1/groups")
    firmware = get("/api/v1/firmware")
    get("/api/v1/firmware/rejected")
    for device in get("/api/v1/devices?limit=200")["devices"]:
        get(f"/api/v1/devices/{device['mac']}")
        get(f"/api/v1/explain?mac={device['mac']}")
    for word in WORDS + CONTROLS:
        quoted = urllib.parse.quote_from_bytes(word)
        for path in ("explain?type=", "explain?mac=", "devices?type=", "devices/", "firmware/", "rollouts/", "groups?", "nothing/"):
            get(f"/api/v1/{path}{quoted}")
    return firmware


def give_orders(admin):
    """Each word wherever an operator names something, so that it stands in the audit log, refused or not."""
    for word in WORDS + CONTROLS:
        text, quoted = word.decode("latin-1"), urllib.parse.quote_from_bytes(word)
        admin.ask("PATCH", "/api/v1/devices/5ccf7f000100", {"note": text, "groups": [text]})
        admin.ask("PATCH", f"/api/v1/devices/{quoted}", {"pin": text})
        admin.post("/api/v1/rollouts", {"type": text, "version": text, "group": text})
        admin.post(f"/api/v1/rollouts/{quoted}/abort", {"why": text})
        admin.post("/api/v1/tokens", {"name": text, "role": text})
        admin.ask("DELETE", f"/api/v1/firmware/{quoted}")
        admin.ask("DELETE", f"/api/v1/tokens/{quoted}")


def read_audit(server, admin):
    acts = admin.get("/api/v1/audit?limit=500").json["acts"]
    assert len(acts) > 4 * len(WORDS)
    for line in (server.folder / "state/audit.log").read_text().splitlines():
        assert not re.search(r"[\x00-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2028\u2029]", line), line
        json.loads(line, object_pairs_hook=strictly)


def read_tables(server):
    """What a terminal is shown: no byte that it acts upon."""
    for words in (["status"], ["devices"], ["devices", "show", "5ccf7f000100"], ["firmware"], ["firmware", "rejected"],
                  ["rollouts"], ["audit"], ["token", "ls"], ["explain", "door", "--mac", "5ccf7f000101"]):
        code, said, error = run(*words, "--admin-socket", server.folder / "state/admin.sock")
        assert code == 0 and said, (words, error)
        assert not re.search(r"[^\n -~]", said + error), (words, said, error)


@pytest.mark.parametrize("log_format", ["logfmt", "json"])
def test_hostile_words_break_nothing(tmp_path, log_format):
    image = make_image("esp8266", tmp_path / "firmware/door/2.0.0.bin", seed=1)
    with Broker(tmp_path / "broker") as broker, \
            Server(tmp_path, log_format=log_format, mqtt=broker.url, trusted_proxy="127.0.0.1") as server:
        admin = Admin(server.folder / "state/admin.sock")
        wait_connected(admin)
        make_files(tmp_path / "firmware", image)
        server.process.send_signal(1)
        wait_until(lambda: "image_rejected" in server.log(), "the files to be looked at")
        send_all(server, requests())
        publish_all(broker)
        # whose names are hostile, asks as one that will be remembered
        send_all(server, (device_request("/update/door", ESP8266, mac=f"5C:CF:7F:00:01:{i:02X}", version=word.decode("latin-1"))
                          for i, word in enumerate(WORDS)))
        give_orders(admin)
        read_api(admin)
        read_audit(server, admin)
        read_tables(server)
        read_metrics(admin.get("/metrics").text)
        assert read_log(server.log().rpartition("\n")[0], log_format == "json") > 1000

"""Runs the cases of tests/protocol/*.md against a real updraftd; README.md describes how they are written.

What makes it hard: a case shows a few lines, and much more must hold for every answer whatever a case says. That is
in check_every_answer; a case adds its difference."""

import base64
import hashlib
import json
import pathlib
import re
import socket
import struct
import subprocess
import sys
import time
import zlib
from dataclasses import dataclass, field

import pytest

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent.parent))

from tests.support import updraft  # noqa: E402
from tests.support.admin import Admin  # noqa: E402

# Header names exactly as devices search for them.
HEADER_NAMES = {"Content-Type", "Content-Length", "Content-Disposition", "Content-Range", "x-MD5", "ETag",
                "Accept-Ranges", "Date", "Connection", "X-Updraft-Reason", "x-version", "Allow", "Retry-After",
                "WWW-Authenticate"}
IMAGE_HEADERS = {"Content-Type", "Content-Length", "Content-Disposition", "ETag", "Accept-Ranges", "Date",
                 "Connection", "X-Updraft-Reason"}
HEAD_BYTES_MAX = 1024
LOG_PATIENCE_S = 15
DATE = r"(Mon|Tue|Wed|Thu|Fri|Sat|Sun), \d\d (Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec) \d{4} \d\d:\d\d:\d\d GMT"
LOG_WORD = r'\w+=(?:"(?:[^"\\]|\\.)*"|\S*)'
FLASH_MODES = {"qio": 0, "qout": 1, "dio": 2, "dout": 3}


# --- reading the cases ------------------------------------------------------------------------------------------------


@dataclass
class Block:
    kind: str
    words: list
    lines: list
    line: int


@dataclass(frozen=True)
class Setup:
    repository: str
    config: str
    passwords: str


@dataclass
class Case:
    name: str
    where: str
    prose: bool = False
    setup: Setup = None
    steps: list = field(default_factory=list)


def read_markdown(path):
    """Yields ("heading", title, line), ("text", …) and ("block", Block, line) in order."""
    block = None
    for number, line in enumerate(path.read_text().split("\n"), 1):
        if block is not None:
            if line == "```":
                yield "block", block, number
                block = None
            else:
                block.lines.append(line)
        elif line.startswith("```"):
            kind, *words = line[3:].split() or [""]
            block = Block(kind, words, [], number)
        elif line.startswith("## "):
            yield "heading", line[3:].strip(), number
        elif line.strip():
            yield "text", line, number
    assert block is None, f"{path.name}:{block.line if block else 0}: this block never ends"


def read_cases(path):
    """The cases of one file. A repository or config before the first heading holds for all that have none."""
    cases, shared, own = [], {"repository": "", "config": "", "passwords": ""}, {}
    for kind, what, number in read_markdown(path):
        where = f"{path.name}:{number}"
        if kind == "heading":
            slug = re.sub(r"[^a-z0-9.]+", "-", what.lower()).strip("-")
            cases.append(Case(f"{path.stem}/{slug}", where))
            own = dict(shared)
        elif kind == "text" and cases:
            cases[-1].prose = True
        elif kind == "block" and what.kind in shared:
            (own if cases else shared)[what.kind] = "\n".join(what.lines)
        elif kind == "block":
            assert cases and what.kind in ("operator", "request", "response"), f"{where}: no such block here: {what.kind!r}"
            cases[-1].steps.append(what)
        if cases:
            cases[-1].setup = Setup(**own)
    for case in cases:
        kinds = [step.kind for step in case.steps]
        assert case.prose, f"{case.where}: a case says what would break"
        assert kinds[-1] == "response" and "request" in kinds, f"{case.where}: a request, then its response"
    return cases


def all_cases():
    """Cases that share a server stand together, so that each server is started once."""
    cases = [case for path in sorted(HERE.glob("*.md")) if path.name != "README.md" for case in read_cases(path)]
    names = [case.name for case in cases]
    assert len(set(names)) == len(names), f"two cases of one name: {sorted(n for n in names if names.count(n) > 1)}"
    setups = {}
    for case in cases:
        case.setup = setups.setdefault(case.setup, case.setup)
    order = list(setups)
    return sorted(cases, key=lambda case: order.index(case.setup))


# --- the server -------------------------------------------------------------------------------------------------------


class Bench:
    """A server with the files of one repository block, and the place in its log up to which it was read."""

    def __init__(self, folder, setup):
        self.files, later = {}, []
        for line in setup.repository.split("\n"):
            if line.strip():
                path, kind, *words = line.replace(": ", " ", 1).split()
                options = dict(word.split("=") for word in words)
                make = (path, kind, options.pop("arriving", None), options)
                later.append(make) if make[2] else self.make(folder, *make)
        (folder / "updraftd.ini").write_text(setup.config + "\n")
        if setup.passwords:
            (folder / "passwords").write_text("".join(updraft.password_line(*line.split()) + "\n"
                                                      for line in setup.passwords.split("\n")))
        # Images are there before the server: nothing has to settle, and cases do not guard against each other's loops.
        keys = setup.config.split("[")[0]
        defaults = {key: value for key, value in (("settle_time", "0ms"), ("loop_guard", 1000))
                    if key.replace("_", "-") not in keys}
        if setup.passwords:
            defaults["device_passwords"] = folder / "passwords"
        self.server = updraft.Server(folder, config=folder / "updraftd.ini", **defaults)
        self.log_read = 0
        self.rollout = ""  # the id of the last that an operator began
        for make in later:
            self.make(folder, *make)
            updraft.wait_until(lambda: self.is_awaited(make[2]), f"the server sees that {make[0]} arrives")

    def make(self, folder, path, kind, arriving, options):
        name = unescape(path).decode("utf-8")
        self.files[path] = updraft.make_image(kind, folder / "firmware" / name, **options)

    def operate(self, line):
        """METHOD PATH JSON, over the admin API."""
        method, path, body = line.split(" ", 2)
        admin = Admin(self.server.folder / "state/admin.sock")
        answer = admin.ask(method, "/api/v1/" + path.replace("{rollout}", self.rollout), json.loads(body))
        assert answer.status < 300, f"{line}: {answer.status} {answer.text}"
        self.rollout = answer.json.get("id", self.rollout)

    def is_awaited(self, type_name):
        self.server.ask(f"GET /latest/{type_name}.bin HTTP/1.0\r\n\r\n".encode())
        return "reason=not-yet" in self.next_log_line("check")

    def next_log_line(self, event, wanted=()):
        """The first line of this event, with the wanted words, that no answer has claimed yet: its raw words."""
        def find():
            data = self.server.log_path.read_bytes()
            for line in data[self.log_read:].split(b"\n")[:-1]:
                self.log_read += len(line) + 1
                text = line.decode("ascii")  # whatever devices send: the log stays ASCII
                words = split_log(text)
                if f"event={event}" in words and set(wanted) <= set(words):
                    return words
            return None
        return updraft.wait_until(find, f"an event={event} line in the log with {wanted}", LOG_PATIENCE_S)


def split_log(text):
    return re.findall(LOG_WORD, text)


@pytest.fixture(scope="session")
def bench(request, tmp_path_factory):
    made = Bench(tmp_path_factory.mktemp("server"), request.param)
    yield made
    made.server.stop()


# --- words in braces --------------------------------------------------------------------------------------------------


def unpack(data):
    return zlib.decompress(data, 31) if data[:2] == b"\x1f\x8b" else data


def running_image(data, words):
    """The bytes that a device has in flash after it was given `data`, as far as its digests cover them."""
    data = bytearray(unpack(data))
    for word in words:
        key, value = word.split("=")
        if key == "mode":
            data[2] = FLASH_MODES[value]
        elif key == "without":
            del data[len(data) - int(value):]
        else:
            raise AssertionError(f"{{… {word}}}: mode= or without= is known")
    return bytes(data)


def device_lines(headers, words):
    """The header lines of a client; words such as version=0.5.0 change one, version=- leaves it out."""
    changes = dict(word.split("=", 1) for word in words)
    unused = set(changes)
    lines = []
    short = {"mac": "sta-mac", "md5": "sketch-md5", "sha256": "sketch-sha256", "flash": "chip-size",
             "free": "free-space"}
    wanted = {short.get(key, key): (key, value) for key, value in changes.items()}
    for name, value in headers.items():
        suffix = re.sub(r"^x-ESP(8266|32)-", "", name).lower()
        if suffix in wanted:
            key, value = wanted[suffix]
            unused.discard(key)
        if value != "-":
            lines.append(f"{name}: {value}")
    assert not unused, f"{{esp… {unused}}}: no such header"
    return "\r\n".join(lines)


def expand(text, files):
    """Replaces {…}; the words of a {esp8266 …} may hold braces themselves, so from the inside out."""
    def replace(found):
        name, *words = found.group(1).split()
        if name in ("esp8266", "esp32"):
            return device_lines(updraft.ESP8266 if name == "esp8266" else updraft.ESP32, words)
        if name == "basic":
            return base64.b64encode(" ".join(words).encode()).decode()
        if name == "repeat":
            return words[1] * int(words[0])
        if name == "updraft-version":
            return subprocess.run([updraft.BIN / "updraftd", "--version"], capture_output=True, text=True,
                                  check=True).stdout.split()[1]
        assert words and words[0] in files, f"{found.group(0)}: no such file in the repository block"
        data = files[words[0]]
        if name == "size":
            return str(len(data))
        if name == "md5-of-file":
            return hashlib.md5(data).hexdigest()
        if name == "sha256-of-file":
            return hashlib.sha256(data).hexdigest()
        if name == "md5":
            return hashlib.md5(running_image(data, words[1:])).hexdigest()
        if name == "appended-sha256":
            return running_image(data, words[1:])[-32:].hex().upper()
        raise AssertionError(f"{found.group(0)}: not known")
    while re.search(r"\{[^{}]*\}", text):
        text = re.sub(r"\{([^{}]*)\}", replace, text)
    return text


def unescape(text):
    r"""\r \n \t \\ and \xHH; the rest is Latin-1."""
    plain = {"r": "\r", "n": "\n", "t": "\t", "\\": "\\"}
    text = re.sub(r"\\(?:x([0-9a-fA-F]{2})|([rnt\\]))",
                  lambda found: chr(int(found.group(1), 16)) if found.group(1) else plain[found.group(2)], text)
    return text.encode("latin-1")


# --- asking -----------------------------------------------------------------------------------------------------------


def request_bytes(block, files):
    if "raw" in block.words:
        return unescape(expand("".join(block.lines), files))
    return b"".join(unescape(expand(line, files)) + b"\r\n" for line in [*block.lines, ""])


class Line:
    """One connection to the server, and what was read from it and not yet looked at."""

    def __init__(self, server, receive_bytes=None):
        self.socket = socket.socket()
        if receive_bytes is not None:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        self.socket.settimeout(updraft.PATIENCE_S)
        self.socket.connect(("127.0.0.1", server.port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.rest = b""
        self.methods = []

    def send(self, data, block):
        self.methods += [found.decode() for found in re.findall(rb"([A-Z]+) /\S* HTTP/1\.[01]\r\n", data)]
        piece = next((int(word[7:]) for word in block.words if word.startswith("pieces=")), len(data) or 1)
        for at in range(0, len(data), piece):
            self.socket.sendall(data[at:at + piece])
            if piece < len(data):
                time.sleep(0.002)
        if "end" in block.words:
            self.socket.shutdown(socket.SHUT_WR)

    def read_more(self):
        data = self.socket.recv(1 << 16)
        self.rest += data
        return data

    def read_reply(self):
        """The next answer. Its whole head must come at once: native-SDK clients look at the first segment only."""
        if not self.rest:
            assert self.read_more(), "the server ended the connection without an answer"
        assert b"\r\n\r\n" in self.rest, f"the head is not whole in the first segment: {self.rest!r}"
        head_only = bool(self.methods) and self.methods[0] == "HEAD"
        self.methods = self.methods[1:]
        reply = updraft.Reply(self.rest, head_only)
        wanted = int(reply.headers.get("Content-Length", 0)) if not head_only and reply.status != 304 else 0
        while len(reply.body) < wanted:
            assert self.read_more(), f"the body ends after {len(reply.body)} of {wanted} bytes"
            reply = updraft.Reply(self.rest, head_only)
        self.rest = reply.rest
        reply.head_only = head_only
        return reply

    def must_end(self):
        while not self.rest and self.read_more():
            pass
        assert not self.rest, f"bytes behind the answer: {self.rest[:200]!r}"

    def close(self):
        self.socket.close()

    def drop(self):
        """Reads the first bytes of the answer, then resets the connection."""
        self.read_more()
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()


# --- what must hold ---------------------------------------------------------------------------------------------------


def shown_name(path):
    """A file's name as Content-Disposition has it: what a header could not carry is an underscore."""
    name = unescape(path).rsplit(b"/", 1)[-1]
    return "".join(chr(byte) if 0x20 < byte < 0x7f and byte not in b'"\\' else "_" for byte in name)


def check_image(reply, files):
    """Every answer with an image: these headers and no others, right for the bytes."""
    names = set(reply.headers)
    extra = {200: {"x-MD5"}, 206: {"Content-Range"}}[reply.status]
    assert names == IMAGE_HEADERS | extra, f"headers of an image: {sorted(names ^ (IMAGE_HEADERS | extra))}"
    assert reply.headers["Accept-Ranges"] == "bytes"
    name = re.fullmatch(r'attachment; filename="([^"\\/]+)"', reply.headers["Content-Disposition"]).group(1)
    sent = [data for path, data in files.items() if shown_name(path) == name
            and f'"{hashlib.md5(data).hexdigest()}"' == reply.headers["ETag"]]
    assert sent, f"no file {name!r} of the repository has this ETag: {reply.headers['ETag']}"
    if reply.status == 200:
        assert reply.headers["Content-Length"] == str(len(sent[0]))
        assert reply.headers["x-MD5"] == hashlib.md5(sent[0]).hexdigest()
        assert reply.head_only or reply.body == sent[0]
    else:
        first, last, size = map(int, re.fullmatch(r"bytes (\d+)-(\d+)/(\d+)", reply.headers["Content-Range"]).groups())
        assert size == len(sent[0])
        assert reply.headers["Content-Length"] == str(last - first + 1)
        assert reply.head_only or reply.body == sent[0][first:last + 1]


def check_every_answer(reply, bench):
    names = [name for name, _ in reply.header_list]
    assert re.fullmatch(r"HTTP/1\.1 \d{3} [A-Z][A-Za-z ]+", reply.status_line)
    assert set(names) <= HEADER_NAMES, f"header names are spelled {sorted(set(names) - HEADER_NAMES)}"
    assert len(names) == len(set(names)), f"a header came twice: {names}"
    assert re.fullmatch(DATE, reply.headers["Date"])
    assert reply.headers["Connection"] in ("close", "keep-alive")
    assert len(reply.head) <= HEAD_BYTES_MAX, f"the head has {len(reply.head)} bytes"
    if reply.status == 304:
        assert not {"Content-Type", "Content-Length"} & set(names), "304 has neither a body nor its headers"
    else:
        assert "Content-Length" in names
    if reply.headers.get("Content-Type") == "application/octet-stream":
        check_image(reply, bench.files)
    elif reply.status >= 400 and reply.status != 416 and not reply.head_only:
        assert reply.headers["Content-Type"] == "text/plain"
        assert re.fullmatch(rb"[\x20-\x7e]{1,400}\n", reply.body), f"one short line of text: {reply.body!r}"
    if reply.reason is None:
        return []
    words = bench.next_log_line("check")
    assert f"reason={reply.reason}" in words, f"the log says another reason than {reply.reason}: {words}"
    assert f"status={reply.status}" in words, f"the log says another status than {reply.status}: {words}"
    return words


def check_body(reply, value, files):
    found = re.fullmatch(r"= (\S+)(?: (\d+)-(\d+))?", value)
    if value == "empty":
        assert reply.body == b""
    elif found:
        first, last = (int(found.group(2)), int(found.group(3))) if found.group(2) else (0, len(files[found.group(1)]))
        assert reply.body == files[found.group(1)][first:last + 1], f"the body is not {value[2:]}"
    else:
        assert reply.body == unescape(value)


def check_words(expected, words):
    for word in re.findall(r"!\w+|" + LOG_WORD, expected):
        if word.startswith("!"):
            assert not any(said.startswith(word[1:] + "=") for said in words), f"{word[1:]} is in the log: {words}"
        else:
            assert word in words, f"{word} is not in the log line: {words}"


def check_response(block, line, bench):
    port = str(line.socket.getsockname()[1])
    lines = [expand(text.replace("{client-port}", port), bench.files) for text in block.lines if text.strip()]
    if lines == ["(nothing)"]:
        line.must_end()
        return
    events = []
    reply = line.read_reply()
    try:
        words = check_every_answer(reply, bench)
        assert reply.status_line == lines[0]
        for text in lines[1:]:
            name, _, value = text.partition(": ")
            if text.startswith("!"):
                assert text[1:].lower() not in [said.lower() for said in reply.headers], f"{text[1:]} is there"
            elif name == "body":
                check_body(reply, value, bench.files)
            elif name == "log":
                check_words(value, words)
            elif name.startswith("log "):
                events.append((name[4:], split_log(value)))
            else:
                assert reply.headers.get(name) == value, f"{name}: {reply.headers.get(name)!r}, not {value!r}"
    except AssertionError:
        print(f"line {block.line}; the answer was\n{reply.head}\n{reply.body[:300]!r}")
        raise
    if reply.headers["Connection"] == "close":
        line.must_end()
        line.close()
    for event, wanted in events:
        bench.next_log_line(event, wanted)


@pytest.mark.parametrize("bench, case", [pytest.param(case.setup, case, id=case.name) for case in all_cases()],
                         indirect=["bench"], scope="session")
def test_case(bench, case):
    line = None
    try:
        for block in case.steps:
            if block.kind == "response":
                check_response(block, line, bench)
                continue
            if block.kind == "operator":
                for order in block.lines:
                    bench.operate(order)
                continue
            if line is None or "same" not in block.words:
                if line is not None:
                    line.close()
                line = Line(bench.server, 4096 if "drop" in block.words else None)
            line.send(request_bytes(block, bench.files), block)
            if "drop" in block.words:
                line.drop()
                bench.next_log_line("check")
                bench.next_log_line("update_cut")
                line = None
        assert not line.rest, f"an answer that the case does not expect: {line.rest[:300]!r}"
    finally:
        if line is not None:
            line.close()
    assert bench.server.process.poll() is None, f"updraftd ended: {bench.server.log()[-3000:]}"


def test_every_reason_has_a_case():
    """A reason that no case can bring about is either untested or not reachable, and then it should go."""
    words = set(re.findall(r'^ *X\([A-Z_]+, "([a-z-]+)", \d+,', (updraft.ROOT / "proto/reason.h").read_text(), re.M))
    assert len(words) > 20, "proto/reason.h is written in another way than this test reads it"
    elsewhere = {"wrong-certificate"}  # needs TLS: tests/integration/test_tls_clients.py
    said = {line.partition(": ")[2] for case in all_cases() for block in case.steps if block.kind == "response"
            for line in block.lines if line.startswith("X-Updraft-Reason: ")}
    words -= elsewhere
    assert said == words, f"without a case: {sorted(words - said)}; unknown: {sorted(said - words)}"

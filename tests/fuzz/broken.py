"""Requests and reports that are broken: whole ones, from the protocol cases, docs/openapi.json and the corpora of the fuzz
targets, and the ways to change them."""

import json
import re
import urllib.parse

from tests.protocol import test_protocol
from tests.support.updraft import ESP8266, ROOT, device_request

CORPUS = ROOT / "tests/fuzz/corpus"
MACS = [f"5c:cf:7f:00:00:{i:02x}" for i in range(40)]
WORDS = [b"\r\n", b"\n", b"\r\n\r\n", b"\0", b" ", b"\t", b":", b",", b";", b"=", b"%", b"%00", b"%2e%2e/", b"../", b"?", b"&",
         b"\xff", b"\xc3\xa9", b"\x80", b"\"", b"\\", b"{", b"}", b"[" * 40, b"null", b"-1", b"0", b"1", b"4294967296",
         b"18446744073709551616", b"1e999", b"A" * 300, b"a" * 9000, b"\r\nX-Forged: 1", b"%0d%0aX-Forged:1",
         b"\r\nContent-Length: 5", b"\r\nTransfer-Encoding: chunked", b"\r\nExpect: 100-continue", b"\r\nConnection: close",
         b"\r\nConnection: keep-alive", b"\r\nRange: bytes=1-2,5-", b"\r\nX-Forwarded-For: 203.0.113.9, 10.0.0.1",
         b"\r\nForwarded: for=\"[2001:db8::1]:80\"", b"\r\nAuthorization: Basic dTpw", b" HTTP/1.0", b" HTTP/1.1", b"HEAD ", b"GET ",
         b"POST ", b"\r\nIf-None-Match: *", b"\r\nHost: a"]


class AnyFile(dict):
    """Whichever file a protocol case speaks of."""

    def __init__(self, data):
        super().__init__()
        self.data = data

    def __contains__(self, _name):
        return True

    def __getitem__(self, _name):
        return self.data


def corpus(name):
    return [path.read_bytes() for path in sorted((CORPUS / name).iterdir())]


def device_seeds(image):
    files = AnyFile(image)
    seeds = [test_protocol.request_bytes(block, files) for case in test_protocol.all_cases() for block in case.steps
             if block.kind == "request"]
    seeds += corpus("http_request")
    seeds += [b"\r\n".join(data.split(b"\n")) + b"\r\n\r\n" for data in corpus("device_request")]
    return seeds + [device_request(path, {**ESP8266, "x-ESP8266-STA-MAC": mac}) for mac in MACS
                    for path in ("/update/d1_mini", "/update/door", "/update")]


def admin_seeds(rng, image):
    """Each operation with the document's examples, and with words for what stands in braces."""
    seeds = []
    places = {"mac": MACS[:6], "file": ["truc_0_5_0.ino.d1_mini.bin", "door/1.0.bin"], "name": ["ci", "grafana"], "id": ["ID"]}
    for path, methods in json.loads((ROOT / "docs/openapi.json").read_text())["paths"].items():
        for method, operation in methods.items():
            if method == "parameters":
                continue
            query = [one["name"] for one in operation.get("parameters", []) if one.get("in") == "query"]
            content = operation.get("requestBody", {}).get("content", {})
            bodies = [json.dumps(example["value"]).encode() for kind in content.values()
                      for example in kind["examples"].values() if "value" in example] or [b""]
            bodies += [image] if "application/octet-stream" in content else []
            for body in bodies * 4:
                filled = re.sub(r"\{(\w+)\}", lambda found: rng.choice(places[found[1]]), path)
                pairs = [(name, rng.choice(["1", "0", "d1_mini", "true", MACS[0], "1.2", "fs", "esp32"]))
                         for name in query if rng.random() < 0.5]
                filled += "?" * bool(pairs) + urllib.parse.urlencode(pairs)
                length = f"Content-Length: {len(body)}\r\n" if body or method in ("post", "patch") else ""
                seeds.append(f"{method.upper()} {filled} HTTP/1.1\r\nHost: a\r\n{length}\r\n".encode() + body)
    return seeds + [b"".join(re.split(rb"[\xfe\xff]", data[1:])) for data in corpus("admin")]


def report_seeds():
    words = [b'{"state":"%s","version":"%s","error":"%s"}' % (state, version, error) for state in
             (b"downloading", b"flashed", b"failed", b"running") for version in (b"0_5_0", b"1.0") for error in (b"", b"bad md5")]
    return words + [b"1", b"0", b"Online", b"Offline"] + [data[1:] for data in corpus("device_report")]


def change_lines(rng, data, other):
    lines, others = data.split(b"\r\n"), other.split(b"\r\n")
    at = rng.randrange(len(lines))
    act = rng.randrange(5)
    if act == 0:
        del lines[at]
    elif act == 1:
        lines.insert(at, lines[rng.randrange(len(lines))])
    elif act == 2:
        lines.insert(at, rng.choice(others))
    elif act == 3:
        lines[at] = rng.choice(others)
    else:
        lines[at] = lines[at] * rng.choice((2, 3, 40))
    return b"\r\n".join(lines)


def change_bytes(rng, data, other):
    at = rng.randrange(len(data) + 1)
    end = min(len(data), at + rng.choice((1, 1, 2, 4, 16, 200)))
    act = rng.randrange(7)
    if act == 0 and at < len(data):
        return data[:at] + bytes([data[at] ^ 1 << rng.randrange(8)]) + data[at + 1:]
    if act == 1:
        return data[:at] + data[end:]
    if act == 2:
        return data[:at] + data[at:end] * rng.choice((2, 5, 50)) + data[end:]
    if act == 3:
        return data[:at] + other[rng.randrange(len(other) + 1):][:rng.choice((4, 40, 400))] + data[at:]
    if act == 4:
        return data[:at]
    if act == 5:
        return re.sub(rb"\d+", lambda found: rng.choice((found[0], found[0], b"0", b"4294967295", b"99999999999999999999")), data)
    return data[:at] + rng.choice(WORDS) + data[rng.choice((at, end)):]


def mutate(rng, seeds):
    data = rng.choice(seeds)
    for _ in range(rng.choice((0, 1, 1, 2, 3, 6))):
        data = (change_lines if rng.random() < 0.3 else change_bytes)(rng, data, rng.choice(seeds))
    return data[:200000]

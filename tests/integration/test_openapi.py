"""docs/openapi.json against the running server: every operation is asked as its example says, and what comes back must
be described there, word for word and member for member. A route, a status, a code or a member that only one of the two
knows fails."""

import concurrent.futures
import copy
import json
import re
import socket
import types
import urllib.parse

import jsonschema
import pytest

from tests.support.admin import Admin
from tests.support.updraft import ROOT, Server, make_image, read_to_end, wait_until

DOCUMENT = json.loads((ROOT / "docs/openapi.json").read_text())
SIZES = {"minProperties", "maxProperties"}  # of an object in which nothing is required
METHODS = ("get", "post", "patch", "delete")


# --- the document -----------------------------------------------------------------------------------------------------

def as_json_schema(node):
    """OpenAPI 3.0's dialect as JSON Schema's draft 4: `nullable` is the one word of it that is used here."""
    if isinstance(node, list):
        return [as_json_schema(item) for item in node]
    if not isinstance(node, dict):
        return node
    node = {key: as_json_schema(value) for key, value in node.items()}
    return {"anyOf": [{"type": "null"}, node]} if node.pop("nullable", False) else node


SCHEMAS = as_json_schema(DOCUMENT)


def resolve(node):
    while "$ref" in node:
        target = DOCUMENT
        for word in node["$ref"].removeprefix("#/").split("/"):
            target = target[word]
        node = target
    return node


def operations():
    """(path, method, operation), in the document's order."""
    return [(path, method, item[method]) for path, item in DOCUMENT["paths"].items() for method in METHODS
            if method in item]


def operation_of(operation_id):
    return next(found for found in operations() if found[2]["operationId"] == operation_id)


def error_codes(response):
    """The codes that a described error may have."""
    for part in resolve(response)["content"]["application/json"]["schema"].get("allOf", []):
        if "properties" in part:
            return set(part["properties"]["error"]["properties"]["code"]["enum"])
    return set()


def check(operation, answer):
    """That the answer is one that the operation describes."""
    described = operation["responses"].get(str(answer.status))
    assert described, f"{operation['operationId']} is answered {answer.status}, which is not described: {answer!r}"
    check_described(described, answer)


def check_described(described, answer):
    described = resolve(described)
    for name, header in described.get("headers", {}).items():
        assert not header["required"] or name in answer.headers, f"{name} is missing: {answer!r}"
        if name in answer.headers:
            jsonschema.Draft4Validator(header["schema"]).validate(answer.headers[name])
    kind = answer.headers["Content-Type"].split(";")[0]
    assert list(described["content"]) == [kind], f"{kind} is not described: {answer!r}"
    schema = as_json_schema(described["content"][kind]["schema"])
    resolver = jsonschema.RefResolver("", SCHEMAS)
    jsonschema.Draft4Validator(schema, resolver=resolver).validate(answer.json if "json" in kind else answer.text)


def objects_in(node):
    """Every schema of an object below."""
    if isinstance(node, dict):
        if node.get("type") == "object":
            yield node
        for below in node.values():
            yield from objects_in(below)
    elif isinstance(node, list):
        for below in node:
            yield from objects_in(below)


def test_the_document_holds_together():
    """References lead somewhere, objects are closed, ids are there once, an address has the parameters that it names,
    examples fit."""
    text = json.dumps(DOCUMENT)
    for reference in re.findall(r'"\$ref": "([^"]+)"', text):
        assert resolve({"$ref": reference})
    for name in DOCUMENT["components"]["schemas"]:
        assert f'"#/components/schemas/{name}"' in text, f"nobody uses {name}"
        jsonschema.Draft4Validator.check_schema(SCHEMAS["components"]["schemas"][name])
    for schema in objects_in(DOCUMENT["components"]["schemas"]):
        assert schema["additionalProperties"] is False, schema
        assert schema.get("required") and schema["properties"] or SIZES & schema.keys(), schema
    ids = [operation["operationId"] for _, _, operation in operations()]
    assert len(ids) == len(set(ids)) == sum(len(item) for item in DOCUMENT["paths"].values())
    for path, _, operation in operations():
        named = {one["name"] for one in operation.get("parameters", []) if one["in"] == "path"}
        assert named == set(re.findall(r"{(\w+)}", path))
        for one in operation.get("parameters", []):
            if "example" in one:
                jsonschema.Draft4Validator(resolve(one["schema"])).validate(one["example"])
        for response in operation["responses"].values():
            for link in response.get("links", {}).values():
                assert link["operationId"] in ids


def test_every_route_is_described():
    """An address that the server has and the document has not, or the other way round."""
    table = (ROOT / "server/admin_routes.c").read_text().partition(" routes[] = {")[2].partition("};")[0]
    rows = re.findall(r'{ "(\w+)", "([^"]+)", \w+, \w+, (?:"([^"]+)"|NULL), ROLE_(\w+), (?:"([^"]+)"|NULL), \w+, \w+ }',
                      re.sub(r"\s+", " ", table))
    routes = {(method, path + tail): (role.lower(), act) for method, path, tail, role, act in rows}
    assert len(routes) > 10 and len(routes) == len(rows) == table.count("admin_")
    described = {(method.upper(), re.sub(r"{\w+}", "", path)): (one["x-role"], one.get("x-audit", ""))
                 for path, method, one in operations()}
    assert routes == described


# --- asking -----------------------------------------------------------------------------------------------------------

@pytest.fixture(scope="module")
def closed_port():
    """One that refuses: bound, and nobody listens."""
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        yield holder.getsockname()[1]


@pytest.fixture
def server(tmp_path, closed_port):
    """With a broker that is away, so that a command waits for as long as a test looks at it."""
    firmware = tmp_path / "firmware"
    make_image("esp8266", firmware / "truc_0_4_9.ino.d1_mini.bin", seed=1)
    (firmware / "porch").mkdir()
    (firmware / "porch/1.0.0.bin").write_text("<html>404</html>")
    with Server(tmp_path, mqtt=f"mqtt://127.0.0.1:{closed_port}", admin_listen="127.0.0.1:0",
                sandbox_read=tmp_path) as running:
        yield running


def admin_of(server):
    return Admin(server.folder / "state/admin.sock")


def tcp_admin_of(server, token=None, source=None):
    line = next(line for line in server.said if re.match(r"listening admin 127\.0\.0\.1:\d+$", line))
    return Admin(address=("127.0.0.1", int(line.rpartition(":")[2])), token=token, source=source)


def example_bodies(operation, folder):
    """Each example of the operation's body; a request without one has the one "body" None."""
    if "requestBody" not in operation:
        return [None]
    (content,) = operation["requestBody"]["content"].values()
    return [one["value"] if "value" in one else example_image(one["externalValue"], folder)
            for one in content["examples"].values()]


def example_image(name, folder):
    program, _, kind = name.partition(":")
    assert program == "updraft-make-image"
    return make_image(kind, folder / "example.bin", seed=2)


def example_address(path, operation, values):
    """The address with the example of each parameter, or the value that an answer before linked to it."""
    query = {}
    for one in operation.get("parameters", []):
        value = values.get((operation["operationId"], one["name"]), one.get("example"))
        if one["in"] == "path":
            assert value is not None, f"no example of {one['name']}, and nothing linked to it"
            path = path.replace("{%s}" % one["name"], urllib.parse.quote(str(value), safe=""))
        elif value is not None:
            query[one["name"]] = value
    return path + ("?" + urllib.parse.urlencode(query) if query else "")


def follow_links(operation, answer, values):
    for link in operation["responses"][str(answer.status)].get("links", {}).values():
        for name, expression in link["parameters"].items():
            values[link["operationId"], name] = answer.json[expression.removeprefix("$response.body#/")]


def test_every_example(tmp_path, server):
    """Each is done, as described; and each success that is described is met."""
    admin = admin_of(server)
    values, met = {}, set()
    for round_of in ("patch", "post", "get", "delete"):
        for path, method, operation in operations():
            if method != round_of:
                continue
            for body in example_bodies(operation, tmp_path):
                address = example_address(path, operation, values)
                answer = admin.ask(method.upper(), address, body)
                assert answer.status < 300, f"{method} {address}: {answer!r}"
                check(operation, answer)
                follow_links(operation, answer, values)
                met.add((operation["operationId"], str(answer.status)))
    described = {(operation["operationId"], status) for _, _, operation in operations()
                 for status in operation["responses"] if status < "300"}
    assert met == described


def test_lists_that_are_empty(tmp_path):
    """The same shapes where there is nothing: no broker, no images, no tokens."""
    with Server(tmp_path) as server:
        for path, method, operation in operations():
            if method == "get" and "{" not in path:
                answer = admin_of(server).get(example_address(path, operation, {}))
                assert answer.status == 200
                check(operation, answer)


def test_head_is_answered_like_get(server):
    for path, method, operation in operations():
        if method == "get" and "{" not in path:
            answer = admin_of(server).ask("HEAD", path)
            assert answer.status == 200 and answer.body == b""
            assert int(answer.headers["Content-Length"]) > 0


# --- the checker itself -----------------------------------------------------------------------------------------------

def answer_like(answer, status=None, change=None, kind="application/json", **headers):
    body = copy.deepcopy(answer.json)
    if change is not None:
        change(body)
    text = json.dumps(body)
    return types.SimpleNamespace(status=status or answer.status, headers={"Content-Type": kind, **headers}, json=body,
                                 text=text)


@pytest.mark.parametrize("change", [
    dict(status=202),
    dict(kind="text/plain"),
    dict(change=lambda body: body.update(colour="red")),
    dict(change=lambda body: body.pop("version")),
    dict(change=lambda body: body["mqtt"].update(state="sleeping")),
    dict(change=lambda body: body.update(uptime_s="12")),
    dict(change=lambda body: body.update(started="today")),
    dict(status=503, change=lambda body: (body.clear(),
                                          body.update(error=dict(code="who-knows", message="x", remedy="")))),
], ids=["status", "type", "more", "less", "word", "kind", "form", "code"])
def test_what_is_not_described_fails(server, change):
    """Else the walk would pass whatever the server says."""
    operation = operation_of("getStatus")[2]
    answer = admin_of(server).get("/api/v1/status")
    check(operation, answer_like(answer))
    with pytest.raises((AssertionError, jsonschema.ValidationError)):
        check(operation, answer_like(answer, **change))


# --- refusals ---------------------------------------------------------------------------------------------------------

def refused(server, operation_id, status, code, address, body=None, admin=None, **options):
    """Asks, and holds the refusal against its description. Returns the error."""
    _, method, operation = operation_of(operation_id)
    answer = (admin or admin_of(server)).ask(method.upper(), address, body, **options)
    assert (answer.status, answer.error) == (status, code), repr(answer)
    check(operation, answer)
    assert answer.json["error"]["message"]
    return answer.json["error"]


def upload(version, of_type="d1_mini", **more):
    return "/api/v1/firmware?" + urllib.parse.urlencode({"type": of_type, "version": version, **more})


@pytest.mark.parametrize("operation_id, address, named", [
    ("listFirmware", "/api/v1/firmware?colour=red", "colour"),
    ("listFirmware", "/api/v1/firmware?limit=many", "limit"),
    ("listFirmware", "/api/v1/firmware?limit=1001", "limit"),
    ("listFirmware", "/api/v1/firmware?limit=1&limit=1", "limit"),
    ("listFirmware", "/api/v1/firmware?type=%zz", ""),
    ("listRejected", "/api/v1/firmware/rejected?a=", "a"),
    ("getStatus", "/api/v1/status?x", "x"),
    ("getMetrics", "/metrics?x=1", "x"),
    ("listRollouts", "/api/v1/rollouts?limit=1", "limit"),
    ("listTokens", "/api/v1/tokens?x=1", "x"),
    ("explain", "/api/v1/explain?mac=5ccf7f", "mac"),
    ("explain", "/api/v1/explain?type=d1_mini&md5=12", "md5"),
    ("explain", "/api/v1/explain?type=d1_mini&mode=half", "mode"),
    ("explain", "/api/v1/explain?type=d1_mini&client=esp99", "client"),
    ("removeFirmware", "/api/v1/firmware/truc_0_4_9.ino.d1_mini.bin?force=perhaps", "force"),
    ("listDevices", "/api/v1/devices?outcome=well", "outcome"),
    ("listDevices", "/api/v1/devices?reason=none", "reason"),
    ("listDevices", "/api/v1/devices?online=1", "online"),
    ("listDevices", "/api/v1/devices?q=xyz", "q"),
    ("listDevices", "/api/v1/devices?seen_within_s=-1", "seen_within_s"),
    ("listGroups", "/api/v1/groups?limit=1001", "limit"),
])
def test_bad_parameters(server, operation_id, address, named):
    assert named in refused(server, operation_id, 400, "bad-request", address)["message"]


def test_nobody_takes_a_parameter_unread(server):
    """Else an order goes without what was asked for: ?plan=1 begins a rollout."""
    for path, method, operation in operations():
        address = re.sub(r"{\w+}", "nobody", path) + "?colour=red"
        body = {} if method in ("post", "patch") else None
        assert "colour" in refused(server, operation["operationId"], 400, "bad-request", address, body)["message"]


@pytest.mark.parametrize("body, named", [
    ({"type": "d1_mini", "colour": "red"}, "colour"),
    ({}, "type"),
    ({"type": 7}, "type"),
    ({"type": "d1_mini", "to": []}, "to"),
    ({"type": "d1_mini", "to": ["5ccf7f"]}, "to"),
    ({"type": "d1_mini", "to": ["5ccf7fb1e042", "5C:CF:7F:B1:E0:42"]}, "to"),
    ({"type": "d1_mini", "window_s": -1}, "window_s"),
    ({"type": "d1_mini", "timeout_s": 0}, "timeout_s"),
    ({"type": "d1_mini", "timeout_s": 1.5}, "timeout_s"),
    ({"type": "d1_mini", "mode": "half"}, "mode"),
    ({"type": "d1_mini", "plan": "yes"}, "plan"),
    ([], ""),
    (b"{", ""),
    (b'{"type":"a","type":"b"}', ""),
    (b'{"to":[[[[[[[[[[]]]]]]]]]]}', ""),
    (b'{"type":"\xff"}', ""),
    (b"", ""),
    (None, ""),
])
def test_bad_bodies(server, body, named):
    error = refused(server, "beginRollout", 400, "bad-request", "/api/v1/rollouts", body)
    assert named in error["message"]
    assert admin_of(server).get("/api/v1/rollouts").json["total"] == 0


def test_bodies_nested_too_deeply(server):
    """8 levels are the most: a member that is refused by its name at 8 is refused by its depth at 9."""
    for levels, reason in ((8, '"x"'), (9, "deep"), (30000, "deep")):
        body = b'{"x":' + b"[" * (levels - 1) + b"]" * (levels - 1) + b"}"
        assert reason in refused(server, "beginRollout", 400, "bad-request", "/api/v1/rollouts", body)["message"]


def test_uploads_that_are_refused(tmp_path, server):
    image = make_image("esp8266", tmp_path / "a.bin", seed=3)
    esp32 = make_image("esp32", tmp_path / "b.bin", version="1.2.3")
    refused(server, "addFirmware", 400, "bad-type", upload("1.0.0", "../etc"), image)
    refused(server, "addFirmware", 400, "bad-version", upload("../1"), image)
    refused(server, "addFirmware", 400, "bad-request", upload("1.0.0", kind="half"), image)
    refused(server, "addFirmware", 400, "bad-request", upload("1.0.0", colour="red"), image)
    refused(server, "addFirmware", 409, "exists", upload("0_4_9"), image)
    error = refused(server, "addFirmware", 422, "rejected", upload("1.0.0"), b"<html>404</html>")
    assert error["fault"] == "html-page" and error["remedy"]
    refused(server, "addFirmware", 422, "contradicts-chip", upload("1.2.3"), esp32)
    error = refused(server, "addFirmware", 422, "contradicts-version", upload("1.2.4", "gate"), esp32)
    assert "1.2.3" in error["message"] and "1.2.4" in error["message"]
    assert [path.name for path in sorted(server.repo.rglob("*.bin"))] == ["1.0.0.bin", "truc_0_4_9.ino.d1_mini.bin"]


def test_orders_that_are_refused(tmp_path, server):
    def order(status, code, running=server, **body):
        return refused(running, "beginRollout", status, code, "/api/v1/rollouts", body)

    assert "d1_mini" in order(404, "unknown-type", type="d1_mny")["remedy"]
    error = order(404, "unknown-version", type="d1_mini", version="9.9.9")
    assert "0_4_9" in error["message"] + error["remedy"]
    order(404, "no-image", type="d1_mini", mode="fs")
    order(409, "rejected", type="porch")
    with Server(tmp_path / "pull-only") as pull_only:
        make_image("esp8266", pull_only.repo / "d1_mini/1.0.0.bin", seed=1)
        pull_only.wait_log("event=image_added")
        order(404, "unknown-group", pull_only, type="d1_mini", group="attic")


MAC = "/api/v1/devices/5c:cf:7f:b1:e0:42"


@pytest.mark.parametrize("body, named", [
    ({}, "nothing"),
    ({"colour": "red"}, "colour"),
    ({"pin": ""}, "pin"),
    ({"pin": "a b"}, "pin"),
    ({"pin": "1" * 65}, "pin"),
    ({"assign": {}}, "assign"),
    ({"assign": {"type": "", "label": ""}}, "assign"),
    ({"assign": {"type": "door", "colour": "red"}}, "assign"),
    ({"assign": {"type": "../door"}}, "assign"),
    ({"assign": "door"}, "assign"),
    ({"blocked": "yes"}, "blocked"),
    ({"blocked": None}, "blocked"),
    ({"approved": 1}, "approved"),
    ({"groups_add": "kitchen"}, "groups_add"),
    ({"groups_add": []}, "groups_add"),
    ({"groups_remove": None}, "groups_remove"),
    ({"note": "x" * 65}, "note"),
    ({"note": None}, "note"),
])
def test_words_on_a_device_that_cannot_be_read(server, body, named):
    """What is refused changes nothing, what stands before the mistake included."""
    assert named in refused(server, "changeDevice", 400, "bad-request", MAC, body)["message"]
    refused(server, "changeDevice", 400, "bad-request", MAC, {"pin": "1.0", "note": 5, **body})
    refused(server, "getDevice", 404, "unknown-device", MAC)


def test_groups_and_devices_that_are_refused(server):
    for name in ("", "a b", "a/b", "x" * 65, "ä", 7):
        refused(server, "changeDevice", 400, "bad-group", MAC, {"groups_add": [name]})
        refused(server, "changeDevice", 400, "bad-group", MAC, {"groups_remove": [name]})
    refused(server, "changeDevice", 409, "limit", MAC, {"groups_add": [f"g{i}" for i in range(9)]})
    refused(server, "changeDevice", 400, "bad-request", "/api/v1/devices/5ccf7f", {"blocked": True})
    refused(server, "getDevice", 400, "bad-request", "/api/v1/devices/5ccf7f")
    refused(server, "getDevice", 404, "unknown-device", MAC)
    refused(server, "forgetDevice", 404, "unknown-device", MAC)
    refused(server, "retryDevice", 404, "unknown-device", MAC + "/retry", {})
    refused(server, "retryDevice", 400, "bad-request", MAC + "/retry", {"why": ""})


def test_words_on_a_rollout_that_are_refused(server):
    address = f"/api/v1/rollouts/{admin_of(server).post('/api/v1/rollouts', {'type': 'd1_mini'}).json['id']}"
    error = refused(server, "resumeRollout", 409, "wrong-state", address + "/resume", {})
    assert "running" in error["message"] and error["remedy"]
    for word in ("pause", "resume", "abort"):
        refused(server, f"{word}Rollout", 404, "unknown-rollout", f"/api/v1/rollouts/{'0' * 16}/{word}", {})
        refused(server, f"{word}Rollout", 400, "bad-request", f"{address}/{word}", {"why": 5})


def test_what_is_not_there(server):
    for address in ("/", "/api/v1", "/api/v1/", "/api/v1/nope", "/api/v2/status", "/api/v1/status/", "/update/d1_mini"):
        answer = admin_of(server).get(address)
        assert (answer.status, answer.error) == (404, "not-found"), address
        check_described(DOCUMENT["components"]["responses"]["NotFound"], answer)
    refused(server, "removeFirmware", 404, "unknown-file", "/api/v1/firmware/nope.bin")
    refused(server, "removeFirmware", 404, "unknown-file", "/api/v1/firmware/..%2Fstate%2Ftokens")
    refused(server, "getRollout", 404, "unknown-rollout", "/api/v1/rollouts/0123456789abcdef")
    refused(server, "removeToken", 404, "unknown-token", "/api/v1/tokens/nope")


def test_other_methods(server):
    """Each address names those that it takes. (A DELETE of /firmware/rejected is one of a file of this name.)"""
    for path, item in DOCUMENT["paths"].items():
        address = re.sub(r"{\w+}", "x", path)
        takes = {method.upper() for method in item}
        taken = {method.upper() for other, methods in DOCUMENT["paths"].items() for method in methods
                 if re.fullmatch(re.sub(r"{\w+}", ".+", other), address)}
        for method in {"GET", "POST", "DELETE", "PUT", "PATCH", "OPTIONS"} - taken:
            answer = admin_of(server).ask(method, address)
            assert (answer.status, answer.error) == (405, "method-not-allowed"), (method, address)
            check_described(DOCUMENT["components"]["responses"]["MethodNotAllowed"], answer)
            assert takes <= set(answer.headers["Allow"].split(", ")), (method, address)


def test_an_image_of_a_running_rollout(server):
    admin = admin_of(server)
    assert admin.post("/api/v1/rollouts", {"type": "d1_mini"}).status == 202
    address = "/api/v1/firmware/truc_0_4_9.ino.d1_mini.bin"
    refused(server, "removeFirmware", 409, "in-rollout", address)
    removed = admin.delete(address + "?force=yes").json
    assert removed["removed"] == "truc_0_4_9.ino.d1_mini.bin" and " gives it, and can no longer" in removed["warning"]
    assert not (server.repo / "truc_0_4_9.ino.d1_mini.bin").exists()


def test_a_file_that_is_just_being_changed(tmp_path):
    images = [make_image("esp8266", tmp_path / "a.bin", seed=seed) for seed in (1, 2)]
    with Server(tmp_path, settle_time="2s") as server, concurrent.futures.ThreadPoolExecutor(1) as pool:
        placed = server.repo / "d1_mini/1.0.0.bin"
        assert admin_of(server).post(upload("1.0.0"), images[0]).status == 201
        first = pool.submit(admin_of(server).post, upload("1.0.0", replace="yes"), images[1])
        wait_until(lambda: placed.read_bytes() == images[1], "the image is written")
        refused(server, "addFirmware", 409, "under-way", upload("1.0.0", replace="yes"), images[0])
        refused(server, "removeFirmware", 409, "under-way", "/api/v1/firmware/d1_mini/1.0.0.bin")
        assert first.result().status == 201


def test_what_is_in_the_way(tmp_path, server):
    image = make_image("esp8266", tmp_path / "outside/1.0.0.bin", seed=3)
    (server.repo / "gate").write_text("notes")
    (server.repo / "out").symlink_to(tmp_path / "outside")
    assert refused(server, "addFirmware", 500, "not-written", upload("1.0.0", "gate"), image)["remedy"]
    server.wait_log("event=image_added file=out/1.0.0.bin")
    assert refused(server, "removeFirmware", 500, "not-removed", "/api/v1/firmware/out/1.0.0.bin")["remedy"]


# --- how much ---------------------------------------------------------------------------------------------------------

def ask_raw(server, head, body=b""):
    """What http.client would not send. Returns status and the parsed error."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(30)
        connection.connect(str(server.folder / "state/admin.sock"))
        connection.sendall(head + body)
        answer = read_to_end(connection)
    head, _, body = answer.partition(b"\r\n\r\n")
    return types.SimpleNamespace(status=int(head.split()[1]), json=json.loads(body), text=body.decode(),
                                 headers={"Content-Type": re.search(rb"Content-Type: ([^\r]+)", head)[1].decode()})


def head_of(method, path, *headers):
    return "\r\n".join([f"{method} {path} HTTP/1.1", "Host: x", "Connection: close", *headers, "", ""]).encode()


@pytest.mark.parametrize("operation_id, head, status, code", [
    ("beginRollout", head_of("POST", "/api/v1/rollouts", "Transfer-Encoding: chunked"), 411, "length-required"),
    ("addFirmware", head_of("POST", upload("1"), "Transfer-Encoding: chunked"), 411, "length-required"),
    ("beginRollout", head_of("POST", "/api/v1/rollouts", "Content-Length: 262145"), 413, "too-large"),
    ("makeToken", head_of("POST", "/api/v1/tokens", "Content-Length: 65537"), 413, "too-large"),
    ("addFirmware", head_of("POST", upload("1"), f"Content-Length: {(32 << 20) + 1}"), 413, "too-large"),
    ("addFirmware", head_of("POST", upload("1"), "Content-Length: 18446744073709551615"), 413, "too-large"),
    ("getStatus", head_of("GET", "/api/v1/status", "Content-Length: 1"), 413, "too-large"),
    ("getStatus", head_of("GET", "/api/v1/status?" + "x" * 2100), 414, "too-large"),
    ("getStatus", head_of("GET", "/api/v1/status", "X-Long: " + "x" * 9000), 431, "too-large"),
    ("getStatus", head_of("GET", "/api/v1/status", *["X-Many: 1"] * 70), 431, "too-large"),
    ("getStatus", b"GET /api/v1/status HTTP/1.1\r\n\r\n", 400, "bad-request"),
])
def test_too_much(server, operation_id, head, status, code):
    """Refused by the head alone, before a byte of the body is waited for."""
    answer = ask_raw(server, head)
    assert (answer.status, answer.json["error"]["code"]) == (status, code), answer
    check(operation_of(operation_id)[2], answer)


def test_what_never_comes(tmp_path):
    with Server(tmp_path, head_timeout="300ms") as server:
        answer = ask_raw(server, b"GET /api/v1/status HTTP/1.1\r\n")
        assert (answer.status, answer.json["error"]["code"]) == (408, "timeout")
        check(operation_of("getStatus")[2], answer)


# --- tokens -----------------------------------------------------------------------------------------------------------

def test_tcp_needs_a_token(server):
    """For every operation alike, also where the address, the method or the body would be refused."""
    for number, (path, method, operation) in enumerate(operations()):
        address = re.sub(r"{\w+}", "x", path)
        strangers = tcp_admin_of(server, source=f"127.0.1.{number}")  # each few enough not to be slowed
        for headers in ({}, {"Authorization": "Bearer "}, {"Authorization": "Bearer updraft_" + "A" * 43},
                        {"Authorization": "Basic dXBkcmFmdDp1cGRyYWZ0"}):
            answer = strangers.ask(method.upper(), address, headers=headers)
            assert (answer.status, answer.error) == (401, "unauthorized"), (address, headers)
            check(operation, answer)
    assert tcp_admin_of(server).get("/nope").status == 401
    assert tcp_admin_of(server).ask("PUT", "/api/v1/status").status == 401


def test_a_token_opens_until_it_is_removed(server):
    token = admin_of(server).post("/api/v1/tokens", {"name": "grafana", "role": "admin"}).json["token"]
    with_token = tcp_admin_of(server, token)
    for path, method, operation in operations():
        if method == "get" and "{" not in path:
            answer = with_token.get(path)
            assert answer.status == 200
            check(operation, answer)
    assert with_token.get("/api/v1/status", headers={"Authorization": f"bearer {token}"}).status == 200
    assert tcp_admin_of(server, token[:-1]).get("/api/v1/status").status == 401
    assert tcp_admin_of(server, token + "A").get("/api/v1/status").status == 401
    assert token not in server.log() and token not in (server.folder / "state/tokens").read_text()
    assert admin_of(server).delete("/api/v1/tokens/grafana").json == {"removed": "grafana"}
    assert with_token.get("/api/v1/status").status == 401


def test_a_token_outlives_a_restart(tmp_path):
    with Server(tmp_path, admin_listen="127.0.0.1:0") as server:
        token = admin_of(server).post("/api/v1/tokens", {"name": "a"}).json["token"]
    with Server(tmp_path, admin_listen="127.0.0.1:0") as server:
        assert tcp_admin_of(server, token).get("/api/v1/status").status == 200


def test_tokens_that_are_refused(server):
    admin = admin_of(server)
    for name in ("", "a b", "a/b", "x" * 65, 7, "ä"):
        refused(server, "makeToken", 400, "bad-name", "/api/v1/tokens", {"name": name})
    for more in ({"colour": "red"}, {"role": "root"}, {"role": 7}, {"role": None}, {"expires_in_s": 0},
                 {"expires_in_s": "90d"}, {"expires_in_s": 1.5}, {"expires_in_s": 1 << 40}):
        error = refused(server, "makeToken", 400, "bad-request", "/api/v1/tokens", {"name": "a", **more})
        assert next(iter(more)) in error["message"]
    assert admin.post("/api/v1/tokens", {"name": "a"}).status == 201
    refused(server, "makeToken", 409, "exists", "/api/v1/tokens", {"name": "a"})
    assert [token["name"] for token in admin.get("/api/v1/tokens").json["tokens"]] == ["a"]


def test_tokens_are_as_many_as_there_can_be(tmp_path):
    (tmp_path / "state").mkdir()
    (tmp_path / "state/tokens").write_text("".join(f"{i:064x} 1 t{i}\n" for i in range(256)))
    with Server(tmp_path) as server:
        refused(server, "makeToken", 503, "busy", "/api/v1/tokens", {"name": "more"})


def test_a_damaged_token_file_stops_the_start(tmp_path):
    """Else the next token made would overwrite those that were given out."""
    (tmp_path / "state").mkdir()
    (tmp_path / "state/tokens").write_text("garbage\n")
    server = Server(tmp_path, wait=False)
    wait_until(lambda: server.process.poll() is not None, "the end of a server that cannot start")
    server.stop(expect=1)
    assert "state/tokens:1:" in server.log()
    assert (tmp_path / "state/tokens").read_text() == "garbage\n"


# --- what is described and met by no test above -----------------------------------------------------------------------

def test_codes_are_met():
    """A code that no test here meets is named with the reason."""
    elsewhere = {
        "no-public-url": "needs a machine without an address: tests of containers",
        "not-yet": "a moment while a file is being copied in",
        "too-long": "needs topics and names at their longest: unit tests of the trigger",
        "store-failing": "needs a store that cannot be written: test_devices.py",
        "forbidden": "test_access.py",
        "expired": "test_access.py",
        "slow-down": "test_access.py",
    }
    described = {code for _, _, operation in operations() for status, response in operation["responses"].items()
                 if status >= "400" for code in error_codes(response)}
    source = (ROOT / "tests/integration/test_openapi.py").read_text().partition("def test_codes_are_met")[0]
    assert {code for code in described if f'"{code}"' not in source} == set(elsewhere)

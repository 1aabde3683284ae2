"""With --signing-key an image that nobody vouches for is never served. What makes it hard: two files make one image, keys
are changed while devices come, and what devices report of a signed sketch is not the digest of the file.

Signatures are made here by openssl(1), and what `updraft sign` makes is read here without the project's code."""

import hashlib
import os
import pathlib
import pty
import re
import select
import signal
import struct
import subprocess
import termios

import pytest

from tests.support.admin import Admin
from tests.support.cli import environment, run, says
from tests.support.download import assert_whole
from tests.support.updraft import BIN, ESP32, Reply, Server, check, make_image, wait_until

MAC = "5ccf7fb1e042"
KINDS = ("rsa", "ed25519")


def openssl(*words, stdin=None):
    return subprocess.run(["openssl", *map(str, words)], check=True, input=stdin, capture_output=True).stdout


def make_key(folder, name, *words):
    """A pair by openssl(1): (private, public)."""
    folder.mkdir(parents=True, exist_ok=True)
    private, public = folder / f"{name}.pem", folder / f"{name}.pub.pem"
    openssl("genpkey", *words, "-out", private)
    openssl("pkey", "-in", private, "-pubout", "-out", public)
    return private, public


ALGORITHMS = {"rsa": ("-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"), "ed25519": ("-algorithm", "ED25519")}


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    """Two of each kind: keys["rsa"] is trusted, keys["other rsa"] is not."""
    folder = tmp_path_factory.mktemp("keys")
    return {f"{owner}{kind}": make_key(folder, f"{owner.strip()}{kind}", *words)
            for owner in ("", "other ") for kind, words in ALGORITHMS.items()}


@pytest.fixture
def server(tmp_path, keys):
    with Server(tmp_path, signing_key=[keys["rsa"][1], keys["ed25519"][1]]) as running:
        yield running


def signature(key, data, folder):
    """Detached, by openssl(1): RSA over the file's SHA-256, Ed25519 over the file."""
    file = folder / "to-be-signed"
    file.write_bytes(data)
    if "ed25519" in key[0].name:
        return openssl("pkeyutl", "-sign", "-rawin", "-inkey", key[0], "-in", file)
    return openssl("dgst", "-sha256", "-sign", key[0], file)


def with_trailer(key, data, folder):
    """As the ESP8266 core's tools/signing.py: image, signature, its length."""
    made = signature(key, data, folder)
    return data + made + struct.pack("<I", len(made))


def put(path, data):
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.parent / f".{path.name}.tmp"
    temporary.write_bytes(data)
    temporary.rename(path)


def made(folder, kind="esp8266", **options):
    return make_image(kind, folder / "made.image", **options)


def admin_of(server):
    return Admin(server.folder / "state/admin.sock")


def files(server):
    return [image["file"] for image in admin_of(server).get("/api/v1/firmware").json["images"]]


def rejected(server):
    return {file["file"]: file for file in admin_of(server).get("/api/v1/firmware/rejected").json["files"]}


def fault(server, file):
    return rejected(server).get(file, {}).get("fault")


def wait_fault(server, file, word):
    wait_until(lambda: fault(server, file) == word, f"{file} to be {word}")
    assert file not in files(server)
    one = rejected(server)[file]
    assert one["detail"] and one["remedy"]
    server.wait_log(f"event=image_rejected file={re.escape(file)} fault={word} ")


def fetch(server, file):
    return Reply(server.ask(f"GET /firmware/{file} HTTP/1.0\r\n\r\n".encode()))


# --- what is served, and what is not ----------------------------------------------------------------------------------

def test_unsigned_is_rejected_and_never_served(server, tmp_path):
    for i, kind in enumerate(["esp8266", "esp32"]):
        put(server.repo / f"door{i}/1.0.bin", made(tmp_path, kind))
        wait_fault(server, f"door{i}/1.0.bin", "unsigned")
        assert fetch(server, f"door{i}/1.0.bin").status == 404
        assert fetch(server, f"door{i}/1.0.bin.md5").status == 404
    says(r"no images; .*\n2 files are rejected, and never served", "firmware", "ls", cwd=tmp_path)
    says("no images of this type.*1 file is rejected", "firmware", "ls", "--type", "door0", cwd=tmp_path)
    says("door0/1.0.bin +unsigned +no signature in it.*sign it with `updraft sign`", "firmware", "rejected", cwd=tmp_path)
    assert "updraft_images_rejected 2\n" in admin_of(server).get("/metrics").text
    assert check(server, "/update/door0").status in (304, 404)
    assert Reply(server.ask(b"GET /latest/door0.bin HTTP/1.0\r\n\r\n")).status == 404


def test_without_a_key_nobody_asks(tmp_path, keys):
    data = made(tmp_path)
    put(tmp_path / "firmware/door/1.0.bin", data)
    put(tmp_path / "firmware/door/1.0.bin.sig", b"nonsense")
    put(tmp_path / "firmware/gate/1.0.bin", with_trailer(keys["other rsa"], data, tmp_path))
    with Server(tmp_path) as server:
        assert sorted(files(server)) == ["door/1.0.bin", "gate/1.0.bin"]
        assert rejected(server) == {}


@pytest.mark.parametrize("gzip", [0, 1])
def test_trailer_of_the_esp8266_core(server, tmp_path, keys, gzip):
    plain = made(tmp_path, size="40K")
    data = made(tmp_path, size="40K", gzip=gzip)
    ending = ".bin.gz" if gzip else ".bin"
    whole = with_trailer(keys["rsa"], data, tmp_path)
    put(server.repo / f"door/2.0{ending}", whole)
    wait_until(lambda: files(server), "the signed image")
    assert_whole(fetch(server, f"door/2.0{ending}"), whole)
    # The device runs what was signed: it reports that digest, with its own flash mode in it, and is known by it.
    for mode in range(4):
        md5 = hashlib.md5(plain[:2] + bytes([mode]) + plain[3:]).hexdigest()
        assert check(server, "/update/door", md5=md5, version="1.0").reason == "same-digest"


def test_outcome_of_a_signed_sketch(server, tmp_path, keys):
    data = made(tmp_path, size="40K")
    put(server.repo / "door/2.0.bin", with_trailer(keys["rsa"], data, tmp_path))
    wait_until(lambda: files(server), "the signed image")
    reply = check(server, "/update/door")
    assert_whole(reply, with_trailer(keys["rsa"], data, tmp_path))
    server.wait_log("event=update_sent")
    check(server, "/update/door", md5=hashlib.md5(data).hexdigest(), version="2.0")
    assert admin_of(server).get(f"/api/v1/devices/{MAC}").json["outcome"] == "confirmed"


def test_trailers_that_do_not_count(server, tmp_path, keys):
    data = made(tmp_path, seed=1)
    other = made(tmp_path, seed=2)
    whole = with_trailer(keys["rsa"], data, tmp_path)
    put(server.repo / "a/1.0.bin", with_trailer(keys["other rsa"], data, tmp_path))
    put(server.repo / "b/1.0.bin", other + whole[len(data):])
    put(server.repo / "c/1.0.bin", data + bytes(256) + struct.pack("<I", 256))
    # The legacy form of 2.5: a raw digest in the padding, which newer devices refuse as well.
    legacy = openssl("pkeyutl", "-sign", "-inkey", keys["rsa"][0], stdin=hashlib.sha256(data).digest())
    put(server.repo / "d/1.0.bin", data + legacy + struct.pack("<I", len(legacy)))
    # Signed with its own trailer's length word in it, and signed inside the compression.
    put(server.repo / "e/1.0.bin", data + signature(keys["rsa"], whole, tmp_path) + struct.pack("<I", 256))
    for file, word in [("a", "unknown-key"), ("b", "wrong-signature"), ("c", "unknown-key"), ("d", "unknown-key"),
                       ("e", "wrong-signature")]:
        wait_fault(server, f"{file}/1.0.bin", word)
    assert files(server) == []


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("image, name, check_of", [
    ("esp32", "porch/2.0.bin", {"headers": ESP32}), ("esp8266", "porch/2.0.bin", {}),
    ("littlefs", "porch/2.0.fs.bin", {"mode": "spiffs"}),
])
def test_detached(server, tmp_path, keys, kind, image, name, check_of):
    """The .sig comes later, and goes; what is served is the image's bytes alone."""
    data = made(tmp_path, image)
    file, sig = server.repo / name, server.repo / f"{name}.sig"
    put(file, data)
    wait_fault(server, name, "unsigned")
    sig.write_bytes(signature(keys[kind], data, tmp_path))
    wait_until(lambda: files(server) == [name], "the image to be vouched for")
    assert rejected(server) == {}, "a .sig is no firmware"
    assert_whole(check(server, "/update/porch", **check_of), data)
    assert fetch(server, f"{name}.sig").status == 404
    sig.unlink()
    wait_fault(server, name, "unsigned")
    assert check(server, "/update/porch", **check_of).status in (304, 404)


@pytest.mark.parametrize("kind, word", [("rsa", "unknown-key"), ("ed25519", "wrong-signature")])
def test_detached_that_does_not_count(server, tmp_path, keys, kind, word):
    data = made(tmp_path, "esp32")
    other = made(tmp_path, "esp32", seed=9)
    cases = {"foreign": (signature(keys[f"other {kind}"], data, tmp_path), word),
             "changed": (signature(keys[kind], other, tmp_path), "wrong-signature"),
             "empty": (b"", "unknown-key"), "long": (bytes(100000), "unknown-key"),
             "cut": (signature(keys[kind], data, tmp_path)[:-1], "unknown-key"),
             "more": (signature(keys[kind], data, tmp_path) + b"\n", "unknown-key")}
    for name, (sig, _) in cases.items():
        put(server.repo / f"{name}/1.0.bin.sig", sig)
        put(server.repo / f"{name}/1.0.bin", data)
    for name, (_, expected) in cases.items():
        wait_fault(server, f"{name}/1.0.bin", expected)
    assert files(server) == []


@pytest.mark.parametrize("what", ["folder", "pipe", "link to nowhere"])
def test_sig_that_is_no_file(server, tmp_path, keys, what):
    data = made(tmp_path, "esp32")
    sig = server.repo / "door/1.0.bin.sig"
    sig.parent.mkdir(parents=True)
    {"folder": sig.mkdir, "pipe": lambda: os.mkfifo(sig), "link to nowhere": lambda: sig.symlink_to("no-where")}[what]()
    put(server.repo / "door/1.0.bin", data)
    wait_fault(server, "door/1.0.bin", "unsigned" if what == "link to nowhere" else "unreadable")
    sig.rmdir() if what == "folder" else sig.unlink()
    sig.write_bytes(signature(keys["rsa"], data, tmp_path))
    wait_until(lambda: files(server), "the image to be vouched for")


def test_a_changed_image_is_withdrawn(server, tmp_path, keys):
    """In place, as an intruder would: the signature before vouches for other bytes."""
    data = made(tmp_path, "esp32", size="100K")
    file = server.repo / "door/1.0.bin"
    put(server.repo / "door/1.0.bin.sig", signature(keys["ed25519"], data, tmp_path))
    put(file, data)
    wait_until(lambda: files(server), "the image")
    file.write_bytes(made(tmp_path, "esp32", size="100K", seed=7))
    wait_fault(server, "door/1.0.bin", "wrong-signature")
    assert check(server, "/update/door", ESP32).status in (304, 404)


# --- keys that change -------------------------------------------------------------------------------------------------

def with_config(folder, *public, **flags):
    """A server whose configuration file names the keys."""
    config = folder / "updraft.ini"
    config.write_text("".join(f"signing-key = {key}\n" for key in public))
    return Server(folder, config=config, **flags)


def reload(server, *public):
    (server.folder / "updraft.ini").write_text("".join(f"signing-key = {key}\n" for key in public))
    server.process.send_signal(signal.SIGHUP)


def test_keys_are_rotated(tmp_path, keys):
    """SIGHUP reads them again; what they vouched for goes and comes with them, also across a restart."""
    old, new = keys["other rsa"], keys["ed25519"]
    data = made(tmp_path, "esp32")
    for name, key in [("old", old), ("new", new)]:
        put(tmp_path / f"firmware/{name}/1.0.bin", data)
        put(tmp_path / f"firmware/{name}/1.0.bin.sig", signature(key, data, tmp_path))
    with with_config(tmp_path, old[1]) as server:
        assert files(server) == ["old/1.0.bin"]
        says("signature.*every image must have one, by the one key known", "status", cwd=tmp_path)
        reload(server, old[1], new[1])
        wait_until(lambda: len(files(server)) == 2, "both")
        reload(server, new[1])
        wait_until(lambda: files(server) == ["new/1.0.bin"], "the old key to be retired")
        assert fault(server, "old/1.0.bin") == "unknown-key"
        digest = hashlib.sha256(openssl("pkey", "-pubin", "-in", new[1], "-outform", "DER")).hexdigest()
        server.wait_log(f'event=signatures_required key="ed25519 {digest[:16]}"')
    with with_config(tmp_path, new[1]) as server:
        assert files(server) == ["new/1.0.bin"]
        wait_until(lambda: re.search("event=catalog_published .*read=0 ", server.log().split("event=stopped")[-1]),
                   "the start to have read nothing: what was verified is known")
    with with_config(tmp_path, old[1]) as server:
        assert files(server) == ["old/1.0.bin"], "what another key's server learned is not believed"


@pytest.mark.parametrize("before", [[], ["other rsa"]], ids=["first key", "other key"])
def test_a_rollout_outlasts_a_change_of_keys(tmp_path, keys, before):
    """All images are withdrawn until the scan has seen that the key to come vouches for them as well: that is no end."""
    data = made(tmp_path)
    whole = with_trailer(keys["other rsa"], data, tmp_path)
    put(tmp_path / "firmware/door/2.0.bin", whole)
    put(tmp_path / "firmware/door/2.0.bin.sig", signature(keys["rsa"], whole, tmp_path))
    with with_config(tmp_path, *(keys[name][1] for name in before), sandbox_read=keys["rsa"][1].parent) as server:
        check(server, "/update/door", version="2.0")
        order = admin_of(server).post("/api/v1/rollouts", {"type": "door"}).json["id"]
        reload(server, keys["rsa"][1])
        server.wait_log("event=image_removed file=door/2.0.bin")
        wait_until(lambda: files(server) == ["door/2.0.bin"], "it to be vouched for anew")
        now = admin_of(server).get(f"/api/v1/rollouts/{order}").json
        assert (now["state"], now["why"]) == ("running", ""), now
        assert check(server, "/update/door", version="1.0").status == 200
        reload(server, keys["ed25519"][1])
        wait_until(lambda: admin_of(server).get(f"/api/v1/rollouts/{order}").json["state"] == "halted", "nobody to vouch for it")


@pytest.mark.parametrize("break_it, words", [
    (lambda folder, keys: keys["rsa"][0], "a private key: keep it off the server"),
    (lambda folder, keys: folder / "none.pem", "not found: name a PEM file"),
    (lambda folder, keys: folder, "not a plain file"),
    (lambda folder, keys: written(folder, b"hello\n"), "no public key in it"),
    (lambda folder, keys: written(folder, keys["rsa"][1].read_bytes().replace(b"MI", b"MJ", 1)), "damaged"),
    (lambda folder, keys: written(folder, keys["ed25519"][1].read_bytes() + keys["rsa"][1].read_bytes()[:-9]), "damaged"),
    (lambda folder, keys: make_key(folder, "small", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:1024")[1],
     "an RSA key of 1024 bits: use one of 2048"),
    (lambda folder, keys: make_key(folder, "ec", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256")[1],
     "a key of kind EC: use an RSA or an Ed25519 key"),
    (lambda folder, keys: written(folder, keys["rsa"][1].read_bytes() * 17), "more than 16 keys"),
])
def test_keys_that_are_none(tmp_path, keys, break_it, words):
    """No start, no reload, and --check-config says so too."""
    bad = break_it(tmp_path, keys)
    command = [BIN / "updraftd", "--repo", tmp_path / "firmware", "--state", tmp_path / "state", "--signing-key", bad]
    (tmp_path / "firmware").mkdir()
    for more in [[], ["--check-config"]]:
        done = subprocess.run([*command, "--listen", "127.0.0.1:0", *more], capture_output=True, text=True, env=environment())
        assert done.returncode == 1 and words in done.stderr and f"--signing-key {bad}" in done.stderr, done.stderr
        assert "PRIVATE" not in done.stdout + done.stderr
    put(tmp_path / "firmware/door/1.0.bin", made(tmp_path, "esp32"))
    with with_config(tmp_path, keys["ed25519"][1]) as server:
        reload(server, bad)
        server.wait_log("level=error event=reload_failed .*signing-key")
        wait_fault(server, "door/1.0.bin", "unsigned")


def written(folder, data):
    (folder / "bad.pem").write_bytes(data)
    return folder / "bad.pem"


# --- the operator's program -------------------------------------------------------------------------------------------

@pytest.mark.parametrize("kind", KINDS)
def test_a_new_key_and_what_it_signs(tmp_path, kind):
    """From nothing to a device's update, with the program alone; each signature verified by openssl(1)."""
    says("no ESP8266 can verify" if kind == "ed25519" else "and for the sketch", "sign", "--new-key", tmp_path / "fleet",
         "--kind", kind)
    private, public = tmp_path / "fleet.pem", tmp_path / "fleet.pub.pem"
    assert private.stat().st_mode & 0o777 == 0o600
    assert openssl("pkey", "-in", private, "-pubout") == public.read_bytes()
    file = tmp_path / "porch.bin"
    data = make_image("esp32", file)
    says(r"wrote .*porch\.bin\.sig", "sign", "--key", private, file)
    sig = tmp_path / "porch.bin.sig"
    if kind == "rsa":
        openssl("dgst", "-sha256", "-verify", public, "-signature", sig, file)
    else:
        openssl("pkeyutl", "-verify", "-rawin", "-pubin", "-inkey", public, "-in", file, "-sigfile", sig)
    with Server(tmp_path, signing_key=public) as server:
        says("^added porch/1.0.bin", "firmware", "add", file, "--type", "porch", "--version", "1.0", cwd=tmp_path)
        assert_whole(check(server, "/update/porch", ESP32, version="0.9"), data)
        assert (server.repo / "porch/1.0.bin.sig").read_bytes() == sig.read_bytes()
        assert "image_rejected" not in server.log(), "it was never there unsigned"


@pytest.mark.parametrize("gzip", [0, 1])
def test_the_trailer_that_it_makes(tmp_path, keys, gzip):
    """Read apart by hand: image, signature, length; PKCS#1 v1.5 with SHA-256."""
    file = tmp_path / "door.ino.bin"
    data = make_image("esp8266", file, gzip=gzip)
    says(r"wrote .*door\.ino\.bin\.signed", "sign", "--key", keys["rsa"][0], file)
    whole = (tmp_path / "door.ino.bin.signed").read_bytes()
    assert len(whole) == len(data) + 260 and whole[:len(data)] == data and whole[-4:] == b"\0\1\0\0"
    (tmp_path / "s").write_bytes(whole[len(data):-4])
    digest = openssl("pkeyutl", "-verifyrecover", "-pubin", "-inkey", keys["rsa"][1], "-in", tmp_path / "s")
    assert digest == bytes.fromhex("3031300d060960864801650304020105000420") + hashlib.sha256(data).digest()
    assert whole == with_trailer(keys["rsa"], data, tmp_path), "RSA of this form is the same each time"
    with Server(tmp_path, signing_key=keys["rsa"][1]):
        says("^added", "firmware", "add", tmp_path / "door.ino.bin.signed", "--type", "door", "--version", "1.0", cwd=tmp_path)


def test_a_file_system_s_trailer(server, tmp_path, keys):
    """An ESP8266 that has the key asks it of these, too, and has no room behind its partition: the signature lies in the
    last block, which is empty, and the server takes the outcome for what it is."""
    file = tmp_path / "door.littlefs.bin"
    data = make_image("littlefs", file, size="64K")
    sign = ["sign", "--trailer", "--key", keys["rsa"][0]]
    says("is in use to its end.*sign it without --trailer", *sign, file, code=1)
    data = make_image("littlefs", file, size="64K", empty=1)
    says(r"wrote .*door\.littlefs\.bin\.signed: serve this file.* its last 4096 bytes, which were empty", *sign, file)
    whole = (tmp_path / "door.littlefs.bin.signed").read_bytes()
    assert whole == with_trailer(keys["rsa"], data[:-4096], tmp_path) and len(whole) < len(data)
    says("^added", "firmware", "add", tmp_path / "door.littlefs.bin.signed", "--type", "door", "--version", "2.0", "--kind", "fs",
         cwd=tmp_path)
    assert_whole(check(server, "/update/door", mode="spiffs", version="1.0"), whole)
    put(server.repo / "door/3.0.fs.bin", whole[:5000] + b"x" + whole[5001:])
    wait_fault(server, "door/3.0.fs.bin", "wrong-signature")
    make_image("esp32", tmp_path / "porch.bin")
    says("for ESP32 or a native SDK, which ask no trailer", *sign, tmp_path / "porch.bin", code=1)
    says("is for ESP8266, and the key is no RSA key", "sign", "--trailer", "--key", keys["ed25519"][0], file, code=1)
    says("two forms", *sign, "--detached", file, code=2)
    says("has a signature in it already", *sign, tmp_path / "door.littlefs.bin.signed", code=1)


def test_a_key_that_no_device_has_room_for(tmp_path):
    """BearSSL, on the devices, takes RSA of up to 4096 bits."""
    key = make_key(tmp_path, "long", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:4104")[0]
    file = tmp_path / "door.bin"
    make_image("esp8266", file)
    says("more bits than these devices verify", "sign", "--key", key, file, code=1)
    says(r"wrote .*\.sig", "sign", "--key", key, "--detached", file)


def test_what_is_not_signed(tmp_path, keys):
    file = tmp_path / "door.bin"
    make_image("esp8266", file)
    (tmp_path / "page.bin").write_bytes(b"<html>no</html>")
    rsa, ed25519 = keys["rsa"][0], keys["ed25519"][0]
    says("the key is no RSA key", "sign", "--key", ed25519, file, code=1)
    says(r"wrote .*door\.bin\.sig", "sign", "--key", ed25519, "--detached", file)
    says("door.bin.sig: is there already", "sign", "--key", rsa, "--detached", file, code=1)
    says(r"\.signed", "sign", "--key", rsa, file)
    says("door.bin.signed: is there already", "sign", "--key", rsa, file, code=1)
    says("has a signature in it already", "sign", "--key", rsa, tmp_path / "door.bin.signed", code=1)
    says("a web page", "sign", "--key", rsa, tmp_path / "page.bin", code=1)
    says("not found", "sign", "--key", rsa, tmp_path / "none.bin", code=1)
    says("no private key in it", "sign", "--key", keys["rsa"][1], file, code=1)
    says("a key of kind EC", "sign", "--key", make_key(tmp_path, "ec", "-algorithm", "EC", "-pkeyopt",
                                                       "ec_paramgen_curve:P-256")[0], file, code=1)
    for words in [[], ["--key", rsa], [file], ["--new-key", "a", file], ["--new-key", "a", "--key", rsa]]:
        says("updraft sign --key PRIVATE.pem FILE", "sign", *words, code=2)
    before = (tmp_path / "door.bin.sig").read_bytes()
    (tmp_path / "mine.pub.pem").write_text("mine")
    says("mine.pub.pem: is there already.*choose another NAME", "sign", "--new-key", tmp_path / "mine", code=1)
    assert not (tmp_path / "mine.pem").exists() and (tmp_path / "door.bin.sig").read_bytes() == before


def at_a_terminal(answer, *words):
    """Runs the program with a terminal of its own, and types the answer: (exit code, what was said)."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.execve(BIN / "updraft", ["updraft", *map(str, words)], environment())
    said, typed = b"", False
    while select.select([terminal], [], [], 60)[0]:
        try:
            piece = os.read(terminal, 4096)
        except OSError:
            break
        said += piece
        if not typed and b"Passphrase of" in said:
            wait_until(lambda: not termios.tcgetattr(terminal)[3] & termios.ECHO, "what is typed not to be shown")
            os.write(terminal, answer.encode() + b"\n")
            typed = True
    os.close(terminal)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), " ".join(said.decode().split())


def test_passphrase(tmp_path, keys):
    """Asked for at the terminal alone, and not shown there."""
    locked, file = tmp_path / "locked.pem", tmp_path / "porch.bin"
    openssl("pkey", "-in", keys["rsa"][0], "-aes256", "-passout", "pass:open sesame", "-out", locked)
    make_image("esp32", file)
    says("it has a passphrase, and there is no terminal", "sign", "--key", locked, file, code=1, start_new_session=True,
         stdin=subprocess.DEVNULL)
    code, said = at_a_terminal("wrong", "sign", "--key", locked, file)
    assert code == 1 and "the passphrase is not the key's" in said and not file.with_suffix(".bin.sig").exists()
    code, said = at_a_terminal("open sesame", "sign", "--key", locked, file)
    assert code == 0 and "wrote" in said and "sesame" not in said, said
    openssl("dgst", "-sha256", "-verify", keys["rsa"][1], "-signature", tmp_path / "porch.bin.sig", file)


# --- uploads ----------------------------------------------------------------------------------------------------------

def add(folder, file, *words, version="1.0", **options):
    return run("firmware", "add", file, "--type", "door", "--version", version, *words, cwd=folder, **options)


def test_add_unsigned_is_refused(server, tmp_path, keys):
    file = tmp_path / "door.bin"
    data = make_image("esp32", file)
    code, _, error = add(tmp_path, file)
    assert code == 1 and "no signature in it" in error and "updraft sign" in error, error
    sig = tmp_path / "elsewhere"
    sig.write_bytes(signature(keys["other rsa"], data, tmp_path))
    code, _, error = add(tmp_path, file, "--sig", sig)
    assert code == 1 and "none of the 2 known keys" in error, error
    assert not (server.repo / "door").exists()
    sig.write_bytes(b"")
    assert "the file is empty" in add(tmp_path, file, "--sig", sig)[2]
    assert "not found" in add(tmp_path, file, "--sig", tmp_path / "none")[2]


def test_replace_takes_the_signature_along(server, tmp_path, keys):
    """Each image has its own; while both change, the one before is served, and nothing is ever rejected."""
    file, sig = tmp_path / "door.bin", tmp_path / "door.bin.sig"
    for seed in range(1, 6):
        data = make_image("esp32", file, seed=seed, size="200K")
        sig.write_bytes(signature(keys[KINDS[seed % 2]], data, tmp_path))
        code, _, error = add(tmp_path, file, "--replace")
        assert code == 0, error
        assert_whole(check(server, "/update/door", ESP32, mac=f"24:0A:C4:00:00:{seed:02X}", version="0.9"), data)
    assert "image_rejected" not in server.log() and "image_removed" not in server.log()


def test_without_a_key_the_signature_goes_along_too(tmp_path, keys):
    file, sig = tmp_path / "door.bin", tmp_path / "door.bin.sig"
    data = make_image("esp32", file, app=0)
    sig.write_bytes(signature(keys["rsa"], data, tmp_path))
    with Server(tmp_path) as server:
        assert add(tmp_path, file)[0] == 0
        assert (server.repo / "door/1.0.bin.sig").read_bytes() == sig.read_bytes()
        sig.unlink()
        assert add(tmp_path, file, "--replace")[0] == 0
        assert not (server.repo / "door/1.0.bin.sig").exists(), "the one before vouches for nothing here"
        sig.write_bytes(signature(keys["rsa"], data, tmp_path))
        assert add(tmp_path, file, version="2.0")[0] == 0
        for version in ("1.0", "2.0"):
            assert run("firmware", "rm", f"door/{version}.bin", cwd=tmp_path)[0] == 0
        assert not (server.repo / "door").exists(), "a .sig goes with its image"


def test_upload_of_a_signature_by_the_api(server, tmp_path, keys):
    data = made(tmp_path, "esp32")
    sig = signature(keys["ed25519"], data, tmp_path)
    admin = admin_of(server)
    path = "/api/v1/firmware?type=door&version=1.0&signature="
    for number, body, status in [("65", data[:10], 400), ("1025", data + sig, 400), ("x", data + sig, 400),
                                 ("63", data + sig, 422), ("64", sig, 422), ("64", data + sig, 201)]:
        answer = admin.post(path + number, body)
        assert answer.status == status, (number, answer)
    assert (server.repo / "door/1.0.bin").read_bytes() == data

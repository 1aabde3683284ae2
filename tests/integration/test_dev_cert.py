"""script/dev-cert makes what its words say, and updraftd takes it by the flags that it names."""

import os
import re
import shlex
import stat
import subprocess

import pytest

from tests.support.tls import TlsServer, openssl
from tests.support.updraft import ROOT, make_image


def run(folder, *words):
    done = subprocess.run([ROOT / "script/dev-cert", *words], cwd=folder, capture_output=True, text=True, timeout=60)
    return done.returncode, done.stdout, done.stderr


def flags_in(said):
    """{"tls-cert": [...]} of the flags that it names."""
    flags = {}
    for line in said.splitlines():
        if line.startswith("  --tls"):
            words = shlex.split(line)
            for name, value in zip(words[::2], words[1::2]):
                flags.setdefault(name.lstrip("-").replace("-", "_"), []).append(value)
    return flags


def test_it_serves(tmp_path):
    status, said, _ = run(tmp_path, "--rsa", "updraft.lan", "127.0.0.1")
    assert status == 0
    flags = flags_in(said)
    status, said, _ = run(tmp_path, "device", "5C-CF-7F-B1-E0-42")
    assert status == 0
    flags.update(flags_in(said), tls_listen="127.0.0.1:0")
    certs = tmp_path / "certificates"
    make_image("esp8266", tmp_path / "firmware/door/2.0.bin", seed=1)
    absolute = {name: [str(tmp_path / one) for one in value] if name != "tls_listen" else value
                for name, value in flags.items()}
    with TlsServer(tmp_path, certs, listen="none", **absolute) as server:
        device = certs / "device-5ccf7fb1e042.pem"
        assert server.tls_check(context=server.context(certificate=device)).status == 200
        assert server.tls_check(context=server.context(certificate=device), mac="5C:CF:7F:B1:E0:43").status == 403
    for path in certs.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == (0o600 if path.suffix == ".key" else 0o644), path
        assert path.suffix in (".key", ".pem"), "nothing is left lying about"


def test_names(tmp_path):
    """Addresses are among the DNS names: the devices' libraries look at no others."""
    run(tmp_path, "--dir", "c", "updraft.lan", "192.168.1.10", "fd00::7")
    text = openssl("x509", "-in", tmp_path / "c/server.pem", "-noout", "-text").decode()
    for piece in ["DNS:updraft.lan", "DNS:192.168.1.10", "IP Address:192.168.1.10", "DNS:fd00::7", "IP Address:FD00:"]:
        assert piece in text, text
    assert "CN = updraft.lan" in text and "CA:FALSE" in text


def test_the_authority_is_kept(tmp_path):
    """Else each new certificate would need new sketches."""
    run(tmp_path, "a.lan")
    before = (tmp_path / "certificates/ca.pem").read_bytes()
    run(tmp_path, "b.lan")
    assert (tmp_path / "certificates/ca.pem").read_bytes() == before


@pytest.mark.parametrize("words, complaint", [
    ([], "give the names and addresses"),
    (["https://a.lan"], "https://a.lan: give a name or an address"),
    (["a.lan\n[x]"], "give a name or an address"),
    (["device"], "device: give its MAC"),
    (["device", "5C:CF:7F:B1:E0"], "5C:CF:7F:B1:E0: give a MAC"),
    (["device", "5C:CF:7F:B1:E0:42:43"], "give a MAC"),
    (["--rsah", "a.lan"], "--rsah: not known"),
    (["updraft.lan", "device", "5C:CF:7F:B1:E0:42"], "device: comes first: script/dev-cert device MAC"),
    (["updraft.lan", "5C:CF:7F:B1:E0:42"], "5C:CF:7F:B1:E0:42: is a MAC: script/dev-cert device 5C:CF"),
])
def test_bad_words(tmp_path, words, complaint):
    status, _, said = run(tmp_path, *words)
    assert status == 2 and said.startswith("script/dev-cert: ") and complaint in said
    assert not re.search(r"server", " ".join(path.name for path in tmp_path.rglob("*")))


def test_what_openssl_does_not_take(tmp_path):
    status, _, said = run(tmp_path, "updraft.lan", "a:b")  # an address to us alone
    assert status == 2 and "openssl could not make certificates/server.pem" in said
    assert sorted(path.name for path in (tmp_path / "certificates").iterdir()) == ["ca.key", "ca.pem"]


def test_the_lines_for_containers(tmp_path):
    """docs/containers.md: the server sees its own key and no other, and can read it after a second run, too."""
    text = (ROOT / "docs/containers.md").read_text()
    text = text[text.index("To have devices fetch over TLS"):]
    lines = "".join(re.findall(r"^    (?:\.\./script/dev-cert|sudo|chmod).*\n", text[:text.index("`compose.override.yaml`")], re.M))
    assert "dev-cert" in lines
    mounted = tmp_path / re.search(r'"\./(\S+):/certificates:ro"', text).group(1)
    uid = 10001 if os.geteuid() == 0 else os.geteuid()
    lines = lines.replace("../script", str(ROOT / "script")).replace("sudo ", "").replace("10001", str(uid))
    run(tmp_path, "device", "5C-CF-7F-B1-E0-42")
    seen = set()
    for _ in range(2):
        subprocess.run(["sh", "-euc", lines], cwd=tmp_path, check=True, capture_output=True, timeout=60)
        assert [path.name for path in mounted.glob("*.key")] == ["server.key"]
        key = mounted / "server.key"
        assert (key.stat().st_uid, stat.S_IMODE(key.stat().st_mode) & 0o477) == (uid, 0o400)
        assert mounted.stat().st_mode & 0o005 == 0o005, "its user gets there"
        seen.add(key.read_text())
        assert openssl("pkey", "-in", key, "-pubout") == openssl("x509", "-in", mounted / "server.pem", "-noout", "-pubkey")
    assert len(seen) == 2, "a new one came"

"""docker/broker-start without an engine: which files of /secrets become logins, whatever lies among them."""

import os
import subprocess

import pytest

from tests.support.updraft import PATIENCE_S, ROOT

MAC = "5ccf7fb1e042"


@pytest.fixture
def start(tmp_path):
    """Runs it on folders of its own, with a mosquitto that only ends; gives the logins and what it said."""
    for folder in ("secrets", "data", "bin"):
        (tmp_path / folder).mkdir()
    (tmp_path / "bin/mosquitto").write_text("#!/bin/sh\n")
    (tmp_path / "bin/mosquitto").chmod(0o755)
    text = (ROOT / "docker/broker-start").read_text()
    script = text.replace("/secrets/", f"{tmp_path}/secrets/").replace("/data/", f"{tmp_path}/data/")

    def run(files):
        for name, text in files.items():
            (tmp_path / f"secrets/{name}.password").write_text(text)
        done = subprocess.run(["/bin/sh", "-c", script], capture_output=True, text=True, timeout=PATIENCE_S,
                              env={"PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}"})
        assert done.returncode == 0, done.stderr
        lines = (tmp_path / "data/passwd").read_text().splitlines()
        assert all(line.split(":")[1].startswith("$") for line in lines), "every password is hashed"
        return {line.split(":")[0] for line in lines}, done.stderr
    return run


@pytest.mark.parametrize("text", ["a-word", "a-word\n", "a-word\n\n", r"a\nb", "Gänsefüßchen\n", "x" * 200])
def test_a_device_of_its_own(start, text):
    assert start({MAC: text}) == ({"updraft", "device", MAC}, "")


@pytest.mark.parametrize("text", ["", "\n", " \n", "one\ntwo\n", "\nlate\n", "a b", "a:b", ":ab", "a\rb", "a-word\r\n"])
@pytest.mark.parametrize("name", [MAC, "device"])
def test_no_password_in_it(start, name, text):
    """The others are let in: a file that stops the broker stops it for all."""
    users, said = start({name: text, "5ccf7fb1e043": "a-word\n"})
    if name == "device" and text == "":
        assert users == {"updraft", "device", "5ccf7fb1e043"} and said == "", "one is made up"
    else:
        assert users == {"updraft", "device", "5ccf7fb1e043"} - {name}
        assert f"/{name}.password: " in said and "restart the container" in said


@pytest.mark.parametrize("name", ["5c:cf:7f:b1:e0:42", "5CCF7FB1E042", "5ccf7fb1e04", "5ccf7fb1e0420", "5ccf7fb1e04g",
                                  f"x\n{MAC}", "#", "guest"])
def test_no_mac(start, name):
    users, said = start({name: "a-word\n"})
    assert users == {"updraft", "device"} and "is not called as a MAC" in said


def test_no_file(start, tmp_path):
    """What cannot be read; as root, who reads everything, a folder and a link to nowhere."""
    (tmp_path / f"secrets/{MAC}.password").mkdir()
    (tmp_path / "secrets/5ccf7fb1e043.password").symlink_to("nowhere")
    (tmp_path / "secrets/5ccf7fb1e044.password").write_text("a-word\n")
    (tmp_path / "secrets/5ccf7fb1e044.password").chmod(0)
    users, said = start({})
    assert users - {"5ccf7fb1e044"} == {"updraft", "device"}
    assert said.count("can read no password") >= 2

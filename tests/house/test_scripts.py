"""Every script says what it does to who asks, and does nothing else."""

import pathlib
import shutil
import subprocess

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
SCRIPTS = sorted(path.name for path in (ROOT / "script").iterdir())


@pytest.mark.parametrize("name", SCRIPTS)
def test_help(tmp_path, name):
    done = subprocess.run([ROOT / "script" / name, "--help"], cwd=tmp_path, capture_output=True, text=True, timeout=5,
                          env={"PATH": "/usr/bin:/bin"})
    assert (done.returncode, done.stderr) == (0, ""), done
    assert f"  script/{name}" in done.stdout, f"script/{name} opens with a comment that shows how it is called"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name, words", [
    ("soak", ["--foo"]), ("soak", ["5", "--foo=1"]), ("soak", ["long"]), ("abuse", ["--foo"]), ("abuse", ["headers"]),
    ("bench", ["x"]), ("bench", ["tls", "--foo"]), ("fuzz", ["--foo"]), ("fuzz", ["server", "long"]),
])
def test_unknown_words(tmp_path, name, words):
    """Said before anything is installed or built: what that takes is not there."""
    for tool in ("sed", "tr", "grep"):
        (tmp_path / tool).symlink_to(shutil.which(tool))
    done = subprocess.run([ROOT / "script" / name, *words], capture_output=True, text=True, timeout=5,
                          env={"PATH": str(tmp_path)})
    assert done.returncode == 2 and done.stderr.startswith(f"script/{name}: {words[-1]}"), done
    assert f"  script/{name}" in done.stderr, "it shows how it is called"


def test_the_server_names_what_is_its_own():
    """updraftd --help cannot know of it."""
    text = (ROOT / "script/server").read_text()
    done = subprocess.run([ROOT / "script/server", "--mqtt", "mqtt://host", "--help"], capture_output=True, text=True)
    assert done.returncode == 0 and "--with-devices" in done.stdout and "--with-devices)" in text


@pytest.mark.parametrize("name", SCRIPTS)
def test_the_house_plan_names_it(name):
    assert f"`{name}`" in (ROOT / "ARCHITECTURE.md").read_text(), f"ARCHITECTURE.md lists script/{name}"

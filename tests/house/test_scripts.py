"""Every script says what it does to who asks, and does nothing else."""

import pathlib
import shutil
import subprocess

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
SCRIPTS = sorted(path.name for path in (ROOT / "script").iterdir())
# What the scripts run that takes too long for every run of the tests.
MAINS = sorted(path.relative_to(ROOT) for folder in ("bench", "soak", "abuse") for path in (ROOT / "tests" / folder).glob("*.py")
               if "argparse" in path.read_text())


@pytest.mark.parametrize("name", SCRIPTS)
def test_help(tmp_path, name):
    done = subprocess.run([ROOT / "script" / name, "--help"], cwd=tmp_path, capture_output=True, text=True, timeout=5,
                          env={"PATH": "/usr/bin:/bin"})
    assert (done.returncode, done.stderr) == (0, ""), done
    assert f"  script/{name}" in done.stdout, f"script/{name} opens with a comment that shows how it is called"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("path", MAINS, ids=str)
def test_what_takes_long_begins(tmp_path, path):
    """With all its imports, and each name in them, or a change elsewhere breaks it for weeks."""
    done = subprocess.run(["/usr/bin/python3", ROOT / path, "--help"], cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "") and "usage: " in done.stdout, done


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


@pytest.mark.parametrize("said, passed, failed", [
    ("100% tests passed, 0 tests failed out of 12\n", 12, 0),
    ("92% tests passed, 1 tests failed out of 12\n", 11, 1),
    ("100% tests passed, 0 tests failed out of 12\n\nThe following tests did not run:\n\t123 - repo/a (Skipped)\n"
     "\t  7 - b (Skipped)\n", 10, 0),
    ("92% tests passed, 1 tests failed out of 12\n\nThe following tests did not run:\n\t 81 - repo/a (Skipped)\n\n"
     "The following tests FAILED:\n\t  7 - repo/b (Failed)\n", 10, 1),
    ("3 passed, 1 skipped in 2.50s\n", 3, 0),
    ("1 failed, 3 passed in 2.50s\n", 3, 1),
    ("nothing\n", 0, 1),
])
def test_what_the_suites_say_is_added_up(tmp_path, said, passed, failed):
    text = (ROOT / "script/test").read_text()
    count = text[text.index("count() {"):text.index("\nbuild() {")]
    (tmp_path / "said").write_text(said)
    done = subprocess.run(["sh", "-euc", 'heading() { :; }; passed=0 failed=0 log=log\n' + count +
                           'count suite cat said; echo "$passed $failed"'], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.splitlines()[-1] == f"{passed} {failed}", done

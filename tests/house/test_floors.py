"""The house stands on its floors: an include points down or stays in its folder, never up or sideways."""

import pathlib
import re
import subprocess

ROOT = pathlib.Path(__file__).resolve().parents[2]

# What each folder may include from, beside itself (ARCHITECTURE.md draws it).
BELOW = {
    "base": set(),
    "proto": {"base"},
    "repo": {"base", "proto"},
    "fleet": {"base", "proto"},
    "mqtt": {"base", "proto"},
    "server": {"base", "proto", "repo", "fleet", "mqtt"},
    "cli": {"base", "proto"},
    "tests": {"base", "proto", "repo", "fleet", "mqtt", "server", "cli"},
}


def sources():
    names = subprocess.run(["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.c", "*.h"], cwd=ROOT,
                           check=True, capture_output=True, text=True).stdout.split()
    return [ROOT / name for name in names if (ROOT / name).exists()]


def test_every_folder_has_its_floor():
    folders = {path.relative_to(ROOT).parts[0] for path in sources()}
    assert folders <= set(BELOW), "a new folder needs its floor in BELOW, and its place in ARCHITECTURE.md"
    assert len(sources()) > 40, "git lists too few sources for this test to mean anything"


def test_includes_point_down():
    upward = []
    for path in sources():
        folder = path.relative_to(ROOT).parts[0]
        for number, line in enumerate(path.read_text().splitlines(), 1):
            found = re.match(r'\s*#\s*include\s+"([^"]+)"', line)
            if found is None:
                continue
            target = found.group(1)
            where = f"{path.relative_to(ROOT)}:{number}"
            if "/" not in target or not (ROOT / target).exists():
                upward.append(f'{where}: "{target}": write includes from the root, as in "proto/decision.h"')
            elif target.split("/")[0] not in BELOW[folder] | {folder}:
                upward.append(f'{where}: {folder}/ may not know {target}: carry what both need one floor down')
    assert not upward, "\n".join(upward)


def test_libraries_link_down_only():
    """CMake's own view: updraft_library(NAME … LINK updraft_OTHER)."""
    for folder in BELOW.keys() - {"tests"}:
        text = (ROOT / folder / "CMakeLists.txt").read_text()
        call = re.search(r"updraft_library\(\w+(.*?)\)", text, re.S).group(1)
        linked = set(re.findall(r"updraft_(base|proto|repo|fleet|mqtt|server|cli)\b", call))
        assert linked <= BELOW[folder], f"{folder}/CMakeLists.txt links upward: {linked - BELOW[folder]}"


def test_proto_is_pure():
    """proto/ has no sockets, no files, no clock, and never logs (ARCHITECTURE.md)."""
    forbidden = re.compile(r'<(uv|sys/socket|sys/stat|fcntl|unistd|time|dirent)\.h>|"base/log\.h"|\b(fopen|printf|time)\(')
    found = [f"{path.relative_to(ROOT)}: {match.group(0)}" for path in sources()
             if path.relative_to(ROOT).parts[0] == "proto" for match in forbidden.finditer(path.read_text())]
    assert not found, "\n".join(found)


def test_the_simulator_repeats_no_mistake():
    """tests/sim stands on base/ alone: what it shared with the server it could not find wrong there."""
    found = [f"{path.relative_to(ROOT)}: {match.group(1)}" for path in sources()
             if path.relative_to(ROOT).parts[:2] == ("tests", "sim")
             for match in re.finditer(r'#\s*include\s+"((?!base/|tests/sim/)[^"]+)"', path.read_text())]
    assert not found, "\n".join(found)


def test_the_loop_meets_other_threads_in_mailboxes_alone():
    """Threads belong to base/log, mqtt/ and the store's writer (house rule: all state belongs to the loop)."""
    found = [str(path.relative_to(ROOT)) for path in sources()
             if path.relative_to(ROOT).parts[0] not in ("tests", "mqtt") and path.name not in ("log.c", "mailbox.c", "mailbox.h",
                                                                                      "store_queue.c")
             and re.search(r"uv_thread_create|pthread_create|uv_mutex_|uv_async_send", path.read_text())]
    assert not found, found

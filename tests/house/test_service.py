"""The service's unit is one that systemd takes, keeps the server shut in, and names the places that others look for."""

import pathlib
import re
import shutil
import subprocess

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
UNIT = (ROOT / "server/updraftd.service").read_text()

analyze = pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="no systemd here")


@analyze
def test_systemd_takes_the_unit(tmp_path):
    """A directive that is misspelt is ignored at the start, with a line in a log that nobody reads."""
    unit = tmp_path / "updraftd.service"
    unit.write_text(re.sub(r"^(ExecStart=|Documentation=).*", lambda line: {"E": "ExecStart=/bin/true", "D": ""}[line[0][0]],
                           UNIT, flags=re.M))
    done = subprocess.run(["systemd-analyze", "verify", unit], capture_output=True, text=True)
    assert done.returncode == 0 and "updraftd.service" not in done.stderr, done.stderr


@analyze
def test_the_unit_shuts_the_server_in():
    """systemd's own measure, 0 to 10 (here in tenths); 1.4 when this was written, and what opens more has to be meant."""
    done = subprocess.run(["systemd-analyze", "security", "--offline=yes", "--threshold=15", ROOT / "server/updraftd.service"],
                          capture_output=True, text=True)
    assert "Overall exposure level" in done.stdout, done.stderr
    assert done.returncode == 0, done.stdout.splitlines()[-1]


def test_its_places_are_known_to_the_others():
    settings = dict(re.findall(r"UPDRAFT_([A-Z_]+)=(/\S+)", UNIT))
    assert f'"{settings["ADMIN_SOCKET"]}"' in (ROOT / "cli/server_place.c").read_text(), "the command line finds the socket"
    assert f'd {settings["REPO"]} ' in (ROOT / "server/updraftd.tmpfiles").read_text(), "somebody makes the repository"
    page = (ROOT / "docs/operations.md").read_text()
    for place in [*settings.values(), "/etc/updraft/updraftd.env"]:
        assert place in page and place in UNIT, f"docs/operations.md and the unit both name {place}"
    # Else systemd kills the server while it still lets transfers end.
    drain = re.search(r'"drain-timeout",.*?"(\d+)s"', (ROOT / "server/config.c").read_text()).group(1)
    assert int(re.search(r"TimeoutStopSec=(\d+)s", UNIT).group(1)) > int(drain)

"""A fleet whose devices come by thousands a second is written down as fast as it comes."""

import subprocess
import time

from tests.support.admin import Admin
from tests.support.updraft import BIN, Server, make_image, wait_until

DEVICES = 16000
WRITTEN_BEHIND_S = 1.5  # a check-in is on the disk within a second


def test_check_ins_are_written_as_fast_as_they_come(tmp_path):
    """Else a busy fleet loses what it proved, more of it the longer it is busy, when the server is killed."""
    make_image("esp8266", tmp_path / "firmware/d1_mini/0.0.1.bin", seed=1, size="20K")
    with Server(tmp_path) as server:
        admin = Admin(server.folder / "state/admin.sock")

        def status():
            return admin.get("/api/v1/status").json

        with subprocess.Popen([BIN / "updraft-sim", "--no-mqtt", "--server", f"http://127.0.0.1:{server.port}", "--devices", str(DEVICES),
                               "--check-in-at-start", "--quiet", "--until", "idle", "--idle", "1"],
                              stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as sim:
            try:
                wait_until(lambda: status()["devices"]["seen"] == DEVICES, "all devices have asked", 60)
                asked = time.monotonic()
                wait_until(lambda: status()["devices"]["dirty"] + status()["store"]["backlog"] == 0, "all is written", 30)
                assert time.monotonic() - asked < WRITTEN_BEHIND_S
            finally:
                sim.terminate()

"""updraft-sim for a test: simulated devices with their summary at the end."""

import json
import re
import signal
import subprocess

from tests.support.updraft import BIN, PATIENCE_S


class Sim:
    """updraft-sim with its summary. The text it printed is in .lines once it has ended."""

    def __init__(self, folder, server=None, broker=None, preexec_fn=None, **flags):
        self.json_path = folder / "sim.json"
        flags = {"json": self.json_path, "duration": PATIENCE_S, **flags}
        if server is not None:
            flags["server"] = server if isinstance(server, str) else f"http://127.0.0.1:{server.port}"
        if broker is not None:
            flags["mqtt"] = broker.url
        else:
            flags["no_mqtt"] = True
        words = []
        for key, value in flags.items():
            words += [f"--{key.replace('_', '-')}"] + ([] if value is True else [str(value)])
        self.process = subprocess.Popen([BIN / "updraft-sim", *words], stdout=subprocess.PIPE, text=True,
                                        preexec_fn=preexec_fn)
        self.lines = []

    def wait_line(self, pattern):
        """Reads what it prints up to such a line."""
        for line in self.process.stdout:
            self.lines.append(line.rstrip("\n"))
            if re.search(pattern, line):
                return self
        raise AssertionError(f"updraft-sim never said {pattern!r}: {self.lines}")

    def ready(self):
        return self.wait_line("^ready ")

    def finish(self, expect=0):
        """Its summary, once it has ended by itself."""
        rest, _ = self.process.communicate(timeout=2 * PATIENCE_S)
        self.lines += rest.splitlines()
        assert self.process.returncode == expect, "\n".join(self.lines)
        return json.loads(self.json_path.read_text())

    def stop(self, expect=0):
        self.process.send_signal(signal.SIGTERM)
        return self.finish(expect)

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()


def run_sim(folder, server=None, broker=None, expect=0, **flags):
    with Sim(folder, server, broker, **flags) as sim:
        return sim.finish(expect)

"""From a bench's options to what it tells, the same for each: in a folder of its own that is removed however it ends."""

import json
import pathlib
import signal
import sys
import tempfile


class Wrong(Exception):
    """A server answered what it must not."""


def names_of(parser, wanted, known):
    """Those of --only NAME,...; where it is not given, all."""
    names = wanted.split(",") if wanted else list(known)
    unknown = [name for name in names if name not in known]
    if unknown:
        parser.error(f"--only {','.join(unknown)}: known are {', '.join(known)}")
    return names


def run(bench, report, options):
    """Tells what `bench(options, folder)` found, in the words of `report`, and writes it where --json says. Returns it."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("bench: ended by SIGTERM"))  # so that all else is ended too
    with tempfile.TemporaryDirectory(prefix="updraft-bench-") as folder:
        try:
            result = bench(options, pathlib.Path(folder))
        except Wrong as wrong:
            sys.exit(f"bench: {wrong}")
    print(report(result))
    if options.json:
        pathlib.Path(options.json).write_text(json.dumps(result, indent=1) + "\n")
    return result

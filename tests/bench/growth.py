"""How the cost of an update check grows: with the images in the repository, the devices known, and the connections.

    script/bench growth [--quick] [--only AXIS ...] [--runs N] [--seconds S] [--instructions] [--no-pin]
                        [--json FILE] [--svg FOLDER]

What makes it hard is that machines drift more than the cost grows. So all servers of an axis run at once and are asked
in turns, one size after the other; each turn gives each size's ratio to the smallest, and the medians of these ratios
are what to read. --instructions counts what callgrind saw instead of time: that does not drift, and says nothing of
caches. Nothing is judged by speed; a wrong answer ends it.

UPDRAFT_BIN names the folder of the programs, as for the tests."""

import argparse
import contextlib
import dataclasses
import itertools
import json
import pathlib
import statistics
import subprocess
import sys
import time

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2]))
import growth_servers
import machine
import picture
import whole
from growth_servers import LEAST_DEVICES
from tables import markdown_table, spread, with_range
from whole import Wrong

AT_ONCE = 64
WARM_MS = 2000
SETTLE_S = 10
PIECES = 30  # of a turn with fleets: a minute
FLAT = 1.10
AXES = ["images", "devices", "resting", "asking", "at-once"]
TITLES = {
    "images": "images in the repository",
    "devices": "devices known",
    "resting": "kept connections that rest meanwhile",
    "asking": "kept connections, asked in any order one at a time",
    "at-once": "fresh checks under way at once",
}
CONNECTIONS = [1, 100, 10000]
SIZES = {"images": [10, 100, 1000, 10000], "devices": [1000, 100000, 1000000], "resting": CONNECTIONS,
         "asking": CONNECTIONS, "at-once": CONNECTIONS}
INSTRUCTION_CHECKS = 2000


@dataclasses.dataclass
class Subject:
    """One size of one axis: a server, and how it is asked."""
    axis: str
    size: int
    server: growth_servers.Asked

    def load_words(self):
        number = {"resting": ["--open", self.size], "asking": ["--open", self.size, "--ask-kept", 1],
                  "at-once": ["--at-once", self.size]}.get(self.axis, [])
        at_once = {"asking": 1}.get(self.axis, AT_ONCE)
        return ["--at-once", at_once, *number]


# --- one measurement --------------------------------------------------------------------------------------------------


class Load:
    """check_load: opens what is to be open, waits for go(), and keeps it open until it is left."""

    def __init__(self, subject, seed, amount, pin):
        server = subject.server
        words = [growth_servers.BIN / "check_load", "--port", server.port, "--fresh", server.fresh, "--kept",
                 server.kept, "--devices", server.devices, "--seed", seed, *amount, *subject.load_words()]
        self.what = f"{TITLES[subject.axis]}: {subject.size}"
        self.process = subprocess.Popen([str(word) for word in words], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        text=True, preexec_fn=pin)

    def __enter__(self):
        if self.process.stdout.readline() != "open\n":
            raise Wrong(f"{self.what}: a connection could not be opened, or its first check was not answered with 304")
        return self

    def go(self):
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        result = json.loads(self.process.stdout.readline() or "{}")
        if not result or result["wrong"] or result["failed"]:
            raise Wrong(f"{self.what}: checks failed, or were not answered with 304: {result}")
        return result

    def __exit__(self, *exception):
        self.process.stdin.close()
        self.process.wait(SETTLE_S)
        self.process.stdout.close()


class Cost:
    """CPU µs a check: of the whole server, and of its loop's thread alone. What is to be written of the checks is part
    of their cost, so it is waited for."""

    def __init__(self, server):
        self.server, self.checks, self.seconds = server, 0, 0
        server.settle(SETTLE_S)
        self.began = self.spent()

    def spent(self):
        return (*self.server.cpu_ns(), self.server.rows_written())

    def add(self, result):
        self.checks += result["checks"]
        self.seconds += result["seconds"]

    def sum(self):
        self.server.settle(SETTLE_S)
        all_ns, loop_ns, rows = (now - then for now, then in zip(self.spent(), self.began))
        return {"checks": self.checks, "rate": self.checks / self.seconds, "all": all_ns / 1000 / self.checks,
                "loop": loop_ns / 1000 / self.checks, "rows": rows / self.checks}


def measure(subject, seed, milliseconds, pin):
    with Load(subject, seed, ["--ms", milliseconds], pin) as load:
        cost = Cost(subject.server)
        cost.add(load.go())
        return cost.sum()


def measure_fleets(subjects, seed, options, pin):
    """When devices were seen is written within a minute, so a turn takes one: all are asked for a while again and
    again, and each is charged with all that it did in that time."""
    costs = [Cost(subject.server) for subject in subjects]
    end = time.monotonic() + PIECES * options.seconds
    for piece in itertools.count(PIECES * seed):
        if time.monotonic() >= end:
            return [cost.sum() for cost in costs]
        for subject, cost in zip(subjects, costs):
            with Load(subject, piece, ["--ms", round(options.seconds * 1000)], pin) as load:
                cost.add(load.go())


def measure_all(subjects, options, pin):
    for subject in subjects:  # all devices of the small fleets become known, and caches warm
        measure(subject, 1, WARM_MS, pin)
    fleets = [subject for subject in subjects if subject.axis == "devices"]
    runs = []
    for turn in range(options.runs):
        for subject in (subject for subject in subjects if subject.axis != "devices"):
            print(f"  {turn + 1}/{options.runs} {TITLES[subject.axis]}: {subject.size:,} ...", file=sys.stderr)
            run = measure(subject, turn + 2, round(options.seconds * 1000), pin)
            runs.append({"axis": subject.axis, "size": subject.size, "turn": turn, **run})
        if fleets:
            print(f"  {turn + 1}/{options.runs} {TITLES['devices']}, all sizes ...", file=sys.stderr)
            runs += [{"axis": "devices", "size": subject.size, "turn": turn, **run}
                     for subject, run in zip(fleets, measure_fleets(fleets, turn + 2, options, pin))]
    return runs


def count_all(subjects):
    """Instructions a check, of the loop's thread, by callgrind."""
    runs = []
    for subject in subjects:
        print(f"  instructions, {TITLES[subject.axis]}: {subject.size:,} ...", file=sys.stderr)
        with Load(subject, 1, ["--checks", INSTRUCTION_CHECKS], None) as load:
            load.go()  # known, and warm
            subject.server.settle(SETTLE_S)
        with Load(subject, 2, ["--checks", INSTRUCTION_CHECKS], None) as load:
            counted = subject.server.count_instructions(load.go)
        runs.append({"axis": subject.axis, "size": subject.size, "turn": 0, "all": counted / INSTRUCTION_CHECKS})
    return runs


# --- telling ----------------------------------------------------------------------------------------------------------


def summary_of(runs):
    """One row a size: the medians of its turns, and of its ratios to the smallest size, turn by turn."""
    rows = []
    for axis, size in dict.fromkeys((run["axis"], run["size"]) for run in runs):
        mine = [run for run in runs if (run["axis"], run["size"]) == (axis, size)]
        smallest = min(run["size"] for run in runs if run["axis"] == axis)
        first = {run["turn"]: run for run in runs if (run["axis"], run["size"]) == (axis, smallest)}
        row = {"axis": axis, "size": size, "checks": sum(run.get("checks", INSTRUCTION_CHECKS) for run in mine)}
        for key in (key for key in ("all", "loop", "rows", "rate") if key in mine[0]):
            row[key] = statistics.median(run[key] for run in mine)
        for key in (key for key in ("all", "loop") if key in mine[0]):
            row[f"{key}_ratio"] = spread([run[key] / first[run["turn"]][key] for run in mine])
        rows.append(row)
    return rows


def timed_tables(rows):
    for axis in dict.fromkeys(row["axis"] for row in rows):
        yield markdown_table([TITLES[axis], "CPU µs a check", "to the smallest", "the loop's alone", "to the smallest",
                     "rows written a check", "checks/s"],
                    [[f"{row['size']:,}", f"{row['all']:.1f}", with_range(row["all_ratio"]), f"{row['loop']:.1f}",
                      with_range(row["loop_ratio"]), f"{row['rows']:.2f}", f"{row['rate']:,.0f}"]
                     for row in rows if row["axis"] == axis])


def counted_tables(rows):
    for axis in dict.fromkeys(row["axis"] for row in rows):
        yield markdown_table([TITLES[axis], "instructions a check", "to the smallest"],
                    [[f"{row['size']:,}", f"{row['all']:,.0f}", f"{row['all_ratio']['median']:.3f}"]
                     for row in rows if row["axis"] == axis])


def judgement(rows):
    grown = []
    for row in rows:
        if row["all_ratio"]["median"] > FLAT:
            loop = f" (the loop's {row['loop_ratio']['median']:.2f})" if "loop_ratio" in row else ""
            grown.append(f"{TITLES[row['axis']]}, {row['size']:,}: {row['all_ratio']['median']:.2f}{loop}")
    if not grown:
        return f"Flat: no size costs more than {FLAT:.2f} of the smallest."
    return f"More than {FLAT:.2f} of the smallest: {'; '.join(grown)}."


def report(result):
    rows = result["rows"]
    tables = counted_tables(rows) if result["instructions"] else timed_tables(rows)
    return "\n".join([*machine.describe(result["machine"]), *(line for table in tables for line in [*table, ""]),
                      judgement(rows)])


def draw(rows, folder, instructions):
    """One picture an axis."""
    folder.mkdir(parents=True, exist_ok=True)
    for axis in dict.fromkeys(row["axis"] for row in rows):
        mine = [row for row in rows if row["axis"] == axis]
        unit = "instructions" if instructions else "CPU µs"
        series = [("the whole server", [(row["size"], row["all"]) for row in mine])]
        if not instructions:
            series.append(("its loop's thread", [(row["size"], row["loop"]) for row in mine]))
        path = folder / f"growth-{axis}.svg"
        path.write_text(picture.curves("What a check costs", TITLES[axis], f"{unit} a check", True, series))


def setting_of(options):
    if options.instructions:
        return f"{INSTRUCTION_CHECKS:,} checks a size; the loop's thread, counted by callgrind"
    return f"{options.runs} turns of {options.seconds:g} s a size; medians, in brackets the least and the most ratio"


# --- the whole --------------------------------------------------------------------------------------------------------


def parse_options():
    parser = argparse.ArgumentParser(prog="script/bench growth", description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="3 turns of 0.3 s, no more than 100,000 devices: to see "
                        "that it works, not to quote")
    parser.add_argument("--only", action="append", choices=AXES, help="this axis alone; may be repeated")
    parser.add_argument("--runs", type=int, metavar="N", help="turns; medians are of these (7)")
    parser.add_argument("--seconds", type=float, metavar="S", help="length of a measurement (2)")
    parser.add_argument("--instructions", action="store_true", help="count them with callgrind instead; no more than "
                        "100,000 devices and 1,000 connections, for it is slow")
    parser.add_argument("--no-pin", action="store_true", help="leave servers and load to the scheduler")
    parser.add_argument("--json", metavar="FILE", help="write every run, medians and ratios")
    parser.add_argument("--svg", metavar="FOLDER", help="write a picture of each curve")
    options = parser.parse_args()
    options.runs = options.runs or (3 if options.quick else 7)
    options.seconds = options.seconds or (0.3 if options.quick else 2)
    if options.runs < 1 or options.seconds <= 0:
        parser.error("--runs: at least 1, --seconds: more than 0")
    return options


def sizes_of(axis, options):
    slow = {"resting": 1000, "asking": 1000, "at-once": 1000} if options.instructions else {}
    if options.instructions or options.quick:
        slow["devices"] = 100000
    return [size for size in SIZES[axis] if size <= slow.get(axis, size)]


def subjects_of(axes, options, folder, pin, stack):
    """The servers of each axis. Those of the connections' axes are one, with the smallest fleet."""
    made = {}
    for axis in axes:
        for size in sizes_of(axis, options):
            key = (axis, size) if axis == "images" else ("devices", size if axis == "devices" else LEAST_DEVICES)
            if key not in made:
                print(f"  a server with {key[1]:,} {key[0]} ...", file=sys.stderr)
                start = growth_servers.with_images if key[0] == "images" else growth_servers.with_devices
                made[key] = stack.enter_context(start(folder / f"{key[0]}-{key[1]}", key[1], pin, options.instructions))
            yield Subject(axis, size, made[key])


def bench(options, folder):
    server_pin, load_pin = machine.pins(not options.no_pin and not options.instructions)
    about = machine.Machine(setting_of(options), growth_servers.BIN / "updraftd", command="script/bench growth")
    axes = [axis for axis in AXES if axis in (options.only or AXES)]
    with contextlib.ExitStack() as stack:
        subjects = list(subjects_of(axes, options, folder, server_pin, stack))
        runs = count_all(subjects) if options.instructions else measure_all(subjects, options, load_pin)
        for server in {id(subject.server): subject.server for subject in subjects}.values():
            server.check_known()
    return {"machine": about.over(), "instructions": options.instructions, "rows": summary_of(runs), "runs": runs}


def main():
    options = parse_options()
    result = whole.run(bench, report, options)
    if options.svg:
        draw(result["rows"], pathlib.Path(options.svg), options.instructions)


if __name__ == "__main__":
    main()

"""What attacks by programs that others wrote do to the real server, and what good clients feel of it: the four slow
attacks of slowhttptest on every door, with room left and beyond it, and testssl.sh on the TLS door.

    script/abuse [--quick] [--only WORD,...] [--connections N] [--seconds S] [--json FILE]

All of it is on loopback, bounded in connections and time. It fails where a good client was not answered as ever, the
server ended or must be looked after, connections or descriptors are left, or testssl finds something HIGH or CRITICAL
that tests/abuse/tls_scan.py does not expect. UPDRAFT_BIN names the folder of the programs, as for the tests."""

import argparse
import json
import os
import pathlib
import shutil
import signal
import sys
import tempfile
import time

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2]))
from tests.abuse import slow_attacks, tls_scan
from tests.abuse.good_clients import LEFT, GoodClients
from tests.abuse.slow_attacks import ATTACKS, SETTINGS
from tests.abuse.stage import Stage, counted
from tests.bench.machine import version_of
from tests.bench.tables import markdown_table
from tests.support.tls import dev_cert
from tests.support.updraft import BIN, wait_until

CALM_S = 5  # the same without an attack, to compare with
REST_S = 20  # for the last connection to be gone
LEFT_MAX = 10  # of good clients that are just ending
TLS_SCAN = "tls"


class Run:
    """What happened beside an attack, or beside nothing."""

    def __init__(self, stage, shares, act):
        before, lines = stage.samples(), stage.log_lines()
        with GoodClients(stage, shares) as self.clients:
            self.seen = act()
        if stage.process.poll() is not None:
            sys.exit(f"abuse: the server ended with {stage.process.returncode}; the end of its log:\n{stage.log()[-4000:]}")
        self.problems = self.clients.failures()
        self.counted = counted(before, stage.samples())
        self.log_lines = stage.log_lines() - lines

    def answered(self):
        good, bad = (sum(len(getattr(each, name)) for each in self.clients.all) for name in ("took", "wrong"))
        return f"{good} of {good + bad}"

    def p99(self):
        return ", ".join(f"{self.clients[name].p99_ms():.1f}" for name in ("checks", "checks over TLS"))


def rest(stage, descriptors):
    """What is left when nobody asks any more, and should not be."""
    try:
        wait_until(lambda: stage.connections() == 0 and stage.descriptors() <= descriptors, "rest", REST_S)
        return []
    except AssertionError:
        return [f"{REST_S} s after it {stage.connections()} connections of devices are open, and {stage.descriptors()} "
                f"descriptors, {descriptors} before"]


def one_attack(stage, what, descriptors, options, folder):
    print(f"  {what.name}, {what.door}, {what.setting} ...", file=sys.stderr)
    run = Run(stage, what.setting == "as shipped",
              lambda: slow_attacks.attack(stage, what, folder, options.connections, options.seconds))
    run.problems += rest(stage, descriptors)
    if run.clients.most[LEFT] > LEFT_MAX:
        run.problems.append(f"{run.clients.most[LEFT]} connections were closed and left to the system, which offers on what "
                            "they do not take")
    if run.seen.made < options.connections / 2:
        run.problems.append(f"only {run.seen.made} of {options.connections} connections were made: no attack")
    return run


def words(counts):
    return ", ".join(f"{name} × {count}" for name, count in sorted(counts.items())) or "-"


def attack_row(what, run):
    seen, most = run.seen, run.clients.most
    return [f"{what.name}; {what.setting}", what.door, words(seen.answers), f"{seen.ended} of {seen.made}",
            f"{seen.most}", f"{most[LEFT]}", words(run.counted), "yes" if seen.probe else "no", run.answered(), run.p99(),
            f"{most['process_resident_memory_bytes'] / 2**20:.0f} MiB", f"{run.log_lines}"]


ATTACK_HEADS = ["attack", "door", "answers that it read", "saw ended", "open at once", "left to the system", "counted",
                "its own probe answered", "good clients answered", "p99 of checks, over TLS, ms", "memory",
                "lines of log"]


def slow_part(options, folder, certs, report):
    """All attacks, by settings. Returns the problems."""
    problems = []
    for setting, flags in SETTINGS.items():
        attacks = [what for what in ATTACKS if what.setting == setting and wanted(options, what.name)]
        if not attacks:
            continue
        with Stage(folder / setting.replace(" ", "-"), certs, **flags) as stage:
            calm = Run(stage, True, lambda: time.sleep(CALM_S))
            problems += [f"without an attack: {each}" for each in calm.problems]
            report["calm"][setting] = calm.p99()
            wait_until(lambda: stage.connections() == 0, "the end of all connections")
            descriptors = stage.descriptors()
            for what in attacks:
                run = one_attack(stage, what, descriptors, options, folder)
                report["attacks"].append(attack_row(what, run))
                problems += [f"{what.name}, {what.door}, {setting}: {each}" for each in run.problems]
            problems += [f"{setting}: the log says: {line}" for line in stage.complaints()]
    return problems


def tls_part(options, folder, certs, report):
    print("  testssl ...", file=sys.stderr)
    # testssl takes seconds within a handshake: cut there, it would take an end for another answer (ROBOT).
    with Stage(folder / "tls", certs, deadlines={"head_timeout": "60s"}) as stage:
        run = Run(stage, True, lambda: tls_scan.scan(stage, folder, certs, options.quick))
        report["findings"], report["beside_tls"] = run.seen, run.answered()
        return (run.problems + tls_scan.problems(run.seen, options.quick) +
                [f"testssl: the log says: {line}" for line in stage.complaints()])


def wanted(options, name):
    return not options.only or any(name.startswith(word) for word in options.only)


def tell(report):
    lines = [f"- {line}" for line in report["about"]] + [""]
    if report["attacks"]:
        calm = "; ".join(f"{setting}: {p99}" for setting, p99 in report["calm"].items())
        lines += [f"Without an attack the p99 of checks, and of those over TLS, in ms, was: {calm}.", "",
                  *markdown_table(ATTACK_HEADS, report["attacks"]), ""]
    if "findings" in report:
        by = [each["severity"] for each in report["findings"]]
        lines += [f"testssl: {len(by)} findings: {words({name: by.count(name) for name in set(by)})}; good clients beside "
                  f"it: {report['beside_tls']}.", "",
                  *markdown_table(["finding", "severity", "what", "expected"], tls_scan.rows(report["findings"])), ""]
    return "\n".join(lines)


def parse_options():
    parser = argparse.ArgumentParser(prog="script/abuse", description=__doc__.split("\n\n")[0])
    parser.add_argument("--quick", action="store_true", help="200 connections, 8 seconds: to see that it works")
    parser.add_argument("--only", metavar="WORD,...", type=lambda text: text.split(","),
                        help="attacks whose names begin so (headers, body, ranges, read), or tls")
    parser.add_argument("--connections", type=int, metavar="N", help="of each attack (1000)")
    parser.add_argument("--seconds", type=int, metavar="S", help="of each attack, at most (15)")
    parser.add_argument("--json", metavar="FILE", help="write all that was found")
    options = parser.parse_args()
    options.connections = options.connections or (200 if options.quick else 1000)
    options.seconds = options.seconds or (8 if options.quick else 15)
    if not 1 <= options.connections <= 5000 or not 1 <= options.seconds <= 300:
        parser.error("at most 5000 connections, for 300 seconds")
    names = [what.name for what in ATTACKS] + [TLS_SCAN]
    for word in options.only or []:
        if not any(name.startswith(word) for name in names):
            parser.error(f"--only {word}: known are {', '.join(dict.fromkeys(name.split(',')[0] for name in names))}")
    return options


def main():
    options = parse_options()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("abuse: ended by SIGTERM"))  # so that all else is ended too
    for program in ("slowhttptest", "testssl"):
        if shutil.which(program) is None:
            sys.exit(f"abuse: {program} is not installed: script/bootstrap abuse")
    about = [f"{options.connections} connections, {slow_attacks.RATE} a second, for up to {options.seconds} s each",
             f"{version_of(BIN / 'updraftd')}, {slow_attacks.version()}, {tls_scan.version()}",
             f"load of the machine before: {os.getloadavg()[0]:.1f}"]
    report = {"about": about, "calm": {}, "attacks": []}
    problems = []
    with tempfile.TemporaryDirectory(prefix="updraft-abuse-") as folder:
        folder = pathlib.Path(folder)
        certs = dev_cert(folder / "certificates", "--rsa", "127.0.0.1", "localhost")
        problems += slow_part(options, folder, certs, report)
        if wanted(options, TLS_SCAN):
            problems += tls_part(options, folder, certs, report)
    print(tell(report))
    print("\n".join(f"problem: {each}" for each in problems) or "no problem: every good client was answered as ever")
    if options.json:
        pathlib.Path(options.json).write_text(json.dumps({**report, "problems": problems}, indent=1) + "\n")
    sys.exit(1 if problems else 0)


if __name__ == "__main__":
    main()

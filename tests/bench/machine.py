"""What a bench runs on: the machine, the CPUs for servers and for load, and what a process has used of them."""

import contextlib
import datetime
import os
import pathlib
import platform
import re
import shlex
import shutil
import socket
import subprocess
import sys

TICKS = os.sysconf("SC_CLK_TCK")


def pins(wanted=True):
    """(for servers, for load): what each kind of child does before its program begins, or None where there is one CPU.
    The servers share a CPU: one works at a time."""
    cpus = sorted(os.sched_getaffinity(0))
    if not wanted or len(cpus) < 2:
        return None, None
    return (lambda: os.sched_setaffinity(0, {cpus[0]})), (lambda: os.sched_setaffinity(0, {cpus[1]}))


def cpu_s(pid):
    """utime + stime of all threads: fields 14 and 15 in proc(5), counted behind the name, which may hold blanks."""
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def exact_cpu_s(pid):
    """Of the threads that there are now, to the nanosecond: the first figure of schedstat."""
    tasks = pathlib.Path(f"/proc/{pid}/task").iterdir()
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9


def memory_kib(pid):
    """{"Rss": …, "Pss": …, "Private_Dirty": …, …} of a process of our own user."""
    rollup = pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text()
    return {name: int(kib) for name, kib in re.findall(r"^(\w+):\s+(\d+) kB$", rollup, re.M)}


def free_ports(count):
    """For servers that cannot choose a port themselves and say which."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [each.getsockname()[1] for each in sockets]


def find_program(name):
    """Debian keeps servers where a user's PATH does not look."""
    found = shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")
    if found is None:
        sys.exit(f"bench: {name} is not installed: script/bootstrap bench")
    return found


def version_of(program):
    """The first line of what it says of itself, without what is no version."""
    option = "--version" if pathlib.Path(program).name == "updraftd" else "-v"
    done = subprocess.run([find_program(program), option], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          check=False)
    return re.split(r" - | Copy", done.stdout.strip().split("\n")[0])[0].removeprefix("nginx version: ")


def cpu_name():
    found = re.search(r"model name\s*: (.*)", pathlib.Path("/proc/cpuinfo").read_text())
    return found.group(1) if found else platform.machine()


def stolen_s():
    """Seconds that the host of a virtual machine gave to others, of all CPUs."""
    return int(pathlib.Path("/proc/stat").read_text().split()[8]) / TICKS


class Machine:
    """Described when the bench begins; `over()` adds what is known at its end."""

    def __init__(self, setting, *programs, command="script/bench"):
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
        congestion = pathlib.Path("/proc/sys/net/ipv4/tcp_congestion_control").read_text()
        self.stolen_before, self.began = stolen_s(), os.times().elapsed
        self.facts = {
            "command": shlex.join([*command.split(), *sys.argv[1:]]),
            "when": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
            "cpu": f"{len(os.sched_getaffinity(0))} x {cpu_name()}",
            "system": f"{platform.system()} {platform.release()}, {memory:.1f} GiB, TCP {congestion.strip()}",
            "programs": [version_of(program) for program in programs],
            "setting": setting,
            "load_before": os.getloadavg()[0],
        }

    def over(self):
        self.facts.update(stolen_s=stolen_s() - self.stolen_before, elapsed_s=os.times().elapsed - self.began)
        return self.facts


def describe(facts):
    """The head of a report, as lines of a list in Markdown."""
    lines = [facts["command"], facts["when"], f"{facts['cpu']}; {facts['system']}", "; ".join(facts["programs"]),
             facts["setting"], f"load of the machine before: {facts['load_before']:.2f}; stolen by its host: "
             f"{facts['stolen_s']:.1f} s of {facts['elapsed_s']:.0f} s"]
    return [f"- {line}" for line in lines if line] + [""]

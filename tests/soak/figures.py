"""What is looked at of a server in a soak, every few seconds, and what is made of it: medians of the first and the last
third, the slope of the last two thirds, and whether that is flat.

What makes it hard is that memory goes up and down with what is under way, and a leak is a trend below that. So a slope
counts only as far as it exceeds twice its own error, and beside it stands how the last third's median compares."""

import collections
import math
import os
import pathlib
import re
import statistics
import subprocess
import time

from tests.bench.machine import memory_kib
from tests.bench.tables import markdown_table

# figure: (unit, most that it may grow a minute; the same from the first third to the last, as a share and a number)
LIMITS = {
    "rss": ("KiB", 16, (0.02, 256)),
    "pss": ("KiB", 16, (0.02, 256)),
    "private dirty": ("KiB", 16, (0.02, 256)),
    "anonymous": ("KiB", 16, (0.02, 256)),
    "descriptors but connections": ("", 0.05, (0, 2)),
    "descriptors less open connections": ("", 0.1, (0, 8)),
    "descriptors": ("", 1, (0.15, 30)),
    "threads": ("", 0.02, (0, 0)),
}
SHOWN = {"sockets' memory": "KiB", "connections": "", "transfers": "", "images' bytes": "KiB", "devices": "",
         "library's lost connections": ""}
GROWS = {"log": "KiB", "database": "KiB", "its log (WAL)": "KiB", "audit log": "KiB"}
GAUGES = {"connections": "updraft_connections_open", "transfers": "updraft_transfers_in_flight",
          "devices": "updraft_devices", "library's lost connections": "updraft_mqtt_left_behind"}


def metrics_of(text):
    """{name with its labels: value}"""
    return {name: float(value) for name, value in re.findall(r"^(\w+(?:\{[^}]*\})?) (\S+)$", text, re.M)}


def total(metrics, family):
    return sum(value for name, value in metrics.items() if name.startswith(family + "{"))


def descriptors(pid):
    """How many of each kind: sockets and pipes without their numbers, images in memory, files by their names."""
    kinds, folder = collections.Counter(), f"/proc/{pid}/fd"
    for name in os.listdir(folder):
        try:
            target = os.readlink(f"{folder}/{name}")
        except FileNotFoundError:
            continue  # closed since it was listed
        kinds[re.sub(r":\[\d+\]$| \(deleted\)$", "", target)] += 1
    return kinds


def socket_memory_kib(ports):
    """What the kernel holds for the server's ends of its connections."""
    words = " or ".join(f"sport = :{port}" for port in ports)
    output = subprocess.run(["ss", "-HtmnO", "state", "connected", f"( {words} )"], check=True, stdout=subprocess.PIPE,
                            text=True).stdout
    held = 0
    for line in output.splitlines():
        memory = dict(re.findall(r"([a-z]+)(\d+)", line.partition("skmem:(")[2]))
        held += sum(int(memory.get(key, 0)) for key in ("r", "f", "w", "o", "bl"))
    return held / 1024


def size_kib(path):
    path = pathlib.Path(path)
    return path.stat().st_size / 1024 if path.exists() else 0


def look(server, admin):
    """One sample. `server`: a TlsServer."""
    pid, state = server.process.pid, server.folder / "state"
    memory, kinds = memory_kib(pid), descriptors(pid)  # before we are one of its connections
    metrics = metrics_of(admin.get("/metrics").text)
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
    return {
        "when": time.monotonic(), "rss": memory["Rss"], "pss": memory["Pss"], "private dirty": memory["Private_Dirty"],
        "anonymous": memory["Anonymous"], "descriptors": sum(kinds.values()),
        "descriptors less open connections": sum(kinds.values()) - metrics["updraft_connections_open"],
        "descriptors but connections": sum(count for kind, count in kinds.items()
                                       if kind != "socket" and not kind.startswith("/memfd:")),
        "threads": int(re.search(r"^Threads:\s+(\d+)", status, re.M).group(1)),
        "sockets' memory": socket_memory_kib([server.port, server.tls_port]),
        "images' bytes": metrics["updraft_image_memory_bytes"] / 1024,
        **{name: metrics[gauge] for name, gauge in GAUGES.items()},
        "log": size_kib(server.log_path), "database": size_kib(state / "updraft.db"),
        "its log (WAL)": size_kib(state / "updraft.db-wal"), "audit log": size_kib(state / "audit.log"),
        "metrics": metrics, "kinds": dict(kinds),
    }


def slope(samples, name):
    """(a minute, its standard error) by least squares."""
    times = [(each["when"] - samples[0]["when"]) / 60 for each in samples]
    values = [each[name] for each in samples]
    mean_time, mean = statistics.fmean(times), statistics.fmean(values)
    spread = sum((at - mean_time) ** 2 for at in times)
    if len(samples) < 3 or spread == 0:
        return 0.0, math.inf
    rise = sum((at - mean_time) * (value - mean) for at, value in zip(times, values)) / spread
    rest = sum((value - mean - rise * (at - mean_time)) ** 2 for at, value in zip(times, values))
    return rise, math.sqrt(rest / (len(samples) - 2) / spread)


def judge(samples, name):
    """{first, last, least, most, slope, error, flat}"""
    _unit, slope_most, (share, number) = LIMITS.get(name, ("", math.inf, (math.inf, 0)))
    third = max(1, len(samples) // 3)
    values = [each[name] for each in samples]
    first, last = statistics.median(values[:third]), statistics.median(values[-third:])
    rise, error = slope(samples[third:], name)
    flat = last - first <= max(share * first, number) and (error == math.inf or rise - 2 * error <= slope_most)
    return {"figure": name, "first": first, "last": last, "least": min(values), "most": max(values), "slope": rise,
            "error": error, "flat": flat}


def limit_text(name):
    unit, slope_most, (share, number) = LIMITS[name]
    thirds = f"{number}" if not share else f"{100 * share:.0f} % or {number}"
    return f"{slope_most}{' ' + unit if unit else ''}/min; {thirds}"


def number(value, places=None):
    return f"{value:,.{places if places is not None else 0 if abs(value) >= 100 else 1}f}"


def table(samples, quiet_before, quiet_after):
    """Lines of Markdown, and the names of what is not flat."""
    rows, not_flat = [], []
    for name in [*LIMITS, *SHOWN]:
        verdict, unit = judge(samples, name), (LIMITS[name][0] if name in LIMITS else SHOWN[name])
        error = "" if verdict["error"] == math.inf else f" ± {number(verdict['error'], 2)}"
        judged = name in LIMITS
        rows.append([f"{name}{f', {unit}' if unit else ''}", number(verdict["first"]), number(verdict["last"]),
                     f"{number(verdict['least'])}-{number(verdict['most'])}", f"{number(verdict['slope'], 2)}{error}",
                     limit_text(name) if judged else "", ("flat" if verdict["flat"] else "**not flat**") if judged else "",
                     f"{number(quiet_before[name])}, {number(quiet_after[name])}"])
        if judged and not verdict["flat"]:
            not_flat.append(name)
    heads = ["what", "first third", "last third", "least-most", "slope a minute", "limit", "verdict", "quiet before, after"]
    return markdown_table(heads, rows), not_flat


def growth_line(samples):
    """Files, which are bounded elsewhere or are the operator's to rotate."""
    first, last = samples[0], samples[-1]
    return "; ".join(f"{name} {number(first[name])} to {number(last[name])} KiB" for name in GROWS)

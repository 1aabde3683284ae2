"""What the runs of script/bench tls come to, in Markdown."""

import statistics

from machine import describe
from ratios import ratio_cell
from servers import OURS
from tables import markdown_table
from tls_servers import NAMES

KIB = 1024
# resident bytes of each connection, by how its row begins
MEMORY_TARGETS = {"1,000 idle": 20, "2,000 idle": 20, "500 slow": 40}


def cpu_tables(part, unit, rate):
    rows = [[row["case"], row["server"], str(row["requests"]), f"{row['rate']:.0f}", f"{row['server_us']:.1f}",
             f"{row['client_us']:.1f}"] for row in part["medians"]]
    heads = ["case", "server", "answers in all", rate, f"server CPU µs/{unit}", f"client CPU µs/{unit}"]
    lines = markdown_table(heads, rows) + [""]
    keys = ("server_us", "both_us", "rate")
    rows = [[row["case"], row["against"] + (" (the better)" if row["better_nginx"] else ""),
             *(ratio_cell(key, row[key]) for key in keys)] for row in part["ratios"]]
    return lines + markdown_table(["case", "ours against", f"server CPU/{unit}", f"server + client CPU/{unit}", rate],
                                  rows) + [""]


def memory_cell(row):
    text = f"{row['rss'] / KIB:.1f}"
    target = next(limit for name, limit in MEMORY_TARGETS.items() if row["what"].startswith(name))
    if row["server"] == OURS:
        text += f", ≤ {target} {'met' if row['rss'] <= target * KIB else '**missed**'}"
    return text


def memory_table(rows):
    heads = ["what", "server", "resident KiB, each", "kernel socket KiB, each: sockstat", "ss",
             "unacknowledged KiB, each"]
    return markdown_table(heads, [
        [f"{row['what']}, {NAMES[row['version']]}", row["server"], memory_cell(row),
         *(f"{row[key] / KIB:.1f}" for key in ("kernel", "kernel_ss", "queued"))] for row in rows]) + [""]


def storm_row(rows, server, storm):
    mine = [row for row in rows if (row["server"], row["storm"]) == (server, storm)]

    def median(pick):
        return statistics.median(pick(row) for row in mine)

    def latency(door):
        shown = (("own_us", "p50"), ("own_us", "p99"), ("wall_us", "p99"))
        values = (median(lambda row, place=place: row[door][place[0]][place[1]]) / 1e3 for place in shown)
        return "{:.2f}, {:.2f} ({:.2f})".format(*values)

    under = storm != "none"
    return [storm, server, latency("tls"), latency("plain"), f"{median(lambda row: row['transfer']) / 1e6:.0f}",
            f"{median(lambda row: row['handshakes']):.0f}" if under else "",
            f"{median(lambda row: row['cpu']):.2f}" if under else ""]


def storm_table(rows):
    heads = ["what", "server", "304 over TLS ms: p50, p99 (by the wall)",
             "304 on the plain door ms: p50, p99 (by the wall)", "a transfer, MB/s", "storm's handshakes/s",
             "server's CPU"]
    pairs = dict.fromkeys((row["server"], row["storm"]) for row in rows)
    return markdown_table(heads, [storm_row(rows, *pair) for pair in pairs]) + [""]


TABLES = {
    "handshakes": ("A handshake and a check", lambda part: cpu_tables(part, "check", "checks/s")),
    "downloads": ("512 KiB", lambda part: cpu_tables(part, "MiB", "MiB/s")),
    "memory": ("Memory", memory_table),
    "storm": ("A storm of handshakes, TLS 1.2", storm_table),
}


def report(result):
    lines = describe(result["machine"])
    for name, (title, table) in TABLES.items():
        if name in result:
            lines += [f"{title}:", "", *table(result[name])]
    return "\n".join(lines)

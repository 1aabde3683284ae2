"""What the runs of script/bench come to: medians, ratios turn by turn beside their targets, tables and a picture."""

import statistics

import picture
from machine import describe
from servers import LIGHTTPD, NGINX, OURS
from tables import markdown_table, spread, with_range

FIGURES = ("server_us", "both_us", "rate")
BETTER = "the better nginx"

# What is to be reached: CPU at most so many times the other's, rates at least. Of nginx's two settings the better one
# counts, which is the one that takes its worker less.
AT_LEAST = {"rate"}
TARGETS = [
    ("304, kept connection", NGINX, "server_us", 1.1),
    ("304, fresh connection", NGINX, "server_us", 0.8),
    ("512 KiB, kept connection", BETTER, "server_us", 1.0),
    ("512 KiB, kept connection", BETTER, "rate", 1.0),
    ("512 KiB, kept connection", LIGHTTPD, "server_us", 1.0),
    ("512 KiB, fresh connection", BETTER, "server_us", 1.0),
    ("512 KiB, fresh connection", BETTER, "rate", 1.0),
    ("512 KiB, fresh connection", LIGHTTPD, "server_us", 1.0),
]


def medians_of(runs):
    """One row a case and server, in the order of measuring."""
    rows = []
    for case, server in dict.fromkeys((run["case"], run["server"]) for run in runs):
        mine = [run for run in runs if run["case"] == case and run["server"] == server]
        rows.append({"case": case, "server": server, "requests": sum(run["requests"] for run in mine),
                     **{key: statistics.median(run[key] for run in mine)
                        for key in ("rate", "server_s", "server_us", "client_us", "both_us")}})
    return rows


def mark_better(rows):
    for row in rows:
        rivals = [other["server_us"]["median"] for other in rows
                  if other["case"] == row["case"] and other["against"].startswith(NGINX)]
        row["better_nginx"] = len(rivals) > 1 and row["server_us"]["median"] == max(rivals)


def set_targets(rows, targets):
    for case, against, key, limit in targets:
        for row in rows:
            if row["case"] == case and (row["better_nginx"] if against == BETTER else row["against"] == against):
                median = row[key]["median"]
                row[key].update(target=limit, met=median >= limit if key in AT_LEAST else median <= limit)


def ratios_of(runs, targets=TARGETS):
    """Ours to each of the others, turn by turn."""
    by_place = {(run["turn"], run["case"], run["server"]): run for run in runs}
    rows = []
    for case, server in dict.fromkeys((run["case"], run["server"]) for run in runs if run["server"] != OURS):
        pairs = [(by_place[turn, case, OURS], by_place[turn, case, server])
                 for turn in sorted({run["turn"] for run in runs})]
        rows.append({"case": case, "against": server,
                     **{key: spread([ours[key] / theirs[key] for ours, theirs in pairs]) for key in FIGURES}})
    mark_better(rows)
    set_targets(rows, targets)
    return rows


def ratio_cell(key, ratio):
    cell = with_range(ratio)
    if "target" in ratio:
        sign = "≥" if key in AT_LEAST else "≤"
        cell += f", {sign} {ratio['target']} {'met' if ratio['met'] else '**missed**'}"
    return cell


def report(result):
    """The whole in Markdown."""
    lines = describe(result["machine"])
    rows = [[row["case"], row["server"], str(row["requests"]), f"{row['rate']:.0f}", f"{row['server_us']:.1f}",
             f"{row['client_us']:.1f}", f"{row['both_us']:.1f}"] for row in result["medians"]]
    lines += markdown_table(["case", "server", "requests in all", "requests/s", "server CPU µs/request",
                             "client CPU µs/request", "both"], rows) + [""]
    rows = [[row["case"], row["against"] + (" (the better)" if row["better_nginx"] else ""),
             *(ratio_cell(key, row[key]) for key in FIGURES)] for row in result["ratios"]]
    lines += markdown_table(["case", "ours against", "server CPU/request", "server + client CPU/request",
                             "requests/s"], rows)
    wanted = [row[key]["met"] for row in result["ratios"] for key in FIGURES if "target" in row[key]]
    rss = [f"{name} {kib / 1024:.1f} MiB" for name, kib in result["rss_kib"].items()]
    return "\n".join(lines + ["", f"Of {len(wanted)} targets {sum(wanted)} are met. Resident memory afterwards: "
                                  f"{', '.join(rss)}."])


def draw(result):
    cases = dict.fromkeys(row["case"] for row in result["medians"])
    return picture.bars("server CPU, µs a request", [
        (case, [(row["server"], row["server_us"]) for row in result["medians"] if row["case"] == case])
        for case in cases])

"""What the server costs before anyone asks: the size of its program, its memory when idle, and how long a start takes.

    script/bench idle [--quick] [--runs N] [--images N] [--json FILE]

The start is measured from exec to the line `ready`, with 1,000 images of 1 MiB, each another one, whose digests are
known from the start before. That needs 1 GB in the temporary folder (TMPDIR chooses the disk); all of it is removed. It
fails when an image is missing from what is served, or was read again. Nothing is judged by speed."""

import argparse
import pathlib
import shutil
import subprocess
import sys
import time

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))
import machine
import updraft
import whole
from tables import markdown_table, spread, with_range
from whole import Wrong

IMAGE_MIB = 1
VERSIONS = 20  # images of one type
MARK_AT = 0x80000  # in the middle of the code
READY_MS_TARGET = 200
SETTLE_S = 1  # files that were written just now are not believed to be whole
REST_S = 2  # until what only a start needs has been given back


def fill(repo, count):
    """Images that differ in their digests. This kind's checksum is an XOR of all bytes, so two words that change by the
    same leave it as it was: making one image and marking it is cheaper than making a thousand."""
    scratch = repo.parent / "one.bin"
    image = bytearray(updraft.make_image("tasmota", scratch, size=f"{IMAGE_MIB}M"))
    scratch.unlink()
    plain = int.from_bytes(image[MARK_AT:MARK_AT + 8], "little")
    for i in range(count):
        image[MARK_AT:MARK_AT + 8] = (plain ^ (i << 32 | i)).to_bytes(8, "little")
        path = repo / f"type_{i // VERSIONS}" / f"1.0.{i % VERSIONS}.bin"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(image)


def check_catalog(server, images, read):
    found = server.wait_log(r"(?s).*event=catalog_published images=(\d+) types=\d+ rejected=(\d+) read=(\d+)")
    published = tuple(int(word) for word in found.groups())
    if published != (images, 0, read):
        raise Wrong(f"images, rejected, read are {published}, not {(images, 0, read)}:\n{server.log()[-2000:]}")


def start(folder, images, read):
    """(ms until it was ready, KiB of its memory at rest)"""
    (folder / "log").unlink(missing_ok=True)
    began = time.monotonic()
    with updraft.Server(folder, log_level="info") as server:
        took_ms = (time.monotonic() - began) * 1000
        check_catalog(server, images, read)
        time.sleep(REST_S)
        memory = machine.memory_kib(server.process.pid)
        if read > 0:
            updraft.wait_until((folder / "state/digests.cache").exists, "the digest cache")
    return took_ms, memory


def program_sizes(folder):
    sizes = {}
    for name in ("updraftd", "updraft"):
        stripped = folder / name
        subprocess.run(["strip", "-o", stripped, updraft.BIN / name], check=True)
        sizes[name] = {"bytes": (updraft.BIN / name).stat().st_size, "stripped": stripped.stat().st_size}
    return sizes


def measure(options, folder):
    result = {"images": options.images, "sizes": program_sizes(folder)}
    (folder / "empty").mkdir()
    _, result["empty"] = start(folder / "empty", 0, 0)
    fill(folder / "full/firmware", options.images)
    time.sleep(SETTLE_S)
    result["cold_ms"], _ = start(folder / "full", options.images, options.images)
    starts = [start(folder / "full", options.images, 0) for _ in range(options.runs)]
    result["ready_ms"] = {**spread([ms for ms, _ in starts]), "target": READY_MS_TARGET}
    result["ready_ms"]["met"] = result["ready_ms"]["median"] <= READY_MS_TARGET
    result["full"] = starts[-1][1]
    return result


def bench(options, folder):
    if shutil.disk_usage(folder).free < (options.images + 100) * IMAGE_MIB << 20:
        raise Wrong(f"{folder}: too little room for {options.images} images of {IMAGE_MIB} MiB: set TMPDIR to a folder on "
                    "another disk, or ask for fewer with --images")
    about = machine.Machine(f"medians of {options.runs} starts", updraft.BIN / "updraftd", command="script/bench idle")
    result = measure(options, folder)
    return {"machine": about.over(), **result}


def report(result):
    ready, images = result["ready_ms"], result["images"]
    rows = [[f"{name}, bytes of the program", f"{size['bytes']:,}, stripped {size['stripped']:,}"]
            for name, size in result["sizes"].items()]
    for what, memory in (("no image", result["empty"]), (f"{images:,} images", result["full"])):
        own = memory["Private_Dirty"] + memory["Private_Clean"]
        rows.append([f"memory when idle, {what}: resident, with its share of shared pages, its own alone",
                     ", ".join(f"{kib / 1024:.1f}" for kib in (memory["Rss"], memory["Pss"], own)) + " MiB"])
    rows.append([f"start to `ready`, {images:,} images of {IMAGE_MIB} MiB, their digests known",
                 f"{with_range(ready, '{:.0f}')} ms, ≤ {ready['target']} {'met' if ready['met'] else '**missed**'}"])
    rows.append(["the first start, which reads them all", f"{result['cold_ms'] / 1000:.1f} s"])
    return "\n".join(machine.describe(result["machine"]) + markdown_table(["what", "figure"], rows))


def main():
    parser = argparse.ArgumentParser(prog="script/bench idle", description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="200 images, 3 starts: to see that it works")
    parser.add_argument("--runs", type=int, metavar="N", help="starts; the median is of these (5)")
    parser.add_argument("--images", type=int, metavar="N", help="how many (1000)")
    parser.add_argument("--json", metavar="FILE", help="write the figures")
    options = parser.parse_args()
    options.runs = options.runs or (3 if options.quick else 5)
    options.images = options.images or (200 if options.quick else 1000)
    whole.run(bench, report, options)


if __name__ == "__main__":
    main()

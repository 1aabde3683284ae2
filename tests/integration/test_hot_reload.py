"""A file dropped into the repository is served within a second, without a restart, and never before it is whole: people
copy by rsync, scp, cp, a network drive and their build tool, and none of them announces its end."""

import os
import pathlib
import re
import shutil
import signal
import statistics
import tempfile
import threading
import time

import pytest

from tests.support.download import assert_whole, md5
from tests.support.updraft import ESP8266, Reply, Server, check, device_request, make_image, wait_until

GENEROUS_S = 5  # the promise is 1 s on an idle machine; this one may be busy, and sanitized


def head(server, path, **changes):
    """What a check would get, without its body."""
    return Reply(server.ask(device_request(path, ESP8266, method="HEAD", **changes)), head_only=True)


def offers(server, path, data, **changes):
    reply = head(server, path, **changes)
    return reply.status == 200 and reply.headers["x-MD5"] == md5(data)


def fetch(server, file):
    """A repository file, as a browser gets it."""
    return Reply(server.ask(f"GET /firmware/{file} HTTP/1.0\r\n\r\n".encode()))


def rejections(server, file):
    return len(re.findall(f"event=image_rejected file={re.escape(file)} ", server.log()))


# --- within a second --------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("arrive", [os.rename, shutil.copyfile, shutil.copy2], ids=["rename", "copy", "copy, old time"])
def test_dropped_file_is_served(tmp_path, arrive):
    """Measured from the file's arrival to the first check that is offered it."""
    took = []
    make_image("esp8266", tmp_path / "firmware/door/1.0.0.bin")
    with Server(tmp_path) as server:
        for i in range(1, 6):
            made = tmp_path / "made.bin"
            data = make_image("esp8266", made, seed=i, size="400K")
            os.utime(made, (1e9, 1e9))
            arrive(made, server.repo / f"door/2.0.{i}.bin")
            arrived = time.monotonic()
            wait_until(lambda: offers(server, "/update/door", data), "the new file to be offered")
            took.append(time.monotonic() - arrived)
            assert_whole(check(server, "/update/door", mac=f"5C:CF:7F:00:00:{i:02X}"), data)
    print(f"served after {statistics.median(took):.2f} s (median), {max(took):.2f} s (longest)")
    assert max(took) < GENEROUS_S


def test_new_type(tmp_path):
    """The folder itself is new, and those above it: nobody watches it yet when its first file comes."""
    with Server(tmp_path) as server:
        assert check(server, "/update/gate").reason == "unknown-type"
        data = make_image("esp8266", server.repo / "gate/2.0.0.bin", seed=1)
        wait_until(lambda: offers(server, "/update/gate", data), "the new type", GENEROUS_S)
        data = make_image("esp8266", server.repo / "house/garden/gate_2_0_1.ino.gate.bin", seed=2)
        wait_until(lambda: offers(server, "/update/gate", data), "the file in nested folders", GENEROUS_S)
        data = make_image("esp8266", server.repo / "house/garden/gate_2_0_2.ino.gate.bin", seed=3)
        wait_until(lambda: offers(server, "/update/gate", data), "a second file in the new folder", GENEROUS_S)


def test_deleted_file_is_offered_no_more(tmp_path):
    """An operator who takes a bad release away has taken it away."""
    old = make_image("esp8266", tmp_path / "firmware/door/2.0.0.bin", seed=1)
    make_image("esp8266", tmp_path / "firmware/door/2.1.0.bin", seed=2)
    with Server(tmp_path) as server:
        (server.repo / "door/2.1.0.bin").unlink()
        wait_until(lambda: offers(server, "/update/door", old), "the release before", GENEROUS_S)
        (server.repo / "door/2.0.0.bin").unlink()
        wait_until(lambda: check(server, "/update/door").reason == "unknown-type", "none to be left", GENEROUS_S)
        assert fetch(server, "door/2.0.0.bin").status == 404


def test_moved_in_and_out_with_its_folder(tmp_path):
    """A release is prepared beside the repository and moved in as a whole."""
    data = make_image("esp8266", tmp_path / "prepared/2.0.0.bin", seed=1)
    with Server(tmp_path) as server:
        (tmp_path / "prepared").rename(server.repo / "door")
        wait_until(lambda: offers(server, "/update/door", data), "the folder's image", GENEROUS_S)
        (server.repo / "door").rename(tmp_path / "withdrawn")
        wait_until(lambda: check(server, "/update/door").reason == "unknown-type", "it to be gone", GENEROUS_S)


@pytest.mark.parametrize("way", ["rename", "in place", "in place, same time"])
def test_same_name_new_bytes(tmp_path, way):
    """Same name, same size: every digest that goes by the name must change, or devices refuse what they get."""
    path = tmp_path / "firmware/door/2.0.0.bin"
    old = make_image("esp8266", path, seed=1, size="400K")
    with Server(tmp_path) as server:
        before = fetch(server, "door/2.0.0.bin")
        stat = path.stat()
        if way == "rename":
            new = make_image("esp8266", path, seed=2, size="400K")
        else:
            new = make_image("esp8266", tmp_path / "new.bin", seed=2, size="400K")
            path.write_bytes(new)
        if way == "in place, same time":
            os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
        assert len(old) == len(new) and old != new
        wait_until(lambda: offers(server, "/update/door", new), "the new bytes", GENEROUS_S)
        after = fetch(server, "door/2.0.0.bin")
        assert_whole(before, old)
        assert_whole(after, new)
        assert before.headers["ETag"] != after.headers["ETag"]
        assert fetch(server, "door/2.0.0.bin.md5").body.decode().strip() == md5(new)
        asked = f"GET /firmware/door/2.0.0.bin HTTP/1.0\r\nIf-None-Match: {before.headers['ETag']}\r\n\r\n"
        assert Reply(server.ask(asked.encode())).status == 200


@pytest.mark.parametrize("again", [0, 1, 2], ids=["soon", "with its old inode number", "after a while"])
def test_folder_deleted_and_made_anew(tmp_path, again):
    """It is another folder of the same name, and most file systems give it the old one's number: whoever takes it for
    the old one is deaf from then on."""
    make_image("esp8266", tmp_path / "firmware/door/2.0.0.bin", seed=1)
    with Server(tmp_path) as server:
        folder = server.repo / "door"
        number = folder.stat().st_ino
        shutil.rmtree(folder)
        time.sleep(1.5 if again == 2 else 0)
        folder.mkdir()
        for _ in range(1000 if again == 1 else 0):
            if folder.stat().st_ino == number:
                break
            folder.rmdir()
            folder.mkdir()
        if again == 1 and folder.stat().st_ino != number:
            pytest.skip("this file system uses no number twice")
        wait_until(lambda: check(server, "/update/door").reason == "unknown-type", "the old one to be gone")
        time.sleep(1)  # so that only a watch on the new folder can tell of what comes
        data = make_image("esp8266", server.repo / "door/2.0.1.bin", seed=2)
        wait_until(lambda: offers(server, "/update/door", data), "a file in the new folder", GENEROUS_S)


def test_repository_moved_away_and_back(tmp_path):
    """A mount that fails for a minute must not turn a fleet's updates into 404s."""
    data = make_image("esp8266", tmp_path / "firmware/door/2.0.0.bin", seed=1)
    with Server(tmp_path, rescan_interval="1s", image_idle="10m") as server:
        assert_whole(check(server, "/update/door"), data)  # and now its bytes are in memory
        server.repo.rename(tmp_path / "away")
        server.wait_log("event=repository_unreadable path=.*firmware")
        time.sleep(2.5)  # two more looks in vain
        assert_whole(check(server, "/update/door"), data)
        assert check(server, "/update/door", version="2.0.0").reason == "up-to-date"
        assert server.log().count("event=repository_unreadable") == 1, "said once, not at every look"

        (tmp_path / "away").rename(server.repo)
        new = make_image("esp8266", server.repo / "door/2.0.1.bin", seed=2)
        wait_until(lambda: offers(server, "/update/door", new), "the repository to be followed again")


def test_image_not_in_memory_while_the_repository_is_away(tmp_path):
    """It can not be had: "not now" for the device, 503 for others, and no half answer."""
    data = make_image("esp8266", tmp_path / "firmware/door/2.0.0.bin", seed=1)
    with Server(tmp_path, rescan_interval="1s") as server:
        server.repo.rename(tmp_path / "away")
        server.wait_log("event=repository_unreadable")
        assert (check(server, "/update/door").status, check(server, "/update/door").reason) == (304, "not-yet")
        assert fetch(server, "door/2.0.0.bin").status == 503
        (tmp_path / "away").rename(server.repo)
        assert_whole(check(server, "/update/door"), data)


def test_repository_made_anew(tmp_path):
    """Unlike one that moved away and came back, this is another folder, for which the sandbox has to leave room."""
    make_image("esp8266", tmp_path / "firmware/door/2.0.0.bin", seed=1)
    with Server(tmp_path, rescan_interval="1s", sandbox_read=tmp_path) as server:
        shutil.rmtree(server.repo)
        server.wait_log("event=repository_unreadable|event=image_removed")
        data = make_image("esp8266", server.repo / "door/2.0.1.bin", seed=2)
        wait_until(lambda: offers(server, "/update/door", data), "the new repository's image")


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_repository_unreadable_for_a_while(tmp_path):
    data = make_image("esp8266", tmp_path / "firmware/door/2.0.0.bin", seed=1)
    with Server(tmp_path, rescan_interval="1s", image_idle="10m") as server:
        assert_whole(check(server, "/update/door"), data)
        server.repo.chmod(0)
        server.wait_log("event=repository_unreadable")
        assert_whole(check(server, "/update/door"), data)
        server.repo.chmod(0o755)
        new = make_image("esp8266", server.repo / "door/2.0.1.bin", seed=2)
        wait_until(lambda: offers(server, "/update/door", new), "the repository to be followed again")


def test_many_files_at_once(tmp_path):
    """A release for 300 types lands in one go; each is served, none is lost in the burst of events."""
    data = make_image("esp8266", tmp_path / "made.bin", seed=1)
    with Server(tmp_path) as server:
        for i in range(300):
            folder = server.repo / f"type{i}"
            folder.mkdir()
            (folder / "2.0.0.bin").write_bytes(data)
        server.wait_log("event=catalog_published images=300 types=300 rejected=0")
        for i in range(300):
            reply = head(server, f"/update/type{i}")
            assert (reply.status, reply.headers["x-MD5"]) == (200, md5(data)), f"type{i}"
        shutil.rmtree(server.repo / "type7")
        server.wait_log("event=catalog_published images=299 types=299 rejected=0")


# --- rejected, said once ----------------------------------------------------------------------------------------------

def test_rejection_is_said_once_for_each_state_of_the_file(tmp_path):
    """A log that repeats itself is not read; one that keeps quiet when the second attempt fails too, misleads."""
    bad = "door/2.0.0.bin"
    with Server(tmp_path, rescan_interval="1s") as server:
        make_image("esp8266", server.repo / bad, seed=1, size="100K", **{"break": "checksum"})
        server.wait_log(f'event=image_rejected file={bad} fault=bad-checksum why=".+" remedy=".+"')
        assert check(server, "/update/door").reason == "rejected"
        for i in range(3):  # looks for other reasons
            make_image("esp8266", server.repo / f"other{i}/2.0.0.bin", seed=i)
            server.wait_log(f"event=image_added file=other{i}/2.0.0.bin")
        server.process.send_signal(signal.SIGHUP)
        server.wait_log("event=reloaded")
        time.sleep(1.5)  # and one that only time brings
        assert rejections(server, bad) == 1

        make_image("esp8266", server.repo / bad, seed=1, size="100K", **{"break": "truncate"})
        wait_until(lambda: rejections(server, bad) == 2, "the second attempt's rejection")

        good = make_image("esp8266", server.repo / bad, seed=1, size="100K")
        wait_until(lambda: offers(server, "/update/door", good), "the mended file", GENEROUS_S)
        assert rejections(server, bad) == 2


def test_rejected_by_name_is_said_once(tmp_path):
    with Server(tmp_path, rescan_interval="1s") as server:
        make_image("esp8266", server.repo / "door/latest.bin")
        server.wait_log("event=image_rejected file=door/latest.bin fault=bad-name .*remedy=.*door/1_0_0.bin")
        make_image("esp8266", server.repo / "door/2.0.0.bin")
        server.wait_log("event=image_added")
        time.sleep(1.5)
        assert rejections(server, "door/latest.bin") == 1


def test_good_release_stays_while_a_bad_one_arrives(tmp_path):
    """A broken upload of the next release is no reason to stop the present one."""
    good = make_image("esp8266", tmp_path / "firmware/door/2.0.0.bin", seed=1)
    with Server(tmp_path) as server:
        make_image("esp8266", server.repo / "door/2.1.0.bin", seed=2, **{"break": "truncate"})
        server.wait_log("event=image_rejected file=door/2.1.0.bin")
        assert_whole(check(server, "/update/door"), good)
        assert fetch(server, "door/2.1.0.bin").status == 404


# --- the digest cache -------------------------------------------------------------------------------------------------

def fill(repo, n):
    for i in range(n):
        make_image("esp8266", repo / f"type{i}/2.0.0.bin", seed=i)


def start_again(tmp_path):
    """A second server on the same folders: it, and the log of its own start."""
    before = (tmp_path / "log").stat().st_size
    server = Server(tmp_path)
    wait_until(lambda: "event=catalog_published" in server.log()[before:], "the log of the second start")
    return server, server.log()[before:]


def test_second_start_reads_no_file(tmp_path):
    """Thousands of images on a slow disk: a restart must not take minutes in which devices find no server."""
    fill(tmp_path / "firmware", 5)
    make_image("esp8266", tmp_path / "firmware/bad/2.0.0.bin", **{"break": "checksum"})
    with Server(tmp_path) as server:
        server.wait_log("event=catalog_published images=5 .*rejected=1")
        digests = [head(server, f"/update/type{i}").headers["x-MD5"] for i in range(5)]
    server, log = start_again(tmp_path)
    with server:
        assert re.search("event=catalog_published images=5 .*rejected=1 read=0", log), log
        assert "event=image_rejected file=bad/2.0.0.bin fault=bad-checksum" in log
        assert [head(server, f"/update/type{i}").headers["x-MD5"] for i in range(5)] == digests


def test_changed_while_the_server_was_down(tmp_path):
    """Known digests are believed of the very same file only."""
    fill(tmp_path / "firmware", 3)
    with Server(tmp_path) as server:
        server.wait_log("event=catalog_published images=3")
    path = tmp_path / "firmware/type1/2.0.0.bin"
    stat = path.stat()
    data = make_image("esp8266", tmp_path / "made.bin", seed=77)
    path.write_bytes(data)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert path.stat().st_size == stat.st_size
    server, log = start_again(tmp_path)
    with server:
        assert re.search("event=catalog_published images=3 .*read=1", log), log
        assert_whole(check(server, "/update/type1"), data)


@pytest.mark.parametrize("damage", ["garbage", "truncated", "one bit", "empty", "a folder"])
def test_damaged_cache_costs_one_reading(tmp_path, damage):
    """Power fails, disks lie: what the cache says is never believed against the file."""
    fill(tmp_path / "firmware", 3)
    cache = tmp_path / "state/digests.cache"
    with Server(tmp_path) as server:
        server.wait_log("event=catalog_published images=3")
        digests = [head(server, f"/update/type{i}").headers["x-MD5"] for i in range(3)]
    content = bytearray(cache.read_bytes())
    if damage == "garbage":
        cache.write_bytes(b"\xff" * len(content))
    elif damage == "truncated":
        cache.write_bytes(content[:-7])
    elif damage == "one bit":
        content[len(content) // 2] ^= 1
        cache.write_bytes(content)
    elif damage == "empty":
        cache.write_bytes(b"")
    else:
        cache.unlink()
        cache.mkdir()
    server, log = start_again(tmp_path)
    with server:
        assert re.search(r"level=warn event=digest_cache_ignored file=\S*digests\.cache", log), log
        assert re.search("event=catalog_published images=3 .*read=3", log), log
        for i in range(3):
            reply = check(server, f"/update/type{i}")
            assert md5(reply.body) == reply.headers["x-MD5"] == digests[i]
    if damage != "a folder":
        server, log = start_again(tmp_path)
        with server:
            assert "read=0" in log and "digest_cache_ignored" not in log, "the file was not written anew"


# --- never before it is whole -----------------------------------------------------------------------------------------

def test_temporary_names_are_ignored(tmp_path):
    """Neither served nor complained of: rsync's .name.XXXXXX, editors' and browsers' names."""
    data = make_image("esp8266", tmp_path / "made.bin", seed=1)
    with Server(tmp_path) as server:
        folder = server.repo / "door"
        folder.mkdir()
        for name in (".2.0.0.bin.Xy12Za", ".hidden.bin", "2.0.0.bin.part", "2.0.0.bin~", "2.0.0.bin.tmp", "notes.txt"):
            (folder / name).write_bytes(data[:1000])
        (server.repo / ".staging").mkdir()
        (server.repo / ".staging/2.0.0.bin").write_bytes(data)
        make_image("esp8266", server.repo / "witness/2.0.0.bin")
        server.wait_log("event=image_added file=witness/2.0.0.bin")
        assert check(server, "/update/door").reason == "unknown-type"
        assert "event=image_rejected" not in server.log()
        assert fetch(server, ".staging/2.0.0.bin").status == 404

        (folder / ".2.0.0.bin.Xy12Za").write_bytes(data)
        (folder / ".2.0.0.bin.Xy12Za").rename(folder / "2.0.0.bin")
        wait_until(lambda: offers(server, "/update/door", data), "the renamed file", GENEROUS_S)


class Watcher:
    """Asks for one file without a pause, on a thread of its own, and keeps every answer that was not expected: other
    bytes than `data`, but for `before` until then, and anything else but `data` once that was served."""

    def __init__(self, server, file, data, before=None):
        self.server, self.file, self.data, self.before = server, file, data, before
        self.wrong, self.asked, self.whole = [], 0, False
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self.run)

    def run(self):
        while not self.stop.is_set():
            reply = fetch(self.server, self.file)
            self.asked += 1
            if reply.status == 200 and reply.body == self.data:
                self.whole = True
            elif self.whole or (reply.status == 200 and reply.body != self.before):
                self.wrong.append((reply.status, len(reply.body), reply.reason))
            time.sleep(0.02)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *exception):
        self.stop.set()
        self.thread.join()


SETTLE_S = 0.2


def slowly(pieces):
    """Hands out the pieces with pauses well above the settle time."""
    for piece in pieces:
        yield piece
        time.sleep(4 * SETTLE_S)


def cut_up(data, n):
    size = -(-len(data) // n)
    return [data[i:i + size] for i in range(0, len(data), size)]


def test_file_held_open_and_written_slowly(tmp_path):
    """A SPIFFS image has no length in it, so a part of it passes every check: only that somebody still has it open for
    writing tells. An scp over a bad link pauses for seconds."""
    data = make_image("spiffs", tmp_path / "made.bin", size="4M", chip="esp8266", seed=1)
    pieces = cut_up(data, 4)
    (tmp_path / "firmware/part").mkdir(parents=True)
    (tmp_path / "firmware/part/1.0.0.fs.bin").write_bytes(pieces[0])
    with Server(tmp_path, settle_time=f"{SETTLE_S * 1000:.0f}ms") as server:
        assert fetch(server, "part/1.0.0.fs.bin").status == 200, "a part that is refused anyway proves nothing"
        (server.repo / "door").mkdir()
        with Watcher(server, "door/1.0.0.fs.bin", data) as watcher:
            with open(server.repo / "door/1.0.0.fs.bin", "wb") as file:
                for piece in slowly(pieces):
                    file.write(piece)
                    file.flush()
                    assert not watcher.whole or piece is pieces[-1]
            wait_until(lambda: watcher.whole, "the whole image to be served", GENEROUS_S)
        assert watcher.wrong == [] and watcher.asked > 20


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to be two users")
def test_file_of_another_user_written_slowly():
    """A service's user owns no image that an operator copies in, so the system does not say whether somebody writes it."""
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        os.chmod(folder, 0o755)
        (folder / "firmware/door").mkdir(parents=True)
        (folder / "state").mkdir()
        os.chown(folder / "state", 65534, 65534)
        data = make_image("spiffs", folder / "made.bin", size="1M", chip="esp8266", seed=1)
        half = len(data) // 2
        with Server(folder, preexec_fn=lambda: os.setuid(65534)) as server:
            with Watcher(server, "door/1.0.0.fs.bin", data) as watcher:
                with open(server.repo / "door/1.0.0.fs.bin", "wb") as file:
                    file.write(data[:half])
                    file.flush()
                    time.sleep(2)
                    file.write(data[half:])
                wait_until(lambda: watcher.whole, "the whole image to be served")
            assert watcher.wrong == [] and watcher.asked > 20


def test_file_appended_to_and_closed_each_time(tmp_path):
    """Uploads by pieces close in between, and nothing tells that more will come but the image's own checks."""
    data = make_image("esp32", tmp_path / "made.bin", size="1M", seed=1, version="2.0.0")
    pieces = cut_up(data, 4)
    with Server(tmp_path, settle_time=f"{SETTLE_S * 1000:.0f}ms") as server:
        (server.repo / "porch").mkdir()
        with Watcher(server, "porch/2.0.0.bin", data) as watcher:
            for piece in slowly(pieces):
                with open(server.repo / "porch/2.0.0.bin", "ab") as file:
                    file.write(piece)
            wait_until(lambda: watcher.whole, "the whole image to be served", GENEROUS_S)
        assert watcher.wrong == [] and watcher.asked > 20
        assert rejections(server, "porch/2.0.0.bin") >= 1, "the pauses were too short to prove anything"


def test_overwritten_slowly_in_place(tmp_path):
    """While new bytes go over the old ones, no mixture may be served: the old image until the server sees the change,
    then none, then the new one."""
    old = make_image("spiffs", tmp_path / "made.bin", size="4M", chip="esp8266", seed=1)
    new = make_image("spiffs", tmp_path / "made.bin", size="4M", chip="esp8266", seed=2)
    path = tmp_path / "firmware/door/1.0.0.fs.bin"
    path.parent.mkdir(parents=True)
    path.write_bytes(old)
    with Server(tmp_path, settle_time=f"{SETTLE_S * 1000:.0f}ms", image_idle="0s") as server:
        with Watcher(server, "door/1.0.0.fs.bin", new, before=old) as watcher:
            with open(path, "r+b") as file:
                for piece in slowly(cut_up(new, 4)):
                    file.write(piece)
                    file.flush()
            wait_until(lambda: watcher.whole, "the new image to be served", GENEROUS_S)
        assert watcher.wrong == [] and watcher.asked > 20

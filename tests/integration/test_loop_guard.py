"""A device that flashes an image and comes back as if it had not would flash it for ever, until its flash wears out."""

import signal

from tests.support.download import Download, assert_whole
from tests.support.updraft import ESP32, Server, check, make_image, wait_until


def served_whole(server, path, data, headers=None, **changes):
    """One update that goes through, and is counted, before the next check."""
    before = server.log().count("event=update_sent")
    reply = check(server, path, **({"headers": headers} if headers else {}), **changes)
    assert_whole(reply, data)
    wait_until(lambda: server.log().count("event=update_sent") > before, "the transfer to be counted")
    return reply.reason


def test_sketch_that_never_starts(tmp_path):
    """Unknown digest, and a version that never changes: three times, then no more, and the log says so."""
    data = make_image("esp8266", tmp_path / "firmware/door/2.0.0.bin", seed=1)
    with Server(tmp_path, loop_guard=3, log_level="info") as server:
        for _ in range(3):
            assert served_whole(server, "/update/door", data) == "newer"
        for _ in range(2):
            held = check(server, "/update/door")
            assert (held.status, held.reason) == (304, "loop-guard")
        server.wait_log("event=check reason=loop-guard status=304 device=5ccf7fb1e042 .*sent whole 3 times and asked for again; the next try is in 60 min")

        # It is this device's matter, and this image's.
        assert served_whole(server, "/update/door", data, mac="5C:CF:7F:B1:E0:43") == "newer"
        new = make_image("esp8266", tmp_path / "firmware/door/2.0.1.bin", seed=2)
        server.wait_log("event=image_added file=door/2.0.1.bin")
        assert served_whole(server, "/update/door", new) == "newer"


def test_image_built_anew_under_the_same_name(tmp_path):
    """The fix of a sketch that failed to start often has the same version."""
    path = tmp_path / "firmware/door/2.0.0.bin"
    data = make_image("esp8266", path, seed=1)
    with Server(tmp_path, loop_guard=1) as server:
        served_whole(server, "/update/door", data)
        assert check(server, "/update/door").reason == "loop-guard"
        fixed = make_image("esp8266", path, seed=2)
        wait_until(lambda: "read=1" in server.log().rpartition("event=catalog_published")[2]
                   and server.log().count("read=1") == 2, "the new bytes to be read")
        assert served_whole(server, "/update/door", fixed) == "newer"


def test_transfers_that_were_cut_do_not_count(tmp_path):
    """A weak link is no failing sketch: it may try as often as it needs."""
    data = make_image("esp8266", tmp_path / "firmware/door/2.0.0.bin", size="900K", seed=1)
    with Server(tmp_path, loop_guard=1) as server:
        for i in range(3):
            Download(server, "/update/door").started().reset()
            wait_until(lambda: server.log().count("event=update_cut") == i + 1, "the cut to be seen")
        assert served_whole(server, "/update/door", data) == "newer"
        assert check(server, "/update/door").reason == "loop-guard"


def test_device_that_came_back_with_the_image_starts_afresh(tmp_path):
    """Updates that each took are no loop: the count is forgotten with every one that is confirmed. In between somebody
    flashes it with builds of their own: with the build from before the update it would have rolled back."""
    data = make_image("esp32", tmp_path / "firmware/porch/2.0.0.bin", seed=1)
    digest = data[-32:].hex().upper()
    with Server(tmp_path, loop_guard=2) as server:
        for build in range(4):
            served_whole(server, "/update/porch", data, ESP32, sha256=f"{build + 1:X}" * 64, md5=None)
            assert check(server, "/update/porch", ESP32, sha256=digest, md5=None).reason == "same-digest"
        assert "loop-guard" not in server.log()


def test_file_system_without_a_version(tmp_path):
    """Nothing in its check tells what file system it has: once must do. With the right version it is up to date."""
    data = make_image("littlefs", tmp_path / "firmware/door/2.0.0.fs.bin", size="64K", seed=1)
    blind = {"mode": "spiffs", "version": None}
    with Server(tmp_path, loop_guard=3) as server:
        assert served_whole(server, "/update/door", data, **blind) == "unknown-build"
        held = check(server, "/update/door", **blind)
        assert (held.status, held.reason) == (304, "loop-guard")
        server.wait_log("event=check reason=loop-guard .*mode=fs .*sent whole 1 time and asked for again without a version")
        assert check(server, "/update/door", mode="spiffs", version="2.0.0").reason == "up-to-date"
        assert served_whole(server, "/update/door", data, mac="5C:CF:7F:B1:E0:43", **blind) == "unknown-build"


def test_sketch_and_file_system_are_counted_apart(tmp_path):
    """Many sketches update the file system, then themselves: the one may not use up the other's turns."""
    fs = make_image("littlefs", tmp_path / "firmware/door/2.0.0.fs.bin", size="64K", seed=1)
    sketch = make_image("esp8266", tmp_path / "firmware/door/2.0.0.bin", seed=1)
    with Server(tmp_path, loop_guard=1) as server:
        served_whole(server, "/update/door", fs, mode="spiffs")
        assert served_whole(server, "/update/door", sketch) == "newer"
        assert check(server, "/update/door", mode="spiffs").reason == "loop-guard"


def test_number_of_turns_is_reloaded(tmp_path):
    """An operator who lets a device try again must not have to restart the server."""
    config = tmp_path / "updraft.ini"
    config.write_text("loop-guard = 1\n")
    data = make_image("esp8266", tmp_path / "firmware/door/2.0.0.bin", seed=1)
    with Server(tmp_path, config=config) as server:
        served_whole(server, "/update/door", data)
        assert check(server, "/update/door").reason == "loop-guard"
        config.write_text("loop-guard = 5\n")
        server.process.send_signal(signal.SIGHUP)
        server.wait_log("event=reloaded")
        assert check(server, "/update/door").reason == "newer"

"""A download lasts minutes on a weak link, and the repository does not stand still meanwhile: what has begun must end
as it began, or the device gets an image that is part old, part new."""

import os
import re
import time

import pytest

from tests.support.download import LARGE, Download, assert_whole, descriptors, images_in_memory, md5
from tests.support.updraft import ESP8266, Reply, Server, check, device_request, make_image, wait_until

STALLS_S = 6


def replace(path):
    make_image("esp8266", path, size=LARGE, seed=2)


def truncate(path):
    os.truncate(path, 5000)


def overwrite(path):
    other = make_image("esp8266", path.parents[2] / "other.bin", size=LARGE, seed=2)
    with open(path, "r+b") as file:
        file.write(other)


# What happens to the file, and the word of the log that says the server has noticed.
CHANGES = {
    "replaced": (replace, "image_added|image_replaced"),
    "truncated": (truncate, "image_rejected"),
    "deleted": (os.unlink, "image_removed"),
    "overwritten in place": (overwrite, "image_added|image_replaced"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_download_ends_as_it_began(tmp_path, change):
    """A served file is torn when the server reads it again after the head was sent."""
    path = tmp_path / "firmware/door/2.0.0.bin"
    data = make_image("esp8266", path, size=LARGE, seed=1)
    act, word = CHANGES[change]
    with Server(tmp_path) as server:
        download = Download(server, "/update/door").started()
        act(path)
        server.wait_log(f"event=({word}) file=door/2.0.0.bin")
        assert_whole(download.finish(), data)
        server.wait_log(rf"event=update_sent .*bytes={len(data)}")


def test_new_bytes_for_who_asks_later(tmp_path):
    """Old and new are served side by side, each whole: the catalog may not be swapped under a download."""
    path = tmp_path / "firmware/door/2.0.0.bin"
    old = make_image("esp8266", path, size=LARGE, seed=1)
    with Server(tmp_path) as server:
        early = Download(server, "/update/door").started()
        new = make_image("esp8266", path, size=LARGE, seed=2)
        assert old != new
        server.wait_log("event=image_(added|replaced)")
        late = Download(server, "/update/door").started()
        assert images_in_memory(server) == 2
        assert_whole(early.finish(), old)
        assert_whole(late.finish(), new)


def test_many_downloads_share_one_copy(tmp_path):
    """A fleet that asks at once must not take its number times the image's size; nor may idle images stay for ever."""
    data = make_image("esp8266", tmp_path / "firmware/door/2.0.0.bin", size=LARGE, seed=1)
    with Server(tmp_path, image_idle="300ms") as server:
        downloads = [Download(server, "/update/door", mac=f"5C:CF:7F:00:00:{i:02X}").started() for i in range(20)]
        assert images_in_memory(server) == 1, descriptors(server)
        for download in downloads:
            assert_whole(download.finish(), data)
        wait_until(lambda: images_in_memory(server) == 0, "the image's memory to be let go")
        assert_whole(check(server, "/update/door"), data)  # and back again when it is wanted


def test_who_reads_is_not_slowed_by_many_who_do_not(tmp_path):
    """Where many are sending, the system holds little of each. Pieces smaller than a segment must go out all the same:
    held back until a segment is full, they wait for the system's timer, 200 ms and more for each 32 KiB."""
    data = make_image("esp8266", tmp_path / "firmware/door/2.0.0.bin", size=LARGE, seed=1)
    with Server(tmp_path) as server:
        slow = [Download(server, "/update/door", mac=f"5C:CF:7F:00:01:{i:02X}").started() for i in range(140)]
        began = time.monotonic()
        assert_whole(check(server, "/update/door"), data)
        assert time.monotonic() - began < STALLS_S, "some 50 ms is right, 12 s of the timer is not"
        for download in slow:
            download.reset()


def test_image_memory_has_a_limit(tmp_path):
    """Beyond --image-memory an updater hears "not now", anyone else when to come again; nobody gets a broken body."""
    for name, seed in (("a", 1), ("b", 2)):
        make_image("littlefs", tmp_path / f"firmware/{name}/1.fs.bin", size="20M", seed=seed)
    b_data = (tmp_path / "firmware/b/1.fs.bin").read_bytes()
    fs_check = {"mode": "spiffs", "version": "0.5", "flash": 32 << 20}
    with Server(tmp_path, image_memory="32M") as server:
        first = Download(server, "/update/a", **fs_check).started()

        updater = check(server, "/update/b", **fs_check)
        assert (updater.status, updater.reason) == (304, "not-yet")
        plain = Reply(server.ask(b"GET /firmware/b/1.fs.bin HTTP/1.0\r\n\r\n"))
        assert (plain.status, plain.reason) == (503, "not-yet")
        assert int(plain.headers["Retry-After"]) > 0
        assert "x-MD5" not in plain.headers
        server.wait_log(r"event=check reason=not-yet .*image=b/1\.fs\.bin why=.image-memory")

        assert first.finish().status == 200
        server.wait_log("event=update_sent")
        assert_whole(check(server, "/update/b", **fs_check), b_data)


def test_device_that_drops_off_is_told_from_one_that_got_all(tmp_path):
    """Whether the image arrived is what the loop guard and every later rollout build upon."""
    data = make_image("esp8266", tmp_path / "firmware/door/2.0.0.bin", size=LARGE, seed=1)
    with Server(tmp_path) as server:
        Download(server, "/update/door", mac="5C:CF:7F:00:00:01").started().read(100000).reset()
        cut = server.wait_log(r"event=update_cut device=5ccf7f000001 .*bytes=(\d+) of=(\d+) why=")
        # Of the last segment, on loopback up to 64 KiB, the acknowledgement may not have been sent yet.
        assert 100000 - 65536 <= int(cut.group(1)) < int(cut.group(2)) == len(data)

        gone = Download(server, "/update/door", mac="5C:CF:7F:00:00:02").started()
        gone.socket.close()  # with bytes unread: the system resets for it
        server.wait_log(r"event=update_cut device=5ccf7f000002 ")

        assert_whole(check(server, "/update/door", mac="5C:CF:7F:00:00:03"), data)
        server.wait_log(rf"event=update_sent device=5ccf7f000003 .*bytes={len(data)} ")
        assert server.log().count("event=update_sent") == 1


def test_last_bytes_lost_are_not_called_sent(tmp_path):
    """All handed to the kernel is not all received: the end of an image smaller than the send buffer."""
    make_image("esp8266", tmp_path / "firmware/door/2.0.0.bin", size="400K", seed=1)
    with Server(tmp_path) as server:
        Download(server, "/update/door").started().reset()
        cut = server.wait_log(r"event=update_(cut|sent) .*bytes=(\d+)")
        assert cut.group(1) == "cut", server.log()


def test_device_that_left_while_its_image_was_read_has_nothing(tmp_path):
    """It asked and closed: the kernel takes a small image all the same, and nobody is there to receive it."""
    make_image("esp8266", tmp_path / "firmware/door/2.0.0.bin", size="400K", seed=1)
    with Server(tmp_path, transfer_timeout="1s") as server:
        for headers in (ESP8266, {**ESP8266, "Connection": "keep-alive"}):
            with server.connect() as connection:
                connection.sendall(device_request("/update/door", headers, http="1.1"))
        wait_until(lambda: len(re.findall("event=update_(cut|sent)", server.log())) == 2, "both outcomes")
        assert "event=update_sent" not in server.log()


def test_device_that_keeps_its_connection_open_is_done(tmp_path):
    """Devices restart without closing: their acknowledgement of the last byte has to do."""
    data = make_image("esp8266", tmp_path / "firmware/door/2.0.0.bin", size=LARGE, seed=1)
    with Server(tmp_path, transfer_timeout="10m", drain_timeout="10m") as server:
        download = Download(server, "/update/door").started()
        assert_whole(download.finish_body(), data)
        server.wait_log("event=update_sent")  # our side is still open
        server.stop()
        download.socket.close()


def test_kept_connection_takes_one_download_after_the_other(tmp_path):
    """The bytes of two answers on one connection may neither mix nor be counted to the wrong one."""
    a = make_image("esp8266", tmp_path / "firmware/a/2.bin", size=LARGE, seed=1)
    b = make_image("esp8266", tmp_path / "firmware/b/2.bin", size=LARGE, seed=2)
    headers = {**ESP8266, "Connection": "keep-alive"}
    both = b"".join(device_request(f"/update/{name}", headers, http="1.1") for name in "ab")
    with Server(tmp_path) as server:
        download = Download(server, None, request=both)
        first = download.started().finish_body()
        download.data = download.data[len(download.data) - len(first.rest):]
        assert_whole(first, a)
        assert_whole(download.started().finish_body(), b)
        download.socket.close()
        wait_until(lambda: server.log().count("event=update_sent") == 2, "both to be counted as sent")
    assert md5(a) != md5(b)

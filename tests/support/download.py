"""Downloads that last as long as a test wants, and what the kernel tells of the server meanwhile."""

import hashlib
import os
import pathlib
import socket

from tests.support.updraft import ESP8266, PATIENCE_S, Reply, device_request, read_to_end

# Larger than all buffers on the way (the server's 512 KiB to send, ours to receive), within an ESP8266's free space.
LARGE = "1900K"
RECEIVE_BUFFER = 64 << 10


def md5(data):
    return hashlib.md5(data).hexdigest()


class Download:
    """Asks, and reads only as far as it is told to: the rest stays in flight."""

    def __init__(self, server, path, headers=ESP8266, request=None, **changes):
        self.socket = socket.socket()
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
        self.socket.settimeout(PATIENCE_S)
        self.socket.connect(("127.0.0.1", server.port))
        self.socket.sendall(request or device_request(path, headers, **changes))
        self.data = b""

    def read(self, more):
        """Reads `more` bytes of what is still to come, or to its end."""
        wanted = len(self.data) + more
        while len(self.data) < wanted:
            piece = self.socket.recv(min(wanted - len(self.data), 65536))
            if not piece:
                break
            self.data += piece
        return self

    def started(self):
        """Reads the head and a little of the body, which is then surely under way."""
        while b"\r\n\r\n" not in self.data:
            piece = self.socket.recv(1024)
            assert piece, f"ended before the head was whole: {self.data!r}"
            self.data += piece
        assert self.reply.status == 200, self.reply.status_line
        return self.read(1024)

    @property
    def reply(self):
        return Reply(self.data)

    def finish(self):
        """The rest, up to the end of the connection."""
        with self.socket:
            self.data += read_to_end(self.socket)
        return self.reply

    def finish_body(self):
        """The rest of this answer, on a connection that is kept."""
        head = self.data.index(b"\r\n\r\n") + 4
        self.read(head + int(self.reply.headers["Content-Length"]) - len(self.data))
        return self.reply

    def reset(self):
        """Goes away as a device that loses its power does, as far as the server can tell: by a reset."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self.socket.close()


def assert_whole(reply, data):
    """The answer announced and carried exactly these bytes."""
    assert reply.status == 200, reply.status_line
    assert reply.headers["Content-Length"] == str(len(data))
    assert reply.headers["x-MD5"] == md5(data)
    assert len(reply.body) == len(data) and md5(reply.body) == md5(data)
    assert reply.rest == b""


def descriptors(server):
    """What each descriptor of the server is: {number: target}."""
    folder = pathlib.Path(f"/proc/{server.process.pid}/fd")
    found = {}
    for name in os.listdir(folder):
        try:
            found[int(name)] = os.readlink(folder / name)
        except FileNotFoundError:
            pass  # closed since it was listed
    return found


def images_in_memory(server):
    return sum("memfd:updraft-image" in target for target in descriptors(server).values())


def cpu_seconds(server):
    """Processor time used so far, by user and system together."""
    stat = pathlib.Path(f"/proc/{server.process.pid}/stat").read_text()
    fields = stat.rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident_kib(server):
    status = pathlib.Path(f"/proc/{server.process.pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0])

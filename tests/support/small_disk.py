"""A disk that a test can fill: a small tmpfs in a mount namespace of its own, gone with the process that holds it.

    with SmallDisk(folder / "state", "4m") as disk:
        Server(folder, preexec_fn=disk.enter, admin_socket=folder / "admin.sock")
        disk.fill()

Without root the namespace belongs to a user namespace of its own, where the kernel allows that. Others see what is on it
through disk.path alone."""

import ctypes
import os
import pathlib
import subprocess

LIBC = ctypes.CDLL(None, use_errno=True)
KIND = ["-m"] if os.getuid() == 0 else ["-rm"]


def why_not():
    """Why the kernel does not let us have one; None where it does."""
    tried = subprocess.run(["unshare", *KIND, "mount", "-t", "tmpfs", "tmpfs", "/tmp"], capture_output=True, text=True)
    return None if tried.returncode == 0 else f"no mount namespace, or no tmpfs in one: {tried.stderr.strip()}"


class SmallDisk:
    def __init__(self, folder, size):
        folder = pathlib.Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        script = 'mount -t tmpfs -o "size=$1,mode=700" tmpfs "$2" && echo up && exec sleep infinity'
        self.holder = subprocess.Popen(["unshare", *KIND, "sh", "-c", script, "sh", size, folder],
                                       stdout=subprocess.PIPE, text=True)
        assert self.holder.stdout.readline() == "up\n"
        self.folder = folder
        self.path = pathlib.Path(f"/proc/{self.holder.pid}/root{folder}")

    def enter(self):
        """For Popen's preexec_fn: the process then has it where the folder is."""
        for kind in ["user"] * (os.getuid() != 0) + ["mnt"]:
            descriptor = os.open(f"/proc/{self.holder.pid}/ns/{kind}", os.O_RDONLY)
            if LIBC.setns(descriptor, 0) != 0:
                raise OSError(ctypes.get_errno(), f"setns {kind}")
            os.close(descriptor)

    def fill(self):
        """To the last byte."""
        with open(self.path / "filling", "ab", buffering=0) as file:
            for piece in (b"\0" * 4096, b"\0"):
                try:
                    while True:
                        file.write(piece)
                except OSError:
                    pass

    def empty(self):
        (self.path / "filling").unlink()

    def read_only(self):
        subprocess.run(["mount", "-o", "remount,ro", self.folder], preexec_fn=self.enter, check=True)

    def writable(self):
        subprocess.run(["mount", "-o", "remount,rw", self.folder], preexec_fn=self.enter, check=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.holder.kill()
        self.holder.wait()
        self.holder.stdout.close()

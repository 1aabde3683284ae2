"""Networks of a test's own: network namespaces with links between them, gone with the processes that hold them.

    with Networks() as networks:
        networks.add("server")
        networks.add("devices")
        networks.link("server", "lan0", "10.71.1.1/24", "devices", "10.71.1.2/24", bridge=True)
        Server(folder, preexec_fn=networks.enter("server"), listen="0.0.0.0:0")

Without root the namespaces belong to a user namespace of their own, where the kernel allows that."""

import ctypes
import os
import shutil
import subprocess

PATH = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
IP = shutil.which("ip", path=PATH)
LIBC = ctypes.CDLL(None, use_errno=True)


def why_not():
    """Why the kernel does not let us have networks of our own; None where it does."""
    unshare = ["unshare", "-n"] if os.getuid() == 0 else ["unshare", "-rn"]
    tried = subprocess.run([*unshare, IP, "link", "add", "probe0", "type", "bridge"], capture_output=True, text=True)
    return None if tried.returncode == 0 else f"no network namespace, or no bridge in one: {tried.stderr.strip()}"


class Networks:
    def __init__(self):
        self.holders = {}
        self.links = 0

    def add(self, name):
        """A namespace whose own loopback is up. The first is made with a user namespace where we are not root."""
        first = next(iter(self.holders), None)
        words = ["unshare", "-n"] if os.getuid() == 0 or first else ["unshare", "-rn"]
        script = f"{IP} link set lo up && echo up && exec sleep infinity"
        self.holders[name] = subprocess.Popen([*words, "sh", "-c", script], stdout=subprocess.PIPE, text=True,
                                              preexec_fn=self.enter(first, network=False) if first else None)
        assert self.holders[name].stdout.readline() == "up\n", name

    def enter(self, name, network=True):
        """For Popen's preexec_fn: the process then lives there."""
        kinds = (["user"] if os.getuid() != 0 else []) + (["net"] if network else [])

        def move():
            for kind in kinds:
                descriptor = os.open(f"/proc/{self.holders[name].pid}/ns/{kind}", os.O_RDONLY)
                if LIBC.setns(descriptor, 0) != 0:
                    raise OSError(ctypes.get_errno(), f"setns {kind}")
                os.close(descriptor)

        return move

    def run(self, name, *words):
        """A command there; what it prints."""
        done = subprocess.run([str(word) for word in words], preexec_fn=self.enter(name), capture_output=True, text=True)
        assert done.returncode == 0, (words, done.stderr)
        return done.stdout

    def link(self, name, interface, address, other, other_address, bridge=False):
        """A cable between two of them. The near end is `interface`, or a bridge of that name with the cable in it; the
        far end is eth0, and more of them eth1, …"""
        near = f"port{self.links}" if bridge else interface
        far = f"eth{self.run(other, IP, '-o', 'link').count('eth')}"
        self.links += 1
        self.run(name, IP, "link", "add", near, "type", "veth", "peer", "name", far, "netns", self.holders[other].pid)
        if bridge:
            self.run(name, IP, "link", "add", interface, "type", "bridge")
            self.run(name, IP, "link", "set", near, "master", interface, "up")
        self.run(name, IP, "address", "add", address, "dev", interface)
        self.run(name, IP, "link", "set", interface, "up")
        self.run(other, IP, "address", "add", other_address, "dev", far)
        self.run(other, IP, "link", "set", far, "up")

    def close(self):
        for holder in self.holders.values():
            holder.kill()
            holder.wait()
            holder.stdout.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

"""The servers that are measured: ours, and those beside it, each a process of our own, from a configuration of our own, in
a folder of our own, ended by its process: whatever nginx or lighttpd the system runs is neither used nor touched.

What makes it hard is to be fair: each has one worker, no log of accesses, the file through sendfile, and for the check
an answer that is constant, the cheapest 304 it knows.

A bench says what is served (`Served`), and for the others what is special about a listener: `Door(name, " ssl", lines)`
for nginx, `lines` for lighttpd."""

import contextlib
import dataclasses
import getpass
import grp
import os
import pathlib
import socket
import subprocess
import sys
import time

import machine
import updraft

OURS, NGINX, LIGHTTPD = "updraftd", "nginx", "lighttpd"
SPARE = 2048  # descriptors beyond those of the connections

NGINX_CONFIG = """{user}daemon off;
worker_processes 1;
worker_rlimit_nofile {descriptors};
pid {folder}/pid;
error_log {folder}/error.log;
events {{ worker_connections {connections}; }}
http {{
    access_log off;
    default_type application/octet-stream;
    sendfile on;
    keepalive_requests 1000000000;
    open_file_cache max=16 inactive=1h;
    open_file_cache_valid 1h;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
{servers}}}
"""

NGINX_SERVER = """    server {{
        listen 127.0.0.1:{port}{options};
        {lines}
        location = {check} {{ return 304; }}
        location = {download} {{ alias {image}; }}
    }}
"""

# A redirection with this status is lighttpd's constant answer; it also sends a Location. A file whose ETag the client
# has costs it the same, within noise. Its count of requests on a connection has sixteen bits: it ends none in a run.
LIGHTTPD_CONFIG = """server.modules = ("mod_alias", "mod_redirect")
server.bind = "127.0.0.1"
server.port = {port}
server.document-root = "{folder}"
server.errorlog = "{folder}/error.log"
server.network-backend = "sendfile"
server.max-connections = {connections}
server.max-fds = {descriptors}
server.max-keep-alive-requests = 65535
mimetype.assign = ("" => "application/octet-stream")
alias.url = ("{download}" => "{image}")
$HTTP["url"] == "{check}" {{
    url.redirect = ("" => "/")
    url.redirect-code = 304
}}
{lines}
"""


@dataclasses.dataclass(frozen=True)
class Served:
    """The paths of a check and of a download, and the file that is downloaded."""
    check: str
    download: str
    image: pathlib.Path


@dataclasses.dataclass(frozen=True)
class Door:
    """A listener of nginx: what stands behind its port, and the lines of its server."""
    name: str
    options: str = ""
    lines: str = ""


class Measured:
    """A server with a name, a port and the process whose time and memory count."""

    def __init__(self, name, port, pid):
        self.name, self.port, self.pid = name, port, pid

    def cpu_s(self):
        return machine.cpu_s(self.pid)

    def rss_kib(self):
        return machine.memory_kib(self.pid)["Rss"]

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.pid}/fd"))


@contextlib.contextmanager
def running(command, pin, **how):
    """Ours to end, by its process, whatever happens."""
    process = subprocess.Popen([str(word) for word in command], preexec_fn=pin, **how)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.terminate()
        process.wait(60)


def wait_for(process, condition):
    """The condition's value as soon as it is true."""
    for _ in range(500):
        if process.poll() is not None:
            break
        value = condition()
        if value:
            return value
        time.sleep(0.02)
    sys.exit(f"bench: {process.args[0]} did not start; its own words are above")


def worker_of(master):
    children = pathlib.Path(f"/proc/{master.pid}/task/{master.pid}/children").read_text().split()
    return int(children[0]) if children else None


def listens(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@contextlib.contextmanager
def ours(folder, pin, name=OURS, **flags):
    with updraft.Server(folder, log_level="info", peer_connections=0, preexec_fn=pin, **flags) as server:
        yield Measured(name, server.port, server.process.pid)


@contextlib.contextmanager
def nginx(folder, served, doors, pin, connections=4096):
    """One process, with a port for each door; its worker is what is measured."""
    folder.mkdir()
    ports = machine.free_ports(len(doors))
    servers = "".join(NGINX_SERVER.format(port=port, options=door.options, lines=door.lines,
                                          **dataclasses.asdict(served)) for port, door in zip(ports, doors))
    # Started by root, the worker would become another user, who may not read the folder.
    user = f"user {getpass.getuser()} {grp.getgrgid(os.getgid()).gr_name};\n" if os.geteuid() == 0 else ""
    config = folder / "nginx.conf"
    config.write_text(NGINX_CONFIG.format(user=user, folder=folder, servers=servers, connections=connections,
                                          descriptors=connections + SPARE))
    command = [machine.find_program("nginx"), "-c", config, "-p", folder, "-e", folder / "error.log"]
    with running(command, pin) as master:
        worker = wait_for(master, lambda: worker_of(master))
        yield [Measured(door.name, port, worker) for port, door in zip(ports, doors)]


@contextlib.contextmanager
def lighttpd(folder, served, pin, connections=2048, name=LIGHTTPD, lines=""):
    folder.mkdir()
    [port] = machine.free_ports(1)
    config = folder / "lighttpd.conf"
    config.write_text(LIGHTTPD_CONFIG.format(port=port, folder=folder, connections=connections, lines=lines,
                                             descriptors=connections + SPARE, **dataclasses.asdict(served)))
    with running([machine.find_program("lighttpd"), "-D", "-f", config], pin) as process:
        wait_for(process, lambda: listens(port))
        yield [Measured(name, port, process.pid)]

"""The servers that updraftd is measured beside, each a process of our own, from a configuration of our own, in a folder
of our own, ended by its process: whatever nginx or lighttpd the system runs is neither used nor touched.

What makes it hard is to be fair: each has one worker, no log of accesses, the file through sendfile, and for the check
an answer that is constant, the cheapest 304 it knows."""

import contextlib
import getpass
import grp
import os
import pathlib
import socket
import subprocess
import sys
import time

import machine

NGINX, NGINX_NOPUSH, LIGHTTPD = "nginx", "nginx, tcp_nopush", "lighttpd"

NGINX_CONFIG = """{user}daemon off;
worker_processes 1;
pid {folder}/pid;
error_log {folder}/error.log;
events {{ worker_connections 4096; }}
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
        listen 127.0.0.1:{port};
        tcp_nopush {nopush};
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
server.max-connections = 2048
server.max-fds = 4096
server.max-keep-alive-requests = 65535
mimetype.assign = ("" => "application/octet-stream")
alias.url = ("{download}" => "{image}")
$HTTP["url"] == "{check}" {{
    url.redirect = ("" => "/")
    url.redirect-code = 304
}}
"""


class Measured:
    """A server with a name, a port and the process whose time counts."""

    def __init__(self, name, port, pid):
        self.name, self.port, self.pid = name, port, pid

    def cpu_s(self):
        return machine.cpu_s(self.pid)

    def rss_kib(self):
        return machine.memory_kib(self.pid)["Rss"]


@contextlib.contextmanager
def running(command, pin):
    process = subprocess.Popen(command, preexec_fn=pin)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.terminate()
        process.wait(10)


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
def nginx(folder, image, check, download, pin):
    """Two servers of one process: `check` and `download` are paths, `image` the file."""
    folder.mkdir()
    ports = machine.free_ports(2)
    servers = "".join(NGINX_SERVER.format(port=port, nopush=nopush, check=check, download=download, image=image)
                      for port, nopush in zip(ports, ("off", "on")))
    # Started by root, the worker would become another user, who may not read the folder.
    user = f"user {getpass.getuser()} {grp.getgrgid(os.getgid()).gr_name};\n" if os.geteuid() == 0 else ""
    config = folder / "nginx.conf"
    config.write_text(NGINX_CONFIG.format(user=user, folder=folder, servers=servers))
    command = [machine.find_program("nginx"), "-c", config, "-p", folder, "-e", folder / "error.log"]
    with running(command, pin) as master:
        worker = wait_for(master, lambda: worker_of(master))
        yield [Measured(NGINX, ports[0], worker), Measured(NGINX_NOPUSH, ports[1], worker)]


@contextlib.contextmanager
def lighttpd(folder, image, check, download, pin):
    folder.mkdir()
    port = machine.free_ports(1)[0]
    config = folder / "lighttpd.conf"
    config.write_text(LIGHTTPD_CONFIG.format(port=port, folder=folder, image=image, check=check, download=download))
    with running([machine.find_program("lighttpd"), "-D", "-f", config], pin) as process:
        wait_for(process, lambda: listens(port))
        yield [Measured(LIGHTTPD, port, process.pid)]


@contextlib.contextmanager
def all_peers(folder, image, check, download, pin):
    with nginx(folder / "nginx", image, check, download, pin) as two, \
         lighttpd(folder / "lighttpd", image, check, download, pin) as one:
        yield two + one

"""The servers that script/bench slow measures, each started on loopback with room for so many connections, from a
configuration of our own, and ended by its process: whatever the system runs of them is neither used nor touched."""

import contextlib
import getpass
import grp
import os
import pathlib
import re
import shutil
import socket
import subprocess
import sys
import time

import updraft

PATH = os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin"  # Debian keeps servers where a user's PATH does not look
SPARE = 1000  # connections and descriptors beyond the slow ones

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
    tcp_nopush {nopush};
    keepalive_requests 1000000000;
    open_file_cache max=16 inactive=1h;
    open_file_cache_valid 1h;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    server {{
        listen 127.0.0.1:{port} backlog=4096{listen};
        location = /update/d1_mini {{ return 304; }}
        location = /latest/d1_mini.bin {{ alias {image}; }}
    }}
}}
"""

LIGHTTPD_CONFIG = """server.document-root = "{folder}"
server.bind = "127.0.0.1"
server.port = {port}
server.errorlog = "{folder}/error.log"
server.modules = ( "mod_redirect", "mod_alias" )
server.network-backend = "sendfile"
server.listen-backlog = 4096
server.max-fds = {descriptors}
server.max-connections = {connections}
server.max-keep-alive-requests = 1000000000
mimetype.assign = ( "" => "application/octet-stream" )
alias.url = ( "/latest/d1_mini.bin" => "{image}" )
url.redirect-code = 304
url.redirect = ( "^/update/d1_mini$" => "/" )
"""


class Measured:
    """A server with a name, a port and the process that holds the connections."""

    def __init__(self, name, port, pid):
        self.name, self.port, self.pid = name, port, pid

    def cpu_s(self):
        fields = pathlib.Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def rss(self):
        status = pathlib.Path(f"/proc/{self.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+) kB", status).group(1)) * 1024

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.pid}/fd"))


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as each:
        return each.getsockname()[1]


def wait_for_worker(master):
    children = pathlib.Path(f"/proc/{master.pid}/task/{master.pid}/children")
    while master.poll() is None:
        found = children.read_text().split()
        if found:
            return int(found[0])
        time.sleep(0.02)
    sys.exit("bench: nginx ended at once; its own words are above")


@contextlib.contextmanager
def ended(process):
    """Ours to end, by its process, whatever happens."""
    try:
        yield process
    finally:
        if process.poll() is None:
            process.terminate()
        process.wait(60)


@contextlib.contextmanager
def updraftd(name, image, folder, options, pin):
    with updraft.Server(folder, repo=image.parent, log_level="info", preexec_fn=pin) as server:
        yield Measured(name, server.port, server.process.pid)


def nginx(nopush, listen):
    @contextlib.contextmanager
    def running(name, image, folder, options, pin):
        port, config = free_port(), folder / "nginx.conf"
        # Started by root, the worker would become another user, who may not read the folder.
        user = f"user {getpass.getuser()} {grp.getgrgid(os.getgid()).gr_name};\n" if os.geteuid() == 0 else ""
        config.write_text(NGINX_CONFIG.format(
            user=user, folder=folder, port=port, image=image, nopush=nopush, listen=listen,
            connections=options.connections + SPARE, descriptors=options.connections + 2 * SPARE))
        command = [shutil.which("nginx", path=PATH), "-c", config, "-p", folder, "-e", folder / "error.log"]
        with ended(subprocess.Popen(command, preexec_fn=pin)) as master:
            yield Measured(name, port, wait_for_worker(master))
    return running


@contextlib.contextmanager
def lighttpd(name, image, folder, options, pin):
    port, config = free_port(), folder / "lighttpd.conf"
    config.write_text(LIGHTTPD_CONFIG.format(folder=folder, port=port, image=image,
                                             connections=options.connections + SPARE,
                                             descriptors=options.connections + 2 * SPARE))
    with ended(subprocess.Popen([shutil.which("lighttpd", path=PATH), "-D", "-f", config], preexec_fn=pin)) as server:
        yield Measured(name, port, server.pid)


# name, program (None = ours), how to run it. nginx with small send buffers is what one would set for slow devices.
SERVERS = [
    ("updraftd", None, updraftd),
    ("nginx", "nginx", nginx("on", "")),
    ("nginx-sndbuf", "nginx", nginx("on", " sndbuf=32k")),
    ("lighttpd", "lighttpd", lighttpd),
]

"""TLS for a test: certificates made by script/dev-cert, a server behind its TLS door, and a relay that looks at the
records on the wire."""

import re
import socket
import ssl
import subprocess
import threading

from tests.support.admin import Admin
from tests.support.updraft import ESP8266, PATIENCE_S, ROOT, Reply, Server, device_request, read_to_end, wait_until


def dev_cert(folder, *words):
    """script/dev-cert into a folder, which is returned."""
    subprocess.run([ROOT / "script/dev-cert", "--dir", folder, *words], check=True, capture_output=True, timeout=PATIENCE_S)
    return folder


def openssl(*words, text=None):
    done = subprocess.run(["openssl", *map(str, words)], input=text, capture_output=True, timeout=PATIENCE_S)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


def sign(folder, name, subject, alternative=None, start=None, end="20991231235959Z", purpose="clientAuth"):
    """A certificate of the authority in `folder`, of odd times or names: folder/name.pem and .key."""
    (folder / "index.txt").write_text("")
    (folder / "serial").write_text("10\n")
    config = folder / "odd.cnf"
    config.write_text(f"""[ca]
default_ca = ours
[ours]
database = {folder}/index.txt
serial = {folder}/serial
new_certs_dir = {folder}
certificate = {folder}/ca.pem
private_key = {folder}/ca.key
default_md = sha256
default_days = 30
default_crl_days = 30
unique_subject = no
policy = any
x509_extensions = leaf
[any]
commonName = supplied
[leaf]
basicConstraints = CA:FALSE
extendedKeyUsage = {purpose}
{f"subjectAltName = {alternative}" if alternative else ""}
""")
    openssl("req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", f"/CN={subject}",
            "-keyout", folder / f"{name}.key", "-out", folder / f"{name}.csr")
    openssl("ca", "-batch", "-notext", "-config", config, "-in", folder / f"{name}.csr", "-out", folder / f"{name}.pem",
            "-startdate", start or "20200101000000Z", "-enddate", end)
    return folder / f"{name}.pem"


class TlsServer(Server):
    """As Server, with a TLS door and the certificates in `certs`; `kinds` are the certificates' names."""

    def __init__(self, folder, certs, kinds=("server",), **flags):
        flags = {"tls_listen": "127.0.0.1:0", "tls_cert": [certs / f"{kind}.pem" for kind in kinds],
                 "tls_key": [certs / f"{kind}.key" for kind in kinds], **flags}
        self.certs = certs
        super().__init__(folder, **flags)
        for line in self.said:
            found = re.match(r"listening https .*:(\d+)$", line)
            if found:
                self.tls_port = int(found.group(1))

    def context(self, version=None, ciphers=None, certificate=None):
        context = ssl.create_default_context(cafile=self.certs / "ca.pem")
        context.options &= ~ssl.OP_IGNORE_UNEXPECTED_EOF  # a cut shall be one
        if version is not None:
            context.minimum_version = context.maximum_version = version
        if ciphers is not None:
            context.set_ciphers(ciphers)
        if certificate is not None:
            context.load_cert_chain(certificate, certificate.with_suffix(".key"))
        return context

    def tls(self, context=None, port=None, session=None, name="127.0.0.1", receive=None):
        """A connection whose handshake is over. It must be ended in order: a cut is an error."""
        plain = socket.socket()
        if receive is not None:
            plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive)
        plain.settimeout(PATIENCE_S)
        plain.connect(("127.0.0.1", port or self.tls_port))
        try:
            return (context or self.context()).wrap_socket(plain, server_hostname=name, session=session,
                                                           suppress_ragged_eofs=False)
        except Exception:
            plain.close()
            raise

    def tls_ask(self, request, **how):
        """All bytes that are answered to one request on a connection of its own, which must end in order."""
        with self.tls(**how) as connection:
            connection.sendall(request)
            return read_to_end(connection)

    def tls_check(self, path="/update/door", headers=ESP8266, context=None, session=None, **changes):
        return Reply(self.tls_ask(device_request(path, headers, **changes), context=context, session=session))

    def metric(self, name):
        text = Admin(self.folder / "state/admin.sock").get("/metrics").text
        return float(re.search(rf"^{re.escape(name)} (\S+)$", text, re.M).group(1))

    def handshakes(self, result):
        return int(self.metric(f'updraft_tls_handshakes_total{{result="{result}"}}'))


def read_some(connection, wanted):
    data = b""
    while len(data) < wanted:
        data += connection.recv(min(65536, wanted - len(data)))
    return data


def session_of(server, context, **how):
    with server.tls(context, **how) as connection:
        connection.sendall(b"GET /healthz HTTP/1.0\r\n\r\n")
        try:
            while connection.recv(65536):
                pass
        except ssl.SSLError:
            pass
        return connection.session, connection.session_reused


def reload(server):
    """SIGHUP, and its effect."""
    before = server.log().count("event=reloaded")
    server.process.send_signal(1)
    wait_until(lambda: server.log().count("event=reloaded") > before, "the reload")


class Relay:
    """Stands between a client and the server's TLS door for one connection. .records are the bytes of each record that
    the server sent, as its header says, with its type: [(22, 122), (23, 535), …]; .sent is what the client sent."""

    def __init__(self, server):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.listener.settimeout(PATIENCE_S)
        self.port = self.listener.getsockname()[1]
        self.server = server
        self.records = []
        self.sent = b""
        self.waiting = b""
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        client, _ = self.listener.accept()
        self.listener.close()
        with client, socket.create_connection(("127.0.0.1", self.server.tls_port), PATIENCE_S) as server:
            back = threading.Thread(target=self.forward, args=(client, server), daemon=True)
            back.start()
            while piece := self.read(server):
                self.look(piece)
                try:
                    client.sendall(piece)
                except OSError:
                    break
            self.end(client)
            back.join(PATIENCE_S)

    def forward(self, client, server):
        while piece := self.read(client):
            self.sent += piece
            try:
                server.sendall(piece)
            except OSError:
                return
        self.end(server)

    @staticmethod
    def read(connection):
        try:
            return connection.recv(65536)
        except OSError:
            return b""

    @staticmethod
    def end(connection):
        try:
            connection.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    def look(self, piece):
        self.waiting += piece
        while len(self.waiting) >= 5:
            n = int.from_bytes(self.waiting[3:5], "big")
            if len(self.waiting) < 5 + n:
                break
            self.records.append((self.waiting[0], n))
            self.waiting = self.waiting[5 + n:]

    def join(self):
        self.thread.join(PATIENCE_S)
        assert not self.thread.is_alive() and self.waiting == b"", "the server's last record is not whole"
        return self


def s_client(port, certs, *words, request=b"", interactive=False):
    """openssl s_client: what the server answered, and what the program said. Interactive: a line that begins with R or K
    is no text but renegotiates, or changes keys."""
    line = ["openssl", "s_client", "-connect", f"127.0.0.1:{port}", "-CAfile", certs / "ca.pem", "-ign_eof", *words]
    done = subprocess.run(line if interactive else [*line, "-quiet"], input=request, capture_output=True,
                          timeout=PATIENCE_S)
    return done.stdout, done.stderr.decode()

"""The servers of a recording (`record.py`), all in one process and one network namespace.

Each is a real server of its protocol: HTTP and HTTPS (http.server), SMTP (aiosmtpd), FTP (pyftpdlib), IMAP, NTP and DNS in
the small, and a plain exchange over TCP, TLS and UDP for what keeps a connection of its own. Clients say how long an
answer they want, so that sizes and times are theirs alone. sshd and ping need no help.
"""

from __future__ import annotations

import argparse
import http.server
import socket
import socketserver
import ssl
import struct
import tempfile
import threading
import time

from aiosmtpd.controller import Controller
from pyftpdlib.authorizers import DummyAuthorizer
from pyftpdlib.handlers import FTPHandler
from pyftpdlib.servers import ThreadedFTPServer

NTP_EPOCH = 2_208_988_800  # seconds from 1900 to 1970
IP_PKTINFO = 8  # <linux/in.h>; Python has no name for it
BLOCK = bytes(range(256)) * 256


def send_octets(write, count: int) -> None:
    while count > 0:
        write(BLOCK[: min(count, len(BLOCK))])
        count -= len(BLOCK)


class Web(http.server.BaseHTTPRequestHandler):
    """`/anything?N` answers with N octets; a body is read and forgotten."""

    protocol_version = "HTTP/1.1"
    timeout = 150

    def answer(self) -> None:
        left = int(self.headers.get("Content-Length") or 0)
        while left > 0:
            left -= len(self.rfile.read(min(left, 1 << 16))) or left
        count = int(self.path.partition("?")[2] or 0)
        self.send_response(200)
        self.send_header("Content-Length", str(count))
        self.end_headers()
        send_octets(self.wfile.write, count)

    do_GET = do_POST = do_PUT = answer

    def log_message(self, *_) -> None:
        pass


class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, port: int, handler, context: ssl.SSLContext | None = None):
        super().__init__(("0.0.0.0", port), handler)
        self.context = context

    def get_request(self):
        connection, peer = super().get_request()
        if self.context:  # the handshake belongs to the connection's own thread
            connection = self.context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
        return connection, peer

    def handle_error(self, request, client_address) -> None:
        pass  # clients come and go


class Exchange(socketserver.StreamRequestHandler):
    """Messages of (octets that follow, octets wanted back), both 32 bits."""

    def handle(self) -> None:
        while len(head := self.rfile.read(8)) == 8:
            more, back = struct.unpack("!II", head)
            self.rfile.read(more)
            send_octets(self.wfile.write, back)


class Imap(socketserver.StreamRequestHandler):
    """As much of IMAP4rev1 (RFC 3501, RFC 2177) as imaplib needs: the size of a FETCH is its message number in kB."""

    def handle(self) -> None:
        say = lambda text: self.wfile.write(text.encode() + b"\r\n")
        say("* OK ready")
        for line in self.rfile:
            tag, _, command = line.decode().strip().partition(" ")
            verb = command.split(" ")[0].upper()
            if verb == "CAPABILITY":
                say("* CAPABILITY IMAP4rev1 IDLE")
            elif verb == "SELECT":
                say("* 64 EXISTS\r\n* FLAGS (\\Seen)")
            elif verb == "FETCH":
                size = 1024 * int(command.split(" ")[1])
                self.wfile.write(f"* 1 FETCH (BODY[] {{{size}}}\r\n".encode())
                send_octets(self.wfile.write, size)
                say(")")
            elif verb == "IDLE":
                say("+ idling")
                self.rfile.readline()
            elif verb == "LOGOUT":
                say("* BYE")
            say(f"{tag} OK done")
            if verb == "LOGOUT":
                return


def dns_answer(query: bytes) -> bytes:
    """An answer to one question: A for A; for TXT as many octets as the first label says after its `a`, in base 10."""
    end = query.index(0, 12) + 5
    kind = struct.unpack("!H", query[end - 4 : end - 2])[0]
    if kind == 16:
        first = query[13 : 13 + query[12]]
        size = int(first[1:]) if first[:1] == b"a" and first[1:].isdigit() else 16
        parts = [BLOCK[i : i + 200] for i in range(0, size, 200)]
        data = b"".join(bytes([len(p[: size - 200 * i])]) + p[: size - 200 * i] for i, p in enumerate(parts))
    else:
        data = b"\xc6\x33\x64\x07"
    head = query[:2] + struct.pack("!HHHHH", 0x8180, 1, 1, 0, 0)
    return head + query[12:end] + b"\xc0\x0c" + struct.pack("!HHIH", kind, 1, 60, len(data)) + data


def ntp_answer(query: bytes) -> bytes:
    now = time.time() + NTP_EPOCH
    stamp = struct.pack("!II", int(now), int(now % 1 * 2**32))
    return struct.pack("!BBbbII4s", 0x24, 2, 6, -20, 0, 16, b"GPS\0") + stamp + query[40:48] + stamp + stamp


def echo(query: bytes) -> bytes:
    """As many octets as the first two say."""
    return BLOCK[: struct.unpack("!H", query[:2])[0]]


def datagrams(port: int, answer) -> None:
    """Answers from the address that was asked: a socket of its own for each would be many."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setsockopt(socket.IPPROTO_IP, IP_PKTINFO, 1)
        sock.bind(("0.0.0.0", port))
        while True:
            query, ancillary, _, peer = sock.recvmsg(2048, 64)
            try:
                sock.sendmsg([answer(query)], ancillary, 0, peer)
            except (OSError, ValueError, IndexError, struct.error):
                pass


class Forget:
    async def handle_DATA(self, server, session, envelope) -> str:
        return "250 taken"


def ftp() -> ThreadedFTPServer:
    users = DummyAuthorizer()
    users.add_user("user", "secret", tempfile.mkdtemp(), perm="elradfmw")
    handler = type("Handler", (FTPHandler,), {"authorizer": users, "passive_ports": range(50_000, 52_000)})
    return ThreadedFTPServer(("0.0.0.0", 21), handler)


TLS_WEB, WEB = (443, 8443, 4443), (80, 8080, 9100)
TLS_EXCHANGE, EXCHANGE = (5228, 5223), (4444, 6667, 1177, 8883, 5432)
UDP = {53: dns_answer, 123: ntp_answer, 3478: echo, 10001: echo, 6668: echo}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("certificate", help="PEM with the certificate and its key")
    arguments = parser.parse_args()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(arguments.certificate)
    servers = [Server(port, Web, context) for port in TLS_WEB] + [Server(port, Web) for port in WEB]
    servers += [Server(port, Exchange, context) for port in TLS_EXCHANGE]
    servers += [Server(port, Exchange) for port in EXCHANGE] + [Server(993, Imap, context), ftp()]
    for server in servers:
        threading.Thread(target=server.serve_forever, daemon=True).start()
    for port, answer in UDP.items():
        threading.Thread(target=datagrams, args=(port, answer), daemon=True).start()
    for port in (25, 587):
        Controller(Forget(), hostname="0.0.0.0", port=port, data_size_limit=1 << 26).start()
    print("ready", flush=True)
    threading.Event().wait()


if __name__ == "__main__":
    main()

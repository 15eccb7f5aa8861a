"""Pictures from the web, without letting a request reach into the network the server stands in.

A name is resolved once, every address it has must be a public one, and the connection goes to the
very address that was checked, so that no second answer of a name server can lead elsewhere. Each
redirect is checked in the same way.
"""

from __future__ import annotations

import contextlib
import http.client
import ipaddress
import socket
import ssl
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple
from urllib.parse import SplitResult, urljoin, urlsplit

from glip.serve.refusals import Refusal

REDIRECTS = 3
PORTS = {"http": 80, "https": 443}
CHUNK = 64 * 1024

Resolve = Callable[[str, int], list[str]]
"""Addresses of a host, as text."""
Connect = Callable[[str, int, float], socket.socket]
"""A connection to an address and port that gives up after so many seconds."""


class _Request(NamedTuple):
    parts: SplitResult
    headers: Mapping[str, str]
    body: bytes | None = None


class Response(NamedTuple):
    """What a server said."""

    status: int
    location: str | None
    content: bytes


def resolve(host: str, port: int) -> list[str]:
    """All addresses of a host.

    Raises:
        Refusal: It has none.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise _unreachable("its host is not known") from error
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


def connect(address: str, port: int, seconds: float) -> socket.socket:
    """A connection to an address."""
    return socket.create_connection((address, port), timeout=seconds)


def is_public(address: str) -> bool:
    """Whether an address belongs to the open internet and to nobody's own network.

    IPv6 addresses that carry one of IPv4 are as public as that one.
    """
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if isinstance(ip, ipaddress.IPv6Address):
        inner = ip.ipv4_mapped or ip.sixtofour or (ip.teredo and ip.teredo[1])
        if ip in ipaddress.ip_network("64:ff9b::/96"):
            inner = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        if inner:
            return is_public(str(inner))
    return ip.is_global and not ip.is_multicast and not ip.is_reserved


def fetch_public(
    url: str,
    *,
    max_bytes: int,
    seconds: float,
    resolve: Resolve = resolve,
    connect: Connect = connect,
) -> bytes:
    """The content of a public address.

    Args:
        url: http or https, on the usual port of either.
        max_bytes: Most that is read.
        seconds: For all of it.
        resolve, connect: The network, for tests.
    Raises:
        Refusal: A private address, too large, too slow, or not found.
    """
    deadline = time.monotonic() + seconds
    for _ in range(1 + REDIRECTS):
        parts = _checked(url)
        port = PORTS[parts.scheme]
        addresses = resolve(str(parts.hostname), port)
        if not addresses or not all(map(is_public, addresses)):
            raise Refusal(403, "private_address", "the address is not a public one")
        response = _ask(_Request(parts, {}), port, addresses, max_bytes, deadline, connect)
        if response.location is None:
            return _content(response)
        url = urljoin(url, response.location)
    raise _unreachable(f"it leads on more than {REDIRECTS} times")


def ask_trusted(
    url: str,
    *,
    headers: Mapping[str, str],
    max_bytes: int,
    seconds: float,
    body: bytes | None = None,
) -> bytes:
    """The content of an address that the operator of this server has named, public or not.

    No redirect is followed: it would lead away from what was named.

    Args:
        url: http or https, on any port.
        headers: Of the request.
        max_bytes: Most that is read.
        seconds: For all of it.
        body: Makes it a POST.
    Raises:
        Refusal: Too large, too slow, or not found.
    """
    parts = urlsplit(url)
    port = parts.port or PORTS[parts.scheme]
    deadline = time.monotonic() + seconds
    addresses = resolve(str(parts.hostname), port)
    asked = _Request(parts, headers, body)
    return _content(_ask(asked, port, addresses, max_bytes, deadline, connect))


def _checked(url: str) -> SplitResult:
    """The parts of an address that may be asked for."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise _unreachable("it is not written as one") from error
    if parts.scheme not in PORTS or not parts.hostname:
        raise Refusal(403, "private_address", "an address begins with http:// or https://")
    if parts.username is not None or parts.password is not None:
        raise Refusal(403, "private_address", "an address must not hold a name or password")
    if port not in (None, PORTS[parts.scheme]):
        raise Refusal(403, "private_address", f"port {port} is not asked, only 80 and 443")
    return parts


def _ask(
    asked: _Request,
    port: int,
    addresses: Sequence[str],
    max_bytes: int,
    deadline: float,
    connect: Connect,
) -> Response:
    """Ask the host of an address, at the first of the addresses found for it that answers."""
    try:
        stream = _connected(addresses, port, deadline, connect)
        if asked.parts.scheme == "https":
            stream = ssl.create_default_context().wrap_socket(
                stream, server_hostname=asked.parts.hostname, do_handshake_on_connect=False
            )
        # Time limits of sockets are for each step: who sends a byte a minute would never meet them.
        cut = threading.Timer(_left(deadline), _cut, [stream])
        cut.start()
        with stream:
            try:
                if isinstance(stream, ssl.SSLSocket):
                    stream.do_handshake()
                return _read(stream, asked, max_bytes, deadline)
            finally:
                cut.cancel()
    except (OSError, http.client.HTTPException, UnicodeError, ValueError) as error:
        raise _unreachable("its server does not answer as it should") from error


def _connected(
    addresses: Sequence[str], port: int, deadline: float, connect: Connect
) -> socket.socket:
    """A connection: "localhost" is ::1 to many machines, where a server may listen on 127.0.0.1."""
    *others, last = addresses
    for address in others:
        with contextlib.suppress(OSError):
            return connect(address, port, _left(deadline) / 2)
    return connect(last, port, _left(deadline))


def _cut(stream: socket.socket) -> None:
    with contextlib.suppress(OSError):  # it has ended by itself
        stream.shutdown(socket.SHUT_RDWR)


def _read(stream: socket.socket, asked: _Request, max_bytes: int, deadline: float) -> Response:
    parts = asked.parts
    connection = http.client.HTTPConnection(str(parts.hostname))
    connection.sock = stream
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    head = {"Host": parts.netloc, "User-Agent": "glip", "Accept": "*/*", "Connection": "close"}
    method = "GET" if asked.body is None else "POST"
    connection.request(method, target, asked.body, {**head, **asked.headers})
    answer = connection.getresponse()
    location = answer.getheader("Location")
    if 300 <= answer.status < 400 and location:
        return Response(answer.status, location, b"")
    content = bytearray()
    while True:
        piece = answer.read1(CHUNK)
        _left(deadline)
        if not piece:
            return Response(answer.status, None, bytes(content))
        content += piece
        if len(content) > max_bytes:
            raise Refusal(
                413, "too_many_bytes", f"the picture at the address exceeds {max_bytes:,} bytes"
            )


def _content(response: Response) -> bytes:
    if response.status != 200:
        raise _unreachable(f"its server says {response.status}")
    return response.content


def _left(deadline: float) -> float:
    """Seconds until a deadline.

    Raises:
        Refusal: It is over.
    """
    left = deadline - time.monotonic()
    if left <= 0:
        raise _unreachable("its server is too slow")
    return left


def _unreachable(why: str) -> Refusal:
    return Refusal(422, "address_failed", f"no picture could be fetched from the address: {why}")

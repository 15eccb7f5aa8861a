"""Addresses: what is asked for, where the connection goes, and what is refused."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator

import pytest

from glip.serve.fetch import ask_trusted, fetch_public, is_public, resolve
from glip.serve.refusals import Refusal

pytestmark = pytest.mark.whole

PUBLIC = "93.184.215.14"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"


class Web:
    """A server on this machine that stands for the public internet."""

    def __init__(self) -> None:
        self.answers: dict[str, bytes] = {}
        self.asked: list[bytes] = []
        self.connections: list[tuple[str, int]] = []
        self.names = {"example.org": [PUBLIC]}
        self.delay = 0.0
        self._socket = socket.create_server(("127.0.0.1", 0))
        threading.Thread(target=self._serve, daemon=True).start()

    @property
    def port(self) -> int:
        return int(self._socket.getsockname()[1])

    def resolve(self, host: str, port: int) -> list[str]:
        return self.names.get(host) or resolve(host, port)

    def connect(self, address: str, port: int, seconds: float) -> socket.socket:
        self.connections.append((address, port))
        return socket.create_connection(("127.0.0.1", self.port), timeout=seconds)

    def fetch(self, url: str, *, max_bytes: int = 1000, seconds: float = 5.0) -> bytes:
        return fetch_public(
            url, max_bytes=max_bytes, seconds=seconds, resolve=self.resolve, connect=self.connect
        )

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            with connection:
                head = b""
                while b"\r\n\r\n" not in head:
                    head += connection.recv(4096)
                self.asked.append(head)
                answer = self.answers.get(head.split()[1].decode(), OK)
                try:
                    if not self.delay:
                        connection.sendall(answer)
                    for place in range(len(answer) if self.delay else 0):
                        connection.sendall(answer[place : place + 1])
                        time.sleep(self.delay)
                except OSError:
                    continue

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def web() -> Iterator[Web]:
    made = Web()
    yield made
    made.close()


def redirect(to: str) -> bytes:
    return f"HTTP/1.1 302 Found\r\nLocation: {to}\r\nContent-Length: 0\r\n\r\n".encode()


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("8.8.8.8", True),
        ("2606:4700::1111", True),
        ("127.0.0.1", False),
        ("127.8.8.8", False),
        ("0.0.0.0", False),
        ("10.1.2.3", False),
        ("172.16.0.1", False),
        ("192.168.1.1", False),
        ("169.254.169.254", False),  # where clouds keep their secrets
        ("100.64.0.1", False),
        ("198.18.0.1", False),
        ("224.0.0.1", False),
        ("255.255.255.255", False),
        ("::1", False),
        ("::", False),
        ("fe80::1%eth0", False),
        ("fd00::1", False),
        ("ff02::1", False),
        ("::ffff:10.0.0.1", False),
        ("::ffff:8.8.8.8", True),
        ("64:ff9b::a00:1", False),
        ("64:ff9b::808:808", True),
        ("2002:a00:1::", False),
        ("no address", False),
    ],
)
def test_which_addresses_are_public(address: str, public: bool) -> None:
    assert is_public(address) is public


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1/a.png",
        "http://localhost/a.png",
        "http://[::1]/a.png",
        "http://[::ffff:127.0.0.1]/a.png",
        "http://2130706433/a.png",
        "http://0x7f.1/a.png",
        "http://0177.0.0.1/a.png",
        "http://127.1/a.png",
        "http://169.254.169.254/latest/meta-data",
        "http://example.org:22/",
        "http://example.org:8080/a.png",
        "http://user:word@example.org/a.png",
        "ftp://example.org/a.png",
        "file:///etc/passwd",
        "gopher://example.org/",
        "http:///a.png",
        "http://half.example/a.png",
        "http://nowhere.invalid/a.png",
        "http://[::1/a.png",
    ],
)
def test_addresses_that_nobody_is_asked_for(web: Web, url: str) -> None:
    web.names["half.example"] = [PUBLIC, "10.0.0.1"]  # one public address is not enough
    with pytest.raises(Refusal):
        web.fetch(url)
    assert web.connections == []


def test_the_connection_goes_to_the_address_that_was_checked(web: Web) -> None:
    lookups: list[str] = []

    def changing(host: str, port: int) -> list[str]:
        lookups.append(host)
        return [PUBLIC] if len(lookups) == 1 else ["127.0.0.1"]

    found = fetch_public(
        "http://example.org/a.png?x=1",
        max_bytes=100,
        seconds=5,
        resolve=changing,
        connect=web.connect,
    )
    assert found == b"hello"
    assert lookups == ["example.org"]
    assert web.connections == [(PUBLIC, 80)]
    assert web.asked[0].startswith(b"GET /a.png?x=1 HTTP/1.1\r\n")
    assert b"Host: example.org\r\n" in web.asked[0]


@pytest.mark.parametrize(
    "target", ["http://127.0.0.1/", "http://localhost/secret", "file:///etc/passwd", "//[::1]/"]
)
def test_a_redirect_is_checked_as_well(web: Web, target: str) -> None:
    web.answers["/a.png"] = redirect(target)
    with pytest.raises(Refusal, match=r"public|begins with"):
        web.fetch("http://example.org/a.png")
    assert len(web.connections) == 1


def test_a_redirect_to_a_public_address_is_followed_a_few_times(web: Web) -> None:
    web.answers["/a"] = redirect("/b")
    web.answers["/b"] = redirect("http://example.org/c")
    assert web.fetch("http://example.org/a") == b"hello"
    web.answers["/c"] = redirect("/a")
    with pytest.raises(Refusal, match="more than 3 times"):
        web.fetch("http://example.org/a")


def test_too_large_and_not_found(web: Web) -> None:
    web.answers["/large"] = b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 5000
    with pytest.raises(Refusal, match="1,000 bytes"):
        web.fetch("http://example.org/large")
    web.answers["/none"] = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"
    with pytest.raises(Refusal, match="says 404"):
        web.fetch("http://example.org/none")
    web.answers["/odd"] = b"SSH-2.0-OpenSSH\r\n"
    with pytest.raises(Refusal, match="does not answer as it should"):
        web.fetch("http://example.org/odd")


def test_a_byte_at_a_time_meets_the_deadline(web: Web) -> None:
    web.delay = 0.05
    start = time.monotonic()
    with pytest.raises(Refusal):
        web.fetch("http://example.org/a", seconds=0.4)
    assert time.monotonic() - start < 2


def test_what_the_operator_named_may_be_private(web: Web) -> None:
    url = f"http://127.0.0.1:{web.port}"
    headers = {"Authorization": "Token x"}

    assert ask_trusted(f"{url}/a", headers=headers, max_bytes=100, seconds=5) == b"hello"
    assert b"Authorization: Token x\r\n" in web.asked[0]
    web.answers["/b"] = redirect(f"{url}/a")
    with pytest.raises(Refusal, match="302"):
        ask_trusted(f"{url}/b", headers=headers, max_bytes=100, seconds=5)
    posted = ask_trusted(f"{url}/a", headers=headers, max_bytes=100, seconds=5, body=b"{}")
    assert posted == b"hello"
    assert web.asked[-1].startswith(b"POST /a ")


def test_a_host_is_asked_at_whichever_of_its_addresses_answers(
    web: Web, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As of "localhost", where ::1 comes first and nobody listens there.
    monkeypatch.setattr("glip.serve.fetch.resolve", lambda host, port: ["127.0.0.9", "127.0.0.1"])
    url = f"http://localhost:{web.port}/a"
    assert ask_trusted(url, headers={}, max_bytes=100, seconds=5) == b"hello"

    def connect(address: str, port: int, seconds: float) -> socket.socket:
        if address != PUBLIC:
            raise ConnectionRefusedError
        return web.connect(address, port, seconds)

    options = {"max_bytes": 100, "seconds": 5.0, "connect": connect}
    url = "http://example.org/a"
    assert fetch_public(url, resolve=lambda *_: ["1.1.1.1", PUBLIC], **options) == b"hello"
    with pytest.raises(Refusal, match="does not answer"):
        fetch_public(url, resolve=lambda *_: ["1.1.1.1", "8.8.8.8"], **options)

"""A server under load: requests a second against the bare model, and memory under bad requests.

    python benchmarks/serving.py
    python benchmarks/serving.py --mixed 10000 --weights tiny.safetensors

Everything is on this machine and over its loopback. Speed is a ratio within one run: the same
photos through `Detector.detect`, one after the other and prepared beforehand, and through the
server, whose clients send JPEG files and keep one request each on its way. Server and clients share
the processors, so processor seconds of the server for a request are printed beside those of the
bare model.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from glip.config import PostprocessOptions
from glip.detector import load
from glip.text.prompt import Prompt

ROOT = Path(__file__).parents[1]
PHOTOS = tuple((ROOT / "demo" / "images").glob("*.jpg"))
PROMPT = "person. cat. cup. flag. dining table."
LOOKS = 8
"""How often memory is looked at."""
DELIBERATE = (429, 503)
"""Answers of a server that has too much to do."""


class Server(NamedTuple):
    """A running `glip serve`."""

    host: str
    port: int
    process: int

    def connection(self) -> HTTPConnection:
        """To it."""
        return HTTPConnection(self.host, self.port, timeout=120)

    def processor_seconds(self) -> float:
        """Spent so far."""
        fields = Path(f"/proc/{self.process}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def resident_mib(self) -> float:
        """Its memory."""
        status = Path(f"/proc/{self.process}/status").read_text()
        found = re.search(r"VmRSS:\s+(\d+) kB", status)
        assert found is not None
        return int(found[1]) / 1024


@contextmanager
def served(*words: str) -> Iterator[Server]:
    """A server for the time of the block."""
    command = [sys.executable, "-m", "glip", "serve", "--port", "0", *words]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=ROOT)
    assert process.stderr is not None
    try:
        for line in process.stderr:
            if line.startswith("glip serves at "):
                break
        else:
            raise SystemExit("the server did not begin")
        parts = urlsplit(line.split()[-1])
        threading.Thread(target=process.stderr.read, daemon=True).start()  # or it fills
        yield Server(str(parts.hostname), int(parts.port or 80), process.pid)
    finally:
        process.terminate()
        process.wait()


class Request(NamedTuple):
    """What a client sends, and whether it is there for the answer."""

    method: str
    path: str
    body: bytes
    kind: str
    stays: bool = True


def form(photo: bytes, **fields: str) -> Request:
    """A good question, unless the photo or a field is not."""
    border = "benchmark-of-glip"
    parts = [
        f'--{border}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()
        for name, value in fields.items()
    ]
    head = f'--{border}\r\nContent-Disposition: form-data; name="image"; filename="photo.jpg"\r\n'
    body = b"".join([*parts, head.encode(), b"\r\n", photo, f"\r\n--{border}--\r\n".encode()])
    return Request("POST", "/v1/detect", body, f"multipart/form-data; boundary={border}")


def ask(connection: HTTPConnection, request: Request) -> int:
    """The status of an answer; 0 for a client that leaves before it comes."""
    if not request.stays:
        connection.putrequest(request.method, request.path)
        connection.putheader("Content-Type", request.kind)
        connection.putheader("Content-Length", str(len(request.body)))
        connection.endheaders()
        connection.send(request.body[: len(request.body) // 2])
        connection.close()
        return 0
    headers = {"Content-Type": request.kind}
    connection.request(request.method, request.path, request.body or None, headers)
    answer = connection.getresponse()
    answer.read()
    return answer.status


def load_with(
    server: Server, requests: Sequence[Request], clients: int, seen: Callable[[int], object]
) -> list[float]:
    """Seconds of each request, sent by so many clients as fast as they are answered.

    Args:
        server: Asked.
        requests: Each is sent once.
        clients: At the same time.
        seen: Told the status of each answer.
    """
    waiting = iter(requests)
    lock = threading.Lock()
    seconds: list[float] = []

    def work() -> None:
        connection = server.connection()
        while True:
            with lock:
                request = next(waiting, None)
            if request is None:
                return connection.close()
            start = time.perf_counter()
            try:
                status = ask(connection, request)
            except (OSError, HTTPException):  # a refused body may end the connection
                connection.close()
                status = -1
            with lock:
                seconds.append(time.perf_counter() - start)
                seen(status)

    threads = [threading.Thread(target=work) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return seconds


def bare(weights: str | None, device: str | None, rounds: int) -> tuple[float, float]:
    """Seconds and processor seconds a picture of the model alone."""
    detector = load(weights, device=device)
    prompt, options = Prompt.of(PROMPT), PostprocessOptions(score=detector.lowest_threshold)
    pictures = [detector.prepare(photo) for photo in PHOTOS]
    for picture in pictures:  # the first look at each size takes longer
        detector.detect([picture], [[prompt]], options=options)
    start, begun = time.perf_counter(), time.process_time()
    for number in range(rounds):
        picture = pictures[number % len(pictures)]
        detector.detect([picture], [[prompt]], options=options)
    return (time.perf_counter() - start) / rounds, (time.process_time() - begun) / rounds


def percentile(values: Sequence[float], share: float) -> float:
    """The value that a share of them does not exceed."""
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


def compare(args: argparse.Namespace) -> None:
    """Print requests a second and latencies, beside those of the bare model before and after."""
    words = [*(["--weights", args.weights] if args.weights else [])]
    words += ["--device", args.device] if args.device else []
    requests = [
        form(PHOTOS[number % len(PHOTOS)].read_bytes(), prompt=PROMPT)
        for number in range(args.requests)
    ]
    print("| clients | requests/s | of bare | p50, s | p95, s | p99, s | CPU s each | of bare |")
    print("| --: | --: | --: | --: | --: | --: | --: | --: |")
    alone, alone_cpu = bare(args.weights, args.device, args.requests)
    print(f"| bare model | {1 / alone:.2f} | | | | | {alone_cpu:.3f} | |")
    words += ["--batch-size", str(args.batch_size)] if args.batch_size else []
    with served(*words) as server:
        statuses: Counter[int] = Counter()
        load_with(server, requests[: len(PHOTOS)], 1, lambda status: None)
        for clients in args.clients:
            start, begun = time.perf_counter(), server.processor_seconds()
            seconds = load_with(server, requests, clients, lambda status: statuses.update([status]))
            rate = len(requests) / (time.perf_counter() - start)
            cpu = (server.processor_seconds() - begun) / len(requests)
            p50, p95, p99 = (percentile(seconds, share) for share in (0.5, 0.95, 0.99))
            print(
                f"| {clients} | {rate:.2f} | {rate * alone:.0%} | {p50:.3f} | {p95:.3f} | "
                f"{p99:.3f} | {cpu:.3f} | {alone_cpu / cpu:.0%} |",
                flush=True,
            )
    if set(statuses) != {200}:
        raise SystemExit(f"not all requests were answered: {dict(statuses)}")
    again, again_cpu = bare(args.weights, args.device, args.requests)
    print(f"| bare model again | {1 / again:.2f} | | | | | {again_cpu:.3f} | |")


def mixture(count: int, seed: int) -> Iterator[Request]:
    """Good and bad requests, as they come from people, scripts and worse."""
    chance = random.Random(seed)
    photos = [photo.read_bytes() for photo in PHOTOS]
    json_kind = "application/json"
    names = [f"{kind} {number}" for kind in ("red", "old", "wet") for number in range(300)]
    for number in range(count):
        photo = chance.choice(photos)
        words = ", ".join(chance.sample(names, chance.randint(1, 5)))
        yield chance.choice(
            (
                form(photo, classes=words),
                form(photo, prompt=f"a {words} beside a dog"),
                form(photo, classes=words, annotated="true"),
                form(photo[: chance.randint(0, len(photo))], classes=words),
                form(chance.randbytes(chance.randint(0, 20_000)), classes=words),
                form(photo, classes=words, threshold=str(chance.uniform(-1, 2))),
                form(photo, classes=words, unknown="x" * chance.randint(1, 5000)),
                form(photo, prompt="word " * chance.randint(1, 8000)),
                form(photo, classes=words)._replace(stays=False),
                Request("POST", "/v1/detect", chance.randbytes(200), json_kind),
                Request("POST", "/v1/detect", b"[" * chance.randint(1, 50_000), json_kind),
                Request("POST", "/v1/detect", b'{"image": "http://10.0.0.1/a"}', json_kind),
                Request("POST", "/predict", b'{"tasks": [{}]}', json_kind),
                Request("POST", "/v1/detect", b"0" * 3_000_000, "text/plain"),
                Request("GET", f"/nowhere/{number}", b"", json_kind),
                Request("DELETE", "/v1/detect", b"", json_kind),
                Request("GET", "/metrics", b"", json_kind),
                Request("GET", "/", b"", json_kind),
            )
        )


def torment(args: argparse.Namespace) -> None:
    """Print what a server says to good and bad requests, and its memory meanwhile.

    Raises:
        SystemExit: It said 5xx without meaning to, or its memory grew.
    """
    words = ["--weights", args.weights] if args.weights else []
    statuses: Counter[int] = Counter()
    memory = []
    with served(*words, "--max-bytes", "2000000", "--queue", "24") as server:
        share = max(1, args.mixed // LOOKS)
        for look in range(LOOKS):
            load_with(
                server,
                list(mixture(share, look)),
                max(args.clients),
                lambda status: statuses.update([status]),
            )
            memory.append(server.resident_mib())
            print(f"{(look + 1) * share} requests: {memory[-1]:.0f} MiB", flush=True)
    print(json.dumps({str(status): count for status, count in sorted(statuses.items())}))
    failed = sum(c for status, c in statuses.items() if status >= 500 and status not in DELIBERATE)
    growth = memory[-1] / memory[LOOKS // 2 - 1] - 1
    print(f"memory in the second half: {growth:+.1%}; unmeant 5xx: {failed}")
    if failed or growth > args.growth:
        raise SystemExit(1)


def main() -> None:
    """Read the command line and measure."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--weights", help="by default the model that ships with the package")
    parser.add_argument("--device")
    parser.add_argument("--requests", type=int, default=60, help="for each number of clients")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--batch-size", type=int, help="by default the server's own")
    parser.add_argument("--mixed", type=int, default=0, metavar="N", help="good and bad requests")
    parser.add_argument("--growth", type=float, default=0.05, help="of memory that is too much")
    args = parser.parse_args()
    if args.mixed:
        torment(args)
    else:
        compare(args)


if __name__ == "__main__":
    main()

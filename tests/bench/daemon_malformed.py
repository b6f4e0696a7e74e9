"""Malformed requests: is each refused with a 4xx and a sentence, does the daemon live on, is nothing touched?

    python -m tests.bench.daemon_malformed [--count 10000] [--seed 0]

Random bodies, wrong types, unknown kinds and fields, nesting, oversized bodies, lines and heads, wrong versions, wrong
methods and addresses, and a path that leads elsewhere in every path field of every kind. Prints a table by kind of
fault and writes `results/daemon_malformed.json`.
"""

import argparse
import contextlib
import json
import random
import socket
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from edgeprune.jobs.app import MAX_BODY_BYTES
from edgeprune.jobs.client import connect
from edgeprune.jobs.places import Places
from tests.cli.daemon_process import daemon_places
from tests.unit.jobs.requests import CASES, FILLED, as_json, changed_json

RESULTS = Path(__file__).parent / "results"


@dataclass
class Row:
    request_count: int
    refused_count: int
    """Answered with a 4xx and a sentence."""
    by_fault: dict[str, dict[str, int]]
    """Kind of fault -> status -> count."""
    unexpected: list[str] = field(default_factory=list)
    touched: list[str] = field(default_factory=list)
    """Files that were made or changed where nothing may be."""
    is_alive: bool = False
    rss_before_bytes: int = 0
    rss_after_bytes: int = 0
    took_s: float = 0.0


@dataclass
class _Raw:
    """Bytes for the socket."""

    fault: str
    data: bytes


def measure(places: Places, *, count: int, seed: int, folder: Path) -> Row:
    """Send so many, one connection each, and look at the answers and at a tree the paths lead to."""
    client = connect(places=places)
    before = client.status()
    outside = folder / "outside"
    outside.mkdir()
    (outside / "precious.txt").write_text("precious")
    tree = _tree(folder)
    rng = random.Random(seed)
    faults = _faults(rng, outside)
    statuses: dict[str, Counter[str]] = {name: Counter() for name in faults}
    row = Row(request_count=count, refused_count=0, by_fault={}, rss_before_bytes=before.rss_bytes or 0)
    names = list(faults)
    started = time.perf_counter()
    for number in range(count):
        name = names[number % len(names)]
        data = faults[name]()
        status, said = _ask(places.socket, data)
        statuses[name][str(status)] += 1
        if 400 <= status < 500 and _is_sentence(said):
            row.refused_count += 1
        elif len(row.unexpected) < 20:
            row.unexpected.append(f"{name}: {status} {said[:200]!r} to {data[:200]!r}")
    row.took_s = time.perf_counter() - started
    after = client.status()
    row.is_alive = after.pid == before.pid and client.jobs() == []
    row.rss_after_bytes = after.rss_bytes or 0
    row.by_fault = {name: dict(sorted(found.items())) for name, found in statuses.items()}
    row.touched = sorted(_tree(folder) ^ tree) + [str(path) for path in places.jobs.iterdir()]
    client.close()
    return row


def _tree(folder: Path) -> set[str]:
    return {f"{path} {path.lstat().st_mtime_ns} {path.lstat().st_size}" for path in folder.rglob("*")}


def _is_sentence(body: bytes) -> bool:
    """Ours as JSON, or what the HTTP library says of bytes that are no request."""
    if body == b"Invalid HTTP request received.":
        return True
    try:
        error = json.loads(body)["error"]
    except (ValueError, KeyError, TypeError):
        return False
    return isinstance(error, str) and " " in error and len(error) < 2_000


def _ask(path: Path, data: bytes) -> tuple[int, bytes]:
    """Status and body; (0, b"") where the connection was closed without an answer."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(60)
        connection.connect(str(path))
        pieces = []
        with contextlib.suppress(OSError):  # refused before it was all sent: the answer may be there all the same
            connection.sendall(data)
        with contextlib.suppress(OSError):
            while piece := connection.recv(65536):
                pieces.append(piece)
    head, _, body = b"".join(pieces).partition(b"\r\n\r\n")
    words = head.split(b" ", 2)
    if len(words) < 2 or not words[1].isdigit():
        return 0, b""
    if b"transfer-encoding: chunked" in head.lower():
        body = body.partition(b"\r\n")[2].rpartition(b"\r\n0\r\n")[0]
    return int(words[1]), body


def _http(method: str, path: str, body: bytes = b"", *headers: str) -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "Host: d", "Connection: close", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join(lines).encode("latin-1", "replace") + b"\r\n\r\n" + body


def _post(value: Any) -> bytes:
    return _http("POST", "/jobs", msgspec.json.encode(value))


def _faults(rng: random.Random, outside: Path) -> dict[str, Callable[[], bytes]]:
    """Kind of fault -> a new request with it."""

    def text(length: int) -> str:
        return "".join(chr(rng.choice((rng.randrange(32, 127), rng.randrange(1, 0xD7FF)))) for _ in range(length))

    def junk() -> Any:
        return rng.choice([None, True, -1, 1e308, 10**30, text(5), [], {}, [[]], {"a": 1}])

    def valid() -> Any:
        return as_json(rng.choice(FILLED))

    def random_body() -> bytes:
        return _http("POST", "/jobs", rng.randbytes(rng.randrange(0, 300)))

    def cut_body() -> bytes:
        whole = msgspec.json.encode(valid())
        return _http("POST", "/jobs", whole[: rng.randrange(len(whole))])

    def wrong_type() -> bytes:
        raw = valid()
        return _post(
            raw | {rng.choice([key for key in raw if key not in ("kind", "runs", "memory_bytes")] or ["kind"]): [[1]]}
        )

    def unknown_field() -> bytes:
        return _post(valid() | {text(8): junk()})

    def unknown_kind() -> bytes:
        return _post(valid() | {"kind": rng.choice([text(4), None, 7, "chat", "../run", "Run"])})

    def no_object() -> bytes:
        return _post(rng.choice([[], [valid()], "run", 7, None, True]))

    def nested() -> bytes:
        depth = rng.randrange(2_000, 60_000)
        opening, closing = rng.choice([(b"[", b"]"), (b'{"a":', b"}")])
        return _http("POST", "/jobs", b'{"kind":"run","request":' + opening * depth + b"1" + closing * depth + b"}")

    def lone_surrogate() -> bytes:
        return _http("POST", "/jobs", b'{"kind":"search","run":"/a\\ud800"}')

    def path() -> bytes:
        request, place = rng.choice(CASES)
        leads = [
            f"../{outside.name}/x", f"{outside}/../{outside.name}/x", f"..{outside}", "/..", "..", "./x", "~root/x",
            f"{outside}\0x", f"{outside}/\n", "file:///etc/passwd", "\\\\host\\share\\..",
            f"/proc/self/cwd/..{outside}",
            "/" + "a/" * 3000, "", "../" * rng.randrange(1, 40) + "etc/passwd",
        ]  # fmt: skip
        return _post(changed_json(request, place, rng.choice(leads)))

    def runs() -> bytes:
        leads = [
            "..",
            "runs",
            f"{outside}/../outside",
            "/",
            "",
            "/proc/self/cwd",
            "/dev/fd/../../tmp",
            f"{outside}/",
            "//x",
        ]
        return _post(valid() | {"runs": rng.choice(leads)})

    def memory() -> bytes:
        return _post(valid() | {"memory_bytes": rng.choice([-1, -(10**9), 1.5, "1GB", 10**40, True])})

    def version() -> bytes:
        spoken = rng.choice(["0", "2", "999999999999999999999", "one", "1.0", "-1", " ", "1,1"])
        return _http("GET", rng.choice(["/", "/jobs", "/jobs/j00001"]), b"", f"Edgeprune-Protocol: {spoken}x")

    def job_id() -> bytes:
        name = rng.choice(["j00001", "..", "%2e%2e%2f%2e%2e%2fetc%2fpasswd", "j1", "%00", "j" + "9" * 30, "a" * 2_000])
        end = rng.choice(["", "/events", "/result", "/log", "/cancel", "/resume"])
        return _http("POST" if end in ("/cancel", "/resume") else "GET", f"/jobs/{name}{end}")

    def method() -> bytes:
        verb = rng.choice(["PUT", "DELETE", "PATCH", "TRACE", "OPTIONS", "FROB"])
        return _http(verb, rng.choice(["/", "/jobs", "/jobs/j00001", "/jobs/j00001/cancel"]))

    def address() -> bytes:
        return _http(
            "GET", rng.choice(["/../../etc/passwd", "/job", "/jobs/j00001/x", "//", "/jobs/", "/%2e%2e/x", "/.git"])
        )

    def head() -> bytes:
        return _http("GET", "/jobs", b"", f"X-Long: {'x' * rng.randrange(40_000, 200_000)}")

    def line() -> bytes:
        return _http("GET", "/jobs?since=" + "1" * rng.randrange(40_000, 200_000))

    def raw_bytes() -> bytes:
        return rng.randbytes(rng.randrange(1, 200)) + b"\r\n\r\n"

    def large_body() -> bytes:
        return _http(
            "POST", "/jobs", b'{"kind":"run","output":"' + b"x" * (MAX_BODY_BYTES + rng.randrange(1, 1000)) + b'"}'
        )

    def wrong_length() -> bytes:
        told = rng.choice(["-1", "abc", "1e3", "99999999999999999999999"])
        return f"POST /jobs HTTP/1.1\r\nHost: d\r\nConnection: close\r\nContent-Length: {told}\r\n\r\n{{}}".encode()

    made = (random_body, cut_body, wrong_type, unknown_field, unknown_kind, no_object, nested, lone_surrogate, path,
            path, path, runs, memory, version, job_id, method, address, head, line, raw_bytes, large_body,
            wrong_length)  # fmt: skip
    return {
        f"{make.__name__.replace('_', ' ')}{' ' * (index % 3) if make is path else ''}": make
        for index, make in enumerate(made)
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    with daemon_places() as places, tempfile.TemporaryDirectory() as folder:
        row = measure(places, count=arguments.count, seed=arguments.seed, folder=Path(folder).resolve())
    print(f"{'fault':<16}  answers")
    for name, found in row.by_fault.items():
        print(f"{name:<16}  {', '.join(f'{status}: {number}' for status, number in found.items())}")
    print(
        f"{row.refused_count} of {row.request_count} refused with a sentence in {row.took_s:.0f} s; daemon alive: "
        f"{row.is_alive}; touched: {len(row.touched)}; RSS {row.rss_before_bytes / 1e6:.1f} -> "
        f"{row.rss_after_bytes / 1e6:.1f} MB"
    )
    for text in row.unexpected:
        print("unexpected", text)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "daemon_malformed.json").write_text(json.dumps(asdict(row), indent=2) + "\n")


if __name__ == "__main__":
    main()

"""OpenAI's protocol on a real bundle: answers, streams, refusals, leaving clients, sockets."""

import asyncio
import json
import stat
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

pytest.importorskip("tokenizers")

from starlette.applications import Starlette

from edgeprune.demo.paths import DEVICE_BUNDLE, demo_device_path
from edgeprune.errors import DeviceError, UsageError
from edgeprune.generate.listen import loopback_socket, unix_socket
from edgeprune.generate.server import MAX_WAITING, build_app
from edgeprune.pipeline.generate import OpenWriter, open_writer
from edgeprune.schema.generation import Sampling

BUNDLE = demo_device_path() / DEVICE_BUNDLE


@pytest.fixture(scope="module")
def opened() -> OpenWriter:
    return open_writer(BUNDLE, thread_count=1)


@pytest.fixture
def app(opened: OpenWriter) -> Starlette:
    return build_app(opened.writer, opened.conversation, name="demo")


def client(app: Starlette, *, host: str = "127.0.0.1") -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url=f"http://{host}")


def post(app: Starlette, path: str, body: object, *, host: str = "127.0.0.1") -> httpx.Response:
    async def ask() -> httpx.Response:
        async with client(app, host=host) as asking:
            content = body if isinstance(body, bytes) else json.dumps(body).encode()
            return await asking.post(path, content=content)

    return asyncio.run(ask())


def events(response: httpx.Response) -> Iterator[dict[str, object]]:
    lines = [line.removeprefix("data: ") for line in response.text.splitlines() if line]
    assert lines[-1] == "[DONE]"
    return (json.loads(line) for line in lines[:-1])


def test_a_completion_is_what_the_writer_writes(app: Starlette, opened: OpenWriter) -> None:
    body = {"model": "any", "prompt": "The court held", "max_tokens": 12, "temperature": 0}
    found = post(app, "/v1/completions", body)
    assert found.status_code == 200
    wanted = opened.writer.write("The court held", Sampling(max_tokens=12))
    answer = found.json()
    assert answer["choices"][0]["text"] == wanted.text
    assert answer["choices"][0]["finish_reason"] == "length"
    assert answer["usage"] == {
        "prompt_tokens": wanted.prompt_tokens,
        "completion_tokens": 12,
        "total_tokens": wanted.prompt_tokens + 12,
    }


@pytest.mark.parametrize("path", ["/v1/completions", "/v1/chat/completions"])
def test_a_stream_adds_up_to_the_whole_answer(app: Starlette, path: str) -> None:
    content: dict[str, object] = (
        {"prompt": "The court held"}
        if path == "/v1/completions"
        else {"messages": [{"role": "user", "content": "Who?"}]}
    )
    body = content | {"max_tokens": 16, "temperature": 0}
    whole = post(app, path, body).json()["choices"][0]
    pieces = [event["choices"][0] for event in events(post(app, path, body | {"stream": True}))]  # type: ignore[index]
    if path == "/v1/completions":
        assert "".join(piece["text"] for piece in pieces) == whole["text"]
    else:
        assert "".join(piece["delta"].get("content", "") for piece in pieces) == whole["message"]["content"]
    assert [piece["finish_reason"] for piece in pieces[:-1]] == [None] * (len(pieces) - 1)
    assert pieces[-1]["finish_reason"] == whole["finish_reason"]


@pytest.mark.parametrize(
    ("path", "body", "words"),
    [
        ("/v1/completions", b"{not json", "cannot be read"),
        ("/v1/completions", {"max_tokens": 3}, "prompt"),
        ("/v1/completions", {"prompt": 7}, "prompt"),
        ("/v1/completions", {"prompt": "a", "n": 2}, "one choice"),
        ("/v1/completions", {"prompt": "a", "temperature": -1}, "temperature"),
        ("/v1/completions", {"prompt": "a", "logprobs": 21}, "0..20"),
        ("/v1/completions", {"prompt": "a", "logprobs": 5, "stream": True}, "answered whole"),
        ("/v1/completions", {"prompt": [[5, 6], 7]}, "mixes"),
        ("/v1/completions", {"prompt": []}, "0 prompts"),
        ("/v1/completions", {"prompt": ["a"] * 65}, "65 prompts"),
        ("/v1/completions", {"prompt": [5, 1_000_000]}, "1000000"),
        ("/v1/completions", {"prompt": [5, -1]}, "-1"),
        ("/v1/completions", {"prompt": "a", "max_tokens": 0}, "max_tokens 0"),
        ("/v1/completions", {"prompt": ""}, "empty"),
        ("/v1/completions", {"prompt": "river " * 900}, "shorten"),
        ("/v1/completions", b"x" * 1_100_000, "larger than 1 MiB"),
        ("/v1/chat/completions", {"messages": []}, "empty"),
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": "a"}], "logprobs": True}, "/v1/completions"),
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": "a"}], "tools": [{}]}, "tools"),
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": [1]}]}, "text alone"),
    ],
)
def test_a_request_that_cannot_be_served_is_refused(app: Starlette, path: str, body: object, words: str) -> None:
    found = post(app, path, body)
    assert found.status_code == 400
    error = found.json()["error"]
    assert words in error["message"]
    assert error["type"] == "invalid_request_error"


def test_a_page_that_reaches_us_under_another_name_is_refused(app: Starlette) -> None:
    assert post(app, "/v1/completions", {"prompt": "a", "max_tokens": 1}, host="evil.example").status_code == 400


def test_requests_wait_their_turn_and_all_are_answered(app: Starlette) -> None:
    async def ask() -> list[httpx.Response]:
        async with client(app) as asking:
            bodies = [{"prompt": f"Article {number} of", "max_tokens": 4, "temperature": 0} for number in range(6)]
            return await asyncio.gather(*(asking.post("/v1/completions", json=body) for body in bodies))

    together = asyncio.run(ask())
    assert [found.status_code for found in together] == [200] * 6
    for number, found in enumerate(together):
        alone = post(app, "/v1/completions", {"prompt": f"Article {number} of", "max_tokens": 4, "temperature": 0})
        assert found.json()["choices"] == alone.json()["choices"]


def test_a_full_queue_says_so_at_once(app: Starlette) -> None:
    async def ask() -> list[int]:
        async with client(app) as asking:
            body = {"prompt": "The court", "max_tokens": 60, "temperature": 0}
            many = [asking.post("/v1/completions", json=body) for _ in range(MAX_WAITING + 4)]
            return [found.status_code for found in await asyncio.gather(*many)]

    codes = asyncio.run(ask())
    assert codes.count(503) in (3, 4)
    assert codes.count(200) == len(codes) - codes.count(503)


def test_a_client_that_leaves_frees_the_place(app: Starlette) -> None:
    async def ask() -> int:
        async with client(app) as asking:
            long = asyncio.create_task(
                asking.post("/v1/completions", json={"prompt": "The", "max_tokens": 400, "temperature": 1, "seed": 1})
            )
            await asyncio.sleep(0.2)
            long.cancel()
            found = await asking.post("/v1/completions", json={"prompt": "A", "max_tokens": 2, "temperature": 0})
            return found.status_code

    assert asyncio.run(ask()) == 200


def test_a_unix_socket_is_its_owners_alone(tmp_path: Path) -> None:
    path = tmp_path / "model.sock"
    with unix_socket(path) as listening:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        listening.listen()
        with pytest.raises(UsageError, match="listens on"):
            unix_socket(path)
    with unix_socket(path):  # nobody listens on the old one any more
        pass
    other = tmp_path / "file"
    other.write_text("mine")
    with pytest.raises(UsageError, match="no socket"):
        unix_socket(other)
    assert other.read_text() == "mine"


def test_a_port_that_is_taken_is_refused() -> None:
    with loopback_socket(0) as first:
        first.listen()
        with pytest.raises(DeviceError, match="--port"):
            loopback_socket(first.getsockname()[1])

"""`generate`, `chat` and `serve` on the demo's shipped bundle, as a user calls them."""

import io
import json
import shutil
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

pytest.importorskip("tokenizers")

from edgeprune.demo.paths import DEVICE_BUNDLE, demo_device_path
from tests.cli.conftest import Cli

BUNDLE = demo_device_path() / DEVICE_BUNDLE


def test_text_is_streamed_and_the_record_says_the_same(cli: Cli) -> None:
    words = ["generate", BUNDLE, "--prompt", "The court held", "--max-tokens", "10", "--threads", "1"]
    shown, record = cli(*words), cli(*words, "--json")
    assert shown.code == record.code == 0
    assert shown.out.rstrip("\n") == str(record.json["text"]).rstrip("\n")
    assert record.json["completion_tokens"] == 10
    assert "10 tokens" in shown.err


def test_the_prompt_may_come_from_standard_input(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("The court held"))
    assert cli("generate", BUNDLE, "--max-tokens", "3", "--json").json["prompt"] == "The court held"


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--prompt", ""], "empty"),
        (["--prompt", "a", "--top-p", "2"], "top_p"),
        (["--prompt", "a", "--max-tokens", "0"], "max_tokens"),
    ],
)
def test_what_cannot_be_asked_for_is_refused(cli: Cli, flags: list[str], words: str) -> None:
    answer = cli("generate", BUNDLE, *flags)
    assert answer.code == 2
    assert words in answer.err
    assert answer.out == ""


def test_a_changed_bundle_writes_nothing(cli: Cli, tmp_path: Path) -> None:
    bundle = tmp_path / "bundle"
    shutil.copytree(BUNDLE, bundle)
    data = bytearray((bundle / "model.onnx.data").read_bytes())
    data[len(data) // 2] ^= 1
    (bundle / "model.onnx.data").write_bytes(bytes(data))
    answer = cli("generate", bundle, "--prompt", "The court")
    assert answer.code == 3
    assert "sha256" in answer.err


def test_a_conversation_remembers_what_was_said(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("Who presides?\nAnd when?\n"))
    answer = cli("chat", BUNDLE, "--max-tokens", "6")
    assert answer.code == 0
    assert "no chat template" in answer.err
    assert len(answer.out.strip().splitlines()) >= 2


def test_a_port_and_a_socket_together_are_refused(cli: Cli, tmp_path: Path) -> None:
    assert cli("serve", BUNDLE, "--port", "0", "--socket", tmp_path / "s").code == 2


@pytest.mark.slow
def test_the_server_answers_on_its_socket_and_ends_when_interrupted(tmp_path: Path) -> None:
    path = tmp_path / "model.sock"
    command = [sys.executable, "-m", "edgeprune", "serve", str(BUNDLE), "--socket", str(path), "--threads", "1"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as server:
        try:
            assert server.stderr is not None
            assert "serving" in server.stderr.readline()
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
            with httpx.Client(transport=httpx.HTTPTransport(uds=str(path)), base_url="http://edgeprune") as client:
                found = client.post(
                    "/v1/chat/completions",
                    json={"messages": [{"role": "user", "content": "Who?"}], "max_tokens": 4, "temperature": 0},
                    timeout=30.0,
                )
                assert found.status_code == 200
                assert found.json()["choices"][0]["message"]["role"] == "assistant"
                assert client.get("/v1/models").json()["data"][0]["id"] == BUNDLE.name
                with client.stream(
                    "POST",
                    "/v1/completions",
                    json={"prompt": "The", "max_tokens": 400, "temperature": 1, "seed": 1, "stream": True},
                    timeout=30.0,
                ) as streamed:
                    first = next(line for line in streamed.iter_lines() if line)
                    assert json.loads(first.removeprefix("data: "))["choices"]
                # The reader left after one piece: the next request is served at once.
                begun = client.post("/v1/completions", json={"prompt": "A", "max_tokens": 1}, timeout=30.0)
                assert begun.status_code == 200
        finally:
            server.send_signal(signal.SIGINT)
            deadline = time.monotonic() + 20
            while server.poll() is None and time.monotonic() < deadline:
                time.sleep(0.05)
            server.kill()
    assert server.returncode in (0, 130)
    assert not path.exists()

import sys
from pathlib import Path

import numpy as np
import pytest

from edgeprune.errors import ModelError, RuntimeUnavailableError, UsageError
from edgeprune.runtime.probe_graph import trivial_chain
from edgeprune.runtime.session import open_session, runtime_info


def test_a_graph_opens_from_bytes_and_from_a_file(tmp_path: Path) -> None:
    graph = trivial_chain(3)
    for model in (graph.to_bytes(), graph.write(tmp_path)):
        session = open_session(model, thread_count=1)
        assert session.run(None, {"x0": np.full(1, 2.0, dtype=np.float32)})[0].tolist() == [-2.0]


def test_a_missing_graph_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"absent\.onnx is missing"):
        open_session(tmp_path / "absent.onnx", thread_count=1)


def test_a_damaged_graph_is_a_model_error(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(trivial_chain(3).to_bytes()[:40])
    with pytest.raises(ModelError, match="cannot load"):
        open_session(path, thread_count=1)


def test_an_unknown_provider_is_named_with_those_there_are() -> None:
    with pytest.raises(
        RuntimeUnavailableError, match=r"NoSuchProvider is not in this onnxruntime.*CPUExecutionProvider"
    ):
        open_session(trivial_chain(1).to_bytes(), execution_provider="NoSuchProvider", thread_count=1)


def test_no_threads_are_refused() -> None:
    with pytest.raises(UsageError, match="at least one thread"):
        open_session(trivial_chain(1).to_bytes(), thread_count=0)


def test_without_onnxruntime_the_command_that_installs_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(RuntimeUnavailableError, match=r"pip install 'edgeprune\[cpu\]'"):
        open_session(b"", thread_count=1)
    assert runtime_info().onnxruntime_version is None

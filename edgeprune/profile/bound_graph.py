"""A probe graph in a session of its own, its inputs and outputs bound to memory once, ready to be timed.

Binding once and running with nothing to convert is how the decode loop runs a bundle; what is timed is onnxruntime.
"""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from edgeprune.runtime.probe_graph import Graph
from edgeprune.runtime.session import import_onnxruntime, open_session

__all__ = ["BoundGraph"]


class BoundGraph:
    """One session with bound inputs; outputs are allocated once per binding."""

    def __init__(self, graph: Graph | Path, *, thread_count: int) -> None:
        self._ort = import_onnxruntime()
        model = graph if isinstance(graph, Path) else graph.to_bytes()
        self._session = open_session(model, thread_count=thread_count, is_one_of_many=True)
        self._binding: Any = None
        self._outputs: dict[str, Any] = {}

    def bind(
        self,
        feeds: Mapping[str, np.ndarray[Any, Any]],
        outputs: Mapping[str, tuple[int, ...]],
        *,
        in_place: Mapping[str, str] | None = None,
    ) -> None:
        """Bind inputs to copies of `feeds` and float32 outputs to new memory of the given shapes.

        `in_place` names outputs that are written into the memory of an input.
        """
        self._binding = self._session.io_binding()
        values = {name: self._ort.OrtValue.ortvalue_from_numpy(array) for name, array in feeds.items()}
        for name, value in values.items():
            self._binding.bind_ortvalue_input(name, value)
        self._outputs = {
            name: self._ort.OrtValue.ortvalue_from_shape_and_type(list(shape), np.float32)
            for name, shape in outputs.items()
        }
        self._outputs |= {output: values[source] for output, source in (in_place or {}).items()}
        for name, value in self._outputs.items():
            self._binding.bind_ortvalue_output(name, value)

    def bind_rows(self, rows: int) -> None:
        """Bind a graph whose inputs and outputs are float32 [batch, rows, features], batch one."""
        rng = np.random.default_rng(rows)
        shapes = {
            value.name: tuple(size if isinstance(size, int) else {"batch": 1}.get(size, rows) for size in value.shape)
            for value in (*self._session.get_inputs(), *self._session.get_outputs())
        }
        inputs = [value.name for value in self._session.get_inputs()]
        feeds = {name: rng.standard_normal(shapes[name], dtype=np.float32) for name in inputs}
        self.bind(feeds, {name: shape for name, shape in shapes.items() if name not in feeds})

    def run(self) -> None:
        """Run once."""
        self._session.run_with_iobinding(self._binding)

    def time(self, run_count: int) -> float:
        """Mean seconds of `run_count` runs on end."""
        run, binding = self._session.run_with_iobinding, self._binding
        start_s = time.perf_counter()
        for _ in range(run_count):
            run(binding)
        return (time.perf_counter() - start_s) / run_count

    def output(self, name: str) -> np.ndarray[Any, Any]:
        """A bound output as an array."""
        return np.asarray(self._outputs[name].numpy())

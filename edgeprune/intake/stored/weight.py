"""`StoredWeight`: a float32 tensor whose values lie in a file until an operator asks for them.

A model larger than memory is an ordinary module tree whose matrices are of this class. Every operator of torch that
meets one reads the values, widened to float32, uses them and drops them again, so that about one matrix is held at a
time, in passes forwards and backwards alike: what autograd keeps is the tensor, not its values. Rows alone are read
where only rows are wanted (an embedding, a slice). Values never change: writing into one is refused.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils import _pytree as pytree

__all__ = ["Source", "StoredWeight", "keep_views_stored", "read_rows"]

_aten = torch.ops.aten

_keeps_views: ContextVar[bool] = ContextVar("_keeps_views", default=False)


class Source(Protocol):
    """Where values come from."""

    @property
    def shape(self) -> tuple[int, int]:
        """[rows, columns]."""
        ...

    def read(self, rows: slice | Tensor | None = None) -> Tensor:
        """Values as a new float32 tensor: all rows, a range of them, or those with the indices [n] int64."""
        ...


class StoredWeight(torch.Tensor):
    """A matrix [rows, columns] that reads as float32."""

    source: Source

    @staticmethod
    def __new__(cls, source: Source) -> "StoredWeight":  # noqa: PYI034 - typing has Self from 3.11 on
        """Take where the values come from; nothing is read."""
        made: StoredWeight = torch.Tensor._make_wrapper_subclass(
            cls, source.shape, dtype=torch.float32, device=torch.device("cpu"), requires_grad=False
        )
        made.source = source
        return made

    def __init__(self, source: Source) -> None:
        """All is done by `__new__`."""

    def __repr__(self) -> str:  # type: ignore[override]
        """Without values, which a message must not read."""
        return f"StoredWeight({tuple(self.shape)}, {self.source!r})"

    @classmethod
    def __torch_function__(
        cls, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """`numpy` never reaches the operators, so it is answered here."""
        if func is torch.Tensor.numpy:
            found: NDArray[np.float32] = args[0].source.read().numpy()
            return found
        with torch._C.DisableTorchFunctionSubclass():  # what was computed is a plain tensor
            return func(*args, **(kwargs or {}))

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Read, compute, drop; views and copies of the whole stay stored, because nothing may write into them."""
        others = dict(kwargs or {})
        if func._schema.is_mutable and isinstance(args[0], StoredWeight):
            raise RuntimeError(f"{func} would write into a weight that lies in a file; replace the parameter instead.")
        stored = _stored_result(func, args, others)
        if stored is not None:
            return stored
        if func is _aten.embedding.default:
            return _rows_of(args[0].source, args[1])
        if func is _aten.slice.Tensor and _is_row_range(args):
            return args[0].source.read(_range_of(args))
        if func is _aten.index_select.default and args[1] == 0:
            return args[0].source.read(args[2])
        plain, plain_others = pytree.tree_map_only(StoredWeight, lambda each: each.source.read(), (list(args), others))
        return func(*plain, **plain_others)


@contextmanager
def keep_views_stored() -> Iterator[None]:
    """Rows taken out of a stored weight stay stored while the block runs, for adapters that take matrices apart."""
    token = _keeps_views.set(True)
    try:
        yield
    finally:
        _keeps_views.reset(token)


def read_rows(weight: Tensor, rows: slice) -> Tensor:
    """Some rows of a matrix, [n, in]; of a stored one no more is read."""
    return weight.source.read(rows) if isinstance(weight, StoredWeight) else weight.detach()[rows]


class _Transposed:
    """Columns of a source as rows."""

    def __init__(self, inner: Source) -> None:
        self.inner = inner
        self.shape = (inner.shape[1], inner.shape[0])

    def read(self, rows: slice | Tensor | None = None) -> Tensor:
        whole = self.inner.read().T
        return whole if rows is None else whole[rows]


class _Rows:
    """Some rows of a source, as a range or by their indices."""

    def __init__(self, inner: Source, rows: slice | Tensor) -> None:
        self.inner = inner
        self.rows = torch.arange(inner.shape[0])[rows]
        self.is_range = rows if isinstance(rows, slice) else None
        self.shape = (len(self.rows), inner.shape[1])

    def read(self, rows: slice | Tensor | None = None) -> Tensor:
        if rows is None:
            return self.inner.read(self.rows if self.is_range is None else self.is_range)
        return self.inner.read(self.rows[rows])


def _stored_result(func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> StoredWeight | None:
    """The result where it is stored too, or None."""
    weight = args[0] if args and isinstance(args[0], StoredWeight) else None
    if weight is None:
        return None
    source = weight.source
    if func in (_aten.detach.default, _aten.alias.default, _aten.clone.default):
        return StoredWeight(source)
    is_same_type = kwargs.get("dtype", torch.float32) is torch.float32
    if func is _aten._to_copy.default and is_same_type and kwargs.get("device") in (None, torch.device("cpu")):
        return StoredWeight(source)
    is_transposition = func is _aten.t.default or (
        func is _aten.transpose.int and {args[1] % 2, args[2] % 2} == {0, 1}
    ) or (func is _aten.permute.default and list(args[1]) == [1, 0])  # fmt: skip
    if is_transposition:
        return StoredWeight(source.inner if isinstance(source, _Transposed) else _Transposed(source))
    if _keeps_views.get():
        if func is _aten.slice.Tensor and _is_row_range(args):
            return StoredWeight(_Rows(source, _range_of(args)))
        if func is _aten.index.Tensor and len(args[1]) == 1 and args[1][0] is not None:
            return StoredWeight(_Rows(source, args[1][0]))
    return None


def _is_row_range(args: Sequence[Any]) -> bool:
    return (len(args) < 2 or args[1] in (0, -2)) and (len(args) < 5 or args[4] == 1)


def _range_of(args: Sequence[Any]) -> slice:
    return slice(*(args[2:4] if len(args) > 2 else (None, None)))


def _rows_of(source: Source, ids: Tensor) -> Tensor:
    return source.read(ids.reshape(-1)).view(*ids.shape, source.shape[1])

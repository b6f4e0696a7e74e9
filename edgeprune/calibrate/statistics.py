"""`CalibrationStats`: what one pass over the domain's text leaves behind, and its file.

Matrices are keyed by *input key*, the tensor that several sites share:

    blocks.<i>.attention_input    feeds q, k, v, qkv
    blocks.<i>.attention_output   feeds o
    blocks.<i>.mlp_input          feeds gate, up
    blocks.<i>.mlp_hidden         feeds down
    table                         feeds the head

`<i>` is the block's source index. The file is safetensors with the scalars as JSON in its header; no pickle.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from edgeprune.errors import DeviceError, ModelError
from edgeprune.schema.base import SCHEMA_VERSION

__all__ = ["TABLE", "CalibrationStats", "input_key"]

TABLE = "table"
"""Key of the head's input and of its output weight; also the kernel-loss key of embedding and head."""

_INPUT_OF_ROLE = {
    "q": "attention_input",
    "k": "attention_input",
    "v": "attention_input",
    "qkv": "attention_input",
    "o": "attention_output",
    "gate": "mlp_input",
    "up": "mlp_input",
    "down": "mlp_hidden",
}


_GROUPS = ("gram", "mean", "activation_noise", "mean_absolute", "row_absolute", "output_gram")
"""Fields that hold a tensor for every key."""


def input_key(site_name: str) -> str:
    """Key of the tensor that feeds a site: `blocks.3.q` reads `blocks.3.attention_input`."""
    if site_name == TABLE:
        return TABLE
    prefix, role = site_name.rsplit(".", 1)
    return f"{prefix}.{_INPUT_OF_ROLE[role]}"


@dataclass(frozen=True, kw_only=True)
class CalibrationStats:
    """Statistics of one model, dense or edited, on calibration text."""

    gram: Mapping[str, Tensor]
    """By input key: [in, in] float64, mean over tokens of x x^T (uncentred)."""
    mean: dict[str, Tensor]
    """By input key: [in] float64, mean over tokens of x."""
    activation_noise: dict[str, Tensor]
    """By input key: [2, ceil(in / 32)] float64, mean over tokens of the squared error that rounding activations to
    int8 adds to each element: row 0 in blocks of 32 with one scale each (MatMulNBits accuracy level 4), row 1 with one
    scale for all rows multiplied at once (dynamic int8)."""
    output_weight: dict[str, float]
    """By site: mean over tokens of the squared gradient of the loss (nats) with respect to the site's output, divided
    by its width. A change dW of the weights is expected to add 0.5 * output_weight * tr(dW gram dW^T) nats a token."""
    block_similarity: Tensor
    """[N, N] float64: mean over tokens of the cosine between the inputs of blocks i and j."""
    token_count: Tensor
    """[vocab] int64: occurrences in the domain's calibration text."""
    general_token_count: Tensor
    """[vocab] int64: occurrences in the general calibration text; zeros where there was none."""
    tokens: Tensor
    """[n, seq] int32: domain windows the matrices were measured on."""
    general_tokens: Tensor
    """[m, seq] int32: general windows; [0, seq] where there were none."""
    edits_hash: str
    """sha256 of the edits already applied to the model when it was measured."""
    token_total: int
    """Tokens behind the matrices."""
    stability: float | None
    """Mean over input keys of the relative Frobenius difference between the Grams of the even and the odd windows;
    None with fewer than two windows."""
    mean_absolute: dict[str, Tensor] = field(default_factory=dict)
    """By input key: [in] float64, mean over tokens of |x|; empty in files of an EdgePrune that did not measure it."""
    row_absolute: dict[str, Tensor] = field(default_factory=dict)
    """By site, gate and up only: [out] float64, the smaller of mean |y| and mean |y - b|; empty as above."""
    output_gram: dict[str, Tensor] = field(default_factory=dict)
    """By site: [out, out] float64, mean over tokens of g g^T, g the gradient of the loss (nats) with respect to the
    site's output; empty where it was not asked for. Its mean diagonal is the output weight."""

    def save(self, path: Path) -> None:
        """Write the file, whole or not at all.

        Raises:
            DeviceError: the disk is full or cannot be written.
        """
        tensors = {
            "block_similarity": self.block_similarity,
            "token_count": self.token_count,
            "general_token_count": self.general_token_count,
            "tokens": self.tokens,
            "general_tokens": self.general_tokens,
        }
        for name, group in self._groups().items():
            tensors.update({f"{name}/{key}": tensor for key, tensor in group.items()})
        header = {
            "schema_version": SCHEMA_VERSION,
            "output_weight": self.output_weight,
            "edits_hash": self.edits_hash,
            "token_total": self.token_total,
            "stability": self.stability,
        }
        partial = path.with_name(f".{path.name}.partial")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            save_file(
                {name: tensor.contiguous() for name, tensor in tensors.items()},
                partial,
                metadata={"edgeprune": json.dumps(header, sort_keys=True)},
            )
            os.replace(partial, path)
        except (SafetensorError, OSError) as error:
            partial.unlink(missing_ok=True)
            raise DeviceError(f"{path} cannot be written ({error}); free space or choose another folder.") from error

    @classmethod
    def load(cls, path: Path) -> "CalibrationStats":
        """Read what `save` wrote.

        Raises:
            ModelError: missing, damaged, or written by a newer version.
        """
        if not path.is_file():
            raise ModelError(f"{path} is missing; run the calibration again.")
        try:
            with safe_open(path, framework="pt") as file:
                header = json.loads((file.metadata() or {})["edgeprune"])
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
            if header["schema_version"] > SCHEMA_VERSION:
                raise ModelError(f"{path} was written by a newer EdgePrune; use that one or calibrate again.")
            groups: dict[str, Any] = {name: {} for name in _GROUPS}
            single: dict[str, Any] = {}
            for name, tensor in tensors.items():
                group, slash, key = name.partition("/")
                if slash:
                    groups[group][key] = tensor
                else:
                    single[name] = tensor
            return cls(
                **groups,
                **single,
                output_weight=header["output_weight"],
                edits_hash=header["edits_hash"],
                token_total=header["token_total"],
                stability=header["stability"],
            )
        except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
            raise ModelError(f"{path} is not a readable statistics file ({error}); calibrate again.") from error

    def _groups(self) -> dict[str, Mapping[str, Tensor]]:
        return {name: getattr(self, name) for name in _GROUPS}

"""`Sums`: what one pass over some windows adds up, before anything is divided by a count.

Everything in `CalibrationStats` that is measured is a sum over tokens, so the windows may be split, each part measured
where it likes, and the parts added. `save` and `merge_file` carry a part over a border as safetensors; merging reads a
tensor at a time, because the Grams of a large model fill the memory once already.
"""

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from edgeprune.calibrate.accumulate import PARTS, InputMoments
from edgeprune.errors import DeviceError

__all__ = ["Sums", "is_whole"]


@dataclass(kw_only=True)
class Sums:
    """Sums over the tokens of some windows."""

    similarity: Tensor
    """[N, N] float64: cosines between the inputs of blocks i and j."""
    moments: dict[str, InputMoments] = field(default_factory=dict)
    """By input key, in the order the model shows them."""
    gradient_square: dict[str, float] = field(default_factory=dict)
    """By site, and `table` for the head: squared gradients of its output."""
    widths: dict[str, int] = field(default_factory=dict)
    """By site: output features."""
    absolute_rows: dict[str, Tensor] = field(default_factory=dict)
    """By site, gate and up only: [2, out] float64, |y| and |y - b| of every output feature."""
    output_grams: dict[str, Tensor] = field(default_factory=dict)
    """By site, where asked for: [out, out] float64, g g^T of the gradients of its output."""
    gradient_tokens: int = 0
    """Tokens that were also run backwards."""
    token_total: int = 0

    def moments_of(self, key: str, width: int) -> InputMoments:
        """The sums of one input key, begun at zero; the order in which keys come decides their sketches."""
        if key not in self.moments:
            self.moments[key] = InputMoments(width, seed=len(self.moments))
        return self.moments[key]

    def add_rows(self, name: str, outputs: Tensor, bias: Tensor | None) -> None:
        """Add a batch [rows, out] float32 of a site's outputs, which hold the bias."""
        sizes = outputs.abs().sum(dim=0)
        without = sizes if bias is None else (outputs - bias).abs().sum(dim=0)
        found = torch.stack([sizes, without]).double()
        self.absolute_rows[name] = self.absolute_rows[name] + found if name in self.absolute_rows else found

    def row_absolute(self) -> dict[str, Tensor]:
        """By site, gate and up only: [out] float64, see `CalibrationStats.row_absolute`."""
        return {name: sizes.amin(dim=0) / self.token_total for name, sizes in self.absolute_rows.items()}

    def add_gradients(self, name: str, gradients: Tensor) -> None:
        """Add a batch [rows, out] float32 of gradients of a site's output."""
        found = gradients.T @ gradients
        if name in self.output_grams:
            self.output_grams[name] += found  # in place and without a copy in float64: these are large
        else:
            self.output_grams[name] = found.double()

    def output_gram(self) -> dict[str, Tensor]:
        """By site, where asked for: see `CalibrationStats.output_gram`."""
        return {name: gram / max(1, self.gradient_tokens) for name, gram in self.output_grams.items()}

    def output_weight(self) -> dict[str, float]:
        """By site, and `table` for the head: mean squared gradient of one output element."""
        count = max(1, self.gradient_tokens)
        return {name: square / count / self.widths[name] for name, square in self.gradient_square.items()}

    def mean_similarity(self) -> Tensor:
        """[N, N] float64; a state is exactly like itself, whatever float32 makes of its length."""
        similarity = self.similarity / self.token_total
        return similarity.fill_diagonal_(1.0)

    def stability(self) -> float | None:
        """Mean over input keys of the halves' relative difference."""
        differences = [moments.half_difference for moments in self.moments.values()]
        known = [difference for difference in differences if difference is not None]
        return sum(known) / len(known) if known else None

    def save(self, path: Path, *, key: str) -> None:
        """Write the sums, whole or not at all; `key` says what they are sums of.

        Raises:
            DeviceError: the disk is full or cannot be written.
        """
        tensors = {"similarity": self.similarity}
        for name, moments in self.moments.items():
            tensors |= {f"{name}/{part}": tensor for part, tensor in moments.parts().items()}
        tensors |= {f"{name}/rows": sizes for name, sizes in self.absolute_rows.items()}
        tensors |= {f"{name}/output": gram for name, gram in self.output_grams.items()}
        header = {
            "key": key,
            "rows": list(self.absolute_rows),
            "outputs": list(self.output_grams),
            "names": list(self.moments),
            "gradient_square": self.gradient_square,
            "widths": self.widths,
            "gradient_tokens": self.gradient_tokens,
            "token_total": self.token_total,
        }
        partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            save_file(tensors, partial, metadata={"sums": json.dumps(header)})
            os.replace(partial, path)
        except (SafetensorError, OSError) as error:
            partial.unlink(missing_ok=True)
            raise DeviceError(f"{path} cannot be written ({error}); free space or choose another folder.") from error

    def merge_file(self, path: Path) -> None:
        """Add what `save` wrote.

        Raises:
            DeviceError: missing or damaged.
        """
        try:
            with safe_open(path, framework="pt") as file:
                header = _header(file)
                self.similarity += file.get_tensor("similarity")
                for name in header["names"]:
                    parts = {part: file.get_tensor(f"{name}/{part}") for part in PARTS}
                    self.moments_of(name, len(parts["sum"])).add_parts(parts)
                for name in header["rows"]:
                    sizes = file.get_tensor(f"{name}/rows")
                    self.absolute_rows[name] = self.absolute_rows.get(name, torch.zeros_like(sizes)) + sizes
                for name in header["outputs"]:
                    gram = file.get_tensor(f"{name}/output")
                    self.output_grams[name] = self.output_grams.get(name, torch.zeros_like(gram)) + gram
        except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
            raise DeviceError(
                f"{path} cannot be read ({error}); it was just written, so the disk fails or is not shared with "
                "the workers."
            ) from error
        for name, square in header["gradient_square"].items():
            self.gradient_square[name] = self.gradient_square.get(name, 0.0) + square
        self.widths |= header["widths"]
        self.gradient_tokens += header["gradient_tokens"]
        self.token_total += header["token_total"]

    @classmethod
    def zero(cls, block_count: int) -> "Sums":
        """Sums of nothing."""
        return cls(similarity=torch.zeros(block_count, block_count, dtype=torch.float64))


def is_whole(path: Path, *, key: str) -> bool:
    """Whether a file holds exactly the sums that `key` names, so that they need not be measured again."""
    try:
        with safe_open(path, framework="pt") as file:
            return bool(_header(file)["key"] == key)
    except (SafetensorError, OSError, KeyError, TypeError, ValueError):
        return False


def _header(file: Any) -> dict[str, Any]:
    header: dict[str, Any] = json.loads((file.metadata() or {})["sums"])
    return header

"""Files written tensor by tensor are those of the format's own writer, to the byte."""

from pathlib import Path

import torch
from safetensors.torch import save_file

from edgeprune.intake.stored.write import Pending, write_tensors


def test_the_bytes_are_those_of_safetensors(tmp_path: Path) -> None:
    tensors = {
        "b": torch.randn(3, 5),
        "a": torch.randn(7).to(torch.float16),
        "e": torch.randn(7).to(torch.bfloat16),
        "a/ünï": torch.arange(4, dtype=torch.int32),
        "d": torch.arange(3, dtype=torch.int64),
        "c": torch.randn(2, 2).double(),
        "f": torch.arange(5, dtype=torch.uint8),
        "g": torch.arange(5, dtype=torch.int8),
        "empty": torch.zeros(0, 4),
    }
    save_file(tensors, tmp_path / "theirs", metadata={"format": "pt"})
    pending = {name: Pending(each.dtype, tuple(each.shape), lambda each=each: each) for name, each in tensors.items()}  # type: ignore[misc]
    write_tensors(tmp_path / "ours", pending, metadata={"format": "pt"})
    assert (tmp_path / "ours").read_bytes() == (tmp_path / "theirs").read_bytes()

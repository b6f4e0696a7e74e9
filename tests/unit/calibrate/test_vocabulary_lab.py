"""Vocabulary pruning alone on real text: nothing of held-out domain text is lost, general text takes more tokens."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer

from edgeprune.calibrate.statistics import CalibrationStats
from edgeprune.calibrate.vocabulary import token_order, trim_tokenizer_json

LAB = os.environ.get("EDGEPRUNE_LAB")

pytestmark = [
    pytest.mark.lab,
    pytest.mark.skipif(LAB is None, reason="EDGEPRUNE_LAB names no lab folder"),
]


def _documents(name: str) -> list[str]:
    assert LAB is not None
    lines = (Path(LAB) / "text" / name).read_text(encoding="utf-8").splitlines()
    return [json.loads(line)["text"] for line in lines]


def _ids(tokenizer: Tokenizer, documents: list[str]) -> list[list[int]]:
    return [encoding.ids for encoding in tokenizer.encode_batch(documents, add_special_tokens=False)]


def _counted(domain: list[list[int]], general: list[list[int]], size: int) -> CalibrationStats:
    """Statistics of which only the token counts are read."""
    counts = [
        torch.bincount(torch.tensor([token for ids in part for token in ids]), minlength=size)
        for part in (domain, general)
    ]
    windows = torch.zeros((1, 8), dtype=torch.int32)
    return CalibrationStats(
        gram={},
        mean={},
        activation_noise={},
        output_weight={},
        block_similarity=torch.eye(1, dtype=torch.float64),
        token_count=counts[0],
        general_token_count=counts[1],
        tokens=windows,
        general_tokens=windows,
        edits_hash="",
        token_total=1,
        stability=None,
    )


@pytest.mark.parametrize("domain", ["medicine", "law"])
def test_held_out_domain_text_survives_and_general_text_pays(domain: str) -> None:
    assert LAB is not None
    tokenizer = Tokenizer.from_file(str(Path(LAB) / "model" / "tokenizer.json"))
    size = tokenizer.get_vocab_size()
    calibration = [_ids(tokenizer, _documents(f"{name}.calib.jsonl")) for name in (domain, "general")]
    stats = _counted(calibration[0], calibration[1], size)
    order = token_order(stats, tokenizer)
    used = int((stats.token_count[torch.from_numpy(order)] > 0).nonzero().max()) + 1
    inflation = {}
    for kept_count in (used, size // 2, size // 4):
        kept = np.sort(order[:kept_count])
        source = json.loads(tokenizer.to_str())
        trimmed = Tokenizer.from_str(json.dumps(trim_tokenizer_json(source, kept.tolist())))
        for name in (domain, "general"):
            documents = _documents(f"{name}.valid.jsonl")
            before, after = _ids(tokenizer, documents), _ids(trimmed, documents)
            for document, ids in zip(documents, after, strict=True):
                assert max(ids) < kept_count
                assert trimmed.decode(ids, skip_special_tokens=False) == document
            inflation[kept_count, name] = sum(map(len, after)) / sum(map(len, before))
    assert inflation[used, domain] < 1.005
    assert inflation[used, "general"] > inflation[used, domain]
    assert inflation[size // 4, "general"] > inflation[size // 2, "general"] > inflation[used, "general"]

import itertools
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer

from edgeprune.demo import train
from edgeprune.demo.baselines import unigram_bits_per_token
from edgeprune.demo.evaluation import bits_per_byte, question_accuracy
from edgeprune.demo.model import build_network, network_config
from edgeprune.demo.muon import orthogonalised
from edgeprune.demo.paths import DEMO_DOMAINS
from edgeprune.demo.stream import encode_documents, training_windows
from edgeprune.demo.tokenizer import learn_tokenizer
from edgeprune.demo.world import World


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return learn_tokenizer((text for _, text in itertools.islice(World(0).training_documents(), 300)), vocab_size=1024)


def test_orthogonalised_brings_singular_values_near_one() -> None:
    matrices = torch.randn(3, 24, 40, generator=torch.Generator().manual_seed(0))
    for batch in (matrices, matrices.transpose(1, 2)):
        values = torch.linalg.svdvals(orthogonalised(batch))
        assert values.min() > 0.3
        assert values.max() < 1.4


def test_windows_join_without_gap_or_overlap(tokenizer: Tokenizer) -> None:
    documents = World(0).training_documents()
    batches = training_windows(tokenizer, documents, batch_size=3, window_tokens=64)
    first, second = next(batches), next(batches)
    rows = np.concatenate([first, second])
    assert rows.shape == (6, 65)
    assert (rows[:-1, -1] == rows[1:, 0]).all()
    texts = [text for _, text in itertools.islice(World(0).training_documents(), 10)]
    assert rows[:, :-1].ravel().tolist() == encode_documents(tokenizer, texts)[: rows[:, :-1].size]


def test_untrained_network_scores_like_chance(tokenizer: Tokenizer) -> None:
    network = build_network(network_config(1024, num_blocks=2, hidden_size=64, ffn_size=64), seed=0).eval()
    texts = ["The court finds that Mr Brener proved his claim."]
    tokens = len(tokenizer.encode(texts[0]).ids)
    expected = math.log2(1024) * tokens / len(texts[0])
    assert bits_per_byte(network, tokenizer, texts, window_tokens=8) == pytest.approx(expected, rel=0.1)
    accuracy = question_accuracy(network, tokenizer, World(0).questions("law")[:40])
    assert accuracy["frequent"] < 0.6


def test_the_cycle_without_decay_takes_two_fifteenths() -> None:
    assert train.cycle_lengths(train.DEFAULT_STEPS) == (1300, 200)
    assert train.cycle_lengths(3) == (3, 0)


def test_equal_seeds_train_to_equal_weights(tokenizer: Tokenizer) -> None:
    def trained() -> torch.Tensor:
        network = build_network(network_config(1024, num_blocks=1, hidden_size=64, ffn_size=64), seed=5)
        batches = training_windows(tokenizer, World(0).training_documents(), batch_size=2, window_tokens=32)
        train.fit(network, batches, steps=9)
        return network.model.layers[0].mlp.down_proj.weight.detach()

    assert torch.equal(trained(), trained())


@pytest.mark.slow
def test_short_training_run_gets_below_the_unigram_entropy(tmp_path: Path) -> None:
    assert train.main(["--seed", "1", "--steps", "30", "--threads", "1", "--out", str(tmp_path)]) == 0
    report = json.loads((tmp_path / "model" / "training.json").read_text(encoding="utf-8"))
    tokenizer = Tokenizer.from_file(str(tmp_path / "model" / "tokenizer.json"))
    for domain in DEMO_DOMAINS:
        texts = World(1).split_documents(domain, "report")
        entropy = unigram_bits_per_token(np.array(encode_documents(tokenizer, texts)))
        size = sum(len(text.encode()) for text in texts)
        tokens = sum(len(encoding.ids) + 1 for encoding in tokenizer.encode_batch(texts))
        assert report["bits_per_byte"][domain] < entropy * tokens / size
    assert (tmp_path / "text" / "law.report.jsonl").exists()
    assert (tmp_path / "model" / "model.safetensors").stat().st_size <= 8_000_000

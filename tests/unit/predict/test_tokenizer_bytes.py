"""What a trimmed tokenizer takes on disk, against real ones written as a bundle writes them."""

import json
from pathlib import Path

import pytest
from msgspec.structs import replace
from tokenizers import Tokenizer

from edgeprune.calibrate.vocabulary import mandatory_count, trim_tokenizer_json
from edgeprune.predict.cost import CostModel
from edgeprune.predict.disk import tokenizer_bytes
from edgeprune.schema.scores import VocabularyOption
from tests.tiny import write_tiny_llama
from tests.unit.search.builders import make_device, make_scores, make_spec, make_workload


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    folder: Path = write_tiny_llama(tmp_path_factory.mktemp("tokenizer") / "tiny")
    return Tokenizer.from_file(str(folder / "tokenizer.json"))


def written_bytes(tokenizer: Tokenizer, count: int) -> int:
    """Of the tokenizer with its first tokens, which are closed under merges."""
    trimmed = trim_tokenizer_json(json.loads(tokenizer.to_str()), set(range(count)))
    return len(Tokenizer.from_str(json.dumps(trimmed)).to_str().encode())


def test_sizes_between_those_that_were_written_are_near_what_is_written(tokenizer: Tokenizer) -> None:
    total, fewest = tokenizer.get_vocab_size(), mandatory_count(json.loads(tokenizer.to_str()))
    spec = make_spec(vocab=total)
    # The source is written with white space, which a trimmed one loses: its size tells nothing.
    spec = replace(spec, tokenizer_bytes=len(tokenizer.to_str(pretty=True).encode()))
    step = (total - fewest) // 8
    known = [fewest + step * part for part in (2, 4, 6)]
    written = {count: written_bytes(tokenizer, count) for count in known}
    for count in (*known, *(count + step for count in known[:-1])):
        found = tokenizer_bytes(spec, vocab_size=count, written=written)
        assert found == pytest.approx(written_bytes(tokenizer, count), rel=0.02)
    assert tokenizer_bytes(spec, vocab_size=total, written=written) == spec.tokenizer_bytes


def test_a_search_prices_tables_with_the_tokenizer_that_was_written(tokenizer: Tokenizer) -> None:
    spec = make_spec(vocab=tokenizer.get_vocab_size())
    scores, _ = make_scores(spec)
    count = spec.vocab_size - 64
    option = VocabularyOption(kept_count=count, loss_increase_nats=0.1, token_inflation=1.1)
    sizes = []
    for size in (3_000, 5_000):
        one = replace(scores, vocabulary=(replace(option, tokenizer_bytes=size),))
        model = CostModel(make_device(), spec, make_workload(spec), scores=one)
        sizes.append(model.table_price(vocab_size=count, kernel="fp32").disk_bytes)
    assert sizes[1] - sizes[0] == 2_000

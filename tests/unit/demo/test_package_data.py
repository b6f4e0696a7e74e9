import json
from pathlib import Path

import pytest
from tokenizers import Tokenizer

from edgeprune.demo.paths import (
    DEMO_DOMAINS,
    DEMO_QUESTION_DOMAINS,
    DEMO_SPLITS,
    demo_choice_path,
    demo_data_path,
    demo_model_path,
    demo_text_path,
)
from edgeprune.demo.world import World

TRAINING = json.loads((demo_model_path() / "training.json").read_text(encoding="utf-8"))


def _lines(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_package_data_stays_small() -> None:
    sizes = {path: path.stat().st_size for path in demo_data_path().rglob("*") if path.is_file()}
    assert sum(sizes.values()) < 16_000_000
    assert sizes[demo_model_path() / "model.safetensors"] <= 8_000_000


@pytest.mark.parametrize("domain", DEMO_DOMAINS)
@pytest.mark.parametrize("split", DEMO_SPLITS)
def test_stored_texts_are_what_the_world_generates(domain: str, split: str) -> None:
    stored = [line["text"] for line in _lines(demo_text_path(domain, split))]
    assert stored == World(TRAINING["seed"]).split_documents(domain, split)


@pytest.mark.parametrize("domain", DEMO_QUESTION_DOMAINS)
def test_stored_questions_are_what_the_world_generates(domain: str) -> None:
    assert _lines(demo_choice_path(domain)) == World(TRAINING["seed"]).questions(domain)


def test_model_folder_has_the_promised_shape() -> None:
    config = json.loads((demo_model_path() / "config.json").read_text(encoding="utf-8"))
    assert config["model_type"] == "llama"
    assert config["num_hidden_layers"] >= 10
    assert config["num_key_value_heads"] < config["num_attention_heads"]
    assert config["tie_word_embeddings"]
    assert config["dtype"] == "bfloat16"


def test_tokenizer_returns_every_text_unchanged() -> None:
    tokenizer = Tokenizer.from_file(str(demo_model_path() / "tokenizer.json"))
    assert tokenizer.token_to_id("<|endoftext|>") == 0
    assert tokenizer.token_to_id("<|pad|>") == 1
    text = "Patients take 40 milligrams, naïve or not.\n\tEnd"
    assert tokenizer.decode(tokenizer.encode(text).ids) == text


def test_unknown_domain_or_split_is_refused() -> None:
    with pytest.raises(ValueError, match="cooking"):
        demo_text_path("cooking", "report")
    with pytest.raises(ValueError, match="train"):
        demo_text_path("law", "train")
    with pytest.raises(ValueError, match="general"):
        demo_choice_path("general")

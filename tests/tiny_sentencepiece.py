"""Tiny tokenizers as SentencePiece conversions write them: 512 tokens, word marks, bytes for unknown characters."""

import functools
import itertools
import json
from pathlib import Path
from typing import Any, Literal

from tests.tiny import TINY_TEXT

__all__ = ["CHAT_TEMPLATE", "Kind", "sentencepiece_json", "write_sentencepiece"]

Kind = Literal["BPE", "Unigram"]

SIZE = 512
SPECIALS = ("<unk>", "<s>", "</s>")
BYTES = tuple(f"<0x{value:02X}>" for value in range(256))
CHAT_TEMPLATE = "{% for m in messages %}{{ bos_token }}{{ m['role'] }}: {{ m['content'] }}{{ eos_token }}{% endfor %}"


@functools.cache
def sentencepiece_json(kind: Kind) -> str:
    """tokenizer.json as Llama 2 (BPE) has it, and the same around a Unigram."""
    first = [*SPECIALS, *BYTES]
    room = SIZE - len(first)
    learned = _bpe_model(first, room) if kind == "BPE" else _unigram_model(first, room)
    added = [
        {"id": index, "content": token, "special": True, "single_word": False, "lstrip": False, "rstrip": False}
        | {"normalized": False}
        for index, token in enumerate(SPECIALS)
    ]
    begin = {"SpecialToken": {"id": "<s>", "type_id": 0}}
    content: dict[str, Any] = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added,
        "normalizer": {
            "type": "Sequence",
            "normalizers": [
                {"type": "Prepend", "prepend": "▁"},
                {"type": "Replace", "pattern": {"String": " "}, "content": "▁"},
            ],
        },
        "pre_tokenizer": None,
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [begin, {"Sequence": {"id": "A", "type_id": 0}}],
            "pair": [begin, {"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 0}}],
            "special_tokens": {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]}},
        },
        "decoder": {
            "type": "Sequence",
            "decoders": [
                {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
                {"type": "ByteFallback"},
                {"type": "Fuse"},
                {"type": "Strip", "content": " ", "start": 1, "stop": 0},
            ],
        },
        "model": learned,
    }
    return json.dumps(content, ensure_ascii=False)


def write_sentencepiece(folder: Path, kind: Kind) -> Path:
    """Put such a tokenizer into a model folder in the place of its own."""
    (folder / "tokenizer.json").write_text(sentencepiece_json(kind), encoding="utf-8")
    config = {
        "tokenizer_class": "LlamaTokenizer" if kind == "BPE" else "PreTrainedTokenizerFast",
        "bos_token": "<s>",
        "eos_token": "</s>",
        "unk_token": "<unk>",
        "added_tokens_decoder": {
            str(index): {"content": token, "special": True} for index, token in enumerate(SPECIALS)
        },
        "chat_template": CHAT_TEMPLATE,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    for name in ("config.json", "generation_config.json"):
        path = folder / name
        if path.is_file():
            ids = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": None}
            path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | ids), encoding="utf-8")
    return folder


def _bpe_model(first: list[str], room: int) -> dict[str, Any]:
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.BpeTrainer(vocab_size=room, min_frequency=1, show_progress=False)
    tokenizer.train_from_iterator([TINY_TEXT.replace("\n", " ")], trainer)
    found = tokenizer.get_vocab()
    learned = sorted(found, key=lambda token: found[token])
    vocabulary = {token: index for index, token in enumerate([*first, *learned])}
    assert len(vocabulary) == SIZE
    # As a conversion does: every split of a token into two others is a merge, earlier tokens first.
    merges = [
        [token[:at], token[at:]]
        for token, at in itertools.chain.from_iterable(((t, at) for at in range(1, len(t))) for t in learned)
        if token[:at] in vocabulary and token[at:] in vocabulary
    ]
    flags = {"dropout": None, "continuing_subword_prefix": None, "end_of_word_suffix": None, "ignore_merges": False}
    return {
        "type": "BPE", "unk_token": "<unk>", "fuse_unk": True, "byte_fallback": True, "vocab": vocabulary,
        "merges": merges,
    } | flags  # fmt: skip


def _unigram_model(first: list[str], room: int) -> dict[str, Any]:
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.UnigramTrainer(vocab_size=room, show_progress=False, unk_token="<unk>", special_tokens=["<unk>"])
    tokenizer.train_from_iterator([TINY_TEXT.replace("\n", " ")] * 3, trainer)
    pieces = [entry for entry in json.loads(tokenizer.to_str())["model"]["vocab"] if entry[0] not in SPECIALS]
    # The text is too short for as many pieces as are wanted; pairs of frequent ones make up for it.
    pieces += [[f"{a[0]}{b[0]}", -14.0] for a in pieces[:40] for b in pieces[:40]]
    names: dict[str, float] = {}
    for name, score in pieces:
        names.setdefault(name, score)
    learned = [[name, score] for name, score in names.items()][:room]
    vocabulary = [[token, 0.0] for token in first] + learned
    assert len(vocabulary) == SIZE
    return {"type": "Unigram", "unk_id": 0, "byte_fallback": True, "vocab": vocabulary}

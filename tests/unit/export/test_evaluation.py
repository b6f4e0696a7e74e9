"""Tokenised evaluation sets: which bytes a token stands for, which tokens are scored, what is stored."""

from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

from edgeprune.artifacts import read_arrays
from edgeprune.errors import ExportError
from edgeprune.export.evaluation import (
    EvaluationChoices,
    EvaluationText,
    limit_documents,
    tokenize_text,
    window_spans,
    write_choices,
    write_text,
)
from edgeprune.schema.questions import Question
from tests.tiny import tiny_tokenizer_json

DOCUMENT = "The patient, été — 患者 🙂 has a fever.\n"


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.from_str(tiny_tokenizer_json())


def _word_tokenizer() -> Tokenizer:
    """Not byte-level: lower-cases, drops spaces, knows few words."""
    vocabulary = {word: number for number, word in enumerate(("[unk]", "the", "fever", "été", "patient"))}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[unk]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return tokenizer


@pytest.mark.parametrize("make", [lambda: Tokenizer.from_str(tiny_tokenizer_json()), _word_tokenizer])
def test_bytes_of_tokens_sum_to_the_documents(make: object) -> None:
    assert callable(make)
    documents = [DOCUMENT, "The été.  ", "x"]
    tokenized = tokenize_text(make(), documents)
    for number, document in enumerate(documents):
        part = tokenized.byte_counts[tokenized.offsets[number] : tokenized.offsets[number + 1]]
        assert part.sum() == len(document.encode())


def test_a_byte_level_token_counts_its_own_bytes(tokenizer: Tokenizer) -> None:
    tokenized = tokenize_text(tokenizer, [DOCUMENT])
    pieces = [tokenizer.id_to_token(int(token)) for token in tokenized.tokens]
    assert tokenized.byte_counts.tolist() == [len(piece) for piece in pieces]


def test_windows_are_cut_from_each_document_apart() -> None:
    offsets = np.array([0, 5, 6, 13], dtype=np.int64)
    # The document of one token, and the window of one that is left of the last document, score nothing.
    assert window_spans(offsets, 3) == [(0, 3), (3, 5), (6, 9), (9, 12)]


def test_scored_bytes_leave_out_the_first_token_of_each_window(tokenizer: Tokenizer, tmp_path: Path) -> None:
    text = EvaluationText(name="domain", documents=[DOCUMENT, "The river rises."])
    written = write_text(text, tokenizer, tmp_path, window_tokens=4)
    arrays = read_arrays(tmp_path / "eval" / "domain.npz")
    expected = sum(
        int(arrays["token_bytes"][start + 1 : min(start + 4, end)].sum())
        for begin, end in zip(arrays["offsets"][:-1], arrays["offsets"][1:], strict=True)
        for start in range(begin, end, 4)
    )
    assert written.scored_bytes == expected
    assert written.path == "eval/domain.npz"


def test_a_long_text_is_cut_between_characters_and_says_so(tokenizer: Tokenizer, tmp_path: Path) -> None:
    kept, was_cut = limit_documents(["aé", "ééé"], limit_bytes=6)
    assert kept == ["aé", "é"]
    assert was_cut
    text = EvaluationText(name="domain", documents=["ab", "cd", "ef"], description="letters")
    written = write_text(text, tokenizer, tmp_path, window_tokens=4, limit_bytes=4)
    assert written.description == "letters; first 2 of 3 documents, 4 bytes"


def test_a_text_that_cannot_be_scored_is_refused(tokenizer: Tokenizer, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="'general' has no document of two tokens"):
        write_text(EvaluationText(name="general", documents=["", "e"]), tokenizer, tmp_path, window_tokens=4)


def test_questions_are_stored_as_prompt_plus_choice(tokenizer: Tokenizer, tmp_path: Path) -> None:
    question = Question(prompt="Is it a fever?", choices=(" yes", " perhaps not"), answer=1)
    written = write_choices(
        EvaluationChoices(name="fever", questions=[question]), tokenizer, tmp_path, context_tokens=64
    )
    arrays = read_arrays(tmp_path / written.path)
    prompt = tokenizer.encode(question.prompt).ids
    assert arrays["prompt_lengths"].tolist() == [len(prompt)] * 2
    assert arrays["choice_bytes"].tolist() == [4, 12]
    assert (arrays["choice_counts"].tolist(), arrays["answers"].tolist()) == ([2], [1])
    second = arrays["tokens"][arrays["offsets"][1] : arrays["offsets"][2]].tolist()
    assert second == prompt + tokenizer.encode(" perhaps not").ids


@pytest.mark.parametrize(
    ("question", "message"),
    [
        (Question(prompt="", choices=(" a", " b"), answer=0), "prompt of question 1 of 'q' has no tokens"),
        (Question(prompt="p", choices=(" a", ""), answer=0), "choice of question 1 of 'q' has 0 tokens"),
        (Question(prompt="p", choices=(" a", "abc " * 30), answer=0), "must leave room for a prompt in a context of 8"),
    ],
)
def test_questions_that_cannot_be_asked_are_refused(
    question: Question, message: str, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    with pytest.raises(ExportError, match=message):
        write_choices(EvaluationChoices(name="q", questions=[question]), tokenizer, tmp_path, context_tokens=8)

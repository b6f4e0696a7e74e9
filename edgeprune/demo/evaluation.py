"""What the demo model scores on its own world: bits per byte of unseen text and accuracy on questions."""

import math
from collections.abc import Sequence

import torch
from tokenizers import Tokenizer
from transformers import LlamaForCausalLM

from edgeprune.demo.questions import Question
from edgeprune.demo.stream import encode_documents
from edgeprune.demo.tokenizer import PAD_ID

__all__ = ["bits_per_byte", "question_accuracy"]

_ROWS_AT_ONCE = 16


@torch.no_grad()
def bits_per_byte(network: LlamaForCausalLM, tokenizer: Tokenizer, texts: list[str], *, window_tokens: int) -> float:
    """Bits the model needs per UTF-8 byte of `texts`, read in consecutive windows."""
    tokens = encode_documents(tokenizer, texts)
    bits = 0.0
    rows = [tokens[start : start + window_tokens + 1] for start in range(0, len(tokens) - 1, window_tokens)]
    for start in range(0, len(rows), _ROWS_AT_ONCE):
        losses, kept = _token_losses(network, rows[start : start + _ROWS_AT_ONCE])
        bits += float(losses[kept].double().sum()) / math.log(2)
    return bits / sum(len(text.encode()) for text in texts)


@torch.no_grad()
def question_accuracy(
    network: LlamaForCausalLM, tokenizer: Tokenizer, questions: Sequence[Question]
) -> dict[str, float]:
    """Fraction of right answers by group: the choice of highest mean log-probability per byte wins."""
    right: dict[str, list[bool]] = {}
    for question in questions:
        prompt = encode_documents(tokenizer, [question["prompt"]])
        rows = [prompt + tokenizer.encode(choice).ids for choice in question["choices"]]
        losses, kept = _token_losses(network, rows)
        kept[:, : len(prompt) - 1] = False
        sums = (losses * kept).double().sum(dim=1).tolist()
        scores = [-total / len(choice.encode()) for total, choice in zip(sums, question["choices"], strict=True)]
        right.setdefault(question["group"], []).append(scores.index(max(scores)) == question["answer"])
    return {group: sum(hits) / len(hits) for group, hits in right.items()}


def _token_losses(network: LlamaForCausalLM, rows: list[list[int]]) -> tuple[torch.Tensor, torch.Tensor]:
    """Loss of every token after a row's first, in nats [rows, longest - 1], and which of them are no padding."""
    longest = max(len(row) for row in rows)
    padded = torch.tensor([row + [PAD_ID] * (longest - len(row)) for row in rows])
    lengths = torch.tensor([len(row) for row in rows])
    logits = network(input_ids=padded[:, :-1], use_cache=False).logits.float()
    losses = torch.nn.functional.cross_entropy(logits.transpose(1, 2), padded[:, 1:], reduction="none")
    return losses, torch.arange(1, longest) < lengths[:, None]

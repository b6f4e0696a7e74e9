"""What torch computes of the bundle's own evaluation sets: a device holds its figures against these.

Loss in nats per scored token, windows cut as in `TextSet`; accuracy by mean log-probability per byte, ties to the
first, or for exact matches by the most likely tokens, as validation scores it. Both are of the compressed model, so
packing, wiring, kernels and damage show, and compression does not.
"""

from pathlib import Path

import numpy as np
import torch
from msgspec.structs import replace

from edgeprune.artifacts import read_arrays
from edgeprune.calibrate.loss import hidden_states, measure_loss
from edgeprune.export.evaluation import window_spans
from edgeprune.intake.adapters.logit_cap import bend
from edgeprune.intake.load import LoadedModel
from edgeprune.schema.bundle import ChoiceSet, TextSet
from edgeprune.schema.events import Progress

__all__ = ["reference_accuracy", "reference_loss", "with_choice_reference", "with_text_reference"]


def with_text_reference(
    text: TextSet, loaded: LoadedModel, folder: Path, *, dense_bits_per_byte: float | None, progress: Progress
) -> TextSet:
    """The same text set with torch's loss on it, and the dense model's bits-per-byte beside."""
    loss = reference_loss(loaded, folder / text.path, window_tokens=text.window_tokens, progress=progress)
    return replace(text, reference_loss_nats=loss, dense_bits_per_byte=dense_bits_per_byte)


def with_choice_reference(
    choices: ChoiceSet, loaded: LoadedModel, folder: Path, *, context_tokens: int, progress: Progress
) -> ChoiceSet:
    """The same question set with torch's accuracy on it."""
    accuracy = reference_accuracy(loaded, folder / choices.path, context_tokens=context_tokens, progress=progress)
    return replace(choices, reference_accuracy=accuracy)


def reference_loss(loaded: LoadedModel, path: Path, *, window_tokens: int, progress: Progress) -> float:
    """Mean loss of the torch model on a text set, nats per scored token."""
    arrays = read_arrays(path)
    tokens = arrays["tokens"].tolist()
    windows = [tokens[begin:end] for begin, end in window_spans(arrays["offsets"], window_tokens)]
    nats, count = measure_loss(loaded, windows, progress=progress)
    return nats / count


@torch.no_grad()
def reference_accuracy(loaded: LoadedModel, path: Path, *, context_tokens: int, progress: Progress) -> float:
    """Share of the questions of a set that the torch model answers right."""
    arrays = read_arrays(path)
    tokens = torch.from_numpy(arrays["tokens"].astype(np.int64))
    offsets, prompt_lengths = arrays["offsets"], arrays["prompt_lengths"]
    head, cap = loaded.adapter.head(loaded.model), loaded.adapter.logit_cap(loaded.model)
    correct_count, first = 0, 0
    for count, answer in zip(arrays["choice_counts"].tolist(), arrays["answers"].tolist(), strict=True):
        progress.raise_if_cancelled()
        scores = []
        is_exact = count == 1
        for index in range(first, first + count):
            sequence = tokens[offsets[index] : offsets[index + 1]]
            choice_length = len(sequence) - int(prompt_lengths[index])
            kept = sequence[-context_tokens:]
            hidden = hidden_states(loaded, kept[None, :-1])[0, -choice_length:]
            if is_exact:
                correct_count += bool((head(hidden).argmax(dim=-1) == kept[-choice_length:]).all())
                continue
            log_probabilities = torch.log_softmax(bend(head(hidden), cap).double(), dim=-1)
            picked = log_probabilities.gather(1, kept[-choice_length:, None])
            scores.append(float(picked.sum()) / int(arrays["choice_bytes"][index]))
        if not is_exact:
            correct_count += int(np.argmax(scores)) == answer
        first += count
    return correct_count / len(arrays["answers"])

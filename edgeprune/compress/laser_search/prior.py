"""How much each intervention should change the loss, from one backward pass: nothing is evaluated.

For W = sum_i sigma_i u_i v_i^T the derivative of the loss L with respect to a singular value is

    g_i = u_i^T (dL/dW) v_i,      and to first order truncating at r changes the loss by

    dL(r) = - sum_{i > r} sigma_i g_i                                                                       (1)

(arXiv 2510.20800 ranks matrices by dL/dsigma from one backward pass over 100 samples.) The most negative dL promises
most. The loss is the mean over questions of the negative log-probability of the right answer.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from edgeprune.compress.laser_search.interventions import Intervention, Spectra
from edgeprune.intake.load import LoadedModel
from edgeprune.schema.questions import Question

__all__ = ["expected_changes"]


def expected_changes(
    loaded: LoadedModel,
    spectra: Spectra,
    interventions: Sequence[Intervention],
    questions: Sequence[Question],
    *,
    context_tokens: int,
) -> list[float]:
    """Change of the loss by eq. (1) for each intervention, in nats a question.

    Args:
        loaded: the dense model; unchanged when this returns.
        spectra: of its sites.
        interventions: those to rank.
        questions: about a hundred to differentiate.
        context_tokens: longer prompts lose their beginning.
    """
    names = sorted({one.site for one in interventions})
    gradients = _gradients(loaded, [spectra.module(name) for name in names], questions, context_tokens)
    tails = {}
    for name, gradient in zip(names, gradients, strict=True):
        U, sigma, V = spectra.of(name)
        slopes = sigma * torch.einsum("ok,oi,ki->k", U, gradient.double(), V)
        tails[name] = torch.cat([slopes.flip(0).cumsum(0).flip(0), slopes.new_zeros(1)])  # eq. (1), up to its sign
    return [-float(tails[one.site][one.rank]) for one in interventions]


def _gradients(
    loaded: LoadedModel, modules: Sequence[nn.Linear], questions: Sequence[Question], context_tokens: int
) -> list[Tensor]:
    """[out, in] of each module: gradient of the mean loss of the right answers."""
    sums = [torch.zeros_like(module.weight) for module in modules]
    weights = [module.weight for module in modules]
    before = [weight.requires_grad for weight in weights]
    try:
        for weight in weights:
            weight.requires_grad_(True)
        for question in questions:
            prompt = loaded.tokenizer.encode(question.prompt, add_special_tokens=False).ids
            answer = loaded.tokenizer.encode(question.choices[question.answer], add_special_tokens=False).ids
            tokens = torch.tensor([[*prompt, *answer][-context_tokens:]])
            count = min(len(answer), tokens.shape[1] - 1)
            with torch.enable_grad():
                logits = loaded.model(input_ids=tokens[:, :-1], use_cache=False).logits[0, -count:]
                nats = nn.functional.cross_entropy(logits, tokens[0, -count:], reduction="sum")
                found = torch.autograd.grad(nats, weights)
            for total, gradient in zip(sums, found, strict=True):
                total += gradient / len(questions)
    finally:
        for weight, flag in zip(weights, before, strict=True):
            weight.requires_grad_(flag)
    return sums

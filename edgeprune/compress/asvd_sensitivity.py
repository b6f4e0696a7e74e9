"""ASVD's search for ranks: what each share of each site's parameters costs alone, and one threshold for all sites.

Sensitivity-based truncation rank searching (arXiv 2312.05821, section 3.3; the authors' code, `sensitivity.py` and
`binary_search.py`): every site is factored alone at nine shares of its parameters and the loss on calibration text is
measured; then the pairs (site, share) are sorted by that loss, and every site takes the least of its shares that
stands below one threshold, found by bisection for the number of parameters asked for. Losses of sites together are not
the sum of these, which the method does not ask.

A site of block l changes nothing before it, so hidden states are kept at the door of each block and only the rest of
the model runs: half of the passes on average. Fewer tokens are read than in the paper, which takes 32 windows of 2,048;
all pairs are compared on the same ones.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from edgeprune.calibrate.loss import head_loss
from edgeprune.calibrate.one_thread import one_thread
from edgeprune.calibrate.statistics import CalibrationStats, input_key
from edgeprune.compress.asvd import factor_asvd
from edgeprune.compress.factored import FactoredLinear
from edgeprune.compress.recover.streams import Blocks
from edgeprune.intake.load import LoadedModel
from edgeprune.schema.events import Event, Progress
from edgeprune.schema.model import SiteSpec

__all__ = ["SHARES", "measured_windows", "rank_at", "sensitivities", "shares_below"]

SHARES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
"""Of a site's parameters that two factors keep."""
_TOKENS = 1024
"""Of calibration text that each pair is measured on."""


def rank_at(site: SiteSpec, share: float) -> int:
    """Rank at which two factors hold that share of the matrix, at least 1."""
    return max(1, int(share * site.in_features * site.out_features / (site.in_features + site.out_features)))


def measured_windows(stats: CalibrationStats) -> Tensor:
    """[n, seq] int64: the windows that each pair is measured on."""
    return stats.tokens[: max(1, _TOKENS // stats.tokens.shape[1])].long()


@torch.no_grad()
def sensitivities(loaded: LoadedModel, stats: CalibrationStats, *, progress: Progress) -> dict[str, tuple[float, ...]]:
    """By site, the loss at each of `SHARES` of it alone, in nats per token of calibration text.

    Args:
        loaded: the dense model; as it was when this returns.
        stats: of its calibration, with the magnitudes of the sites' inputs.
        progress: told after each block.
    """
    windows = measured_windows(stats)
    blocks = Blocks(loaded, windows)
    hidden = blocks.inputs(windows)
    found: dict[str, tuple[float, ...]] = {}
    for position, spec in enumerate(loaded.spec.blocks):
        for site in spec.sites:
            progress.raise_if_cancelled()
            found[site.name] = _losses(loaded, stats, blocks, position, site, hidden, windows)
        hidden = blocks.run(position, hidden)
        progress.emit(
            Event(
                kind="stage_advanced",
                stage="compress",
                message=f"block {spec.index} measured at {len(SHARES)} shares of each site",
                done_fraction=(position + 1) / len(loaded.spec.blocks),
            )
        )
    return found


def shares_below(losses: Mapping[str, tuple[float, ...]], threshold: float) -> dict[str, float | None]:
    """By site, the least share whose loss is at most the threshold; None, the whole matrix, where none is."""
    return {
        name: min((share for share, loss in zip(SHARES, values, strict=True) if loss <= threshold), default=None)
        for name, values in losses.items()
    }


def _losses(
    loaded: LoadedModel,
    stats: CalibrationStats,
    blocks: Blocks,
    position: int,
    site: SiteSpec,
    hidden: Tensor,
    windows: Tensor,
) -> tuple[float, ...]:
    adapter, block = loaded.adapter, blocks.module(position)
    dense = adapter.site(block, site.role)
    assert isinstance(dense, nn.Linear)
    ranks = [rank_at(site, share) for share in SHARES]
    with one_thread():
        # Lower ranks are the first columns and rows of the highest.
        factors = factor_asvd(dense.weight, stats.mean_absolute[input_key(site.name)], max(ranks), bias=dense.bias)
    losses = []
    try:
        for rank in ranks:
            right, left = factors.right[:rank].float().contiguous(), factors.left[:, :rank].float().contiguous()
            adapter.set_site(block, site.role, FactoredLinear(right, left, dense.bias))
            losses.append(_loss(loaded, blocks, position, hidden, windows))
    finally:
        adapter.set_site(block, site.role, dense)
    return tuple(losses)


def _loss(loaded: LoadedModel, blocks: Blocks, position: int, hidden: Tensor, windows: Tensor) -> float:
    """Nats per token of the rest of the model from a block's door on."""
    for later in range(position, len(blocks)):
        hidden = blocks.run(later, hidden)
    hidden = loaded.adapter.final_norm(loaded.model)(hidden)
    labels = windows[:, 1:].reshape(-1)
    rows = hidden[:, :-1].reshape(len(labels), -1)
    cap = loaded.adapter.logit_cap(loaded.model)
    return head_loss(rows, loaded.adapter.head(loaded.model), labels, cap=cap).nats / len(labels)

"""The group pass: key-value groups, with the query heads that read them, leave the attention of single blocks.

Takes statistics of the model as it is. The groups that stay are the first of `edgeprune.calibrate.group_scores`, or of
a published criterion (`edgeprune.calibrate.group_criteria`), in their old order: their rows of q, k and v (or of the
three thirds of a fused qkv), biases too, and their columns of o, which least squares makes do the work of the dropped
ones as it does for channels (`edgeprune.compress.channels`); under `flap` a bias of o stands for their mean, as
published. Norms of queries and keys are per head dimension and stay.
"""

from dataclasses import dataclass

import torch
from msgspec.structs import replace
from torch import Tensor, nn

from edgeprune.calibrate.group_criteria import group_scores, output_channels
from edgeprune.calibrate.group_scores import group_columns, group_order, output_moment
from edgeprune.calibrate.statistics import input_key
from edgeprune.compress.channels import NarrowedDown, compensate, slice_down, take_mean
from edgeprune.compress.passes import Work, check_finite, linear
from edgeprune.errors import ModelError
from edgeprune.schema.model import BlockSpec, SiteRole, site_name
from edgeprune.schema.recipe import KeepGroups, Recipe

__all__ = ["DropGroups", "kept_rows"]


@dataclass(frozen=True)
class DropGroups:
    """The pass."""

    name: str = "groups"
    reads_stats: bool = True
    changes_inputs: bool = True

    def part(self, applied: Recipe, recipe: Recipe) -> Recipe:
        """Adds the kept groups."""
        return replace(applied, keep_groups=recipe.keep_groups)

    def apply(self, work: Work, recipe: Recipe) -> None:
        """Slice and compensate."""
        described = {block.index: block for block in work.loaded.spec.blocks}
        for entry in recipe.keep_groups:
            work.progress.raise_if_cancelled()
            spec = described[entry.block]
            if entry.kept_count < spec.num_kv_heads:
                _drop(work, spec, entry)


def kept_rows(role: SiteRole, groups: Tensor, spec: BlockSpec) -> Tensor:
    """[rows] int64: rows of a q, k, v or qkv matrix that belong to these groups [groups] int64 of a block."""
    key = group_columns(groups, spec.head_dim)
    query = group_columns(groups, spec.num_heads // spec.num_kv_heads * spec.head_dim)
    if role == "qkv":
        past_query = spec.num_heads * spec.head_dim
        past_key = past_query + spec.num_kv_heads * spec.head_dim
        return torch.cat([query, past_query + key, past_key + key])
    return query if role == "q" else key


def _drop(work: Work, spec: BlockSpec, entry: KeepGroups) -> None:
    adapter = work.loaded.adapter
    block = adapter.blocks(work.loaded.model)[work.position(entry.block)]
    name = site_name(entry.block, "o")
    key = input_key(name)
    output = adapter.site(block, "o")
    assert isinstance(output, nn.Linear)
    try:
        groups = _kept(work, spec, entry, output)
        columns = group_columns(groups, output.in_features // spec.num_kv_heads)
        narrowed = _narrowed(entry, output, columns, gram=work.stats.gram[key], mean=work.stats.mean[key])
    except torch.linalg.LinAlgError as error:  # type: ignore[attr-defined]
        raise ModelError(
            f"The key-value groups of {name} cannot be weighed ({error}); the calibration text is too short for its "
            "width or the statistics are damaged, calibrate again with more text."
        ) from error
    check_finite(name, narrowed.weight, narrowed.bias)
    bias = None if narrowed.bias is None else narrowed.bias.float()
    adapter.set_site(block, "o", linear(narrowed.weight.float(), bias))
    for role in adapter.present_roles(block):
        if role in ("q", "k", "v", "qkv"):
            site = adapter.site(block, role)
            assert isinstance(site, nn.Linear)
            rows = kept_rows(role, groups, spec)
            adapter.set_site(block, role, linear(site.weight[rows], None if site.bias is None else site.bias[rows]))
    adapter.set_head_count(block, len(groups) * (spec.num_heads // spec.num_kv_heads))


def _kept(work: Work, spec: BlockSpec, entry: KeepGroups, output: nn.Linear) -> Tensor:
    """[kept] int64, ascending: the groups that stay."""
    has_bias = output.bias is not None
    if entry.criterion == "obs":
        moment = output_moment(work.stats, entry.block, has_bias=has_bias)
        order = torch.from_numpy(group_order(output.weight, moment, spec.num_kv_heads).groups)
    else:
        columns = output_channels(work.stats, entry.block, output.weight, has_bias=has_bias)
        order = group_scores(entry.criterion, columns, spec.num_kv_heads).argsort(descending=True, stable=True)
    return order[: entry.kept_count].sort().values


def _narrowed(entry: KeepGroups, output: nn.Linear, columns: Tensor, *, gram: Tensor, mean: Tensor) -> NarrowedDown:
    if not entry.compensate:
        return slice_down(output.weight, columns, bias=output.bias)
    if entry.adds_bias:
        return take_mean(output.weight, columns, mean=mean, bias=output.bias)
    return compensate(output.weight, gram, columns, mean=mean, bias=output.bias)

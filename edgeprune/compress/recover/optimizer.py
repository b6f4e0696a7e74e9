"""How weights move: Muon for matrices, AdamW for tables and vectors, one rate factor for all, state that can be kept.

Muon: K. Jordan et al., "Muon: an optimizer for hidden layers in neural networks", 2024, as torch has it, with updates
scaled to the size of Adam's (J. Liu et al. 2025, "Muon is scalable for LLM training"), so that one rate serves shapes
of every kind. Adam: Kingma and Ba 2015.
"""

import math
from collections.abc import Mapping
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from edgeprune.compress.recover.trained import Kind, Named

__all__ = ["Optimizer", "Rates", "rate_factor"]

_WARMUP = 0.05
"""Share of the steps over which the rates rise."""
_LARGEST_GRADIENT = 1.0
"""Norm of all gradients together beyond which they are scaled down."""


class Rates(NamedTuple):
    """Highest rate of each kind of tensor."""

    matrix: float
    table: float
    vector: float


def rate_factor(step: int, steps: int) -> float:
    """Rises over the first twentieth of the steps, then falls along a cosine to zero; of a step counted from 0."""
    done = (step + 1) / (steps + 1)
    if done < _WARMUP:
        return done / _WARMUP
    return 0.5 * (1.0 + math.cos(math.pi * (done - _WARMUP) / (1.0 - _WARMUP)))


class Optimizer:
    """Two optimizers of torch that move as one."""

    def __init__(
        self, parameters: Named, kinds: Mapping[str, Kind], rates: Rates, *, matrices: Literal["muon", "adam"] = "muon"
    ) -> None:
        """Take parameters by name; state exists once a step was taken.

        Args:
            parameters: what is trained.
            kinds: of each parameter.
            rates: the highest.
            matrices: what moves matrices.
        """
        self._parameters = parameters
        self._highest: list[float] = []
        by_kind: dict[Kind, list[torch.nn.Parameter]] = {"matrix": [], "table": [], "vector": []}
        for name, parameter in parameters.items():
            by_kind[kinds[name]].append(parameter)
        self._optimizers: list[torch.optim.Optimizer] = []
        if matrices == "muon" and by_kind["matrix"]:
            muon = torch.optim.Muon(
                by_kind.pop("matrix"), lr=rates.matrix, weight_decay=0.0, adjust_lr_fn="match_rms_adamw"
            )
            self._optimizers.append(muon)
        groups = [{"params": members, "lr": getattr(rates, kind)} for kind, members in by_kind.items() if members]
        if groups:
            self._optimizers.append(torch.optim.AdamW(groups, betas=(0.9, 0.98), weight_decay=0.0))
        for optimizer in self._optimizers:
            self._highest += [group["lr"] for group in optimizer.param_groups]

    def step(self, factor: float) -> None:
        """Apply the gradients held by the parameters at this share of the highest rates, and drop them."""
        torch.nn.utils.clip_grad_norm_(self._parameters.values(), _LARGEST_GRADIENT)
        groups = [group for optimizer in self._optimizers for group in optimizer.param_groups]
        for group, highest in zip(groups, self._highest, strict=True):
            group["lr"] = highest * factor
        for optimizer in self._optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

    def state(self) -> dict[str, Tensor]:
        """`<parameter>/<quantity>` -> tensor, of parameters that have moved."""
        return {
            f"{name}/{quantity}": value
            for name, parameter in self._parameters.items()
            for optimizer in self._optimizers
            for quantity, value in optimizer.state.get(parameter, {}).items()
            if isinstance(value, Tensor)
        }

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Take back what `state` gave for the same parameters."""
        owners = {
            id(parameter): optimizer
            for optimizer in self._optimizers
            for group in optimizer.param_groups
            for parameter in group["params"]
        }
        for key, value in state.items():
            name, quantity = key.rsplit("/", 1)
            parameter = self._parameters[name]
            # Adam counts its steps on the processor, wherever the parameter is.
            kept = value.clone() if quantity == "step" else value.to(parameter.device, copy=True)
            owners[id(parameter)].state[parameter][quantity] = kept

"""Which tensors of a model are trained, and that training them touches no other model.

A compressed model shares every tensor no edit touched with the dense one; `own_parameters` gives it copies first. A
tied table stays tied. Kinds of tensors learn at rates of their own: matrices (factors, and weights kept whole), tables
(embedding, head, learned positions) and vectors (norm gains, biases).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import torch
from torch import nn

from edgeprune.compress.factored import FactoredLinear
from edgeprune.intake.load import LoadedModel

__all__ = ["Kind", "Named", "factor_names", "kinds", "own_parameters", "training"]

Kind = Literal["matrix", "table", "vector"]

Named = dict[str, nn.Parameter]
"""Module path -> parameter; a tensor that is used twice once, under its first name."""


def own_parameters(model: nn.Module) -> None:
    """Give the model copies of all its tensors, so that training it changes no model it shares them with."""
    copies: dict[int, nn.Parameter] = {}
    for module in model.modules():
        for name, parameter in list(module._parameters.items()):
            if parameter is not None:
                fresh = copies.setdefault(id(parameter), nn.Parameter(parameter.detach().clone(), requires_grad=False))
                module._parameters[name] = fresh


def kinds(loaded: LoadedModel) -> dict[str, Kind]:
    """Parameter name -> its kind."""
    model, adapter = loaded.model, loaded.adapter
    modules = (adapter.embedding(model), adapter.head(model), adapter.position_table(model))
    tables = {id(module.weight) for module in modules if module is not None}
    return {
        name: "table" if id(parameter) in tables else "matrix" if parameter.ndim == 2 else "vector"
        for name, parameter in model.named_parameters()
    }


def factor_names(model: nn.Module, side: Literal["left", "right"]) -> set[str]:
    """Names of the left or of the right factors."""
    return {f"{path}.{side}" for path, module in model.named_modules() if isinstance(module, FactoredLinear)}


@contextmanager
def training(parameters: Named) -> Iterator[None]:
    """Gradients are taken of these parameters while the block runs, also inside `torch.no_grad`."""
    try:
        for parameter in parameters.values():
            parameter.requires_grad_(True)
        with torch.enable_grad():
            yield
    finally:
        for parameter in parameters.values():
            parameter.requires_grad_(False)
            parameter.grad = None

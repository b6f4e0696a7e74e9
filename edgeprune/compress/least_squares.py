"""Least squares of a linear site towards targets, kept near to the matrix it had, with a guard against noise.

With inputs a [in] of the site, the errors e [out] of what stands after it and weights w of the tokens,

    G = sum w a a^T,  C = sum w e a^T,  D(r) = C (G + r mean(diag G) I)^-1                          (1)

is the change of the site's matrix that ridge regression asks for. The ridge r is the one that takes most off the
error of tokens it was not fitted to, which their own sums tell without the tokens:

    gain(D) = sum w |e|^2 - sum w |e - D a|^2 = 2 tr(D C^T) - tr(D G D^T)                           (2)

The change is then fitted to all tokens. Where no ridge gains anything there, there is no change.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Moments", "Sample", "best_change", "token_weights"]

_RIDGES = (1e-5, 1e-4, 1e-3, 3e-3, 1e-2, 3e-2, 0.1, 0.3, 1.0, 10.0)
"""r of (1): those that are tried. Few tokens want much of it, or none of the change."""


@dataclass(frozen=True, kw_only=True)
class Moments:
    """Weighted sums over tokens, float64."""

    gram: Tensor
    """[in, in] of a a^T."""
    cross: Tensor
    """[out, in] of e a^T."""
    total: Tensor
    """[in] of a."""
    weight: float
    """Of the weights themselves."""

    @classmethod
    def of(cls, inputs: Tensor, errors: Tensor, weights: Tensor) -> "Moments":
        """Sums over tokens: inputs [tokens, in], errors [tokens, out], weights [tokens] float64.

        Products are of float32 within a batch, as calibration multiplies them, and added up in float64.
        """
        a, w = inputs.float(), weights.float()
        weighted = a * w[:, None]
        return cls(
            gram=(weighted.T @ a).double(),
            cross=(errors.float().T @ weighted).double(),
            total=weighted.sum(dim=0, dtype=torch.float64),
            weight=float(weights.sum()),
        )

    def __add__(self, other: "Moments") -> "Moments":
        return Moments(
            gram=self.gram + other.gram,
            cross=self.cross + other.cross,
            total=self.total + other.total,
            weight=self.weight + other.weight,
        )

    def gain(self, change: Tensor) -> float:
        """Equation (2) for a change [out, in]: what it takes off the error of these tokens."""
        return float(2.0 * (change * self.cross).sum() - ((change @ self.gram) * change).sum())  # eq. (2)


@dataclass(kw_only=True)
class Sample:
    """Tokens a change is fitted to, and those that judge the ridge."""

    fitted: Moments | None = None
    held: Moments | None = None

    def add(self, inputs: Tensor, errors: Tensor, weights: Tensor, *, is_held: bool | None) -> None:
        """Add a batch of tokens, one row each; None holds its last quarter out."""
        cut = round(0.75 * len(inputs)) if is_held is None else 0 if is_held else len(inputs)
        for name, rows in (("fitted", slice(0, cut)), ("held", slice(cut, None))):
            if len(inputs[rows]):
                part = Moments.of(inputs[rows], errors[rows], weights[rows])
                before: Moments | None = getattr(self, name)
                setattr(self, name, part if before is None else before + part)

    @property
    def all(self) -> Moments:
        """Of both."""
        parts = [part for part in (self.fitted, self.held) if part is not None]
        assert parts, "there is a token at least"
        return parts[0] if len(parts) == 1 else parts[0] + parts[1]


def best_change(sample: Sample) -> Tensor | None:
    """[out, in] D of the best ridge; None where the tokens held out gain by none, or where there are none."""
    fitted, held = sample.fitted, sample.held
    if fitted is None or held is None:
        return None
    values, Q = torch.linalg.eigh(fitted.gram)
    values = values.clamp_min(0.0)
    C = fitted.cross @ Q
    judge = Moments(gram=Q.T @ held.gram @ Q, cross=held.cross @ Q, total=held.total, weight=held.weight)
    gains = {share: judge.gain(C / _damped(values, share)) for share in _RIDGES}  # eq. (1) in the eigenbasis
    best = max(gains, key=gains.__getitem__)
    if not gains[best] > 0.0:
        return None
    every = sample.all
    penalty = _damped(torch.zeros_like(values), best, scale=every.gram.diagonal().mean())
    return torch.linalg.solve(every.gram + torch.diag(penalty), every.cross.T).T  # eq. (1)


def token_weights(targets: Tensor) -> Tensor:
    """[tokens] float64, 1 / |t|^2 of targets [tokens, hidden].

    A norm follows wherever a residual stream is read, so an error counts relative to the token's size, and the few
    tokens of very large norm do not drown all others.
    """
    return 1.0 / targets.double().square().sum(dim=-1).clamp_min(1e-12)


def _damped(values: Tensor, share: float, *, scale: Tensor | None = None) -> Tensor:
    mean = values.mean() if scale is None else scale
    return values + (share * mean).clamp_min(torch.finfo(torch.float64).tiny)

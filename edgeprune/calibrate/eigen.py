"""Eigenvalues and leading eigenvectors of symmetric matrices, and the spectrum of a site's outputs.

A decomposition of every site is what scores and factors of low rank cost, so this is the quick way to the exact one:

    (1)  C = W S W^T = V diag(lambda) V^T = B + B^T,  B = W T W^T,  T the lower triangle of S, its diagonal halved
    (2)  S = L L^T,  (W L)^T (W L) = Q diag(lambda) Q^T,  V = W L Q diag(lambda)^{-1/2}     where out > in

The eigenproblem is that of the smaller side; triangular matrices halve the products around it (`trmm`, `syrk`); and
only the eigenvectors that are asked for are carried back from the tridiagonal form, which LAPACK's drivers for all
eigenvectors do not offer. float64 throughout. LAPACK is scipy's: its reduction to tridiagonal form takes half the time
of the one torch comes with on processors that are not Intel's.
"""

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.linalg import blas, lapack
from torch import Tensor

__all__ = ["OutputSpectrum", "leading_eigenvectors", "output_spectrum"]

_TALL = 1.5
"""Up to this many times as many inputs as outputs the Cholesky factor of (2) pays for (1) too; it takes in^3 / 3."""
_SMALL = 32
"""Matrices up to this size are left to the driver for all eigenvectors."""
_NORMALIZED = 1e-8
"""Share of the largest eigenvalue down to which eq. (2) gives vectors orthonormal to as many digits."""

Matrix = NDArray[np.float64]


class OutputSpectrum(NamedTuple):
    """Eigenvalues and eigenvectors of a site's output covariance."""

    values: Tensor
    """[min(out, in)] float64, descending, none below zero."""
    directions: Tensor
    """[out, count] float64, orthonormal, in the order of the values."""


def output_spectrum(weight: Tensor, gram: Tensor, count: int) -> OutputSpectrum:
    """All eigenvalues of W S W^T that can differ from zero, and the first eigenvectors.

    Args:
        weight: [out, in], any float dtype.
        gram: [in, in] float64, S.
        count: eigenvectors asked for, at most min(out, in); where W S W^T has fewer eigenvalues above zero, what stands
            in the rest is orthonormal to the others and arbitrary.

    Raises:
        torch.linalg.LinAlgError: values that are not finite.
    """
    W = weight.detach().double().numpy()
    S = gram.double().numpy()
    out_features, in_features = W.shape
    if out_features <= in_features:
        return OutputSpectrum(*_tensors(*leading_eigenvectors(_covariance(W, S), count)))
    A = _whitened(W, S)
    if A is None:
        moments, basis = np.linalg.eigh(S)
        A = np.asfortranarray((basis * np.sqrt(np.maximum(moments, 0.0))).T @ W.T)
    values, Q = leading_eigenvectors(blas.dsyrk(1.0, A, lower=1), count)
    return OutputSpectrum(*_tensors(values, _carried(A, values[:count], Q)))


def leading_eigenvectors(matrix: Matrix, count: int) -> tuple[Matrix, Matrix]:
    """All eigenvalues [n], descending, and the first `count` eigenvectors [n, count] of a symmetric matrix [n, n].

    Only the lower triangle is read.

    Raises:
        torch.linalg.LinAlgError: values that are not finite.
    """
    size = len(matrix)
    if size <= _SMALL or not hasattr(lapack, "dstevd"):  # scipy may be older than that wrapper
        _check_finite(np.tril(matrix))
        values, vectors = np.linalg.eigh(matrix, UPLO="L")
        return values[::-1], vectors[:, ::-1][:, :count]
    lwork, _ = lapack.dsytrd_lwork(size, lower=1)
    reduced, diagonal, off_diagonal, tau, _ = lapack.dsytrd(matrix, lower=1, lwork=int(lwork))
    _check_finite(diagonal, off_diagonal)
    values, inner, failed = lapack.dstevd(diagonal, off_diagonal, compute_v=int(count > 0))
    if failed:
        raise torch.linalg.LinAlgError("the eigenvalues do not converge")  # type: ignore[attr-defined]
    if count == 0:
        return values[::-1], np.empty((size, 0))
    kept = np.asfortranarray(inner[:, ::-1][:, :count])
    # Householder vectors stand below the subdiagonal: Q = diag(1, H_1 ... H_(n-1)).
    below = np.asfortranarray(reduced[1:, :-1])
    lwork = int(lapack.dormqr("L", "N", below, tau, kept[1:], -1)[1][0])
    kept[1:] = lapack.dormqr("L", "N", below, tau, kept[1:], lwork)[0]
    return values[::-1], kept


def _check_finite(*arrays: Matrix) -> None:
    if not all(np.isfinite(array).all() for array in arrays):
        raise torch.linalg.LinAlgError("the matrix holds values that are not finite")  # type: ignore[attr-defined]


def _covariance(W: Matrix, S: Matrix) -> Matrix:
    """[out, out], lower triangle, C of eq. (1)."""
    if W.shape[1] <= _TALL * W.shape[0] and (A := _whitened(W, S)) is not None:
        squared: Matrix = blas.dsyrk(1.0, A, trans=1, lower=1)
        return squared
    T = np.tril(S)
    T[np.diag_indices_from(T)] /= 2
    # T^T W^T: a transposed array is what Fortran takes without a copy, and (T^T)^T is the lower triangle again.
    WT: Matrix = blas.dtrmm(1.0, T.T, W.T, side=0, lower=0).T
    covariance: Matrix = blas.dsyr2k(1.0, WT.T, W.T, trans=1, lower=1)  # eq. (1)
    return covariance


def _whitened(W: Matrix, S: Matrix) -> Matrix | None:
    """[in, out] (W L)^T of eq. (2); None where S is not positive definite."""
    L, failed = lapack.dpotrf(S, lower=1)
    if failed:
        return None
    whitened: Matrix = blas.dtrmm(1.0, L, W.T, side=0, lower=1, trans_a=1)
    return whitened


def _carried(A: Matrix, values: Matrix, Q: Matrix) -> Matrix:
    """[out, count] V of eq. (2), from A = (W L)^T."""
    V: Matrix = A.T @ Q
    if len(values) and values[-1] > _NORMALIZED * values[0] > 0.0:
        return V / np.sqrt(values)  # eq. (2)
    orthonormal, _ = np.linalg.qr(V)
    return orthonormal


def _tensors(values: Matrix, directions: Matrix) -> tuple[Tensor, Tensor]:
    return torch.from_numpy(np.maximum(values, 0.0)), torch.from_numpy(np.array(directions, order="C"))

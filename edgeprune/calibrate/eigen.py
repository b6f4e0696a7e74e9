"""Eigenvalues and leading eigenvectors of symmetric matrices, and the spectrum of a site's outputs.

A decomposition of every site is what scores and factors of low rank cost, so this is the quick way to the exact one:

    (1)  C = W S W^T = V diag(lambda) V^T = B + B^T,  B = W T W^T,  T the lower triangle of S, its diagonal halved
    (2)  S = L L^T,  L^T (W^T W) L = Q diag(lambda) Q^T,  V = W P,  P = L Q diag(lambda)^{-1/2}     where out > in
    (3)  V^T W = P^T (W^T W)                                                                        where out > in

The eigenproblem is that of the smaller side, and so are the products around it but two; triangular matrices halve them
(`trmm`, `syrk`); sites that read the same inputs share L, where they come one after the other; and only the
eigenvectors that are asked for are carried back from the tridiagonal form, which LAPACK's drivers for all eigenvectors
do not offer. float64 throughout. LAPACK is scipy's: its reduction to tridiagonal form takes half the time of the one
torch comes with on processors that are not Intel's.
"""

import weakref
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
    """[out, count] float64, orthonormal, in the order of the values: V."""
    rows: Tensor
    """[count, in] float64: V^T W."""


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
        L = _whitening(gram, S) if in_features <= _TALL * out_features else None
        values, V = leading_eigenvectors(_covariance(W, S, L), count)
        return _spectrum(values, V, V.T @ W)
    L = _whitening(gram, S)
    if L is None:
        moments, basis = np.linalg.eigh(S)
        A = np.asfortranarray((basis * np.sqrt(np.maximum(moments, 0.0))).T @ W.T)
        values, Q = leading_eigenvectors(blas.dsyrk(1.0, A, lower=1), count)
        V = np.linalg.qr(A.T @ Q)[0]
        return _spectrum(values, V, V.T @ W)
    M = W.T @ W
    C = blas.dtrmm(1.0, L, blas.dtrmm(1.0, L, M.T, side=0, lower=1, trans_a=1), side=1, lower=1, overwrite_b=1)
    values, Q = leading_eigenvectors(C, count)  # eq. (2)
    P = blas.dtrmm(1.0, L, Q, side=0, lower=1)
    if count and values[count - 1] > _NORMALIZED * values[0] > 0.0:
        P /= np.sqrt(values[:count])
        return _spectrum(values, W @ P, P.T @ M)  # eq. (2), (3)
    V = np.linalg.qr(W @ P)[0]
    return _spectrum(values, V, V.T @ W)


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


def _covariance(W: Matrix, S: Matrix, L: Matrix | None) -> Matrix:
    """[out, out], lower triangle, C of eq. (1)."""
    if L is not None:
        whitened = blas.dtrmm(1.0, L, W.T, side=0, lower=1, trans_a=1)
        squared: Matrix = blas.dsyrk(1.0, whitened, trans=1, lower=1)
        return squared
    T = np.tril(S)
    T[np.diag_indices_from(T)] /= 2
    # T^T W^T: a transposed array is what Fortran takes without a copy, and (T^T)^T is the lower triangle again.
    WT: Matrix = blas.dtrmm(1.0, T.T, W.T, side=0, lower=0).T
    covariance: Matrix = blas.dsyr2k(1.0, WT.T, W.T, trans=1, lower=1)  # eq. (1)
    return covariance


class _Known(NamedTuple):
    """The Cholesky factor that was made last."""

    gram: "weakref.ref[Tensor]"
    version: int
    factor: Matrix | None


_last: _Known | None = None


def _whitening(gram: Tensor, S: Matrix) -> Matrix | None:
    """[in, in] L of eq. (2), in its lower triangle alone; None where S is not positive definite.

    The sites of a block that read the same inputs come one after the other with the same tensor, so the last factor is
    kept; a weak reference tells whether it is of this tensor, and the tensor's version whether it has changed since.
    """
    global _last
    known = _last
    if known is not None and known.gram() is gram and known.version == gram._version:
        return known.factor
    L, failed = lapack.dpotrf(S.T, lower=1, clean=0)
    factor: Matrix | None = None if failed else L
    _last = _Known(weakref.ref(gram), gram._version, factor)
    return factor


def _spectrum(values: Matrix, directions: Matrix, rows: Matrix) -> OutputSpectrum:
    return OutputSpectrum(torch.from_numpy(np.maximum(values, 0.0)), _tensor(directions), _tensor(rows))


def _tensor(array: Matrix) -> Tensor:
    """Without a copy where the order in memory is one that torch knows."""
    return torch.from_numpy(array if min(array.strides) > 0 else array.copy())

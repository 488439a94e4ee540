"""Common factors of many channels, followed one row at a time: a low-rank correlation and distances under it."""

from __future__ import annotations

import math

from kernels._jit import F64, lean_inline

# Share of a channel's variance that is its own whatever the factors say: shrinkage towards no correlation.
_OWN = 0.15


@lean_inline
def moments_add(row: F64, size: F64, weight: float, basis: F64, moments: F64) -> None:
    """Add one row of residuals, standardised by `size`, to the moments with its own projections on the basis.

    Source: history PCA, Yang, Hsieh and Wang (2018), arXiv:1802.05447: one power iteration per block of rows.
    """
    for j in range(basis.shape[1]):
        projection = 0.0
        for c in range(row.size):
            projection += basis[c, j] * row[c] / size[c]
        for c in range(row.size):
            moments[c, j] += weight * projection * row[c] / size[c]


@lean_inline
def sketch_add(row: F64, size: F64, weights: F64, moments: F64) -> None:
    """Add one standardised row to K random sums of rows: directions to start from.

    Source: Halko, Martinsson and Tropp (2011), doi:10.1137/090771806, algorithm 4.1.
    """
    for j in range(weights.size):
        for c in range(row.size):
            moments[c, j] += weights[j] * row[c] / size[c]


@lean_inline
def basis_renew(total: float, row: F64, basis: F64, moments: F64, loadings: F64, unique: F64) -> None:
    """New directions from the moments, and what they say of each channel.

    Parameters
    ----------
    total : weight of the rows in the moments.
    row : (C,) a standardised row: where a direction that has had no variance begins to look for some.
    basis : (C, K) orthonormal after it, but for such directions.
    moments : (C, K) afterwards those of the new basis, as far as the factors know them.
    loadings : (C, K) and unique : (C,) the correlation is loadings loadings' + diag(unique), with diagonal 1.

    Notes
    -----
    Modified Gram-Schmidt, twice: O(C K^2).
    """
    n_channels, rank = basis.shape
    for j in range(rank):
        for c in range(n_channels):
            basis[c, j] = moments[c, j]
        before = _length(basis, j)
        for _ in range(2):
            for i in range(j):
                overlap = 0.0
                for c in range(n_channels):
                    overlap += basis[c, i] * basis[c, j]
                for c in range(n_channels):
                    basis[c, j] -= overlap * basis[c, i]
        length = _length(basis, j)
        is_new = length > 1e-9 * before
        for c in range(n_channels):
            basis[c, j] = basis[c, j] / length if is_new else 0.0
            moments[c, j] = basis[c, j] * length
            loadings[c, j] = basis[c, j] * math.sqrt(length / total)
    for c in range(n_channels):
        common = 0.0
        for j in range(rank):
            common += loadings[c, j] * loadings[c, j]
        # Standard deviations have moved since the rows were added: no more than all can be common.
        share = (1.0 - _OWN) / max(common, 1.0)
        for j in range(rank):
            loadings[c, j] *= math.sqrt(share)
        unique[c] = 1.0 - share * common
    for j in range(rank):
        if _length(basis, j) == 0.0:
            for c in range(n_channels):
                basis[c, j] = row[c]


@lean_inline
def _length(basis: F64, j: int) -> float:
    total = 0.0
    for c in range(basis.shape[0]):
        total += basis[c, j] * basis[c, j]
    return math.sqrt(total)


@lean_inline
def row_distance(row: F64, loadings: F64, unique: F64, gram: F64, solved: F64) -> float:
    """Mahalanobis distance of a standardised row.

    Parameters
    ----------
    row : (C,) deviations.
    gram, solved : (K, K) and (K,) work space.

    Notes
    -----
    Woodbury's identity: O(C K^2 + K^3).
    """
    n_channels, rank = loadings.shape
    gram[:] = 0.0
    solved[:] = 0.0
    square = 0.0
    for c in range(n_channels):
        scaled = row[c] / unique[c]
        square += scaled * row[c]
        for i in range(rank):
            solved[i] += loadings[c, i] * scaled
            weighted = loadings[c, i] / unique[c]
            for j in range(i + 1):
                gram[i, j] += weighted * loadings[c, j]
    # Forward substitution in the Cholesky factor of gram + 1, which takes gram's place.
    for i in range(rank):
        gram[i, i] += 1.0
        for j in range(i + 1):
            rest = gram[i, j]
            for k in range(j):
                rest -= gram[i, k] * gram[j, k]
            gram[i, j] = math.sqrt(max(rest, 1e-12)) if i == j else rest / gram[j, j]
        rest = solved[i]
        for k in range(i):
            rest -= gram[i, k] * solved[k]
        solved[i] = rest / gram[i, i]
        square -= solved[i] * solved[i]
    return math.sqrt(max(square, 0.0))

"""Least squares with a ridge on some columns and an absolute penalty on the others, from the Gram matrix."""

from __future__ import annotations

from kernels._jit import B1, F64, inline, kernel

# A pivot this small beside its column's own norm is rounding: the column repeats those that are in.
_DEPENDENT = 1e-13


@kernel
def exchange(table: F64, pivot: int) -> None:
    """Swap the roles of one variable in a symmetric system: solved for, or not (a principal pivot step).

    Parameters
    ----------
    table : (P, P + 1) the matrix beside the right side, changed in place. After the exchange of the variables A of
        a matrix H with right side c: rows of A hold the inverse of H_AA, then its products with H_AB and c_A;
        the other rows hold the negative of H_BA times that inverse, then what is left of H_BB and c_B.

    Notes
    -----
    O(P^2), allocates nothing; applied twice it restores the table. The pivot must not be 0.
    """
    size, width = table.shape
    inverse = 1.0 / table[pivot, pivot]
    for j in range(width):
        table[pivot, j] *= inverse
    table[pivot, pivot] = inverse
    for i in range(size):
        factor = table[i, pivot]
        if i != pivot and factor != 0.0:
            for j in range(width):
                table[i, j] -= factor * table[pivot, j]
            table[i, pivot] = -factor * inverse


@inline
def _load(gram: F64, linear: F64, ridge: F64, n_free: int, x: F64, table: F64, active: B1, sign: F64) -> None:
    """Fill the table and exchange the free variables and those that the start has away from 0."""
    size = x.size
    for i in range(size):
        for j in range(size):
            table[i, j] = gram[i, j]
        table[i, i] += ridge[i]
        table[i, size] = linear[i]
        active[i] = False
        sign[i] = 0.0
    for i in range(size):
        if i >= n_free and x[i] == 0.0:
            continue
        if gram[i, i] > 0.0 and table[i, i] > _DEPENDENT * gram[i, i]:
            exchange(table, i)
            active[i] = True
            if i >= n_free:
                sign[i] = 1.0 if x[i] > 0.0 else -1.0
        else:
            x[i] = 0.0


@inline
def _toward(penalty: float, n_free: int, x: F64, table: F64, active: B1, sign: F64, target: F64) -> int:
    """Move to the optimum of the active variables, or as far as their signs allow; -1 or the variable that stopped it.

    `target` gets the optimum of the active variables and the correlation with the residual of the others.
    """
    size = x.size
    for i in range(size):
        value = table[i, size]
        for j in range(n_free, size):
            if active[j]:
                value -= penalty * sign[j] * table[i, j]
        target[i] = value
    share, stopped_by = 1.0, -1
    for j in range(n_free, size):
        if active[j] and target[j] * sign[j] <= 0.0:
            reach = x[j] / (x[j] - target[j]) if x[j] != 0.0 else 0.0
            if reach < share:
                share, stopped_by = reach, j
    for i in range(size):
        if active[i]:
            x[i] += share * (target[i] - x[i]) if stopped_by >= 0 else target[i] - x[i]
    return stopped_by


@kernel
def solve_l1(
    gram: F64,
    linear: F64,
    ridge: F64,
    penalty: float,
    n_free: int,
    x: F64,
    table: F64,
    active: B1,
    sign: F64,
    target: F64,
) -> bool:
    """Minimise x'Gx/2 - c'x + sum(ridge x^2)/2 + penalty sum |x[n_free:]| by an active-set method.

    Parameters
    ----------
    gram : (P, P) symmetric, positive semidefinite. A zero diagonal takes its column out: x is 0 there.
    linear : (P,) the c above.
    ridge : (P,) >= 0.
    penalty : >= 0. May be infinite: the penalised variables are then 0.
    x : (P,) start on entry, optimum on return.
    table : (P, P + 1), active, sign, target : (P,) work space.

    Returns
    -------
    Whether the optimum was reached; the bound of 20 P steps is there for rounding only.

    Notes
    -----
    O(P^2) per variable that enters or leaves. Each step moves along the segment to the optimum of the current signs, up
    to the first variable that reaches 0, so the objective falls until the optimality conditions hold exactly.

    Source: the blocking form of Osborne, Presnell and Turlach (2000), doi:10.1093/imanum/20.3.389.
    """
    size = x.size
    _load(gram, linear, ridge, n_free, x, table, active, sign)
    entered = -1
    banned = -1
    for _ in range(20 * size):
        stopped_by = _toward(penalty, n_free, x, table, active, sign, target)
        if stopped_by >= 0:
            # One that would leave at once entered by rounding: it is not tried again before something moved.
            banned = stopped_by if stopped_by == entered and x[stopped_by] == 0.0 else -1
            x[stopped_by] = 0.0
            sign[stopped_by] = 0.0
            active[stopped_by] = False
            exchange(table, stopped_by)
            entered = -1
            continue
        entered = -1
        excess = penalty * (1.0 + 1e-10)
        for j in range(n_free, size):
            if not active[j] and j != banned and abs(target[j]) > excess and table[j, j] > _DEPENDENT * gram[j, j]:
                excess, entered = abs(target[j]), j
        if entered < 0:
            return True
        sign[entered] = 1.0 if target[entered] > 0.0 else -1.0
        active[entered] = True
        exchange(table, entered)
    return False

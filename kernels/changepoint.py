"""Prophet's maximum a posteriori fit: a piecewise trend with sparse slope changes, and regressors, row by row."""

from __future__ import annotations

from kernels._jit import F64, I64, inline, kernel
from kernels.changepoint_curved import fit_curved
from kernels.changepoint_gram import (
    add_products,
    assemble_gram,
    copy_matrix,
    disable,
    feature_products,
    gradient,
    segment_sums,
)
from kernels.changepoint_row import (
    CHANGEPOINT_SCALE,
    FLAT,
    GROWTH,
    IS_FACTOR,
    LOGISTIC,
    Room,
    begin_row,
    keep_row,
    make_room,
)
from kernels.changepoint_step import (
    DERIVATIVE,
    GRADIENT,
    LEVEL,
    RESIDUAL,
    TARGET,
    THETA,
    TIME,
    evaluate,
    noise_variance,
    solve_step,
)


def fit_changepoints(
    y: F64, time: F64, features: F64, rules: F64, options: F64, given: F64, scalars: F64, changepoints: F64,
    changes: F64, coefficients: F64,
) -> None:  # fmt: skip
    """Most probable parameters of Prophet's model for each row.

    ``value = trend(time) * (1 + factors) + terms + noise`` in the row's own scale, the trend linear or logistic in
    pieces, with normal priors on slope, offset and regressors, Laplace priors on the changes of slope and a half-normal
    prior on the noise.

    Parameters
    ----------
    y : (S, T). NaN or inf: no point.
    time : (T,) days, rising. features : (T, K) regressors at those times.
    rules : (4, K) of each regressor: scale of its prior, 1 if it is a factor, and the least span and the spacing,
        in days, from and below which a row has it.
    options : (7,) by the positions above. Without a floor FLOOR is NaN.
    given : (G,) times of changepoints, rising; empty places N_CHANGEPOINTS of them.
    scalars : (S, 9), changepoints, changes : (S, C), coefficients : (S, K), all zero, filled. Changepoints are in the
        row's scaled time, C = max(G, N_CHANGEPOINTS), unused ones are past its end. A row that could not be fitted
        (fewer than two points, a cap not above its floor, values beyond what doubles can square) keeps N_POINTS = 0.

    Notes
    -----
    Rows are independent: results are the same bit for bit however rows are cut or ordered. A linear model costs O(N K)
    for the sums plus O(P^2) per variable that enters or leaves, P = 2 + K + C; rows with gaps add O(K^2) per missing
    point; a curved one O(N K^2) per step. Memory O(T + P^2). Raises nothing.

    Source: Taylor and Letham (2018), doi:10.1080/00031305.2017.1380080, and the `prophet` package's Stan program.
    """
    # Two kernels, so that only the one that is used is compiled.
    fit = fit_curved if options[GROWTH] == LOGISTIC or rules[IS_FACTOR].any() else fit_linear
    room = make_room(features, rules, changepoints.shape[1])
    fit(y, time, features, rules, options, given, room, scalars, changepoints, changes, coefficients)


@kernel
def fit_linear(
    y: F64, time: F64, features: F64, rules: F64, options: F64, given: F64, room: Room, scalars: F64,
    changepoints: F64, changes: F64, coefficients: F64,
) -> None:  # fmt: skip
    """`fit_changepoints` of a model that is linear in its parameters."""
    starts, gram, is_flat = room.starts, room.gram, options[GROWTH] == FLAT
    add_products(features, 0, time.size, 1.0, room.total)
    shared_first, shared_last = -1, -1
    for i in range(y.shape[0]):
        cps = changepoints[i]
        n = begin_row(y[i], time, rules, options, given, room, scalars[i], cps)
        if n == 0:
            continue
        where, first, last = room.steps[:n], room.steps[0], room.steps[n - 1]
        is_whole = last - first + 1 == n
        if is_whole and first == shared_first and last == shared_last:
            copy_matrix(room.shared, gram)
        else:
            feature_products(features, where, room.total, room.products)
            segment_sums(where, room.points[TIME], starts, features, room.sums)
            assemble_gram(room.sums, room.products, cps, is_flat, gram)
            if is_whole:
                copy_matrix(gram, room.shared)
                shared_first, shared_last = first, last
        variance = _search(where, features, cps, options[CHANGEPOINT_SCALE], room)
        keep_row(room.vectors[THETA], variance, scalars[i], coefficients[i], changes[i])


@inline
def _search(where: I64, features: F64, changepoints: F64, tau: float, room: Room) -> float:
    """Optimum of a model that is linear in its parameters, from THETA into THETA; returns the noise's variance."""
    starts, is_factor, points, vectors, gram = room.starts, room.is_factor, room.points, room.vectors, room.gram
    n, n_free = where.size, 2 + is_factor.size
    theta = vectors[THETA]
    sse = evaluate(theta, False, 0.0, where, starts, changepoints, room.columns, is_factor, points)
    variance = 0.0
    for _ in range(4):
        gradient(where, points[TIME], starts, features, is_factor, points[RESIDUAL], points[DERIVATIVE], points[LEVEL],
                 changepoints, vectors[GRADIENT])  # fmt: skip
        disable(room.enabled, gram, vectors[GRADIENT])
        variance = solve_step(gram, sse, n, tau, n_free, variance, 200, vectors, room.table, room.active)
        for j in range(theta.size):
            theta[j] = vectors[TARGET, j]
        sse = evaluate(theta, False, 0.0, where, starts, changepoints, room.columns, is_factor, points)
        exact = noise_variance(sse, n)
        # The step's own sum of squares cancels where the fit is much closer than the start was: then start from here.
        is_exact = abs(exact - variance) <= 1e-7 * exact
        variance = exact
        if is_exact:
            break
    return variance

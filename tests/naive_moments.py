"""Decayed mean and variance from their definition, with a hundred digits."""

from __future__ import annotations

import math
from decimal import Decimal, localcontext


def moments(values: list[float], decay: float) -> tuple[float, float, float]:
    """(weight, mean, standard deviation) of the finite values; the newest weighs 1, k values before it decay**k."""
    finite = [Decimal(v) for v in values if math.isfinite(v)]
    if not finite:
        return 0.0, math.nan, math.nan
    with localcontext(prec=100):
        weights = [Decimal(decay) ** k for k in reversed(range(len(finite)))]
        total = sum(weights)
        mean = sum(w * v for w, v in zip(weights, finite, strict=True)) / total
        variance = sum(w * (v - mean) ** 2 for w, v in zip(weights, finite, strict=True)) / total
        return float(total), float(mean), float(variance.sqrt())

"""The least time of an EM iteration on a machine: its products, features and exps.

In natural form the E-step's log-densities and the M-step's statistics are one product
each, n_components x n_terms by n_samples, on the same features, which are written once;
and there is one exp for each sample and component. The floor is the sum of the three at
the speeds that the machine reaches on large plain arrays.
"""

import time

#: Side of the square matrices, and values of the arrays, on which peaks are measured.
SIDE, VALUES, REPEAT = 2048, 2**24, 7


def peaks(dtype):
    """Return FLOP/s of a product, bytes/s of a copy and exp/s, the best of several."""
    import torch

    dtype = getattr(torch, dtype)
    square, out = (
        torch.randn(SIDE, SIDE, dtype=dtype),
        torch.empty(SIDE, SIDE).to(dtype),
    )
    values, target = torch.rand(VALUES, dtype=dtype), torch.empty(VALUES, dtype=dtype)
    n_bytes = 2 * VALUES * values.element_size()
    return {
        "flops": 2 * SIDE**3 / _best(lambda: torch.mm(square, square, out=out)),
        "bytes": n_bytes / _best(lambda: target.copy_(values)),
        "exps": VALUES / _best(lambda: torch.exp(values, out=target)),
        "itemsize": values.element_size(),
    }


def _best(function):
    function()
    seconds = []
    for _ in range(REPEAT):
        start = time.perf_counter()
        function()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def n_terms(covariance_type, n_features):
    """Return the coefficients of a component in natural form."""
    return {
        "full": 1 + n_features + n_features * (n_features + 1) // 2,
        "diag": 1 + 2 * n_features,
        "tied": 1 + n_features,
        "spherical": 2 + n_features,
    }[covariance_type]


def work(case):
    """Return the FLOPs, features and exps of an iteration."""
    terms = n_terms(case.covariance_type, case.n_features)
    flops = 4 * case.n_samples * case.n_components * terms
    if case.covariance_type == "tied":
        # The common quadratic form, and the common scatter matrix.
        flops += 4 * case.n_samples * case.n_features**2
    return flops, case.n_samples * terms, case.n_samples * case.n_components


def seconds(case, peak):
    """Return the floor of an iteration by its parts, in seconds."""
    if "error" in peak:
        return peak
    flops, features, exps = work(case)
    return {
        "products": flops / peak["flops"],
        "features": features * peak["itemsize"] / peak["bytes"],
        "exp": exps / peak["exps"],
    }

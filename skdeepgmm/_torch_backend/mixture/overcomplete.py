"""Initialization of EM from more components than are wanted, merged.

Single samples, one a component, are poor initial means for as many components as are
wanted: some clusters get two, others none, and EM rarely mends that. With three times
as many hardly a cluster is missed, and what is too much is merged where it costs least.
"""

import math
from collections.abc import Callable

from torch import Tensor

from skdeepgmm._torch_backend.mixture.covariances import Covariance
from skdeepgmm._torch_backend.mixture.density import MixtureDensity
from skdeepgmm._torch_backend.mixture.em import (
    DegeneracyGuard,
    EMConfig,
    fit_em,
)
from skdeepgmm._torch_backend.mixture.init import (
    ResponsibilityFunction,
    initial_mixture,
)
from skdeepgmm._torch_backend.mixture.merging import merged
from skdeepgmm._torch_backend.source import Source

#: Numbers of components relative to those wanted, and EM iterations with so many.
STAGES = ((3.0, 6), (1.7, 4), (1.2, 4))
#: Samples of a component that tell its place among the others.
LEAST_SAMPLES, LEAST_SAMPLES_PER_FEATURE = 500, 10


def samples_enough(n_components: int, n_features: int) -> int:
    """Return how many samples the initialization needs of large data."""
    least = max(LEAST_SAMPLES, LEAST_SAMPLES_PER_FEATURE * n_features)
    return math.ceil(STAGES[0][0] * n_components) * least


def overcomplete_size(n_components: int, n_samples: int, factor: float) -> int:
    """Return the number of components before the merging."""
    return max(n_components, min(math.ceil(factor * n_components), n_samples))


def merged_start(
    covariance_class: type[Covariance],
    source: Source,
    n_components: int,
    responsibilities: Callable[[int], ResponsibilityFunction],
    ridge: Tensor,
    make_guard: Callable[[], DegeneracyGuard],
) -> MixtureDensity:
    """Return initial parameters of EM.

    Parameters
    ----------
    responsibilities : callable
        Returns initial responsibilities of so many components.
    make_guard : callable
        Returns a guard for one run of EM.
    """
    sizes = [
        overcomplete_size(n_components, source.n_counted, factor)
        for factor, _ in STAGES
    ]
    mixture, failed, nk = initial_mixture(
        covariance_class, source, sizes[0], responsibilities(sizes[0]), ridge
    )
    mixture = make_guard().repair_initial(mixture, failed, nk)
    for size, (_, n_iter) in zip(sizes, STAGES, strict=True):
        config = EMConfig(n_iter, 0.0, ridge)
        fewer = merged(mixture, size)
        mixture = fit_em(source, fewer, config, make_guard(), lambda *_: False).mixture
    return merged(mixture, n_components)

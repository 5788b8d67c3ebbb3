"""Which components of a deep mixture are in use, by their weights."""

import numpy as np

from skdeepgmm.estimators._warnings import warn_caller
from skdeepgmm.exceptions import DegenerateComponentWarning

#: A component with less than this share of an equal part of the data is out of use.
USED_SHARE = 0.05


def used(weights):
    """Tell which components are in use, by their weights (..., n_components)."""
    return weights > USED_SHARE / weights.shape[-1]


def usage(mixtures):
    """Return the share of each mixture's components that is in use."""
    return np.array([np.mean(used(arrays["weights"])) for arrays in mixtures])


def warn_unused(mixtures):
    """Name the components that are out of use in the end, although re-seeded."""
    for number, arrays in enumerate(mixtures):
        unused = ~used(arrays["weights"])
        if unused.any():
            listed = ", ".join(map(str, np.flatnonzero(np.atleast_2d(unused).any(0))))
            warn_caller(
                f"Components {listed} of Mixture layer {number} got hardly any "
                "samples. Decrease the layer's n_components, or train for more epochs.",
                DegenerateComponentWarning,
            )

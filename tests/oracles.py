"""Independent NumPy forms of every covariance type, one row a type.

The generic tests of mixtures, backend and estimators alike, run over these rows and ask
them for everything that depends on the type: a new type needs one row here.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from skdeepgmm._torch_backend.mixture.covariances import COVARIANCES

#: Latent factors of the types that have them.
RANK = 2


@dataclass(frozen=True)
class Oracle:
    """What the tests know of a covariance type.

    Attributes
    ----------
    name : str
        Value of ``covariance_type``.
    shape : callable
        (n_components, n_features) -> shape of ``covariances_``.
    n_parameters : callable
        (n_components, n_features) -> number of free parameters.
    dense : callable
        (values, eyes) -> matrices (n_components, n_features, n_features). ``eyes`` is
        as many identity matrices, an array or a tensor as ``values`` is.
    project : callable
        (matrices, masses) -> the values of highest likelihood, for components of these
        masses whose samples scatter like ``matrices`` about their means.
    second : callable
        matrices -> the sums of squares (n_components, n_features, n_features) in the
        shape of ``Statistics.second``.
    shared : bool
        Whether all components share one covariance.
    matrices : bool
        Whether the values are whole matrices, else single variances.
    isotropic : bool
        Whether all features have one variance.
    in_sklearn : bool
        Whether scikit-learn has the type.
    latent : bool
        Whether the values are factors and noise, without precisions.
    """

    name: str
    shape: Callable
    n_parameters: Callable
    dense: Callable
    project: Callable
    second: Callable
    shared: bool = False
    matrices: bool = False
    isotropic: bool = False
    in_sklearn: bool = True
    latent: bool = False

    def random(self, rng, n_components, n_features):
        """Return random values: condition numbers and ratios of variances up to 4."""
        shape = self.shape(n_components, n_features)
        if not self.matrices:
            return rng.uniform(0.5, 2.0, size=shape)
        stack = [random_spd(rng, n_features) for _ in range(int(np.prod(shape[:-2])))]
        return np.reshape(stack, shape)

    def as_matrices(self, values, n_components, n_features):
        """Return values (or their inverses) as (n_components, n_features, n_features).

        A copy that owns its memory.
        """
        eyes = np.repeat(np.eye(n_features)[None], n_components, axis=0)
        return np.array(self.dense(np.asarray(values), eyes))

    def inverse(self, values):
        """Return the precisions of ``values``."""
        return np.linalg.inv(values) if self.matrices else 1.0 / values

    def fitted(self, estimator):
        """Return the values of a fitted estimator."""
        return estimator.covariances_

    def supplied(self, values):
        """Return values as ``from_parameters`` takes them."""
        return values

    def squares(self, second, n_features):
        """Return the part of ``Statistics.second`` that ``second`` describes."""
        return second

    def covariance_class(self, n_features):
        """Return the class of the backend."""
        return COVARIANCES[self.name].sized(n_features, RANK)


class FactorOracle(Oracle):
    """Factors and noise variances side by side."""

    def random(self, rng, n_components, n_features):
        factors = rng.normal(size=(n_components, n_features, RANK))
        noise = rng.uniform(0.5, 2.0, size=(n_components, n_features, 1))
        return np.concatenate([factors, noise], axis=2)

    def fitted(self, estimator):
        noise = estimator.noise_variance_[..., None]
        return np.concatenate([estimator.factors_, noise], axis=2)

    def supplied(self, values):
        return values[..., :-1], values[..., -1]

    def squares(self, second, n_features):
        return second[:, :n_features, -1]


def random_spd(rng, n_features):
    """Return a well-conditioned random positive-definite matrix."""
    vectors, _ = np.linalg.qr(rng.normal(size=(n_features, n_features)))
    return (vectors * rng.uniform(0.5, 2.0, n_features)) @ vectors.T


def diagonals(matrices):
    return np.diagonal(matrices, axis1=-2, axis2=-1)


def triangles(matrices):
    """Return the pairs of symmetric matrices, cyclic diagonal after diagonal."""
    size = matrices.shape[-1]
    pairs = [(i, (i + s) % size) for s in range(size) for i in range(size)]
    rows, columns = zip(*pairs[: size * (size + 1) // 2], strict=True)
    return matrices[..., rows, columns]


def mean_over(masses, values):
    return np.tensordot(masses, values, axes=1) / np.sum(masses)


ORACLES = {
    oracle.name: oracle
    for oracle in (
        Oracle(
            "full",
            shape=lambda K, D: (K, D, D),
            n_parameters=lambda K, D: K * D * (D + 1) // 2,
            dense=lambda values, eyes: values,
            project=lambda matrices, masses: matrices,
            second=triangles,
            matrices=True,
        ),
        Oracle(
            "tied",
            shape=lambda K, D: (D, D),
            n_parameters=lambda K, D: D * (D + 1) // 2,
            dense=lambda values, eyes: values + 0.0 * eyes,
            project=lambda matrices, masses: mean_over(masses, matrices),
            second=lambda matrices: matrices.sum(0),
            shared=True,
            matrices=True,
        ),
        Oracle(
            "diag",
            shape=lambda K, D: (K, D),
            n_parameters=lambda K, D: K * D,
            dense=lambda values, eyes: values[:, :, None] * eyes,
            project=lambda matrices, masses: diagonals(matrices),
            second=diagonals,
        ),
        Oracle(
            "spherical",
            shape=lambda K, D: (K,),
            n_parameters=lambda K, D: K,
            dense=lambda values, eyes: values[:, None, None] * eyes,
            project=lambda matrices, masses: diagonals(matrices).mean(1),
            second=lambda matrices: diagonals(matrices).sum(1),
            isotropic=True,
        ),
        FactorOracle(
            "low_rank",
            shape=lambda K, D: (K, D, RANK + 1),
            n_parameters=lambda K, D: K * (D * (RANK + 1) - RANK * (RANK - 1) // 2),
            dense=lambda values, eyes: (
                values[..., :-1] @ np.swapaxes(values[..., :-1], 1, 2)
                + values[..., -1:] * eyes
            ),
            project=None,
            second=diagonals,
            in_sklearn=False,
            latent=True,
        ),
    )
}

#: Every type.
ALL_TYPES = tuple(ORACLES)
#: Types with ``covariances_`` and ``precisions_``.
COVARIANCE_TYPES = tuple(n for n, o in ORACLES.items() if not o.latent)
#: Types that scikit-learn has too.
SKLEARN_TYPES = tuple(n for n, o in ORACLES.items() if o.in_sklearn)
#: Types of one covariance a component.
OWN_TYPES = tuple(n for n in COVARIANCE_TYPES if not ORACLES[n].shared)
#: Types of whole matrices.
MATRIX_TYPES = tuple(n for n in COVARIANCE_TYPES if ORACLES[n].matrices)

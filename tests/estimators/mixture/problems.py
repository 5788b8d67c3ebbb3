"""Known mixtures for the tests: parameters in all covariance types, and draws."""

from dataclasses import dataclass

import numpy as np

from tests.oracles import ORACLES

INIT_PARAMS = ("kmeans", "k-means++", "random", "random_from_data")


def matrices_of(mixture):
    """Return the covariances of a fitted mixture as matrices, by the oracle."""
    oracle = ORACLES[mixture.covariance_type]
    return oracle.as_matrices(oracle.fitted(mixture), *mixture.means_.shape)


@dataclass
class Problem:
    """A mixture with the same weights and means in every covariance type."""

    weights: np.ndarray
    means: np.ndarray
    covariances: dict

    @property
    def n_components(self):
        return len(self.weights)

    def precisions(self, covariance_type):
        return ORACLES[covariance_type].inverse(self.covariances[covariance_type])

    def matrices(self, covariance_type):
        values = self.covariances[covariance_type]
        return ORACLES[covariance_type].as_matrices(values, *self.means.shape)

    def start(self, covariance_type):
        """Return the true parameters as keyword arguments of the estimator."""
        return {
            "n_components": self.n_components,
            "covariance_type": covariance_type,
            "weights_init": self.weights,
            "means_init": self.means,
            "precisions_init": self.precisions(covariance_type),
        }

    def draw(self, covariance_type, n_samples, rng, dtype=np.float64):
        """Return samples of shape (n_samples, n_features) and their components."""
        labels = rng.choice(self.n_components, n_samples, p=self.weights)
        factors = np.linalg.cholesky(self.matrices(covariance_type))
        noise = rng.normal(size=(n_samples, self.means.shape[1]))
        X = self.means[labels] + np.einsum("nij,nj->ni", factors[labels], noise)
        return X.astype(dtype), labels


def make_problem(rng, n_components=3, n_features=2, spread=8.0):
    """Return a random mixture whose means lie about ``spread`` apart."""
    weights = rng.dirichlet(np.full(n_components, 8.0))
    means = rng.normal(size=(n_components, n_features)) * spread
    covariances = {}
    for index, (name, oracle) in enumerate(ORACLES.items()):
        # A generator of its own: one more type changes no other test.
        own = rng if oracle.in_sklearn else np.random.default_rng(index)
        covariances[name] = oracle.random(own, n_components, n_features)
    return Problem(weights, means, covariances)


def spaced_problem(rng, n_components=3, n_features=2, distance=12.0):
    """Return a mixture whose means lie on a line, well apart in every feature."""
    problem = make_problem(rng, n_components, n_features)
    steps = np.arange(n_components, dtype=float)[:, None]
    problem.means = distance * (steps + rng.uniform(0, 0.2, problem.means.shape))
    return problem

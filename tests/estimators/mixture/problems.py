"""Known mixtures for the tests: parameters in all covariance types, and draws."""

from dataclasses import dataclass

import numpy as np

COVARIANCE_TYPES = ("full", "tied", "diag", "spherical")
INIT_PARAMS = ("kmeans", "k-means++", "random", "random_from_data")


def random_spd(rng, n_features):
    """Return a well-conditioned symmetric positive definite matrix."""
    basis, _ = np.linalg.qr(rng.normal(size=(n_features, n_features)))
    return (basis * rng.uniform(0.5, 2.0, n_features)) @ basis.T


def as_matrices(covariances, covariance_type, n_components, n_features):
    """Return covariances (or precisions) of any type as full matrices."""
    eye = np.eye(n_features)
    if covariance_type == "full":
        return np.asarray(covariances)
    if covariance_type == "tied":
        return np.repeat(covariances[None], n_components, axis=0)
    if covariance_type == "diag":
        return covariances[:, :, None] * eye
    return covariances[:, None, None] * eye


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
        values = self.covariances[covariance_type]
        if covariance_type in ("full", "tied"):
            return np.linalg.inv(values)
        return 1.0 / values

    def matrices(self, covariance_type):
        values = self.covariances[covariance_type]
        return as_matrices(values, covariance_type, *self.means.shape)

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
    full = np.array([random_spd(rng, n_features) for _ in range(n_components)])
    covariances = {
        "full": full,
        "tied": random_spd(rng, n_features),
        "diag": rng.uniform(0.5, 2.0, (n_components, n_features)),
        "spherical": rng.uniform(0.5, 2.0, n_components),
    }
    return Problem(weights, means, covariances)


def spaced_problem(rng, n_components=3, n_features=2, distance=12.0):
    """Return a mixture whose means lie on a line, well apart in every feature."""
    problem = make_problem(rng, n_components, n_features)
    steps = np.arange(n_components, dtype=float)[:, None]
    problem.means = distance * (steps + rng.uniform(0, 0.2, problem.means.shape))
    return problem

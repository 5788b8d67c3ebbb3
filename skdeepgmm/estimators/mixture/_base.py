"""Template of the flat mixtures: everything that follows from fitted parameters."""

import math
from numbers import Integral, Real

import numpy as np
from sklearn.base import DensityMixin
from sklearn.utils.validation import check_is_fitted

from skdeepgmm._torch_backend import convert
from skdeepgmm._torch_backend.mixture import scoring
from skdeepgmm._torch_backend.mixture.covariances import COVARIANCES
from skdeepgmm._torch_backend.mixture.density import MixtureDensity, n_parameters
from skdeepgmm.estimators._base import TorchEstimator
from skdeepgmm.estimators._checkpoint import CONSTRAINTS, Checkpoint
from skdeepgmm.estimators._sklearn_compat import Interval, StrOptions
from skdeepgmm.estimators._warnings import warn_caller
from skdeepgmm.estimators.mixture._algebra import MixtureAlgebraMixin
from skdeepgmm.exceptions import DegenerateComponentWarning

#: Attributes that depend on the covariance type; a new fit drops the old ones.
COVARIANCE_ATTRIBUTES = {
    name for cls in COVARIANCES.values() for name in cls.attribute_names
}


class BaseGaussianMixture(MixtureAlgebraMixin, DensityMixin, TorchEstimator):
    """Gaussian mixture with fitted attributes; a subclass learns them.

    A subclass has the constructor parameters ``n_components``, ``covariance_type``,
    ``random_state``, ``device`` and ``batch_size``.
    """

    _parameter_constraints = {
        "n_components": [Interval(Integral, 1, None, closed="left")],
        "covariance_type": [StrOptions(set(COVARIANCES))],
        "rank": [Interval(Integral, 1, None, closed="left")],
        "tol": [Interval(Real, 0.0, None, closed="left")],
        "reg_covar": [Interval(Real, 0.0, None, closed="left")],
        "max_iter": [Interval(Integral, 0, None, closed="left")],
        "reg_covar_relative": ["boolean"],
        "n_init": [Interval(Integral, 1, None, closed="left")],
        "weights_init": ["array-like", None],
        "means_init": ["array-like", None],
        "precisions_init": ["array-like", None],
        "random_state": ["random_state"],
        "warm_start": ["boolean"],
        "verbose": ["verbose"],
        "device": [str],
        "batch_size": [Interval(Integral, 1, None, closed="left"), None],
        **CONSTRAINTS,
    }

    def __sklearn_is_fitted__(self):
        return hasattr(self, "means_")

    @property
    def _covariance_class(self):
        covariance_class = COVARIANCES[self.covariance_type]
        return covariance_class.sized(self.n_features_in_, self.rank)

    def _set_mixture(self, mixture, dtype):
        """Store the parameters as NumPy attributes."""
        self._set_attributes(mixture.to_attributes(dtype))

    def _set_attributes(self, attributes):
        """Store fitted attributes; those of another covariance type go."""
        for name in COVARIANCE_ATTRIBUTES:
            vars(self).pop(name, None)
        for name, value in attributes.items():
            setattr(self, name, value)

    def _mixture(self, X=None):
        """Return the fitted parameters as tensors on the compute device."""
        check_is_fitted(self)
        return MixtureDensity.from_attributes(
            self._covariance_class, vars(self), self._device(X)
        )

    def _score(self, function, X):
        """Apply a function of ``scoring`` to X, in the wider of both dtypes."""
        check_is_fitted(self)
        X = self._check_X(X, reset=False, allow_nan=True)
        mixture = self._mixture(X)
        dtype = convert.wider(convert.torch_dtype(self.means_), convert.torch_dtype(X))
        source = scoring.scoring_source(mixture, X, self._scoring_batch_size())
        return self._output(function(mixture, source, dtype), X)

    def _scoring_batch_size(self):
        """Return the samples a batch when scoring, None to choose by memory."""
        return self.batch_size

    def _checkpoint(self, X, sample_weight, start=None):
        """Return the checkpoint of a fit to validated data."""
        data = {"X": X, "sample_weight": sample_weight}
        return Checkpoint(self, self._device(X), data, start)

    def _check_enough_samples(self, n_samples, n_features, stream=False):
        """Raise without a sample a component; warn where the density is degenerate.

        The first chunk of a stream may be small: more will come.
        """
        if n_samples < self.n_components:
            raise ValueError(
                "Expected n_samples >= n_components "
                f"but got n_components = {self.n_components}, "
                f"n_samples = {n_samples}"
            )
        least = self._covariance_class.degenerate_below(self.n_components, n_features)
        if n_samples < least and not stream:
            warn_caller(
                f"covariance_type={self.covariance_type!r} with "
                f"n_components={self.n_components} and {n_features} features needs at "
                f"least {least} samples to determine its parameters, got {n_samples}: "
                "the density is degenerate and set by reg_covar. Use "
                "covariance_type='diag' or 'spherical', fewer components, fewer "
                "features or a larger reg_covar.",
                DegenerateComponentWarning,
            )

    def fit_predict(self, X, y=None, sample_weight=None):
        """Fit the mixture to X and return the component of each sample.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Training data.

        y : Ignored
            Not used, present for API consistency by convention.

        sample_weight : array-like of shape (n_samples,), default=None
            Non-negative weights.

        Returns
        -------
        labels : ndarray of shape (n_samples,)
            Index of the most probable component; equal to ``fit(X).predict(X)``.
        """
        return self.fit(X, y, sample_weight=sample_weight).predict(X)

    def score_samples(self, X):
        """Compute the log-density of each sample.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Data.

        Returns
        -------
        log_prob : ndarray of shape (n_samples,)
            log p(x), in nats.
        """
        return self._score(scoring.score_samples, X)

    def score(self, X, y=None, sample_weight=None):
        """Compute the (weighted) mean log-density of the samples.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Data.

        y : Ignored
            Not used, present for API consistency by convention.

        sample_weight : array-like of shape (n_samples,), default=None
            Non-negative weights.

        Returns
        -------
        log_likelihood : float
            Mean of :meth:`score_samples`, in nats per sample; higher is better.
        """
        return self._weighted_mean(self.score_samples(X), sample_weight)

    def predict(self, X):
        """Find the most probable component of each sample.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Data.

        Returns
        -------
        labels : ndarray of shape (n_samples,)
            Component indices.
        """
        return self._score(scoring.predict, X)

    def predict_proba(self, X):
        """Compute the posterior probability of each component.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Data.

        Returns
        -------
        resp : ndarray of shape (n_samples, n_components)
            Responsibilities p(k | x); rows sum to one.
        """
        return self._score(scoring.predict_proba, X)

    def sample(self, n_samples=1):
        """Draw random samples from the fitted mixture.

        Parameters
        ----------
        n_samples : int, default=1
            Number of samples.

        Returns
        -------
        X : ndarray of shape (n_samples, n_features)
            Samples, in the order of their components.

        y : ndarray of shape (n_samples,)
            Component of each sample.

        Raises
        ------
        ValueError
            If ``n_samples`` is below one.
        """
        check_is_fitted(self)
        if n_samples < 1:
            raise ValueError(
                f"Invalid value for 'n_samples': {n_samples} . The sampling requires "
                "at least one sample."
            )
        random_state = self._random_state()
        weights = np.asarray(self.weights_, dtype=np.float64)
        counts = random_state.multinomial(n_samples, weights / weights.sum())
        mixture = self._mixture()
        generator = self._generator(random_state, mixture.means.device)
        X, labels = mixture.sample(counts.tolist(), generator)
        dtype = convert.torch_dtype(self.means_)
        return convert.to_numpy(X, dtype), convert.to_numpy(labels)

    def impute(self, X):
        """Fill missing entries by their conditional mean.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Data; NaN marks a missing entry.

        Returns
        -------
        X_filled : ndarray of shape (n_samples, n_features)
            X with every missing entry at E[x_missing | x_observed].

        Examples
        --------
        >>> import numpy as np
        >>> from skdeepgmm import GaussianMixture
        >>> X = np.random.RandomState(0).randn(500, 1) * [1.0, 2.0]
        >>> gm = GaussianMixture(random_state=0).fit(X)
        >>> gm.impute([[1.0, np.nan]]).round(2)
        array([[1., 2.]])
        """
        return self._score(scoring.impute, X)

    def sample_conditional(self, X, n_samples=1):
        """Draw missing entries given the observed ones.

        Parameters
        ----------
        X : array-like of shape (n_rows, n_features)
            Data; NaN marks a missing entry.

        n_samples : int, default=1
            Number of draws for each sample.

        Returns
        -------
        X_filled : ndarray of shape (n_samples, n_rows, n_features)
            Copies of X whose missing entries are drawn from
            p(x_missing | x_observed).
        """
        if n_samples < 1:
            raise ValueError(f"n_samples must be at least 1, got {n_samples}.")
        random_state = self._random_state()

        def draw(mixture, source, dtype):
            generator = self._generator(random_state, mixture.means.device)
            return scoring.sample_conditional(
                mixture, source, dtype, n_samples, generator
            )

        return self._score(draw, X)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        return tags

    def _n_parameters(self):
        """Return the number of free parameters of the model."""
        return n_parameters(self._covariance_class, *self.means_.shape)

    def bic(self, X):
        """Compute the Bayesian information criterion on X.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Data.

        Returns
        -------
        bic : float
            -2 log p(X) + n_parameters * log(n_samples), in nats; lower is better.
        """
        check_is_fitted(self)
        n_samples = len(X)
        penalty = self._n_parameters() * math.log(n_samples)
        return -2 * self.score(X) * n_samples + penalty

    def aic(self, X):
        """Compute the Akaike information criterion on X.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Data.

        Returns
        -------
        aic : float
            -2 log p(X) + 2 * n_parameters, in nats; lower is better.
        """
        check_is_fitted(self)
        return -2 * self.score(X) * len(X) + 2 * self._n_parameters()

    def icl(self, X):
        """Compute the integrated completed likelihood criterion on X.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Data.

        Returns
        -------
        icl : float
            BIC plus twice the entropy of the responsibilities, in nats; lower is
            better. It prefers well separated components (Biernacki, Celeux &
            Govaert 2000).
        """
        resp = np.asarray(self.predict_proba(X), dtype=np.float64)
        entropy = -np.sum(resp * np.log(np.maximum(resp, np.finfo(float).tiny)))
        return self.bic(X) + 2.0 * float(entropy)

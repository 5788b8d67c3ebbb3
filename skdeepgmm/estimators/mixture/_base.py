"""Template of the flat mixtures: everything that follows from fitted parameters."""

import math
from functools import partial
from numbers import Integral, Real

import numpy as np
from sklearn.base import DensityMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from skdeepgmm._torch_backend import convert
from skdeepgmm._torch_backend.device import SMALL_WORK
from skdeepgmm._torch_backend.mixture import scoring
from skdeepgmm._torch_backend.mixture.covariances import COVARIANCES
from skdeepgmm._torch_backend.mixture.density import MixtureDensity, n_parameters
from skdeepgmm.estimators._base import TorchEstimator
from skdeepgmm.estimators._checkpoint import CONSTRAINTS, Checkpoint
from skdeepgmm.estimators._checks import check_integer
from skdeepgmm.estimators._collection import (
    Collection,
    for_parts,
    is_collection,
    n_counted,
)
from skdeepgmm.estimators._jobs import on_one_thread
from skdeepgmm.estimators._sklearn_compat import (
    Interval,
    StrOptions,
    _check_feature_names,
    _check_n_features,
)
from skdeepgmm.estimators._warnings import warn_caller
from skdeepgmm.estimators.mixture._algebra import MixtureAlgebraMixin
from skdeepgmm.exceptions import DegenerateComponentWarning

#: Where ``reg_covar`` is so many times the largest variance a warning says so.
SWAMPED = 10.0
#: Components that a warning names.
MOST_NAMED = 50
#: Attributes that depend on the covariance type; a new fit drops the old ones.
COVARIANCE_ATTRIBUTES = {
    name for cls in COVARIANCES.values() for name in cls.attribute_names
}


class BaseGaussianMixture(MixtureAlgebraMixin, DensityMixin, TorchEstimator):
    """Gaussian mixture with fitted attributes; a subclass learns them.

    A subclass has the constructor parameters ``n_components``, ``covariance_type``,
    ``random_state``, ``device`` and ``batch_size``.
    """

    #: Multiply-adds of a step up to which a fit is on one thread.
    _small_work = SMALL_WORK
    _parameter_constraints = {
        "n_components": [Interval(Integral, 1, None, closed="left")],
        "covariance_type": [StrOptions(set(COVARIANCES))],
        "rank": [Interval(Integral, 1, None, closed="left")],
        "tol": [Interval(Real, 0.0, None, closed="left")],
        "reg_covar": [Interval(Real, 0.0, None, closed="left")],
        "max_iter": [Interval(Integral, 0, None, closed="left")],
        "reg_covar_relative": ["boolean"],
        "n_init": [Interval(Integral, 1, None, closed="left")],
        "n_jobs": [Integral, None],
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

    #: Whether samples see some components only.
    _is_truncated = False

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
        ranks = getattr(X, "ranks", None)
        return Checkpoint(self, self._device(X), data, start, ranks)

    def _check_stream(self):
        """Raise where ``partial_fit`` cannot go on from the fitted mixture."""
        if not self._is_same_model():
            raise ValueError(
                f"The mixture so far has {len(self.means_)} components; n_components, "
                "covariance_type or rank has changed since, now they are "
                f"{self.n_components}, {self.covariance_type!r} and {self.rank}. Set "
                "them back, or call fit to start anew."
            )

    def _threads(self, n_samples, n_features, n_jobs=1):
        """Return the context in which to fit so many samples at a time."""
        size = self._covariance_class.n_parameters(self.n_components, n_features)
        return on_one_thread(self, n_jobs, n_samples * size <= self._small_work)

    def _is_same_model(self):
        """Tell whether the fitted mixture is of the present size and type."""
        covariance_class = self._covariance_class
        shapes = covariance_class.supplied_shapes(
            self.n_components, self.n_features_in_
        )
        fitted = tuple(
            np.shape(getattr(self, f"{name}_", None))
            for name in covariance_class.supplied
        )
        if len(self.means_) != self.n_components or fitted != shapes:
            return False
        # One matrix for all and as many diagonals as features have the same shape.
        chol = getattr(self, "precisions_cholesky_", None)
        if np.ndim(chol) != 2 or len(chol) < 2:
            return True
        return covariance_class.shared == (not np.tril(chol, -1).any())

    def _check_enough_samples(self, X, sample_weight):
        """Raise unless there is a sample, with weight, for each component."""
        n_samples, known = X.shape[0], "n_samples"
        if sample_weight is not None:
            n_samples = n_counted(sample_weight)
            known = "n_samples with sample_weight > 0"
        if n_samples < self.n_components:
            raise ValueError(
                "Expected n_samples >= n_components "
                f"but got n_components = {self.n_components}, "
                f"{known if n_samples < X.shape[0] else 'n_samples'} = {n_samples}"
            )

    def _warn_undetermined(self, X, sample_weight):
        """Warn of components whose samples do not determine their covariance."""
        covariance_class, width = self._covariance_class, X.shape[1]
        least = covariance_class.least_samples(self.n_components, width)
        counts = self._effective_counts(X, sample_weight, least)
        few = np.flatnonzero(np.atleast_1d(counts) < least)
        if not len(few):
            return
        what = f"X has {X.shape[0]} samples"
        if not covariance_class.shared:
            listed = ", ".join(f"{k} ({counts[k]:.3g})" for k in few[:MOST_NAMED])
            if len(few) > MOST_NAMED:
                listed += f" and {len(few) - MOST_NAMED} more"
            what = f"Components have few samples: {listed}"
        warn_caller(
            f"{what}. covariance_type={self.covariance_type!r} with "
            f"n_components={self.n_components} and {width} features needs at least "
            f"{least}{'' if covariance_class.shared else ' each'}: the density is "
            "degenerate and set by reg_covar. Use covariance_type='diag' or "
            "'spherical', fewer components, fewer features or a larger reg_covar.",
            DegenerateComponentWarning,
        )

    def _warn_large_reg_covar(self, standardization):
        """Warn where ``reg_covar`` swamps the variances of all features.

        Constant features, which have the scale 1, do not count.
        """
        scale = convert.to_numpy(standardization.scale)
        largest = float((scale[scale != 1.0] ** 2).max(initial=0.0))
        swamped = 0.0 < SWAMPED * largest <= self.reg_covar
        if swamped and not self.reg_covar_relative:
            warn_caller(
                f"reg_covar={self.reg_covar:g} is far above the variances of all "
                f"features, at most {largest:.3g}: it sets the density, and components "
                "hardly differ. Lower reg_covar, set reg_covar_relative=True, or "
                "rescale X, for example with StandardScaler.",
                DegenerateComponentWarning,
            )

    def _effective_counts(self, X, sample_weight, least):
        """Return how many samples stand behind each covariance, or lower bounds.

        Bounds where they are large enough, which costs no pass over X.
        """
        n_samples = X.shape[0]
        if sample_weight is not None:
            n_samples = n_counted(sample_weight)
        if self._covariance_class.shared:
            return n_samples
        mass = n_samples
        if sample_weight is not None:
            mass = sample_weight.sum() / sample_weight.max()
        bounds = np.asarray(self.weights_, dtype=np.float64) * mass
        if self._is_truncated or (bounds >= least).all():
            return bounds
        mixture, dtype = self._mixture(X), convert.torch_dtype(X)
        source = self._scoring_source(mixture, X, sample_weight)
        return convert.to_numpy(scoring.effective_counts(mixture, source, dtype))

    def _scoring_source(self, mixture, X, weight):
        size = self._scoring_batch_size()
        if isinstance(X, Collection):
            n_bytes = scoring.row_bytes(mixture, convert.torch_dtype(X))
            return X.source(n_bytes, size, weight)
        if weight is not None:
            weight = convert.float64_tensor(weight, mixture.means.device)
        return scoring.scoring_source(mixture, X, size, weight)

    def _check_collection(self, X, reset, min_samples, allow_nan):
        from skdeepgmm.estimators._dask import DaskCollection

        found = DaskCollection(X, min_samples, allow_nan)
        columns = getattr(X, "_meta", None)
        _check_feature_names(self, columns, reset=reset)
        _check_n_features(self, np.empty((0, found.check.n_features)), reset=reset)
        return found

    def _totals(self, X, sample_weight=None, entropy=False):
        """Return sums over a dask collection; see :func:`totals_of`."""
        check_is_fitted(self)
        rows = self._check_X(X, reset=False, allow_nan=True)
        self._check_weight(sample_weight, rows)
        function = partial(totals_of, for_parts(self), entropy)
        return rows.map_reduce(function, np.add)

    def _log_likelihood(self, X):
        """Return the log-likelihood of X in nats and the number of its samples."""
        if is_collection(X):
            log_likelihood, n_samples, _ = self._totals(X)
            return log_likelihood, n_samples
        log_prob = self.score_samples(X)
        return self._weighted_mean(log_prob, None) * len(log_prob), len(log_prob)

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
            log p(x), in nats; -inf where it is below all numbers of its type.
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
        if is_collection(X):
            log_likelihood, weight, _ = self._totals(X, sample_weight)
            return float(log_likelihood / weight)
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
        if self._is_truncated:
            return self._score(partial(scoring.truncated_predict, self.truncation), X)
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
        if self._is_truncated:
            function = partial(scoring.truncated_predict_proba, self.truncation)
            return self._score(function, X)
        return self._score(scoring.predict_proba, X)

    def sample(self, n_samples=1, component=None, random_state=None):
        """Draw random samples from the fitted mixture.

        Parameters
        ----------
        n_samples : int, default=1
            Number of samples.

        component : int, default=None
            Component of all samples; None draws components by ``weights_``.

        random_state : int, RandomState instance or None, default=None
            Seed of this draw. None takes the parameter ``random_state``: if that is
            an integer, every call draws the same samples.

        Returns
        -------
        X : ndarray of shape (n_samples, n_features)
            Samples, in the order of their components.

        y : ndarray of shape (n_samples,)
            Component of each sample.

        Raises
        ------
        ValueError
            If ``n_samples`` is no integer, or below one, or there is no such component.

        Examples
        --------
        >>> from skdeepgmm import GaussianMixture
        >>> gm = GaussianMixture.from_parameters(
        ...     [0.5, 0.5], [[0.0], [9.0]], [0.01, 0.01], covariance_type="spherical"
        ... )
        >>> X, y = gm.sample(3, component=1, random_state=0)
        >>> X.round().ravel(), y
        (array([9., 9., 9.]), array([1, 1, 1]))
        """
        check_is_fitted(self)
        check_integer("n_samples", n_samples, None)
        if n_samples < 1:
            raise ValueError(
                f"Invalid value for 'n_samples': {n_samples} . The sampling requires "
                "at least one sample."
            )
        random_state = self._random_state_of(random_state)
        counts = self._draw_counts(n_samples, component, random_state)
        mixture = self._mixture()
        generator = self._generator(random_state, mixture.means.device)
        X, labels = mixture.sample(counts.tolist(), generator)
        dtype = convert.torch_dtype(self.means_)
        return convert.to_numpy(X, dtype), convert.to_numpy(labels)

    def _random_state_of(self, random_state):
        """Return the generator of one call: the argument's, else the parameter's."""
        if random_state is None:
            return self._random_state()
        return check_random_state(random_state)

    def _draw_counts(self, n_samples, component, random_state):
        """Return how many samples to draw from each component."""
        weights = np.asarray(self.weights_, dtype=np.float64)
        if component is None:
            return random_state.multinomial(n_samples, weights / weights.sum())
        check_integer("component", component, 0, len(weights) - 1)
        counts = np.zeros(len(weights), dtype=np.int64)
        counts[component] = n_samples
        return counts

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

    def sample_conditional(self, X, n_samples=1, random_state=None):
        """Draw missing entries given the observed ones.

        Parameters
        ----------
        X : array-like of shape (n_rows, n_features)
            Data; NaN marks a missing entry.

        n_samples : int, default=1
            Number of draws for each sample.

        random_state : int, RandomState instance or None, default=None
            Seed of this draw; None takes the parameter ``random_state``.

        Returns
        -------
        X_filled : ndarray of shape (n_samples, n_rows, n_features)
            Copies of X whose missing entries are drawn from
            p(x_missing | x_observed).
        """
        check_integer("n_samples", n_samples, 1)
        random_state = self._random_state_of(random_state)

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
        return self._bic(*self._log_likelihood(X))

    def _bic(self, log_likelihood, n_samples):
        return float(-2 * log_likelihood + self._n_parameters() * math.log(n_samples))

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
        log_likelihood, _ = self._log_likelihood(X)
        return float(-2 * log_likelihood + 2 * self._n_parameters())

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
        if is_collection(X):
            log_likelihood, n_samples, entropy = self._totals(X, entropy=True)
            return self._bic(log_likelihood, n_samples) + 2.0 * float(entropy)
        return self.bic(X) + 2.0 * entropy_of(self.predict_proba(X))


def entropy_of(resp):
    """Return the sum of the entropies of responsibilities, in nats."""
    resp = np.asarray(resp, dtype=np.float64)
    return -float(np.sum(resp * np.log(np.maximum(resp, np.finfo(float).tiny))))


def totals_of(mixture, entropy, rows, weight, number):
    """Return log-likelihood, weight and, if asked for, entropy of rows, as an array."""
    log_prob = np.asarray(mixture.score_samples(rows), dtype=np.float64)
    mass = float(len(rows)) if weight is None else weight.sum()
    total = log_prob.sum() if weight is None else weight @ log_prob
    return np.array(
        [total, mass, entropy_of(mixture.predict_proba(rows)) if entropy else 0.0]
    )

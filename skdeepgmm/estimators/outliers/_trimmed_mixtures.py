"""The default model of outlier detection: mixtures of the typical samples."""

import warnings
from numbers import Integral, Real

import numpy as np
from sklearn.base import DensityMixin
from sklearn.callback import with_callbacks
from sklearn.utils.validation import check_is_fitted

from skdeepgmm.estimators._base import MAX_SEED, TorchEstimator, callback_data
from skdeepgmm.estimators._interruption import part_of_another
from skdeepgmm.estimators._sklearn_compat import Interval, _fit_context
from skdeepgmm.estimators.outliers._missing import (
    as_numpy,
    comparable,
    reference_samples,
)


class TrimmedMixtures(DensityMixin, TorchEstimator):
    r"""Mean log-density of diagonal mixtures of several sizes, fitted without tails.

    A mixture that is fitted to all samples may put a light component on the outliers,
    and calls them typical. Here each mixture is fitted, its least probable samples are
    left out, and it is fitted again, a few times. Wide kernels (``reg_covar``) keep
    components from shrinking onto duplicates, and several sizes are averaged, since no
    single number of components serves all data.

    Parameters
    ----------
    sizes : tuple of int, default=(3, 5, 8)
        Numbers of components of the mixtures; at most a tenth of the number of samples.

    trim : float, default=0.1
        Share of the samples that a fit leaves out: the least probable ones of the fit
        before.

    n_trims : int, default=3
        Number of fits after the first one.

    reg_covar : float, default=0.5
        Added to the variances, as a share of each feature's variance.

    min_weight : float, default=0.05
        Components of a smaller weight do not count: they may sit on a clump of
        outliers.

    random_state : int, RandomState instance or None, default=None
        Seed of the initializations.

    device : str, default="auto"
        "auto", "cpu", "cuda" or "cuda:<index>".

    Attributes
    ----------
    mixtures_ : list of GaussianMixture
        The fitted mixtures.

    n_features_in_ : int
        Number of features seen during ``fit``.

    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of features seen during ``fit``, if they were all strings.

    Notes
    -----
    The score is :math:`\frac{1}{M} \sum_m \log p_m(x)`, the logarithm of the
    geometric mean of the densities, in nats.

    References
    ----------
    .. [1] P. J. Rousseeuw & K. Van Driessen (1999). "A fast algorithm for the minimum
       covariance determinant estimator". Technometrics 41 (3), 212-223. The refits are
       its concentration steps, with a mixture in place of one Gaussian.
    """

    _parameter_constraints = {
        "sizes": [tuple, list],
        "trim": [Interval(Real, 0.0, 0.5, closed="left")],
        "n_trims": [Interval(Integral, 0, None, closed="left")],
        "reg_covar": [Interval(Real, 0.0, None, closed="left")],
        "min_weight": [Interval(Real, 0.0, 1.0, closed="left")],
        "random_state": ["random_state"],
        "device": [str],
    }

    def __init__(
        self,
        sizes=(3, 5, 8),
        *,
        trim=0.1,
        n_trims=3,
        reg_covar=0.5,
        min_weight=0.05,
        random_state=None,
        device="auto",
    ):
        self.sizes = sizes
        self.trim = trim
        self.n_trims = n_trims
        self.reg_covar = reg_covar
        self.min_weight = min_weight
        self.random_state = random_state
        self.device = device

    @with_callbacks
    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y=None, sample_weight=None):
        """Fit the mixtures.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Training data; NaN marks a missing entry.

        y : Ignored
            Not used, present for API consistency by convention.

        sample_weight : array-like of shape (n_samples,), default=None
            Non-negative weights.

        Returns
        -------
        self : TrimmedMixtures
            The fitted model.
        """
        X = self._check_X(X, reset=True, min_samples=2, allow_nan=True)
        sample_weight = self._check_weight(sample_weight, X)
        random_state = self._random_state()
        most = max(1, X.shape[0] // 10)
        sizes = list(dict.fromkeys(min(size, most) for size in self.sizes))
        data = callback_data(X, y)
        mixtures = []
        with self._fit_tasks(data, len(sizes)) as tasks:
            for size in sizes:
                mixture = self._mixture(size, random_state.randint(MAX_SEED))
                task = tasks.subcontext(task_name="mixture")
                with task.propagate_callback_context(mixture):
                    task.call_on_fit_task_begin(estimator=self, **data)
                    mixtures.append(self._fit_trimmed(mixture, X, sample_weight))
                    task.call_on_fit_task_end(
                        estimator=self,
                        reconstruction_attributes=lambda: self._so_far(
                            {"mixtures_": list(mixtures)}
                        ),
                        **data,
                    )
            self.mixtures_ = mixtures
        return self

    def _mixture(self, size, seed):
        from skdeepgmm import GaussianMixture

        return GaussianMixture(
            size,
            covariance_type="diag",
            reg_covar=self.reg_covar,
            reg_covar_relative=True,
            random_state=seed,
            device=self.device,
        )

    def _fit_trimmed(self, mixture, X, sample_weight):
        """Fit a mixture, then again without its tails."""
        # Nothing that it warns of is the user's to change: sample counts, iterations.
        with warnings.catch_warnings(), part_of_another():
            warnings.simplefilter("ignore")
            found = self._fitted(mixture, X, sample_weight)
            for _ in range(self.n_trims):
                reference = reference_samples(found, X)
                scores = as_numpy(found.score_samples(X))
                scores = comparable(found, X, scores, reference)
                kept = np.flatnonzero(scores >= np.quantile(scores, self.trim))
                weight = None if sample_weight is None else sample_weight[kept]
                found = self._fitted(mixture, X[kept], weight)
        return found

    def _fitted(self, mixture, X, sample_weight):
        """Fit a mixture; returns it without its light components."""
        mixture.fit(X, sample_weight=sample_weight)
        kept = mixture.weights_ >= min(self.min_weight, mixture.weights_.max())
        return mixture.from_parameters(
            mixture.weights_[kept] / mixture.weights_[kept].sum(),
            mixture.means_[kept],
            mixture.covariances_[kept],
            covariance_type="diag",
            random_state=mixture.random_state,
            device=self.device,
        )

    def score_samples(self, X):
        """Compute the mean log-density of each sample.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Data; NaN marks a missing entry.

        Returns
        -------
        scores : ndarray of shape (n_samples,)
            Mean over the mixtures of log p(x), in nats; higher is more typical.
        """
        check_is_fitted(self)
        X = self._check_X(X, reset=False, allow_nan=True)
        scores = [as_numpy(mixture.score_samples(X)) for mixture in self.mixtures_]
        return np.mean(scores, axis=0)

    def score(self, X, y=None):
        """Compute the mean of :meth:`score_samples`.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Data.

        y : Ignored
            Not used, present for API consistency by convention.

        Returns
        -------
        score : float
            In nats per sample; higher is better.
        """
        return float(self.score_samples(X).mean())

    def sample(self, n_samples=1):
        """Draw random samples, as many of each mixture as ``n_samples`` allows.

        Parameters
        ----------
        n_samples : int, default=1
            Number of samples.

        Returns
        -------
        X : ndarray of shape (n_samples, n_features)
            Samples.

        y : ndarray of shape (n_samples,)
            The mixture of each sample.
        """
        check_is_fitted(self)
        random_state = self._random_state()
        labels = np.sort(np.arange(n_samples) % len(self.mixtures_))
        parts = []
        for number, mixture in enumerate(self.mixtures_):
            count = int(np.sum(labels == number))
            if count:
                seed = random_state.randint(MAX_SEED)
                drawn = mixture.set_params(random_state=seed).sample(count)[0]
                parts.append(drawn)
        return np.concatenate(parts), labels

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        return tags

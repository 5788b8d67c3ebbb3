"""Choosing the number of components and the form of the covariances by a criterion."""

import math
import warnings
from collections.abc import Iterable
from numbers import Integral, Real

import numpy as np
from joblib import Parallel, delayed
from sklearn.base import DensityMixin, clone
from sklearn.utils.validation import check_is_fitted

from skdeepgmm._torch_backend.mixture.covariances import COVARIANCES
from skdeepgmm.estimators._base import MAX_SEED, TorchEstimator, all_or_nothing
from skdeepgmm.estimators._checks import check_integer, is_integer
from skdeepgmm.estimators._interruption import part_of_another
from skdeepgmm.estimators._sklearn_compat import Interval, StrOptions, _fit_context
from skdeepgmm.estimators._warnings import warn_caller
from skdeepgmm.estimators.mixture._gaussian_mixture import GaussianMixture
from skdeepgmm.exceptions import DegenerateComponentWarning

CRITERIA = ("bic", "aic", "icl")
#: Components of the first fit, relative to the largest number that is asked for.
OVERCOMPLETE = 2.0
#: The largest number that is tried by default.
DEFAULT_MOST = 10
#: EM iterations of that fit.
FIRST_ITER = 15


class GaussianMixtureIC(DensityMixin, TorchEstimator):
    r"""Gaussian mixture with its size and covariance type by an information criterion.

    All sizes come from one fit: a mixture of twice the largest size is merged pair by
    pair, where that costs the least likelihood (:meth:`GaussianMixture.merged`), with a
    few EM iterations after each merge. The path passes through a good mixture of every
    size, in about the time of three fits, and needs no restarts; the sizes about the
    best one are fitted on their own as well, and the better mixture is kept.

    Parameters
    ----------
    n_components : iterable of int, default=None
        Numbers of components to choose from, for example ``range(1, 31)``. None means
        1 to 10, or to the number of samples if that is less.

    covariance_type : str or list of str, default=('full', 'tied', 'diag', 'spherical')
        Forms of the covariances to choose from, see :class:`GaussianMixture`.

    criterion : {'bic', 'aic', 'icl'}, default='bic'
        What to minimise: 'bic', ``-2 log p(X) + n_parameters log(n_samples)`` [1]_;
        'aic', ``-2 log p(X) + 2 n_parameters`` [2]_, which prefers larger mixtures;
        'icl', 'bic' plus twice the entropy of the responsibilities [3]_, which prefers
        well separated components.

    max_iter_path : int, default=20
        Most EM iterations after each merge.

    max_iter : int, default=100
        Most EM iterations of the chosen mixture at the end.

    tol : float, default=1e-3
        EM stops when the mean log-likelihood changes by less, in nats per sample.

    reg_covar : float, default=1e-6
        Added to the variances, in squared units of the data.

    reg_covar_relative : bool, default=False
        Whether ``reg_covar`` is a share of each feature's variance instead.

    rank : int, default=10
        Number of factors of 'low_rank' covariances.

    n_jobs : int, default=None
        Covariance types at the same time, as in joblib; None means 1. The result does
        not depend on it.

    random_state : int, RandomState instance or None, default=None
        Seed of the first fit and of :meth:`sample`.

    device : str, default='auto'
        Where to compute: 'auto' (the device of a tensor X, else CUDA when present),
        'cpu', 'cuda' or 'cuda:<index>'.

    Attributes
    ----------
    best_estimator_ : GaussianMixture
        The mixture of least criterion, fitted until EM has converged.

    best_criterion_ : float
        Its criterion, lower is better.

    n_components_ : int
        Its number of components.

    covariance_type_ : str
        Its form of the covariances.

    results_ : dict of str to ndarray of shape (n_candidates,)
        A table that ``pandas.DataFrame`` takes: 'covariance_type', 'n_components',
        'bic', 'aic', 'icl', 'log_likelihood' (mean, in nats per sample),
        'n_parameters', 'n_iter', 'degenerate' (whether components have too few samples
        for their covariances, so that the likelihood is set by ``reg_covar``) and
        'rank': 1 is the best, and degenerate mixtures come last.

    estimators_ : list of GaussianMixture
        The mixtures of the table's rows, as the path has left them.

    n_features_in_ : int
        Number of features seen during ``fit``.

    feature_names_in_ : ndarray of shape (n_features,)
        Names of features seen during ``fit``, if they were all strings.

    See Also
    --------
    GaussianMixture : The model.
    skdeepgmm.plotting.CriterionDisplay : The criterion against the number of
        components.

    References
    ----------
    .. [1] Schwarz (1978). "Estimating the dimension of a model". Annals of Statistics,
       6.

    .. [2] Akaike (1974). "A new look at the statistical model identification". IEEE
       Transactions on Automatic Control, 19.

    .. [3] Biernacki, Celeux & Govaert (2000). "Assessing a mixture model for clustering
       with the integrated completed likelihood". IEEE Transactions on Pattern Analysis
       and Machine Intelligence, 22.

    Examples
    --------
    >>> import numpy as np
    >>> from skdeepgmm import GaussianMixtureIC
    >>> rng = np.random.RandomState(0)
    >>> X = np.concatenate([rng.randn(200, 2) + [m, 0] for m in (0, 8, 16)])
    >>> search = GaussianMixtureIC(range(1, 7), random_state=0).fit(X)
    >>> search.n_components_, search.covariance_type_
    (3, 'spherical')
    >>> search.predict(X).shape
    (600,)

    The search stands for the best mixture, ``best_estimator_``:

    >>> search.predict_proba(X).shape, search.score_samples(X).shape
    ((600, 3), (600,))
    >>> bool(search.score(X) == search.best_estimator_.score(X))
    True
    >>> search.sample(4)[0].shape
    (4, 2)
    >>> search.fit_predict(X).shape
    (600,)
    """

    _parameter_constraints = {
        "n_components": ["array-like", Iterable, Integral, None],
        "covariance_type": ["array-like", StrOptions(set(COVARIANCES))],
        "criterion": [StrOptions(set(CRITERIA))],
        "max_iter_path": [Interval(Integral, 0, None, closed="left")],
        "max_iter": [Interval(Integral, 0, None, closed="left")],
        "tol": [Interval(Real, 0.0, None, closed="left")],
        "reg_covar": [Interval(Real, 0.0, None, closed="left")],
        "reg_covar_relative": ["boolean"],
        "rank": [Interval(Integral, 1, None, closed="left")],
        "n_jobs": [Integral, None],
        "random_state": ["random_state"],
        "device": [str],
    }

    def __init__(
        self,
        n_components=None,
        *,
        covariance_type=("full", "tied", "diag", "spherical"),
        criterion="bic",
        max_iter_path=20,
        max_iter=100,
        tol=1e-3,
        reg_covar=1e-6,
        reg_covar_relative=False,
        rank=10,
        n_jobs=None,
        random_state=None,
        device="auto",
    ):
        self.n_components = n_components
        self.covariance_type = covariance_type
        self.criterion = criterion
        self.max_iter_path = max_iter_path
        self.max_iter = max_iter
        self.tol = tol
        self.reg_covar = reg_covar
        self.reg_covar_relative = reg_covar_relative
        self.rank = rank
        self.n_jobs = n_jobs
        self.random_state = random_state
        self.device = device

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y=None, sample_weight=None):
        """Fit mixtures of all sizes and keep the one of least criterion.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Training data; NaN marks a missing entry.

        y : Ignored
            Not used, present for API consistency by convention.

        sample_weight : array-like of shape (n_samples,), default=None
            Non-negative weights; an integer weight counts a sample that often.

        Returns
        -------
        self : GaussianMixtureIC
            The fitted search.

        Raises
        ------
        ValueError
            If X is not finite or has fewer samples than the largest number of
            components, or if a parameter has no meaning.
        """
        with all_or_nothing(self):
            X = self._check_X(X, reset=True, min_samples=2, allow_nan=True)
            sample_weight = self._check_weight(sample_weight, X)
            sizes, types = self._sizes(X, sample_weight), self._types()
            seed = self._random_state().randint(MAX_SEED)
            paths = Parallel(n_jobs=self.n_jobs)(
                delayed(_path)(
                    self._mixture(name, seed), sizes, X, sample_weight, self.criterion
                )
                for name in types
            )
            self._set_results([row for path in paths for row in path])
            self._finish(X, sample_weight)
            self._name_features()
        return self

    def _sizes(self, X, sample_weight):
        """Return the numbers of components, the largest first."""
        n_samples, what = X.shape[0], "samples"
        if sample_weight is not None:
            n_samples, what = np.count_nonzero(sample_weight), "samples with weight"
        given = self.n_components
        if given is None:
            given = range(1, min(DEFAULT_MOST, n_samples) + 1)
        sizes = [given] if is_integer(given) else list(given)
        if not sizes:
            raise ValueError("n_components is empty: name at least one number.")
        for size in sizes:
            check_integer("n_components", size, 1)
        if max(sizes) > n_samples:
            raise ValueError(
                f"n_components goes up to {max(sizes)}, but X has {n_samples} {what}. "
                "Give no more components than that."
            )
        return sorted({int(size) for size in sizes}, reverse=True)

    def _types(self):
        """Return the covariance types, each once."""
        given = self.covariance_type
        types = [given] if isinstance(given, str) else list(given)
        unknown = [name for name in types if name not in COVARIANCES]
        if unknown or not types:
            raise ValueError(
                f"covariance_type must name some of {sorted(COVARIANCES)}, got "
                f"{given!r}."
            )
        return list(dict.fromkeys(types))

    def _mixture(self, covariance_type, seed):
        """Return the unfitted mixture at the beginning of a path."""
        return GaussianMixture(
            covariance_type=covariance_type,
            init_params="k-means++",
            max_iter=self.max_iter_path,
            tol=self.tol,
            reg_covar=self.reg_covar,
            reg_covar_relative=self.reg_covar_relative,
            rank=self.rank,
            random_state=seed,
            device=self.device,
        )

    def _set_results(self, rows):
        # On the path each went on from another; from here on a fit begins anew.
        self.estimators_ = [m.set_params(warm_start=False) for m, _ in rows]
        names = rows[0][1]
        self.results_ = {
            name: np.array([found[name] for _, found in rows]) for name in names
        }
        keys = self.results_[self.criterion], self.results_["degenerate"]
        order = np.lexsort(keys)
        rank = np.empty(len(order), dtype=int)
        rank[order] = np.arange(1, len(order) + 1)
        self.results_["rank"] = rank

    def _finish(self, X, sample_weight):
        """Fit the best mixture to its end."""
        best = self.estimators_[int(np.argmin(self.results_["rank"]))]
        best = best.merged(len(best.means_))
        best.set_params(warm_start=True, max_iter=self.max_iter)
        best.fit(X, sample_weight=sample_weight)
        best.set_params(warm_start=False, random_state=self.random_state)
        self.best_estimator_ = best
        self.best_criterion_ = float(_criteria(best, X, sample_weight)[self.criterion])
        self.n_components_ = len(best.means_)
        self.covariance_type_ = best.covariance_type
        self._warn_largest()

    def _name_features(self):
        """Give the mixtures the names of the columns, which they have not seen."""
        if hasattr(self, "feature_names_in_"):
            for mixture in (self.best_estimator_, *self.estimators_):
                mixture.feature_names_in_ = self.feature_names_in_

    def _warn_largest(self):
        """Say where the choice may be bounded by what was asked for."""
        tried = self.results_["n_components"]
        if self.n_components_ == tried.max() > tried.min():
            warn_caller(
                f"The {self.criterion} is least at n_components={self.n_components_}, "
                "the largest number that was tried: more may be better. Widen "
                "n_components.",
                UserWarning,
            )

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
        return self._best().predict(X)

    def fit_predict(self, X, y=None, sample_weight=None):
        """Fit the search to X and return the component of each sample.

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
            Component indices.
        """
        return self.fit(X, y, sample_weight=sample_weight).predict(X)

    def predict_proba(self, X):
        """Compute the posterior probability of each component.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Data.

        Returns
        -------
        resp : ndarray of shape (n_samples, n_components)
            Responsibilities; rows sum to one.
        """
        return self._best().predict_proba(X)

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
        return self._best().score_samples(X)

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
            In nats per sample; higher is better.
        """
        return self._best().score(X, sample_weight=sample_weight)

    def sample(self, n_samples=1):
        """Draw random samples from the best mixture.

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
        """
        return self._best().sample(n_samples)

    def _best(self):
        check_is_fitted(self)
        return self.best_estimator_

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        return tags


def _path(mixture, sizes, X, sample_weight, criterion):
    """Return a fitted mixture and its criteria for every size, the largest first.

    Parameters
    ----------
    mixture : GaussianMixture
        With the settings of all.
    sizes : list of int
        From the largest down.
    X : ndarray or tensor of shape (n_samples, n_features)
    sample_weight : ndarray of shape (n_samples,) or None
    criterion : str
        What is to be least.

    Returns
    -------
    rows : list of (GaussianMixture, dict of str to object)
    """
    n_samples = X.shape[0]
    if sample_weight is not None:
        n_samples = np.count_nonzero(sample_weight)
    first = min(math.ceil(OVERCOMPLETE * sizes[0]), n_samples)
    alone = clone(mixture).set_params(init_params="merge")
    rows, n_iter_path = {}, mixture.max_iter
    # What a mixture on the way warns of is not the user's to change.
    with warnings.catch_warnings(), part_of_another():
        warnings.simplefilter("ignore")
        mixture.set_params(n_components=first, max_iter=FIRST_ITER)
        mixture.fit(X, sample_weight=sample_weight)
        mixture.set_params(max_iter=n_iter_path, warm_start=True)
        for size in range(sizes[0], sizes[-1] - 1, -1):
            mixture = mixture.merged(size)
            row = _row(mixture, X, sample_weight)
            if size in sizes:
                rows[size] = row
        _fit_around_the_best(rows, alone, X, sample_weight, criterion)
    return [rows[size] for size in sizes]


def _fit_around_the_best(rows, mixture, X, sample_weight, criterion):
    """Fit the sizes about the best one on their own too, and keep what is better.

    An error early on the path is in all that comes later; these fits have none of it.
    """

    def key(row):
        return row[1]["degenerate"], row[1][criterion]

    sizes, seen = sorted(rows), set()
    while True:
        best = sizes.index(min(rows, key=lambda size: key(rows[size])))
        near = sizes[max(0, best - 1) : best + 2]
        new = [size for size in near if size not in seen]
        if not new:
            return
        for size in new:
            seen.add(size)
            row = _row(clone(mixture).set_params(n_components=size), X, sample_weight)
            rows[size] = min(rows[size], row, key=key)


def _row(mixture, X, sample_weight):
    """Fit a mixture; returns it and its row of the table."""
    degenerate = _fit_quietly(mixture, X, sample_weight)
    row = {
        "covariance_type": mixture.covariance_type,
        "n_components": len(mixture.means_),
    }
    row |= _criteria(mixture, X, sample_weight)
    return mixture, row | {"n_iter": mixture.n_iter_, "degenerate": degenerate}


def _fit_quietly(mixture, X, sample_weight):
    """Fit a mixture; tells whether components have too few samples of their own."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        mixture.fit(X, sample_weight=sample_weight)
    return any(issubclass(w.category, DegenerateComponentWarning) for w in caught)


def _criteria(mixture, X, sample_weight):
    """Return the information criteria of a mixture, and what they are made of."""
    log_prob = np.asarray(mixture.score_samples(X), dtype=np.float64)
    resp = np.asarray(mixture.predict_proba(X), dtype=np.float64)
    weight = np.ones(len(log_prob)) if sample_weight is None else sample_weight
    total, n_parameters = weight.sum(), mixture._n_parameters()
    log_likelihood = float(weight @ log_prob)
    entropy = -(resp * np.log(np.maximum(resp, np.finfo(float).tiny))).sum(1)
    bic = -2.0 * log_likelihood + n_parameters * math.log(total)
    return {
        "bic": bic,
        "aic": -2.0 * log_likelihood + 2.0 * n_parameters,
        "icl": bic + 2.0 * float(weight @ entropy),
        "log_likelihood": log_likelihood / total,
        "n_parameters": n_parameters,
    }

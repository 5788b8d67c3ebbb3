"""Gaussian mixture by exact expectation maximisation."""

from numbers import Integral

import numpy as np
from sklearn.callback import with_callbacks
from sklearn.exceptions import ConvergenceWarning

from skdeepgmm._torch_backend import convert
from skdeepgmm.estimators._base import all_or_nothing, callback_data
from skdeepgmm.estimators._checkpoint import fitted_attributes
from skdeepgmm.estimators._collection import Collection
from skdeepgmm.estimators._jobs import jobs_of
from skdeepgmm.estimators._sklearn_compat import Interval, StrOptions, _fit_context
from skdeepgmm.estimators._warnings import warn_caller
from skdeepgmm.estimators.mixture._base import BaseGaussianMixture
from skdeepgmm.estimators.mixture._em_fit import EMFit
from skdeepgmm.estimators.mixture._init_params import INIT_PARAMS
from skdeepgmm.exceptions import DegenerateComponentWarning

#: A component with less mass than this many samples has no spread of its own.
COLLAPSED_MASS = 1.5

#: Initializations on the first chunk of a stream, which later chunks cannot make good.
STREAM_N_INIT = 5
#: Decay of the step size of online EM, between 1/2 and 1 for convergence.
STEP_EXPONENT = 0.7


class GaussianMixture(BaseGaussianMixture):
    """Gaussian mixture fitted by exact expectation maximisation (EM).

    A drop-in for :class:`sklearn.mixture.GaussianMixture`: same parameters,
    attributes, initialization and results, computed batch by batch on additive
    sufficient statistics, on CPU or CUDA. On purpose, it repairs components that
    collapse or become empty, with a
    :class:`~skdeepgmm.exceptions.DegenerateComponentWarning`, where scikit-learn
    raises; it warns about parameters that the data cannot determine; and NaN marks a
    missing entry. The user guide lists the differences in the initialization.

    Parameters
    ----------
    n_components : int, default=1
        Number of mixture components.

    covariance_type : {'full', 'tied', 'diag', 'spherical', 'low_rank'}, \
default='full'
        Form of the covariances: 'full', one matrix a component; 'tied', one matrix
        for all; 'diag', one variance a component and feature; 'spherical', one
        variance a component; 'low_rank', ``rank`` factors and one noise variance a
        feature for each component (mixture of factor analysers).

    tol : float, default=1e-3
        EM stops when the mean log-likelihood changes by less, in nats per sample.

    reg_covar : float, default=1e-6
        Added to the variances, in squared units of the data ('low_rank': least noise
        variance).

    max_iter : int, default=100
        Maximum number of EM iterations; 0 keeps the initial parameters.

    n_init : int, default=1
        Number of initializations; the fit with the highest log-likelihood is kept.

    n_jobs : int, default=None
        Initializations at the same time, each in a process and on one thread, as
        in joblib; None means 1, or what ``joblib.parallel_config`` says. The result
        does not depend on it. With callbacks, a checkpoint, a collection or a GPU they
        follow one another, with a warning.

    init_params : {'kmeans', 'k-means++', 'random', 'random_from_data', 'merge'}, \
default='kmeans'
        How the parameters are initialized, as in scikit-learn; data with more than 8
        million values from a random subset of samples. 'merge', which scikit-learn
        does not have, begins with three times as many components, fits them for a few
        iterations and merges pairs where that costs the least likelihood, see
        :meth:`merged`: one such fit is about as good as the best of many from k-means.
        Large data are merged on a random subset of samples.

    weights_init : array-like of shape (n_components,), default=None
        Initial weights.

    means_init : array-like of shape (n_components, n_features), default=None
        Initial means.

    precisions_init : array-like, default=None
        Initial precisions (inverse covariances), shaped as ``precisions_``.

    random_state : int, RandomState instance or None, default=None
        Seed of the initialization and of :meth:`sample`.

    warm_start : bool, default=False
        Whether to go on from the last fit: three iterations and three more are six,
        but for the rounding of parameters to the units and type of the data, and the
        samples at which components may be re-seeded. ``n_init`` is then ignored after
        the first fit.

    verbose : int, default=0
        Whether to print a line every ``verbose_interval`` iterations.

    verbose_interval : int, default=10
        Iterations a line.

    device : str, default='auto'
        Where to compute: 'auto' (the device of a tensor X, else CUDA when present),
        'cpu', 'cuda' or 'cuda:<index>'.

    batch_size : int or None, default=None
        Samples a batch of the E-step. It changes memory and speed, not the result.
        None chooses it by the size of the processor's caches.

    rank : int, default=10
        Number of factors of 'low_rank' covariances, at most ``n_features``; unused
        otherwise.

    reg_covar_relative : bool, default=False
        Whether ``reg_covar`` is a share of each feature's variance instead of an
        absolute value; it then means the same for features of any scale.

    truncation : int or None, default=None
        Number of candidate components of a sample, for mixtures of hundreds to
        thousands of components, see :ref:`thousands_of_components`: the cost of an
        iteration then grows with it instead of ``n_components``. 32 is a good start.
        :meth:`predict` and :meth:`predict_proba` consider as many; densities and
        scores are exact. None, or a number not below ``n_components``, is exact EM.

    checkpoint_path : str or path-like, default=None
        File from which a fit that was cut off goes on, see :ref:`checkpoints`. It is
        removed when the fit has come to its end. None writes no checkpoints.

    checkpoint_every : int, default=10
        EM iterations between two checkpoints.

    Attributes
    ----------
    weights_ : ndarray of shape (n_components,)
        Mixture weights.

    means_ : ndarray of shape (n_components, n_features)
        Means.

    covariances_ : ndarray
        Covariances: (n_components, n_features, n_features) for 'full',
        (n_features, n_features) for 'tied', (n_components, n_features) for 'diag',
        (n_components,) for 'spherical'.

    precisions_ : ndarray
        Inverse covariances, shaped as ``covariances_``.

    precisions_cholesky_ : ndarray
        Upper-triangular U with U U^T = precision (square roots of the precisions
        for 'diag' and 'spherical'), shaped as ``covariances_``.

    converged_ : bool
        Whether the best run converged.

    n_iter_ : int
        Iterations of the best run.

    lower_bound_ : float
        Mean log-likelihood of the training data in the last iteration of the best
        run, in nats per sample.

    lower_bounds_ : list of float
        The same for every iteration.

    truncation_gap_ : float
        With ``truncation`` only: mean log-likelihood of the fitted mixture minus the
        bound that the fit raises, in nats per sample, measured on 2,048 random samples
        of the training data.

    n_samples_seen_ : float
        Weight of the samples seen by :meth:`fit` or :meth:`partial_fit`.

    n_batches_seen_ : int
        Number of chunks seen by :meth:`partial_fit`; 1 after :meth:`fit`.

    factors_ : ndarray of shape (n_components, n_features, rank)
        'low_rank' only: factors A_k of the covariance A_k A_k^T + diag(d_k).

    noise_variance_ : ndarray of shape (n_components, n_features)
        'low_rank' only: noise variances d_k.

    n_features_in_ : int
        Number of features seen during fit.

    feature_names_in_ : ndarray of shape (n_features,)
        Names of the features, if X had string column names.

    See Also
    --------
    SGDGaussianMixture : The same model trained on mini-batches.
    sklearn.mixture.GaussianMixture : scikit-learn's implementation.

    Notes
    -----
    EM maximises ``sum_i log sum_k pi_k N(x_i; mu_k, Sigma_k)`` [1]_. In exponential
    family form ``log(pi_k N(x; mu_k, Sigma_k)) = <w_k, phi(x)>`` with
    ``phi(x) = [1, x, x x^T]``, so the E-step is the matrix product ``W phi(X)`` and
    the M-step needs only ``R phi(X)^T``, R the responsibilities. Both are summed
    over batches; the responsibilities of all samples never exist together. Data are
    centred and scaled first; where the product form would still cancel, the E-step
    works on ``x - mu_k`` instead.

    References
    ----------
    .. [1] Dempster, Laird & Rubin (1977). "Maximum likelihood from incomplete data
       via the EM algorithm". Journal of the Royal Statistical Society B, 39.

    Examples
    --------
    >>> import numpy as np
    >>> from skdeepgmm import GaussianMixture
    >>> rng = np.random.RandomState(0)
    >>> X = np.concatenate([rng.randn(50, 2), rng.randn(50, 2) + [10, 0]])
    >>> gm = GaussianMixture(n_components=2, random_state=0).fit(X)
    >>> gm.means_.round().astype(int)[gm.means_[:, 0].argsort()]
    array([[ 0,  0],
           [10,  0]])
    >>> labels = gm.predict([[0, 0], [12, 3]])
    >>> bool(labels[0] != labels[1])
    True

    Probabilities of components, log-densities, and criteria to compare models by:

    >>> gm.predict_proba([[0, 0], [12, 3]]).round(3).max(axis=1)
    array([1., 1.])
    >>> bool(gm.score(X) == gm.score_samples(X).mean())
    True
    >>> one = GaussianMixture(random_state=0).fit(X)
    >>> gains = one.aic(X) - gm.aic(X), one.bic(X) - gm.bic(X), one.icl(X) - gm.icl(X)
    >>> bool(min(gains) > 0)
    True

    Values that may have been where NaN is; data that arrive in chunks:

    >>> gm.sample_conditional([[np.nan, 3.0]], n_samples=4, random_state=0).shape
    (4, 1, 2)
    >>> stream = GaussianMixture(n_components=2, random_state=0)
    >>> for chunk in (X[::2], X[1::2]):
    ...     stream = stream.partial_fit(chunk)
    >>> stream.fit_predict(X).shape  # a fit of its own, from the start
    (100,)

    To scikit-learn and back:

    >>> theirs = gm.to_sklearn()
    >>> ours = GaussianMixture.from_sklearn(theirs)
    >>> bool((ours.predict(X) == theirs.predict(X)).all())
    True
    """

    _parameter_constraints = {
        **BaseGaussianMixture._parameter_constraints,
        "init_params": [StrOptions(set(INIT_PARAMS))],
        "verbose_interval": [Interval(Integral, 1, None, closed="left")],
        "truncation": [Interval(Integral, 1, None, closed="left"), None],
    }

    def __init__(
        self,
        n_components=1,
        *,
        covariance_type="full",
        tol=1e-3,
        reg_covar=1e-6,
        max_iter=100,
        n_init=1,
        n_jobs=None,
        init_params="kmeans",
        weights_init=None,
        means_init=None,
        precisions_init=None,
        random_state=None,
        warm_start=False,
        verbose=0,
        verbose_interval=10,
        device="auto",
        batch_size=None,
        rank=10,
        reg_covar_relative=False,
        truncation=None,
        checkpoint_path=None,
        checkpoint_every=10,
    ):
        self.n_components = n_components
        self.covariance_type = covariance_type
        self.tol = tol
        self.reg_covar = reg_covar
        self.max_iter = max_iter
        self.n_init = n_init
        self.n_jobs = n_jobs
        self.init_params = init_params
        self.weights_init = weights_init
        self.means_init = means_init
        self.precisions_init = precisions_init
        self.random_state = random_state
        self.warm_start = warm_start
        self.verbose = verbose
        self.verbose_interval = verbose_interval
        self.device = device
        self.batch_size = batch_size
        self.rank = rank
        self.reg_covar_relative = reg_covar_relative
        self.truncation = truncation
        self.checkpoint_path = checkpoint_path
        self.checkpoint_every = checkpoint_every

    _fits_together = True
    #: Threads of EM have blocks of their own and wait for each other once a pass.
    _small_work = 2 * 10**7

    @with_callbacks
    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y=None, sample_weight=None):
        """Estimate the parameters by EM.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Training data: an array, a memory map, a data frame or a torch tensor; or
            a dask array or data frame, which is read chunk by chunk where dask puts
            the work, see :ref:`scaling_out`.

        y : Ignored
            Not used, present for API consistency by convention.

        sample_weight : array-like of shape (n_samples,), default=None
            Non-negative weights; an integer weight counts a sample that often.

        Returns
        -------
        self : GaussianMixture
            The fitted mixture.

        Raises
        ------
        ValueError
            If X is not finite, has fewer samples than ``n_components`` or an initial
            parameter does not fit; or if the checkpoint is damaged or of another fit.
        """
        with all_or_nothing(self) as stack:
            self._check_warm_start(X)
            X, sample_weight = self._check_data(
                X, sample_weight, reset=True, min_samples=2
            )
            self._check_truncation(X)
            self._check_enough_samples(X, sample_weight)
            fresh = not (self.warm_start and hasattr(self, "converged_"))
            n_init = self.n_init if fresh else 1
            n_jobs = jobs_of(self, n_init, X)
            stack.enter_context(self._threads(*X.shape, n_jobs))
            data = callback_data(X, y, sample_weight)
            start = None if fresh else fitted_attributes(self)
            checkpoint = self._checkpoint(X, sample_weight, start)
            stack.enter_context(checkpoint.going_on())
            run = EMFit(self, X, data, sample_weight, checkpoint=checkpoint)
            n_tasks = self.max_iter if n_init == 1 else n_init
            ctrl_c = run.interruption
            with self._fit_tasks(data, n_tasks, lambda: ctrl_c) as tasks:
                with ctrl_c:
                    if n_jobs > 1:
                        run.restarts_side_by_side(n_init, n_jobs)
                    else:
                        run.restarts(n_init, fresh, tasks)
                ctrl_c.complete(lambda: self._finish(run, X, sample_weight))
            with ctrl_c:
                checkpoint.complete(ctrl_c.happened)
            ctrl_c.warn(self.n_iter_, self.max_iter)
        return self

    @property
    def _is_truncated(self):
        return self.truncation is not None and self.truncation < self.n_components

    def _check_truncation(self, X):
        """Raise where candidates cannot be sought: the data have to be at hand."""
        if not self._is_truncated:
            return
        reason = None
        if isinstance(X, Collection):
            reason = "of an array in memory only, not of dask collections or torchrun"
        elif self.init_params in ("random", "merge"):
            reason = (
                "from init_params='kmeans', 'k-means++' or 'random_from_data', "
                f"got {self.init_params!r}"
            )
        if reason is not None:
            raise ValueError(
                f"truncation={self.truncation} fits mixtures {reason}. Change that, or "
                "set truncation=None."
            )

    def _check_warm_start(self, X):
        """Raise, before anything changes, where the last fit cannot go on with X."""
        if not (self.warm_start and hasattr(self, "converged_")):
            return
        width = np.shape(X)[1] if np.ndim(X) == 2 else self.n_features_in_
        if width != self.n_features_in_:
            raise ValueError(
                f"warm_start=True continues a fit on {self.n_features_in_} features, "
                f"but X has {width}. Set warm_start=False to start anew."
            )
        if not self._is_same_model():
            raise ValueError(
                "warm_start=True continues the last fit, but n_components, "
                "covariance_type or rank has changed since. Set warm_start=False to "
                "start anew."
            )

    def _finish(self, run, X, sample_weight):
        self._set_result(run.best, run)
        self._count(X, sample_weight, fresh=True)
        self._warn_undetermined(X, sample_weight)

    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X, y=None, sample_weight=None):
        """Update the parameters by one chunk of a stream (online EM).

        The first chunk is fitted by EM from at least five initializations. Every later
        one is seen once: its statistics are averaged with those of the past with step
        size ``t ** -0.7`` [1]_, t the number of chunks so far (weighted by size).
        Early chunks are small for the number of parameters: covariances are pulled
        towards their mean, as by a few samples, which fades as the stream goes on.
        Nothing is kept but the parameters. After :meth:`fit`, goes on from there.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            A chunk; the first one needs at least ``n_components`` samples.

        y : Ignored
            Not used, present for API consistency by convention.

        sample_weight : array-like of shape (n_samples,), default=None
            Non-negative weights.

        Returns
        -------
        self : GaussianMixture
            The updated mixture.

        References
        ----------
        .. [1] Cappé & Moulines (2009). "On-line expectation-maximization algorithm
           for latent data models". Journal of the Royal Statistical Society B, 71.
        """
        with all_or_nothing(self) as stack:
            if self._is_truncated:
                raise ValueError(
                    f"truncation={self.truncation} is for fit only: a chunk is seen "
                    "once. Set truncation=None."
                )
            first = not hasattr(self, "means_")
            X, sample_weight = self._check_data(
                X, sample_weight, reset=first, min_samples=2 if first else 1
            )
            if not first:
                self._check_stream()
            else:
                self._check_enough_samples(X, sample_weight)
            stack.enter_context(self._threads(*X.shape))
            data = callback_data(X, y, sample_weight)
            run = EMFit(self, X, data, sample_weight, stream=first)
            if first:
                n_init = max(self.n_init, STREAM_N_INIT)
                for index in range(n_init):
                    run(index, 1, True, None)
                self._set_result(run.best, run, warn=False)
                self._count(X, sample_weight, fresh=True)
            else:
                mass = self._count(X, sample_weight, fresh=False)
                mixture, bound = run.online_step(self._step_size(mass))
                self._set_mixture(mixture, convert.torch_dtype(self.means_))
                vars(self).pop("truncation_gap_", None)
                self.lower_bound_ = bound
                self.lower_bounds_ = [*self.lower_bounds_, bound]
                self.n_iter_ += 1
                self.converged_ = False
        return self

    def _count(self, X, sample_weight, fresh):
        """Count the samples and chunks seen; returns the weight of X."""
        mass = float(X.shape[0] if sample_weight is None else sample_weight.sum())
        self.n_samples_seen_ = mass + (0.0 if fresh else self.n_samples_seen_)
        self.n_batches_seen_ = 1 + (0 if fresh else self.n_batches_seen_)
        return mass

    def _step_size(self, mass):
        """Return the share of a chunk of this weight in the new statistics."""
        typical = self.n_samples_seen_ / self.n_batches_seen_
        return min(1.0, mass / (typical * self.n_batches_seen_**STEP_EXPONENT))

    def _set_result(self, result, run, warn=True):
        """Store the best run as fitted attributes and warn about its flaws."""
        self._set_mixture(
            result.mixture.unstandardized(run.standardization), run.source.dtype
        )
        self.converged_ = result.converged
        self.n_iter_ = result.n_iter
        self.lower_bounds_ = [bound - run.log_scale for bound in result.lower_bounds]
        self.lower_bound_ = result.last_bound - run.log_scale
        vars(self).pop("truncation_gap_", None)
        if result.gap is not None:
            self.truncation_gap_ = result.gap
        self._warn_degenerate(result)
        self._warn_large_reg_covar(run.standardization)
        ended = result.converged or result.stopped or run.interruption.happened
        if warn and not ended and self.max_iter > 0:
            warn_caller(
                "Best performing initialization did not converge. Try different init "
                "parameters, or increase max_iter, tol, or check for degenerate data.",
                ConvergenceWarning,
            )

    def _warn_degenerate(self, result):
        """Warn about the components that were repaired or hold a single sample."""
        flaws = dict(result.events)
        if result.nk is not None:
            for k in (result.nk < COLLAPSED_MASS).nonzero()[:, 0].tolist():
                flaws.setdefault(k, "holds fewer than 2 samples, variance = reg_covar")
        if flaws:
            listed = "; ".join(f"component {k}: {flaws[k]}" for k in sorted(flaws))
            warn_caller(
                f"Degenerate components in the fitted mixture ({listed}). Decrease "
                "n_components, increase reg_covar, or remove duplicated rows and "
                "constant features.",
                DegenerateComponentWarning,
            )

"""Gaussian mixture by stochastic gradients from a random initialization."""

from numbers import Integral, Real

import numpy as np
from sklearn.callback import with_callbacks
from sklearn.exceptions import ConvergenceWarning

from skdeepgmm._torch_backend import convert
from skdeepgmm._torch_backend.annealing import OBJECTIVES
from skdeepgmm._torch_backend.mixture import sgd
from skdeepgmm._torch_backend.standardization import from_moments
from skdeepgmm.estimators._base import all_or_nothing, callback_data
from skdeepgmm.estimators._collection import moments_of
from skdeepgmm.estimators._epoch_fit import set_history
from skdeepgmm.estimators._jobs import jobs_of
from skdeepgmm.estimators._sklearn_compat import Interval, StrOptions, _fit_context
from skdeepgmm.estimators._warnings import warn_caller
from skdeepgmm.estimators.mixture._base import BaseGaussianMixture
from skdeepgmm.estimators.mixture._sgd_fit import SGDFit, batch_size_of
from skdeepgmm.exceptions import DegenerateComponentWarning


class SGDGaussianMixture(BaseGaussianMixture):
    """Gaussian mixture trained by stochastic gradients from a random initialization.

    The model of :class:`GaussianMixture`, learned from mini-batches with momentum. It
    needs no k-means: all components are initialized near the mean of the data and are
    parted by annealing. :meth:`partial_fit` learns from a stream.

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

    max_iter : int, default=30
        Number of epochs. Learning rate and annealing are fractions of this run: a
        longer run anneals more slowly.

    batch_size : int or None, default=None
        Samples a training step. None means a fortieth of the data, at least 16 and
        ``n_features`` and at most 512.

    learning_rate : float, default=0.2
        Step size of the optimiser at the beginning of training: of natural gradients,
        1 goes all the way to the batch's own estimate. It falls linearly to zero over
        the run, and as step^-0.6 in a stream.

    momentum : float, default=0.9
        Share of the earlier direction that a step keeps, in [0, 1).

    annealing : {'max', 'soft', 'none'}, default='max'
        Objective of the first part of the run: 'max', the annealed max-component
        likelihood of [1]_; 'soft', the same with a soft maximum; 'none', the exact
        log-likelihood from the first step.

    annealing_fraction : float, default=0.4
        Share of the run that is annealed. About 500 training steps are enough: with
        many samples or epochs a smaller share leaves more to the exact log-likelihood.

    tol : float, default=1e-2
        Change of the log-likelihood, in nats per sample, that counts as none: for
        ``converged_``, and as the least gain of a score in early stopping.

    reg_covar : float, default=1e-6
        Added to the variances, in squared units of the data; at least 1e-6 of a
        feature's variance.

    n_init : int, default=1
        Number of initializations; the one with the highest log-likelihood is kept.

    n_jobs : int, default=None
        Initializations at the same time, each in a process and on one thread, as
        in joblib; None means 1, or what ``joblib.parallel_config`` says. The result
        does not depend on it. With callbacks, a checkpoint, a collection or a GPU they
        follow one another, with a warning.

    init_params : {'random', 'random_from_data'}, default='random'
        Initial means: 'random', uniform within a tenth of a standard deviation around
        the mean of the data; 'random_from_data', samples of X. Initial variances are
        those of the data, initial weights are equal.

    overcomplete : float, default=2.0
        Components at first, relative to ``n_components``: for two thirds of the
        epochs there are so many, then pairs are merged where it costs the least
        likelihood [2]_. One fit then finds a better optimum than the best of many
        without; 1.0 trains ``n_components`` from the beginning.

    means_init : array-like of shape (n_components, n_features), default=None
        User-supplied initial means. Training from them is neither annealed nor
        over-complete.

    early_stopping : bool, default=False
        Whether to hold out samples and to stop when their log-likelihood no longer
        grows in the exact phase. The best state is kept.

    validation_fraction : float, default=0.1
        Share of the samples to hold out.

    n_iter_no_change : int, default=5
        Epochs without a gain of ``tol`` after which early stopping ends the fit.

    random_state : int, RandomState instance or None, default=None
        Seed of the initialization, the batches and :meth:`sample`.

    device : str, default='auto'
        Where to compute: 'auto' (the device of a tensor X, else CUDA when present),
        'cpu', 'cuda' or 'cuda:<index>'.

    verbose : int, default=0
        Whether to print a line every epoch.

    rank : int, default=10
        Number of factors of 'low_rank' covariances, at most ``n_features``; unused
        otherwise.

    reg_covar_relative : bool, default=False
        Whether ``reg_covar`` is a share of each feature's variance instead of an
        absolute value.

    checkpoint_path : str or path-like, default=None
        File from which a fit that was cut off goes on, see :ref:`checkpoints`. It is
        removed when the fit has come to its end. None writes no checkpoints.

    checkpoint_every : int, default=1
        Epochs between two checkpoints.

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
        Whether early stopping ended the run, or its last epoch changed the
        log-likelihood by less than ``tol``.

    n_iter_ : int
        Epochs of the best run; calls of :meth:`partial_fit` count as one each.

    lower_bound_ : float
        Log-likelihood of the training data in the last epoch, in nats per sample:
        the mean over its batches while the parameters moved.

    lower_bounds_ : list of float
        The same for every epoch; before the merging, of the over-complete mixture. Of
        a fit that Ctrl-C has cut off before it, so is ``lower_bound_``.

    history_ : dict of str to ndarray of shape (`n_iter_`,)
        Means per epoch, in nats per sample: 'loss' (the negative objective, annealed
        at first), 'log_likelihood', and with early stopping 'score' of the held-out
        samples (NaN while annealing).

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
    GaussianMixture : The same model by exact expectation maximisation.

    Notes
    -----
    Steps follow the natural gradient of weights (softmax logits), means and
    precision factors (triangular, positive diagonal), so that one learning rate
    serves all components and scales. Objectives, with
    ``s_k = log pi_k + log N(x; mu_k, Sigma_k)`` and neighbourhoods g of components on
    a torus::

        max_k sum_j g_kj s_j  <=  max_k s_k  <=  log sum_k exp s_k = log p(x)

    g is wide for the first quarter of the annealing, then shrinks exponentially to
    nothing, and the exact log-likelihood follows. Weights stay equal for the first
    half of the run. A component that gets hardly any samples is re-seeded by splitting
    another one.

    References
    ----------
    .. [1] Gepperth & Pfülb (2021). "Gradient-based training of Gaussian mixture
       models for high-dimensional streaming data". Neural Processing Letters, 53.

    .. [2] Runnalls (2007). "Kullback-Leibler approach to Gaussian mixture reduction".
       IEEE Transactions on Aerospace and Electronic Systems, 43.

    Examples
    --------
    >>> import numpy as np
    >>> from skdeepgmm import SGDGaussianMixture
    >>> rng = np.random.RandomState(0)
    >>> X = np.concatenate([rng.randn(200, 2), rng.randn(200, 2) + [10, 0]])
    >>> gm = SGDGaussianMixture(n_components=2, random_state=0).fit(X)
    >>> gm.means_.round().astype(int)[gm.means_[:, 0].argsort()]
    array([[ 0,  0],
           [10,  0]])

    Components, their probabilities, log-densities, and criteria to compare models by:

    >>> near = [[0.0, 0.0], [10.0, 0.0]]
    >>> gm.predict_proba(near).argmax(axis=1) == gm.predict(near)
    array([ True,  True])
    >>> bool(gm.score(X) == gm.score_samples(X).mean())
    True
    >>> one = SGDGaussianMixture(random_state=0).fit(X)
    >>> gains = one.aic(X) - gm.aic(X), one.bic(X) - gm.bic(X), one.icl(X) - gm.icl(X)
    >>> bool(min(gains) > 0)
    True

    Values that may have been where NaN is; data that arrive in chunks:

    >>> gm.sample_conditional([[np.nan, 3.0]], n_samples=4, random_state=0).shape
    (4, 1, 2)
    >>> stream = SGDGaussianMixture(n_components=2, random_state=0)
    >>> for chunk in (X[::2], X[1::2]):
    ...     stream = stream.partial_fit(chunk)
    >>> stream.fit_predict(X).shape  # a fit of its own, from the start
    (400,)

    To scikit-learn and back:

    >>> theirs = gm.to_sklearn()
    >>> ours = SGDGaussianMixture.from_sklearn(theirs)
    >>> bool((ours.predict(X) == theirs.predict(X)).all())
    True
    """

    _parameter_constraints = {
        **{
            name: BaseGaussianMixture._parameter_constraints[name]
            for name in (
                *("n_components", "covariance_type", "tol", "reg_covar"),
                *("n_init", "n_jobs", "means_init"),
                *("rank", "reg_covar_relative"),
                *("random_state", "verbose", "device", "batch_size"),
                *("checkpoint_path", "checkpoint_every"),
            )
        },
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "learning_rate": [Interval(Real, 0.0, None, closed="neither")],
        "momentum": [Interval(Real, 0.0, 1.0, closed="left")],
        "annealing": [StrOptions({*OBJECTIVES, "none"})],
        "annealing_fraction": [Interval(Real, 0.0, 1.0, closed="neither")],
        "init_params": [StrOptions({"random", "random_from_data"})],
        "overcomplete": [Interval(Real, 1.0, None, closed="left")],
        "early_stopping": ["boolean"],
        "validation_fraction": [Interval(Real, 0.0, 1.0, closed="neither")],
        "n_iter_no_change": [Interval(Integral, 1, None, closed="left")],
    }

    def __init__(
        self,
        n_components=1,
        *,
        covariance_type="full",
        max_iter=30,
        batch_size=None,
        learning_rate=0.2,
        momentum=0.9,
        annealing="max",
        annealing_fraction=0.4,
        tol=1e-2,
        reg_covar=1e-6,
        n_init=1,
        n_jobs=None,
        init_params="random",
        overcomplete=2.0,
        means_init=None,
        early_stopping=False,
        validation_fraction=0.1,
        n_iter_no_change=5,
        random_state=None,
        device="auto",
        verbose=0,
        rank=10,
        reg_covar_relative=False,
        checkpoint_path=None,
        checkpoint_every=1,
    ):
        self.n_components = n_components
        self.covariance_type = covariance_type
        self.max_iter = max_iter
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.momentum = momentum
        self.annealing = annealing
        self.annealing_fraction = annealing_fraction
        self.tol = tol
        self.reg_covar = reg_covar
        self.n_init = n_init
        self.n_jobs = n_jobs
        self.init_params = init_params
        self.overcomplete = overcomplete
        self.means_init = means_init
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.random_state = random_state
        self.device = device
        self.verbose = verbose
        self.rank = rank
        self.reg_covar_relative = reg_covar_relative
        self.checkpoint_path = checkpoint_path
        self.checkpoint_every = checkpoint_every

    _fits_together = True

    @with_callbacks
    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y=None, sample_weight=None):
        """Train on X for ``max_iter`` epochs.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Training data: an array, a memory map, a data frame or a torch tensor.

        y : Ignored
            Not used, present for API consistency by convention.

        sample_weight : array-like of shape (n_samples,), default=None
            Non-negative weights of the samples.

        Returns
        -------
        self : SGDGaussianMixture
            The fitted mixture.

        Raises
        ------
        ValueError
            If X is not finite, has fewer samples than ``n_components`` or
            ``means_init`` does not fit; or if the checkpoint is damaged or of another
            fit.
        TrainingDivergedError
            If the loss stays non-finite although steps were made smaller.
        """
        with all_or_nothing(self) as stack:
            X, sample_weight = self._check_data(
                X, sample_weight, reset=True, min_samples=2
            )
            self._check_enough_samples(X, sample_weight)
            n_jobs = jobs_of(self, self.n_init, X)
            stack.enter_context(
                self._threads(batch_size_of(self, X), X.shape[1], n_jobs)
            )
            data = callback_data(X, y, sample_weight)
            checkpoint = self._checkpoint(X, sample_weight)
            stack.enter_context(checkpoint.going_on())
            run = SGDFit(self, X, data, None, sample_weight, checkpoint)
            n_tasks = self.max_iter if self.n_init == 1 else self.n_init
            ctrl_c = run.interruption
            with self._fit_tasks(data, n_tasks, lambda: ctrl_c) as tasks:
                with ctrl_c:
                    if n_jobs > 1:
                        run.train_side_by_side(sample_weight, n_jobs)
                    while run.goes_on():
                        run(len(run.results), tasks)
                ctrl_c.complete(lambda: self._finish(run, X, sample_weight))
            with ctrl_c:
                checkpoint.complete(ctrl_c.happened)
            ctrl_c.warn(self.n_iter_, self.max_iter)
        return self

    def _finish(self, run, X, sample_weight):
        self._set_result(run, *run.best)
        self._warn_undetermined(X, sample_weight)

    def _set_result(self, run, model, state):
        """Store the best run as fitted attributes and warn about its flaws."""
        self._set_attributes(run.attributes(model))
        set_history(self, run.history(state), run.bound_name, state.converged)
        mean, variance = map(
            convert.to_numpy, (run.standardization.shift, run.standardization.variance)
        )
        mass = np.full_like(mean, run.X.shape[0])
        self._stream = {"moments": (mass, mean, variance), "steps": model.steps}
        _warn_reseeded(model)
        self._warn_large_reg_covar(run.standardization)
        if not (state.converged or state.stopped or run.interruption.happened):
            warn_caller(
                "The log-likelihood still changed by more than "
                f"tol={self.tol} nats per sample in the last of {state.epoch} epochs. "
                "Increase max_iter or tol.",
                ConvergenceWarning,
            )

    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X, y=None, sample_weight=None):
        """Learn from one chunk of a stream, in one pass over it.

        Features are standardised by the mean and variance of all chunks so far. The
        exact log-likelihood is trained, with a learning rate that falls as step^-0.6.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Next chunk, at least one sample. Samples should come in random order.

        y : Ignored
            Not used, present for API consistency by convention.

        sample_weight : array-like of shape (n_samples,), default=None
            Non-negative weights of the samples.

        Returns
        -------
        self : SGDGaussianMixture
            The mixture after the chunk.
        """
        with all_or_nothing(self) as stack:
            fresh = not hasattr(self, "_stream")
            X, sample_weight = self._check_data(
                X, sample_weight, reset=fresh, min_samples=1
            )
            if not fresh:
                self._check_stream()
            stack.enter_context(self._threads(batch_size_of(self, X), X.shape[1]))
            stream = {} if fresh else self._stream
            moments = moments_of(
                X, sample_weight, self._device(X), stream.get("moments")
            )
            standardization = from_moments(moments, self._covariance_class.isotropic)
            run = SGDFit(self, X, callback_data(X, y), standardization, sample_weight)
            model = self._resume(run, stream, fresh)
            state = run.one_pass(model)
            self._set_stream_result(run, model, state, moments)
        return self

    def _resume(self, run, stream, fresh):
        """Return the model as the last chunk left it, standardised as this one."""
        seed = run.random_state if fresh else np.random.RandomState(stream["steps"])
        run.generator = self._generator(seed)
        model = run.model(sgd.StreamPlan(self.learning_rate), run.parameters(fresh))
        model.steps = stream.get("steps", 0)
        # Velocities live in whitened coordinates, which no standardization alters.
        for name, value in stream.get("velocity", {}).items():
            target = getattr(model.velocity, name)
            target.copy_(convert.float64_tensor(value, run.device))
        return model

    def _set_stream_result(self, run, model, state, moments):
        """Store the mixture after a chunk, and what the next chunk needs."""
        self._set_attributes(run.attributes(model))
        history = run.history(state, getattr(self, "history_", {}))
        set_history(self, history, run.bound_name, converged=False)
        velocity = {k: convert.to_numpy(v) for k, v in vars(model.velocity).items()}
        self._stream = {
            "moments": moments.to_arrays(),
            "steps": model.steps,
            "velocity": velocity,
        }
        _warn_reseeded(model)

    def _check_collection(self, X, reset, min_samples, allow_nan):
        # Scores are sums over chunks, as for all flat mixtures; fits are not.
        method = super() if not reset else super(BaseGaussianMixture, self)
        return method._check_collection(X, reset, min_samples, allow_nan)

    def _scoring_batch_size(self):
        # ``batch_size`` is the training step's; scoring chooses its own.
        return None


def _warn_reseeded(model):
    """Name the components that became empty and were re-seeded."""
    if model.events:
        listed = ", ".join(map(str, sorted(model.events)))
        warn_caller(
            f"Components {listed} got hardly any samples and were re-seeded by "
            "splitting others. If their weights stay small, decrease n_components or "
            "increase reg_covar.",
            DegenerateComponentWarning,
        )

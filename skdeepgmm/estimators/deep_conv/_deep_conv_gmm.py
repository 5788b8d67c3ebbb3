"""Deep convolutional Gaussian mixture."""

from numbers import Integral, Real

import numpy as np
from sklearn.base import DensityMixin
from sklearn.callback import with_callbacks

from skdeepgmm._torch_backend import convert
from skdeepgmm._torch_backend.annealing import OBJECTIVES
from skdeepgmm._torch_backend.deep_conv.ordinary import ordinary_weight
from skdeepgmm._torch_backend.deep_conv.schedules import STREAM_STEPS
from skdeepgmm._torch_backend.device import SMALL_WORK, one_thread
from skdeepgmm._torch_backend.ranks import SWITCH, world
from skdeepgmm._torch_backend.standardization import from_image_moments
from skdeepgmm.estimators._base import TorchEstimator, all_or_nothing, callback_data
from skdeepgmm.estimators._checkpoint import CONSTRAINTS, Checkpoint
from skdeepgmm.estimators._checks import missing_values_explained
from skdeepgmm.estimators._collection import moments_of
from skdeepgmm.estimators._epoch_fit import set_history
from skdeepgmm.estimators._image_shape import (
    check_product,
    rows_and_shape,
)
from skdeepgmm.estimators._ranks import check_same_parameters
from skdeepgmm.estimators._sklearn_compat import Interval, StrOptions, _fit_context
from skdeepgmm.estimators.deep_conv._architecture import resolve_layers
from skdeepgmm.estimators.deep_conv._class_readout import ClassReadoutMixin
from skdeepgmm.estimators.deep_conv._fit import DeepConvFit, batch_size_of
from skdeepgmm.estimators.deep_conv._generation import DeepGenerationMixin
from skdeepgmm.estimators.deep_conv._inference import DeepInferenceMixin
from skdeepgmm.estimators.deep_conv._model_spec import ModelSpec, check_start
from skdeepgmm.estimators.deep_conv._usage import warn_unused


class DeepConvGMM(
    DeepInferenceMixin,
    DeepGenerationMixin,
    ClassReadoutMixin,
    DensityMixin,
    TorchEstimator,
):
    """Deep convolutional Gaussian mixture of images.

    A stack of layers that fold an image into patches, pool, and describe every
    position by a Gaussian mixture whose responsibilities are the input of the layers
    above [1]_. It clusters, scores outliers, and draws, varies and fills images.

    Parameters
    ----------
    layers : 'auto', preset name or list of layers, default='auto'
        The stack, from the image up: a list of :class:`~skdeepgmm.layers.Folding`,
        :class:`~skdeepgmm.layers.Pooling` and :class:`~skdeepgmm.layers.Mixture`; 'A'
        to 'G' and 'L' for a :func:`~skdeepgmm.layers.preset`; 'auto' for one mixture
        of patches under the top mixture, and a single mixture for vectors.

    n_components : int, default=None
        Number of components of the top mixture, instead of what ``layers`` says (36
        for images and 5 for vectors with 'auto').

    image_shape : tuple of int, default=None
        (height, width) or (height, width, channels) of the rows of X, in C order. None
        means vector data, unless X has shape (n_samples, height, width[, channels]).

    max_iter : int, default=25
        Number of epochs. Learning rate and annealing are fractions of this run.

    batch_size : int, default=None
        Images a training step. None means a fortieth of the data, at least 16 and at
        most 200.

    learning_rate : float, default=0.1
        Step size of the optimiser at the beginning of training: of natural gradients,
        1 goes all the way to the batch's own estimate. It falls linearly to zero over
        the run, and as step^-0.6 in a stream.

    annealing : {'max', 'soft', 'none'}, default='max'
        Objective of the first part of a layer's run: 'max', the annealed max-component
        likelihood; 'soft', the same with a soft maximum; 'none', the exact
        log-likelihood from the first step.

    annealing_fraction : float, default=0.4
        Share of each layer's run that is annealed.

    reg_covar : float, default=None
        Smallest variance of the first mixture, as a share of the data's variance. None
        means 0.2 for images and 0.001 for vectors, whose features have units of their
        own.

    reg_resp : float, default=0.005
        Smallest variance of the other mixtures; their input are probabilities.

    score_layer : int, default=-1
        Mixture layer that :meth:`score_samples` means, counted from the image; -1 is
        the top.

    semi_supervised : bool, default=False
        Whether to learn p(class | component) from the labels y of :meth:`fit`,
        -1 for unlabelled samples. It changes nothing but :meth:`predict_class` and
        ``sample(y=...)``.

    tol : float, default=1e-2
        Least gain of the score, in nats, that counts as progress in early stopping.

    early_stopping : bool, default=False
        Whether to hold out images and to stop, once no layer is annealed, when their
        mean score no longer grows. The best state is kept.

    validation_fraction : float, default=0.1
        Share of the images to hold out.

    n_iter_no_change : int, default=5
        Epochs without a gain of ``tol`` after which early stopping ends the fit.

    random_state : int, RandomState instance or None, default=None
        Seed of the initialization, the batches and everything that is drawn.

    device : str, default='auto'
        Where to compute: 'auto' (the device of a tensor X, else CUDA when present),
        'cpu', 'cuda' or 'cuda:<index>'.

    verbose : int, default=0
        Whether to print a line every epoch.

    checkpoint_path : str or path-like, default=None
        File from which a fit that was cut off goes on, see :ref:`checkpoints`. It is
        removed when the fit has come to its end. None writes no checkpoints.

    checkpoint_every : int, default=1
        Epochs between two checkpoints.

    Attributes
    ----------
    layers_ : list of layers
        The stack that was fitted.

    mixtures_ : list of dict of str to ndarray
        'weights', 'means' and 'covariances' (diagonals) of every Mixture layer, from
        the image up: (n_components,) and (n_components, n_inputs), with a leading axis
        of positions where a layer is not shared. Low-rank layers have 'factors',
        (n_components, n_inputs, rank), and 'noise_variance' instead of 'covariances'.
        The first has the units of the data.

    weights_ : ndarray of shape (n_components,)
        Weights of the top mixture.

    means_ : ndarray of shape (n_components, n_features)
        Mean image of every component of the top mixture, from the top down.

    usage_ : ndarray of shape (n_mixtures,)
        Share of each mixture's components that is in use: has more than a twentieth of
        an equal part of the data.

    image_shape_ : tuple of int or None
        (height, width[, channels]); None for vectors.

    shift_ : ndarray of shape (n_channels,)
        What standardization subtracts, one a channel; one a feature of vectors.

    scale_ : ndarray of shape (n_channels,)
        What it divides by: the same for all channels; one a feature of vectors.

    history_ : dict of str to ndarray of shape (`n_iter_`,)
        For every mixture i, means per epoch in nats a position: 'loss_<i>' (negative
        objective, annealed at first) and 'log_likelihood_<i>'; NaN before it learns.
        'score' of the held-out images with early stopping.

    lower_bounds_ : list of float
        'log_likelihood' of the top mixture for every epoch; NaN before it learns.

    lower_bound_ : float
        The last of them.

    n_iter_ : int
        Number of epochs; calls of :meth:`partial_fit` count as one each.

    converged_ : bool
        Whether early stopping ended the run.

    classes_ : ndarray of shape (n_classes,)
        With ``semi_supervised=True``: the classes.

    class_counts_ : ndarray of shape (n_components, n_classes)
        With ``semi_supervised=True``: labelled samples of each component and class,
        counted by their responsibilities.

    class_proba_ : ndarray of shape (n_components, n_classes)
        With ``semi_supervised=True``: p(class | component), a linear read-out of the
        responsibilities.

    n_features_in_ : int
        Number of features seen during fit.

    feature_names_in_ : ndarray of shape (n_features,)
        Names of the features, if X had string column names.

    See Also
    --------
    SGDGaussianMixture : A flat mixture trained by stochastic gradients.
    DensityOutlierDetector : Outliers by any density.

    Notes
    -----
    *Cost and tuning.* On one CPU core 1,000 images of 28 x 28 pixels take 2.6 seconds
    (preset "B", the whole default run). Then tune ``layers`` (the size of patches and
    the numbers of components), ``max_iter`` and ``reg_resp``.

    A Mixture layer with input x at a position has the density
    ``p(x) = sum_k pi_k N(x; mu_k, diag(v_k))`` and the output
    ``r_k = pi_k N_k(x) / p(x)``. All of them learn in the same steps, each from its
    own input alone, upper ones a little later. A step moves pi_k, pi_k mu_k and
    pi_k (v_k + mu_k^2) by ``learning_rate`` towards those of the batch, the natural
    gradient of the layer's objective; see :class:`SGDGaussianMixture` for the annealed
    objectives and :ref:`deep_conv_gmm` for the way down.

    Images far beyond the others (30 times, in root mean square, what 95 % of at least
    ten images keep to) set no units and are not learned from, as if their weight were
    zero; scores see them as they are.

    Only the first mixture is a density of pixels, the others are densities of
    responsibilities: their log-likelihoods rank images, and compare neither with each
    other nor with those of other models.

    References
    ----------
    .. [1] Gepperth & Pfülb (2021). "Image modeling with deep convolutional Gaussian
       mixture models". IJCNN, arXiv:2104.12686.

    Examples
    --------
    >>> import numpy as np
    >>> from skdeepgmm import DeepConvGMM
    >>> from skdeepgmm.datasets import load_digits_images
    >>> X = load_digits_images().data[:300]
    >>> model = DeepConvGMM(
    ...     n_components=10, image_shape=(8, 8), max_iter=5, random_state=0
    ... ).fit(X)
    >>> model.layers_
    [Folding(4), Mixture(25), Folding(), Mixture(10)]
    >>> model.sample(3)[0].shape
    (3, 64)

    Clusters of the top mixture, its responsibilities, and what each layer sees:

    >>> model.predict(X[:5]).shape, model.predict_proba(X[:5]).shape
    ((5,), (5, 10))
    >>> model.transform(X[:5]).shape  # responsibilities of the top, for other models
    (5, 10)
    >>> model.score_samples(X[:5]).shape, model.score_samples_per_layer(X[:5]).shape
    ((5,), (5, 2))
    >>> bool(model.score(X) == model.score_samples(X).mean())
    True

    Images like others, and images whose lower half is missing:

    >>> missing = np.zeros((8, 8), dtype=bool)
    >>> missing[4:] = True
    >>> model.sample_variants(X[:5]).shape, model.inpaint(X[:5], missing).shape
    ((5, 64), (5, 64))

    A few labels name the components; streams arrive in chunks:

    >>> y = load_digits_images().target[:300]
    >>> few = np.where(np.arange(300) < 100, y, -1)
    >>> named = model.set_params(semi_supervised=True)
    >>> named.fit_predict(X, few).shape, named.predict_class(X[:5]).shape
    ((300,), (5,))
    >>> stream = DeepConvGMM(n_components=10, image_shape=(8, 8), random_state=0)
    >>> for chunk in np.split(X, 3):
    ...     stream = stream.partial_fit(chunk)
    """

    _attributes_with_gaps = ("history_", "lower_bounds_")
    _parameter_constraints = {
        "layers": [str, list, tuple],
        "n_components": [Interval(Integral, 1, None, closed="left"), None],
        "image_shape": ["array-like", None],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "batch_size": [Interval(Integral, 1, None, closed="left"), None],
        "learning_rate": [Interval(Real, 0.0, 1.0, closed="right")],
        "annealing": [StrOptions({*OBJECTIVES, "none"})],
        "annealing_fraction": [Interval(Real, 0.0, 1.0, closed="neither")],
        "reg_covar": [Interval(Real, 0.0, None, closed="neither"), None],
        "reg_resp": [Interval(Real, 0.0, None, closed="neither")],
        "score_layer": [Integral],
        "semi_supervised": ["boolean"],
        "tol": [Interval(Real, 0.0, None, closed="left")],
        "early_stopping": ["boolean"],
        "validation_fraction": [Interval(Real, 0.0, 1.0, closed="neither")],
        "n_iter_no_change": [Interval(Integral, 1, None, closed="left")],
        "random_state": ["random_state"],
        "device": [str],
        "verbose": ["verbose"],
        **CONSTRAINTS,
    }

    def __init__(
        self,
        layers="auto",
        n_components=None,
        image_shape=None,
        *,
        max_iter=25,
        batch_size=None,
        learning_rate=0.1,
        annealing="max",
        annealing_fraction=0.4,
        reg_covar=None,
        reg_resp=0.005,
        score_layer=-1,
        semi_supervised=False,
        tol=1e-2,
        early_stopping=False,
        validation_fraction=0.1,
        n_iter_no_change=5,
        random_state=None,
        device="auto",
        verbose=0,
        checkpoint_path=None,
        checkpoint_every=1,
    ):
        self.layers = layers
        self.n_components = n_components
        self.image_shape = image_shape
        self.max_iter = max_iter
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.annealing = annealing
        self.annealing_fraction = annealing_fraction
        self.reg_covar = reg_covar
        self.reg_resp = reg_resp
        self.score_layer = score_layer
        self.semi_supervised = semi_supervised
        self.tol = tol
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.random_state = random_state
        self.device = device
        self.verbose = verbose
        self.checkpoint_path = checkpoint_path
        self.checkpoint_every = checkpoint_every

    _fits_together = True

    @with_callbacks
    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y=None, sample_weight=None):
        """Train all layers on X for ``max_iter`` epochs.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Images as rows, or (n_samples, height, width[, channels]).

        y : array-like of shape (n_samples,), default=None
            Ignored, unless ``semi_supervised=True``: then class labels, -1 for
            unlabelled samples.

        sample_weight : array-like of shape (n_samples,), default=None
            Non-negative weights of the samples.

        Returns
        -------
        self : DeepConvGMM
            The fitted model.

        Raises
        ------
        ValueError
            If X is not finite, ``image_shape`` does not fit X, a layer does not fit
            the image or there are fewer images than top components; or if the
            checkpoint is damaged or of another fit.
        TrainingDivergedError
            If the loss stays non-finite although steps were made smaller.
        """
        with all_or_nothing(self) as stack:
            X, shape = self._check_images(X, True, min_samples=2)
            y = self._check_labels(y, X.shape[0])
            sample_weight = self._check_weight(sample_weight, X)
            ranks = self._ranks()
            learned = {"X": X, "y": y, "sample_weight": sample_weight}
            sample_weight = self._ordinary(X, shape, sample_weight, ranks)
            moments = moments_of(X, sample_weight, self._device(X), ranks=ranks)
            spec = self._spec(shape, moments, X)
            check_start(self, X, spec, True)
            data = callback_data(**learned)
            stack.enter_context(self._threads(X, spec))
            checkpoint = Checkpoint(self, self._device(X), learned, ranks=ranks)
            stack.enter_context(checkpoint.going_on())
            run = DeepConvFit(self, X, spec, data, sample_weight, checkpoint, ranks)
            ctrl_c = run.interruption
            with self._fit_tasks(data, self.max_iter, lambda: ctrl_c) as tasks:
                learner, state = run(tasks)
                if not state.history:  # Ctrl-C came before the end of an epoch
                    raise KeyboardInterrupt
                ctrl_c.complete(lambda: self._finish(run, learner, state, moments, y))
            with ctrl_c:
                checkpoint.complete(ctrl_c.happened)
            ctrl_c.warn(self.n_iter_, self.max_iter)
            warn_unused(self.mixtures_)
        return self

    def fit_predict(self, X, y=None, sample_weight=None):
        """Train on X and return the top component of each image.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Images as rows, or (n_samples, height, width[, channels]).

        y : array-like of shape (n_samples,), default=None
            As for :meth:`fit`.

        sample_weight : array-like of shape (n_samples,), default=None
            Non-negative weights of the samples.

        Returns
        -------
        labels : ndarray of shape (n_samples,)
            Component indices; equal to ``fit(X).predict(X)``.
        """
        return self.fit(X, y, sample_weight=sample_weight).predict(X)

    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X, y=None, sample_weight=None, reopen_annealing=False):
        """Learn from one chunk of a stream, in one pass over it.

        The first 300 steps are annealed. After a fit, the stream goes on without
        annealing.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Next chunk, at least one image, in random order.

        y : Ignored
            Not used, present for API consistency by convention: classes are learned
            by :meth:`fit` alone.

        sample_weight : array-like of shape (n_samples,), default=None
            Non-negative weights of the samples.

        reopen_annealing : bool, default=False
            Whether to couple the components again and to learn fast for the next 300
            steps: for a stream whose images have changed.

        Returns
        -------
        self : DeepConvGMM
            The model after the chunk.
        """
        with all_or_nothing(self) as stack:
            fresh = not hasattr(self, "_stream")
            stream = self._first_stream() if fresh else dict(self._stream)
            X, shape = self._check_images(X, fresh)
            sample_weight = self._check_weight(sample_weight, X)
            ranks = self._ranks()
            sample_weight = self._ordinary(X, shape, sample_weight, ranks)
            moments = moments_of(
                X, sample_weight, self._device(X), stream["moments"], ranks
            )
            spec = self._spec(shape, moments, X)
            if not fresh:
                check_start(self, X, spec, fresh)
            if reopen_annealing and not fresh:
                stream.update(opened=stream["steps"], reopened=True)
            stack.enter_context(self._threads(X, spec))
            data = callback_data(X)
            run = DeepConvFit(self, X, spec, data, sample_weight, ranks=ranks)
            learner, state = self._learn_chunk(run, stream, fresh)
            history = run.history(state, {} if fresh else self.history_)
            self._set_result(run, learner, history, moments, stream=stream)
        return self

    def _ranks(self):
        """Return the processes that fit together, None for a fit alone."""
        ranks = world()
        if ranks is None:
            return None
        if self.semi_supervised:
            raise NotImplementedError(
                "semi_supervised=True does not learn from the labels of several "
                f"processes. Set {SWITCH}=0 in the environment, or fit in one."
            )
        check_same_parameters(ranks, self)
        return ranks

    def _threads(self, X, spec):
        """Return the context in which to train on X."""
        return one_thread(batch_size_of(self, X.shape[0]) * spec.work <= SMALL_WORK)

    def _first_stream(self):
        return {"moments": None, "steps": 0, "opened": 0, "reopened": False}

    def _learn_chunk(self, run, stream, fresh):
        """Go on from the last chunk; returns (learner, TrainingState)."""
        steps = stream["steps"]
        seed = run.random_state if fresh else np.random.RandomState(steps)
        run.generator = self._generator(seed)
        learner = run.stream_model(fresh, stream["opened"], stream["reopened"])
        learner.initialized = list(stream.get("initialized", learner.initialized))
        learner.steps = steps
        return learner, run.one_pass(learner)

    def _check_images(self, X, reset, min_samples=1):
        """Return validated rows and the image shape (None for vectors)."""
        image_shape = self.image_shape
        if image_shape is None and not reset:
            image_shape = self.image_shape_
        if image_shape is None and not reset:
            shape = None  # vectors, like those of the last fit
        else:
            X, shape = rows_and_shape(X, image_shape)
        with missing_values_explained(self):
            X = self._check_X(X, reset=reset, min_samples=min_samples)
        check_product(shape, X.shape[1])
        return X, shape

    def _ordinary(self, X, shape, sample_weight, ranks):
        """Return the weights with zeros for images far beyond the others."""
        if shape is None:
            return sample_weight
        return ordinary_weight(X, sample_weight, self._device(X), ranks)

    def _spec(self, shape, moments, X):
        """Return everything about the model but its parameters."""
        sizes = (1, 1, X.shape[1]) if shape is None else shape
        stack = resolve_layers(self.layers, self.n_components, sizes)
        n_channels = None if shape is None else shape[2]
        standardization = from_image_moments(
            moments, n_channels, convert.torch_dtype(X)
        )
        return ModelSpec.of(self, stack, sizes, standardization, shape is None)

    def _finish(self, run, learner, state, moments, y):
        """Store the result of a fit."""
        history = run.history(state)
        self._set_result(run, learner, history, moments, state.converged)
        self._learn_classes(y, lambda index: run.responsibilities(learner, index))

    def _set_result(self, run, learner, history, moments, converged=False, stream=None):
        """Store what was learned as fitted attributes."""
        for name, value in run.attributes(learner).items():
            setattr(self, name, value)
        set_history(self, history, run.bound_name, converged)
        if stream is None:
            stream = self._first_stream()
            stream["opened"] = min(0, learner.steps - 2 * STREAM_STEPS)
        learned = {"moments": moments.to_arrays(), "steps": learner.steps}
        self._stream = {**stream, **learned, "initialized": list(learner.initialized)}

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags

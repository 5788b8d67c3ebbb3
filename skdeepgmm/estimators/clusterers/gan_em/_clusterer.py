"""Clustering, generation and embedding by GAN-based EM."""

from numbers import Integral, Real

import numpy as np
from sklearn.callback import with_callbacks
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.validation import check_is_fitted

from skdeepgmm._torch_backend import convert
from skdeepgmm._torch_backend.clusterers.gan_em.networks import (
    AUTOMATIC,
    TABLES,
    Architecture,
)
from skdeepgmm._torch_backend.clusterers.gan_em.recipes import RECIPES
from skdeepgmm._torch_backend.clusterers.kernel_density import nearest
from skdeepgmm._torch_backend.inference import in_batches
from skdeepgmm.estimators._base import all_or_nothing, callback_data
from skdeepgmm.estimators._checkpoint import CONSTRAINTS
from skdeepgmm.estimators._jobs import on_one_thread
from skdeepgmm.estimators._sklearn_compat import Interval, StrOptions, _fit_context
from skdeepgmm.estimators._warnings import warn_caller
from skdeepgmm.estimators.clusterers._base import (
    DeepClusterer,
    restored,
    training_errors,
)
from skdeepgmm.estimators.clusterers._consistency import PARAMETER as CONSISTENCY
from skdeepgmm.estimators.clusterers._fit import history_arrays, of_all_ranks
from skdeepgmm.estimators.clusterers.gan_em._fit import GANEMFit, kernels_of
from skdeepgmm.exceptions import DegenerateComponentWarning

INITS = {"auto", "uniform", "kmeans", "tsne", "self-supervised"}
#: A cluster with less than this share of its even share is called empty.
EMPTY_SHARE = 0.1


class GANEMClusterer(DeepClusterer):
    """Clustering by GAN-based EM, with generation and embedding.

    A generator makes samples of each cluster, a discriminator tells them from real
    samples weighted by P(cluster | x) (M-step), and an "E-net" learns from generated
    samples which cluster a sample belongs to (E-step) [1]_.

    Parameters
    ----------
    n_clusters : int, default=8
        Number of clusters.

    image_shape : tuple of int, default=None
        (height, width) or (height, width, channels) of the rows of X; at least 8 x 8
        pixels use convolutions. None means vectors and fully connected networks,
        unless X itself has the shape (n, height, width[, channels]).

    recipe : {'fast', 'released', 'paper'} or dict, default='fast'
        How to train: 'fast', short EM iterations, persistent optimisers and a
        normalised E-net, averaged for predictions; 'released', the long iterations and
        losses of the authors' program; 'paper', the printed losses with RMSprop and
        clipped weights. A dict changes settings of 'fast' by name (see Notes).

    networks : {'auto', 'photo', 'mnist', 'svhn', 'celeba'}, default='auto'
        Layers: 'auto' follows the image shape; 'photo' too, with an E-net of 3 x 3
        convolutions and max-pooling, which 'auto' takes where ``consistency`` is in
        use. The others are the paper's tables for 28 x 28, 32 x 32 and 64 x 64 pixels.

    width : float, default=0.25
        Multiplier of all layer widths; 1 is the paper's.

    noise_dim : int, default=None
        Dimension of the generator's noise; None means 62 for images of at least
        16 x 16 pixels, 16 for smaller ones and for vectors.

    embedding_dim : int, default=None
        Units of a linear layer before the E-net's output, which :meth:`transform`
        returns. None adds no layer; the embedding is then the last hidden layer.

    init : {'auto', 'uniform', 'kmeans', 'tsne', 'self-supervised'} or array-like of \
shape (n_samples, n_clusters), default='auto'
        Initial responsibilities: 'uniform', all equal in the first M-step, as in the
        paper; 'kmeans', those of k-means, 'tsne', of a mixture on a t-SNE embedding of
        at most 10,000 samples (see Notes of :class:`MinMaxEMClusterer`),
        'self-supervised', of a mixture on features that tell photographs apart, but not
        their changed copies, or user-supplied ones, for the first 30 % of the run.
        'auto' means 'kmeans' for vectors; for images 'uniform', and 'tsne' for 1,000
        or more below 16 x 16 pixels without labels, with 'fast' or changes of it.

    max_iter : int, default=None
        EM iterations. Learning rates fall over the whole run. None means, with
        'fast' or changes of it, 50 passes over images (36 over images of at least
        16 x 16 pixels with equal initial responsibilities and no labels, see
        ``n_init``), in 3,000 (2,500 below 16 x 16 pixels) to 25,000 steps, or 1,000
        steps on vectors; 50 steps, ``gan_steps`` of the recipe, are an iteration. Else
        it means 30.

    batch_size : int, default=None
        Real samples, and generated ones, of a step; None means the recipe's 70.

    learning_rate : float, default=None
        Step size of the optimiser at the beginning of training: the generator's; those
        of the other networks keep the recipe's ratios to it. None means the recipe's
        own rates (1e-3 with 'fast'), and twice these for images below 16 x 16 pixels
        with 'fast' or changes of it.

    affine : 'auto', None or tuple of (float, float, float), default='auto'
        Augmentation of *generated* and labelled images in the E-step: largest shift
        in pixels, angle in degrees, relative change of the size. 'auto' is an eleventh
        of the smaller side, 18 degrees and 0.15 for images with the recipe 'fast' or
        changes of it, and None otherwise.

    cutmix : 'auto', None or float, default='auto'
        Largest sides, as shares of the image's, of a rectangle that half of the
        *generated* and labelled images take from another of these in the E-step, and
        keep their own label [2]_. 'auto' is 3/7 for images of at least 16 x 16 pixels
        with the recipe 'fast' or changes of it, and None otherwise.

    consistency : 'auto', None, float or dict, default='auto'
        Training of the E-net on *real* images, before all else: its sure predictions
        of weakly changed images are the targets of strongly changed ones [3]_ (beyond
        the paper, see Notes). None does without. A float is the weight of images
        without label, a dict changes settings by name. 'auto' means 1.0 for photographs
        of at least 16 x 16 pixels with labels of every cluster, or with
        ``init='self-supervised'``, with the recipe 'fast' or changes of it, and None
        otherwise.

    temperature : float, default=1.0
        The M-step uses responsibilities to the power of 1 / temperature.

    semi_supervised : bool, default=False
        Whether ``y`` holds known clusters or names of classes, with -1 for unknown
        ones. False ignores y.

    label_tol : float, default=0.05
        Error on the labelled samples below which the E-net stops learning them at the
        end of an E-step.

    n_init : int or 'auto', default='auto'
        Number of initializations, of which the one of highest ``quality_`` (see Notes;
        no label is used) is trained to the end. 'auto' means 3 for images of at least
        16 x 16 pixels with equal initial responsibilities and no labels, with 'fast' or
        changes of it and in runs of 50 EM iterations or more, else 1.

    n_jobs : int, default=None
        Initializations at the same time, each in a process and on one thread, as
        in joblib; None means 1, or what ``joblib.parallel_config`` says. The result
        does not depend on it. With callbacks, a checkpoint, a collection or a GPU they
        follow one another, with a warning.

    init_iter : int, default=None
        EM iterations of each of several restarts before one is chosen; None means 30 %
        of ``max_iter`` (100 % below 16 x 16 pixels), at most 50. With ``max_iter``
        whole runs are compared.

    tol : float, default=5e-3
        Share of samples that change their cluster in an EM iteration that counts as
        convergence.

    n_iter_no_change : int, default=5
        EM iterations in a row that must stay within ``tol``. With vectors a run then
        ends, after half of its iterations at the earliest; with images, where falling
        learning rates still bring something, it goes on to the end.

    random_state : int, RandomState instance or None, default=None
        Seed of weights, batches, noise and :meth:`sample`.

    device : str, default='auto'
        Where to compute: 'auto' (the device of a tensor X, else CUDA when present),
        'cpu', 'cuda' or 'cuda:<index>'.

    verbose : int, default=0
        Whether to print a line every EM iteration.

    checkpoint_path : str or path-like, default=None
        File from which a fit that was cut off goes on, see :ref:`checkpoints`. It is
        removed when the fit has come to its end. None writes no checkpoints.

    checkpoint_every : int, default=1
        EM iterations between two checkpoints.

    Attributes
    ----------
    labels_ : ndarray of shape (n_samples,)
        Cluster of each training sample.

    weights_ : ndarray of shape (n_clusters,)
        Cluster priors: mean P(cluster | x) of the training samples.

    means_ : ndarray of shape (n_clusters, n_features)
        Mean of the generated samples of each cluster.

    sigma_ : float
        Standard deviation of the kernels around generated samples in
        :meth:`score_samples`, after standardization: grey scale divided by its range,
        features by their standard deviations.

    networks_ : dict of dict of str to ndarray
        Weights of 'generator', 'discriminator' and 'classifier' (the E-net).

    quality_ : float
        Selection score: by what restarts are compared, see Notes.

    consistency_ : dict or None
        With ``consistency``: 'weight' of the images without label, 0 where labels alone
        were better; if that was tried, 'n_held_out' labels and the 'mistakes' on these
        with such images and, 'mistakes_alone', without. None if it was not in use.

    converged_ : bool
        Whether no more than ``tol`` of the samples changed their cluster in each of the
        last ``n_iter_no_change`` EM iterations, all of them after those with the
        responsibilities of ``init``.

    n_iter_ : int
        EM iterations of the kept run.

    history_ : dict of str to ndarray of shape (`n_iter_`,)
        Per EM iteration: mean losses 'discriminator', 'generator', 'classifier' (with
        ``consistency`` measured on generated samples, and not minimised); on
        up to 2,048 training samples 'confidence' (mean largest probability), 'changed'
        (share with another cluster than before) and 'n_effective' (exponential of the
        entropy of the cluster sizes).

    occupancies_ : ndarray of shape (`n_iter_`, n_clusters)
        Share of each cluster per EM iteration.

    image_shape_ : tuple of int or None
        (height, width, channels), None for vectors.

    classes_ : ndarray of shape (n_classes,)
        After a fit with ``semi_supervised=True``: the name of each cluster. Clusters
        beyond the classes have none.

    n_features_in_ : int
        Number of features seen during fit.

    feature_names_in_ : ndarray of shape (n_features,)
        Names of the features, if X had string column names.

    See Also
    --------
    GaussianMixture : A mixture with a closed-form density.

    Notes
    -----
    *Cost and tuning.* On one CPU core 1,000 images of 28 x 28 pixels take 37 seconds
    where there are 10,000, and 22 seconds where there are 60,000; 1,347 digits of 8 x 8
    pixels take 55 seconds in all. Then tune ``affine`` (which changes of an image keep
    its class), ``max_iter`` (a longer run, begun anew) and ``n_init`` (runs differ).

    *Density.* GAN-EM has no explicit one. :meth:`score_samples` is that of the
    mixture's own generative model, ``p(x) = sum_c phi_c E_z N(x; G(z, c), sigma^2 I)``
    with phi the weights, 300 fixed values of z a cluster, and the sigma that maximises
    the likelihood of up to 500 training samples, drawn at random.

    *Selection.* ``quality_`` is the mutual information of samples and clusters,
    ``H(mean p) - mean H(p)`` in nats, high if clusters are used evenly and samples
    assigned with certainty, minus, unless ``affine`` is None, ``log n_clusters`` times
    the share of samples whose cluster changes with an affine augmentation of the image.

    *Collapse.* A run is repeated from another initialization, at most twice and with a
    warning, if after 40 % of the iterations 'n_effective' is below
    1 + (n_clusters - 1) / 5. With ``consistency`` it is not: another run would have the
    same clusters.

    *Recipe settings*, with the values of "fast":

    - ``losses="binary"`` or "paper"; ``optimizer="adam"`` or "rmsprop";
    - ``discriminator_lr=4e-4``, ``generator_lr=1e-3``, ``classifier_lr=1e-3``: learning
      rates at the beginning of training; ``final_lr_fraction=0.1``: what is left of
      them at the end, reached linearly from ``constant_fraction=0.0`` of the run on,
      None multiplies them by 0.98 in every EM iteration;
    - ``persistent_optimizers=True``: False resets them in every EM iteration;
    - ``gan_steps=50``: steps of discriminator and generator in an EM iteration, None
      means ``gan_epochs=5`` passes over the data;
    - ``classifier_steps=None``: steps of the E-net on newly generated samples, of
      ``classifier_batch_size=200`` each; None means the samples that the M-step
      generated;
    - ``batch_size=70``: unless the parameter of that name is set;
    - ``weight_clip=None``: bound of the discriminator's weights;
    - ``learned_prior=False``: whether clusters are generated as often as they occur;
    - ``init_std=None``: standard deviation of the initial weights of images' networks,
      None by fan-in;
    - ``discriminator_norm="batch"``, ``classifier_norm="group"``: also "layer", "none";
    - ``joint_labels=True``: whether E-steps also see labelled samples, and the E-net is
      initialised on them;
    - ``ema_decay=0.99``: decay a step of the averaged E-net, which predicts, 0 for
      none; ``ema_teacher_from=1.0``: from which fraction of the run on it is also the
      teacher of the M-step.

    *Consistency.* With a few labels of every cluster real images teach the E-net more
    than generated ones do. It is then trained on them first, and the generative part
    with the responsibilities that it gives, which stay as they are. A fifth of the
    labels, at most 100, is held out for most of that training: where a network on
    labels alone makes fewer mistakes on these by more than chance, it is taken instead.
    Images with an empty ground (more than 65 % of the values at the smallest one, as
    MNIST) are no photographs. Settings, with their defaults:

    - ``threshold=0.95``: least probability of a target; ``weight=1.0``: of images
      without label; ``alignment=True``: whether the mean of the targets is aligned with
      the shares of the labels, of each cluster one more (False where labels are no
      random draw);
    - ``n_steps=2000``, ``n_unlabelled=192`` and ``n_labelled=64`` images of a step,
      ``learning_rate=1e-3``;
    - ``mirror=False``: whether images may be mirrored, left to right, which keeps the
      class of most photographs and not of digits; ``invert=None``: share of grey images
      whose values are turned round, None means 0.3 where both bright things on dark
      ground and dark ones on bright ground are common, 0 otherwise and for colours.

    Interrupting a fit (Ctrl-C) keeps what was learned, with a warning. Before the first
    EM iteration begins, and by a second Ctrl-C in a fit, it leaves the estimator as it
    was.

    References
    ----------
    .. [1] W. Zhao, S. Wang, Z. Xie, J. Shi and C. Xu (2018). "GAN-EM: GAN based EM
       learning framework". arXiv:1812.00335.
    .. [2] S. Yun, D. Han, S. J. Oh, S. Chun, J. Choe and Y. Yoo (2019). "CutMix:
       regularization strategy to train strong classifiers with localizable features".
       ICCV. There labels are mixed as well.
    .. [3] K. Sohn et al. (2020). "FixMatch: simplifying semi-supervised learning with
       consistency and confidence". NeurIPS.

    Examples
    --------
    >>> import numpy as np
    >>> from skdeepgmm import GANEMClusterer
    >>> rng = np.random.RandomState(0)
    >>> X = np.concatenate([rng.randn(100, 2), rng.randn(100, 2) + [10, 0]])
    >>> clusterer = GANEMClusterer(n_clusters=2, random_state=0).fit(X)
    >>> clusterer.weights_.round(1)
    array([0.5, 0.5])
    >>> generated, clusters = clusterer.sample(5)
    >>> generated.shape
    (5, 2)

    Clusters, their probabilities, and log-densities of samples:

    >>> near = [[0.0, 0.0], [10.0, 0.0]]
    >>> clusterer.predict_proba(near).argmax(axis=1) == clusterer.predict(near)
    array([ True,  True])
    >>> bool(clusterer.score(X) == clusterer.score_samples(X).mean())
    True

    An embedding for other models, and the way back:

    >>> embedded = clusterer.transform(X)
    >>> clusterer.inverse_transform(embedded).shape
    (200, 2)

    Two labels give the clusters names, -1 is unknown:

    >>> y = np.full(200, -1)
    >>> y[0], y[100] = 0, 1
    >>> clusterer = clusterer.set_params(semi_supervised=True)
    >>> clusterer.fit_predict(X, y).shape
    (200,)
    >>> clusterer.predict_class(near)
    array([0, 1])
    """

    _parameter_constraints = {
        "n_clusters": [Interval(Integral, 1, None, closed="left")],
        "image_shape": [tuple, list, None],
        "recipe": [StrOptions(set(RECIPES)), dict],
        "networks": [StrOptions({*AUTOMATIC, *TABLES})],
        "width": [Interval(Real, 0, 1e15, closed="right")],
        "noise_dim": [Interval(Integral, 1, None, closed="left"), None],
        "embedding_dim": [Interval(Integral, 1, None, closed="left"), None],
        "init": [StrOptions(INITS), "array-like"],
        "max_iter": [Interval(Integral, 1, None, closed="left"), None],
        "batch_size": [Interval(Integral, 1, None, closed="left"), None],
        "learning_rate": [Interval(Real, 0, None, closed="neither"), None],
        "affine": [StrOptions({"auto"}), tuple, list, None],
        "cutmix": [
            StrOptions({"auto"}),
            Interval(Real, 0, 1, closed="right"),
            None,
        ],
        "consistency": CONSISTENCY,
        "temperature": [Interval(Real, 0, None, closed="neither")],
        "semi_supervised": ["boolean"],
        "label_tol": [Interval(Real, 0, 1, closed="both")],
        "n_init": [StrOptions({"auto"}), Interval(Integral, 1, None, closed="left")],
        "n_jobs": [Integral, None],
        "init_iter": [Interval(Integral, 1, None, closed="left"), None],
        "tol": [Interval(Real, 0, None, closed="left")],
        "n_iter_no_change": [Interval(Integral, 1, None, closed="left")],
        "random_state": ["random_state"],
        "device": [str],
        "verbose": ["verbose"],
        **CONSTRAINTS,
    }

    def __init__(
        self,
        n_clusters=8,
        *,
        image_shape=None,
        recipe="fast",
        networks="auto",
        width=0.25,
        noise_dim=None,
        embedding_dim=None,
        init="auto",
        max_iter=None,
        batch_size=None,
        learning_rate=None,
        affine="auto",
        cutmix="auto",
        consistency="auto",
        temperature=1.0,
        semi_supervised=False,
        label_tol=0.05,
        n_init="auto",
        n_jobs=None,
        init_iter=None,
        tol=5e-3,
        n_iter_no_change=5,
        random_state=None,
        device="auto",
        verbose=0,
        checkpoint_path=None,
        checkpoint_every=1,
    ):
        self.n_clusters = n_clusters
        self.image_shape = image_shape
        self.recipe = recipe
        self.networks = networks
        self.width = width
        self.noise_dim = noise_dim
        self.embedding_dim = embedding_dim
        self.init = init
        self.max_iter = max_iter
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.affine = affine
        self.cutmix = cutmix
        self.consistency = consistency
        self.temperature = temperature
        self.semi_supervised = semi_supervised
        self.label_tol = label_tol
        self.n_init = n_init
        self.n_jobs = n_jobs
        self.init_iter = init_iter
        self.tol = tol
        self.n_iter_no_change = n_iter_no_change
        self.random_state = random_state
        self.device = device
        self.verbose = verbose
        self.checkpoint_path = checkpoint_path
        self.checkpoint_every = checkpoint_every

    _Fit = GANEMFit

    _fits_together = True

    @with_callbacks
    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y=None):
        """Train the three networks on X.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Training data; images as rows in C order, or (n, height, width[,
            channels]).

        y : array-like of shape (n_samples,), default=None
            With ``semi_supervised=True`` the known clusters, from 0 to ``n_clusters -
            1``, or names of classes (an object array of strings), which become
            clusters in sorted order; -1 where unknown. Otherwise ignored, with a
            warning if it holds -1.

        Returns
        -------
        self : GANEMClusterer
            The fitted clusterer.

        Raises
        ------
        ValueError
            If X is not finite or does not have the shape, or y or ``init`` do not fit.
        TrainingDivergedError
            If a loss stays non-finite although steps were made smaller.
        """
        with all_or_nothing(self) as stack, training_errors(self):
            X = self._check_rows(X, reset=True)
            labels = self._check_labels(y, X.shape[0])
            data = callback_data(X, y)
            fit = self._Fit(self, *of_all_ranks(self, X, labels), data)
            stack.enter_context(fit.checkpoint.going_on())
            stack.enter_context(on_one_thread(self, fit.n_jobs, fit.architecture.small))
            fit.initialize()
            with self._fit_tasks(data, fit.n_tasks, lambda: fit.interruption) as tasks:
                with fit.interruption:
                    fit.choose_restart(tasks)
                    fit.train(tasks)
                fit.interruption.complete(lambda: self._finish(fit, X))
            with fit.interruption:
                fit.checkpoint.complete(fit.interruption.happened)
            fit.interruption.warn(fit.kept.n_iter, fit.config.n_iter)
        return self

    def _finish(self, fit, X):
        """Store the kept restart as fitted attributes and warn of its flaws."""
        kept = fit.kept
        for name, value in fit.attributes(kept.model).items():
            setattr(self, name, value)
        self.history_ = history_arrays(kept.state.history)
        self.occupancies_ = np.reshape(kept.occupancies, (-1, self.n_clusters))
        self.n_iter_ = kept.n_iter
        self.converged_ = kept.converged
        self.quality_ = fit.selection_score(kept.model)
        self.consistency_ = fit.report
        self.labels_ = self._labels(X)
        self._warn_empty(fit)
        if not (kept.converged or fit.is_ended):
            warn_caller(kept.unfinished_because(), ConvergenceWarning)

    def _warn_empty(self, fit):
        sizes = np.bincount(self.labels_, minlength=self.n_clusters)
        empty = np.flatnonzero(
            sizes < EMPTY_SHARE * len(self.labels_) / self.n_clusters
        )
        if len(empty):
            warn_caller(
                f"Clusters {', '.join(map(str, empty))} have less than a tenth of "
                "their even share of the samples. Decrease n_clusters, increase n_init"
                f"{fit.other_init}, or train longer.",
                DegenerateComponentWarning,
            )

    # Use -------------------------------------------------------------------------

    def _network(self, name, X=None):
        return restored(Architecture, vars(self), name, self._device(X))

    def _proba(self, X=None):
        return self._network("classifier", X).probabilities

    def _embed(self, X=None):
        return self._network("classifier", X).embed

    @property
    def _n_features_out(self):
        """Number of columns of the embedding."""
        return self.networks_["classifier"]["head.weight"].shape[1]

    def score_samples(self, X):
        """Compute the log-density of each sample under the generative model.

        The value is a Monte-Carlo estimate with fixed noise (see Notes of the class):
        the same at every call, but another fit or seed moves it.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Data.

        Returns
        -------
        log_prob : ndarray of shape (n_samples,)
            log p(x), in nats.
        """
        check_is_fitted(self)
        kernels = kernels_of(vars(self), self._device(X))
        log_volume = self._preprocessing.log_volume(self.n_features_in_)
        return self._apply(
            lambda rows: kernels.log_density(rows, self.sigma_) - log_volume, X
        )

    def sample(self, n_samples=1, cluster=None):
        """Generate samples.

        Parameters
        ----------
        n_samples : int, default=1
            Number of samples.

        cluster : int, default=None
            Cluster of all samples; None draws clusters from ``weights_``.

        Returns
        -------
        X : ndarray of shape (n_samples, n_features)
            Samples, in the order of their clusters.

        y : ndarray of shape (n_samples,)
            Cluster of each sample.

        Raises
        ------
        ValueError
            If ``n_samples`` is below one or there is no such cluster.
        """
        check_is_fitted(self)
        random_state = self._random_state()
        labels = self._draw_clusters(n_samples, cluster, random_state)
        rng = self._generator(random_state)
        made = self._network("generator").sample(convert.index_tensor(labels), rng)
        return self._rows(made), labels

    def inverse_transform(self, Z):
        """Return generated samples whose embedding is close to the given one.

        The generator takes noise and not an embedding; of 300 generated samples a
        cluster, the one nearest to ``Z`` in the embedding is returned.

        Parameters
        ----------
        Z : array-like of shape (n_samples, n_embedding)
            Embedding, as of :meth:`transform`.

        Returns
        -------
        X : ndarray of shape (n_samples, n_features)
            Generated samples.
        """
        check_is_fitted(self)
        wanted = self._check_embedding(Z)
        centers = kernels_of(vars(self), self._device()).centers
        shape, dtype = self._architecture["shape"], self._preprocessing.inference_dtype
        images = centers.reshape(len(centers), *shape).to(dtype)
        found = in_batches(self._embed(), images).double()
        return self._rows(images[nearest(wanted, found)], Z)

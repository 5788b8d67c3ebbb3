"""Clustering, generation and embedding by semi-supervised MinMax+EM."""

from numbers import Integral, Real

import numpy as np
from sklearn.callback import with_callbacks
from sklearn.utils import check_array
from sklearn.utils.validation import check_is_fitted

from skdeepgmm._torch_backend import convert
from skdeepgmm._torch_backend.clusterers.minmax_em import latent
from skdeepgmm._torch_backend.clusterers.minmax_em.losses import ADVERSARIES
from skdeepgmm._torch_backend.clusterers.minmax_em.networks import TABLES, Architecture
from skdeepgmm._torch_backend.device import one_thread
from skdeepgmm._torch_backend.inference import in_batches
from skdeepgmm.estimators._base import all_or_nothing, callback_data
from skdeepgmm.estimators._checkpoint import CONSTRAINTS
from skdeepgmm.estimators._checks import check_integer
from skdeepgmm.estimators._sklearn_compat import Interval, StrOptions, _fit_context
from skdeepgmm.estimators._warnings import warn_caller
from skdeepgmm.estimators.clusterers._base import (
    DeepClusterer,
    restored,
    training_errors,
)
from skdeepgmm.estimators.clusterers._consistency import PARAMETER as CONSISTENCY
from skdeepgmm.estimators.clusterers._fit import history_arrays, of_all_ranks
from skdeepgmm.estimators.clusterers.minmax_em._fit import MinMaxEMFit
from skdeepgmm.estimators.clusterers.minmax_em._settings import empty_share
from skdeepgmm.exceptions import DegenerateComponentWarning

INITS = {"auto", "labels", "kmeans", "tsne", "self-supervised"}


class MinMaxEMClusterer(DeepClusterer):
    """Clustering by a mixture in the latent space of an encoder.

    An encoder E maps samples to a mixture of fixed Gaussians, a generator G inverts it,
    and a discriminator D tells generated samples from real ones. Networks and mixture
    weights are trained together (MinMax+EM), with a few known labels where there are
    any [1]_.

    Parameters
    ----------
    n_clusters : int, default=8
        Number of clusters.

    image_shape : tuple of int, default=None
        (height, width) or (height, width, channels) of the rows of X; at least 8 x 8
        pixels use convolutions. None means vectors and fully connected networks,
        unless X itself has the shape (n, height, width[, channels]).

    latent_dim : int, default=None
        Dimension of the latent space; None means ``n_clusters``, or the number of
        features if that is less.

    separation : float, default=6.0
        The latent means are ``separation`` times the unit vectors, ``sqrt(2)`` times
        that apart (see Notes for fewer dimensions than clusters). Standard deviations
        are one. From 1e-3 to 1e6.

    consistency_weight : float, default=None
        Weight lambda1 of ``||y - E(G(y))||^2``. None means 0.5, and 0.2 if at least
        8 % of the samples are labelled.

    adversarial_weight : float, default=1.0
        Weight lambda2 of the discriminator's verdict in the generator's objective.

    adversary : {'hinge', 'binary', 'wgan-gp', 'printed'}, default='hinge'
        The adversarial game: 'hinge' and 'binary' (cross-entropy), with spectral
        normalisation; 'wgan-gp', Wasserstein; or 'printed', the paper's term; the last
        two with a gradient penalty.

    init : {'auto', 'labels', 'kmeans', 'tsne', 'self-supervised'} or array-like of \
shape (n_samples, n_clusters), default='auto'
        Initial responsibilities, which the encoder is fitted to before all else:
        'labels', those of the labelled samples alone; 'kmeans'; 'tsne', a mixture on a
        t-SNE embedding (see Notes); 'self-supervised', a mixture on features that tell
        photographs apart, but not their changed copies; or user-supplied ones. 'auto'
        means 'labels' if
        every cluster has at least five labelled samples (for images, see also Notes),
        else 'tsne' for images and 'kmeans' for vectors.

    init_steps : int, default=None
        Steps of that initialization. None means 150, and 500 if at least 8 % of the
        samples are labelled; for images that are not initialised by labels 300, but 50
        with k-means or user-supplied responsibilities of images of at least 16 x 16
        pixels, because the encoder would learn their mistakes by heart.

    weight_prior : float, default=None
        Samples that a Dirichlet prior of the weights adds to every cluster, so that no
        weight vanishes. None means a hundredth of an even cluster.

    balance : float, default=0.2
        Lower bound, from 0 to 1, of a cluster's mean responsibility in the E-step of
        the samples without label, relative to its share of the labelled samples
        (counted with one label more of each cluster), or to an even share without
        labels. 0 is the plain E-step, in which a cluster can become empty where the
        encoder is often wrong; 1 gives every cluster just that share, for classes of
        known sizes.

    networks : {'auto', 'small', 'large', 'photo'}, default='auto'
        Layers: 'small' suits a CPU, 'large' a GPU; 'photo' is 'small' with an encoder
        of 3 x 3 convolutions for photographs. 'auto' means 'photo' where
        ``consistency`` is in use, else 'small'.

    width : float, default=1.0
        Multiplier of all layer widths.

    affine : 'auto', None or tuple of (float, float, float), default=None
        Augmentation of images on the way to the encoder: largest shift in pixels,
        angle in degrees, relative change of the size. 'auto' is a fourteenth of the
        smaller side, 9 degrees and 0.1. This is not in the paper, and it assumes that
        such changes keep the cluster.

    consistency : 'auto', None, float or dict, default='auto'
        Training of the encoder on *real* images, before all else: its sure predictions
        of weakly changed images are the targets of strongly changed ones [5]_ (beyond
        the paper, see Notes). None does without. A float is the weight of images
        without label, a dict changes settings by name. 'auto' means 1.0 for photographs
        of at least 16 x 16 pixels with labels of every cluster, or with
        ``init='self-supervised'``, and None otherwise.

    max_iter : int, default=None
        EM iterations. Each is a pass over the samples without label, of ten steps or
        more. The encoder's learning rate falls to zero over the whole run. None means
        1,000 steps on images and 400 on vectors, in at least ten iterations.

    batch_size : int, default=None
        Samples without label, and generated ones, of a step. None means 50. Labelled
        samples, 25 or 50, come on top.

    learning_rate : float, default=1e-3
        Step size of the optimiser at the beginning of training: Adam's, of all three
        networks.

    semi_supervised : bool, default=False
        Whether ``y`` holds known clusters or names of classes, with -1 for unknown
        ones. False ignores y.

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
        Mixture weights omega.

    means_ : ndarray of shape (n_clusters, latent_dim)
        Means of the latent mixture; ``inverse_transform(means_)`` decodes them.

    networks_ : dict of dict of str to ndarray
        Weights of 'encoder' (averaged over steps), 'generator' and 'discriminator'.

    consistency_ : dict or None
        With ``consistency``: 'weight' of the images without label, 0 where labels alone
        were better; if that was tried, 'n_held_out' labels and the 'mistakes' on these
        with such images and, 'mistakes_alone', without. None if it was not in use.

    n_iter_ : int
        EM iterations.

    history_ : dict of str to ndarray of shape (`n_iter_`,)
        Per EM iteration, means over its steps: 'energy', half the expected square
        distance of E(x) from its mean in samples without label, and 'labelled_energy'
        in labelled ones; 'consistency', ``||y - E(G(y))||^2``; the losses 'adversarial'
        of the generator and 'discriminator'. After it: 'log_likelihood', of the latent
        mixture in nats per sample; 'changed', share of samples that changed their
        cluster, and 'moved', that have another one for the sake of ``balance``;
        'latent_error', mean ``||y - E(G(y))||`` of the networks that predict.

    occupancies_ : ndarray of shape (`n_iter_`, n_clusters)
        Mean responsibilities per EM iteration.

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
    GANEMClusterer : Clustering with a generator and no encoder.
    GaussianMixture : A mixture with a closed-form density.

    Notes
    -----
    *Cost and tuning.* On one CPU core 1,000 images of 28 x 28 pixels take 24 seconds
    where there are 5,000. Then tune ``affine`` ('auto' where small changes of an image
    keep its class), ``init`` (whose mistakes EM does not mend) and ``max_iter`` (a
    longer run, begun anew).

    With ``P(x | k) = N(E(x); mu_k, I)`` and gamma its posteriors (known labels are
    certain), the objective is minimised over D and maximised over omega, E and G::

        sum_nk gamma_nk (log omega_k + log N(E(x_n); mu_k, I))
        - lambda1 E_y ||y - E(G(y))||^2
        - lambda2 (sum_n log D(x_n) - E_y log D(G(y))),   y ~ sum_k omega_k N(mu_k, I)

    The last line has no lower bound in D; ``adversary`` chooses one that has. Sums over
    samples are means here, one over those without label and one over labelled ones. In
    the first tenth of the run the second line moves G alone. After every pass an E-step
    by the averaged encoder renews gamma, and every 25 steps that of the samples to
    come; omega is its mean under a Dirichlet prior.

    *Generator.* For images it sees a soft assignment of a latent to the clusters and
    its offset from the mean that this gives, so that samples vary within a cluster.

    *Means* for ``latent_dim < n_clusters`` are the innermost points of a grid of the
    same spacing, ``sqrt(2) * separation``.

    *Initialization.* The likelihood alone is largest when all samples are sent onto one
    mean; what keeps clusters apart is the initial responsibilities. With
    ``init='tsne'`` these are of a mixture of Gaussians with full covariances on a
    two-dimensional t-SNE embedding [2]_ of the first 50 principal components of at most
    10,000 samples, as in [3]_; the other samples follow their ten nearest neighbours
    there. It over-clusters: three Gaussians a cluster are put together so that few of
    the samples' ten nearest neighbours are in another cluster and clusters are of like
    sizes, at the least normalised cut [4]_ plus twice the Kullback-Leibler divergence
    of the sizes from equal ones. With at least five labels a cluster, each Gaussian
    belongs to the clusters in the shares of the labelled samples in it instead (one
    without any to all alike), or there is one Gaussian a cluster if that makes no more
    mistakes on held-out labels. Fewer than 50 samples go to k-means. With fewer labels
    than 8 % of the images, 'auto' makes the embedding, and takes it if it makes at most
    two thirds as many mistakes on labelled samples held out in five folds as an encoder
    does that is initialised on the labels of the other folds. Clusters that get small
    are held at a lower bound (``balance``), and a warning says so if one has less than
    2 % of the samples (a fifth of the even share, of many clusters) in the end.

    *Density.* :meth:`score_samples` is the likelihood of the latent mixture at E(x), as
    in the paper: a score to compare samples by, no density of x.

    *Consistency.* With a few labels of every cluster real images teach the encoder more
    than its own responsibilities do, where these are often wrong. It is then trained on
    them first, with logits in place of latents; its last layer becomes the map of
    features to expected means by least squares, and generator, discriminator and
    weights are trained with an encoder that stays as it is. Held-out labels, settings
    and what counts as a photograph: see Notes of :class:`GANEMClusterer`.

    Interrupting a fit (Ctrl-C) keeps what was learned, with a warning; while the
    initial responsibilities are looked for (up to a minute or two for t-SNE), and by a
    second Ctrl-C in a fit, it leaves the estimator as it was.

    References
    ----------
    .. [1] S. Pande and S. P. Awate (2020). "Generative deep-neural-network mixture
       modeling with semi-supervised MinMax+EM learning". ICPR.

    .. [2] L. van der Maaten and G. Hinton (2008). "Visualizing data using t-SNE".
       Journal of Machine Learning Research 9.

    .. [3] R. McConville, R. Santos-Rodriguez, R. J. Piechocki and I. Craddock (2021).
       "N2D: (not too) deep clustering via clustering the local manifold of an
       autoencoded embedding". ICPR.

    .. [4] J. Shi and J. Malik (2000). "Normalized cuts and image segmentation". IEEE
       Transactions on Pattern Analysis and Machine Intelligence 22(8).

    .. [5] K. Sohn et al. (2020). "FixMatch: simplifying semi-supervised learning with
       consistency and confidence". NeurIPS.

    Examples
    --------
    >>> import numpy as np
    >>> from skdeepgmm import MinMaxEMClusterer
    >>> rng = np.random.RandomState(0)
    >>> X = np.concatenate([rng.randn(100, 2), rng.randn(100, 2) + [10, 0]])
    >>> clusterer = MinMaxEMClusterer(n_clusters=2, random_state=0).fit(X)
    >>> clusterer.weights_.round(1)
    array([0.5, 0.5])
    >>> clusterer.interpolate(X[0], X[150], n_samples=5).shape
    (5, 2)
    >>> clusterer.sample(5)[0].shape
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
        "latent_dim": [Interval(Integral, 1, None, closed="left"), None],
        "separation": [Interval(Real, 1e-3, 1e6, closed="both")],
        "consistency_weight": [Interval(Real, 0, None, closed="left"), None],
        "adversarial_weight": [Interval(Real, 0, None, closed="left")],
        "adversary": [StrOptions(set(ADVERSARIES))],
        "init": [StrOptions(INITS), "array-like"],
        "init_steps": [Interval(Integral, 0, None, closed="left"), None],
        "weight_prior": [Interval(Real, 0, None, closed="neither"), None],
        "balance": [Interval(Real, 0, 1, closed="both")],
        "networks": [StrOptions({"auto", *TABLES})],
        "width": [Interval(Real, 0, 1e15, closed="right")],
        "affine": [StrOptions({"auto"}), tuple, list, None],
        "consistency": CONSISTENCY,
        "max_iter": [Interval(Integral, 1, None, closed="left"), None],
        "batch_size": [Interval(Integral, 1, None, closed="left"), None],
        "learning_rate": [Interval(Real, 0, None, closed="neither")],
        "semi_supervised": ["boolean"],
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
        latent_dim=None,
        separation=6.0,
        consistency_weight=None,
        adversarial_weight=1.0,
        adversary="hinge",
        init="auto",
        init_steps=None,
        weight_prior=None,
        balance=0.2,
        networks="auto",
        width=1.0,
        affine=None,
        consistency="auto",
        max_iter=None,
        batch_size=None,
        learning_rate=1e-3,
        semi_supervised=False,
        random_state=None,
        device="auto",
        verbose=0,
        checkpoint_path=None,
        checkpoint_every=1,
    ):
        self.n_clusters = n_clusters
        self.image_shape = image_shape
        self.latent_dim = latent_dim
        self.separation = separation
        self.consistency_weight = consistency_weight
        self.adversarial_weight = adversarial_weight
        self.adversary = adversary
        self.init = init
        self.init_steps = init_steps
        self.weight_prior = weight_prior
        self.balance = balance
        self.networks = networks
        self.width = width
        self.affine = affine
        self.consistency = consistency
        self.max_iter = max_iter
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.semi_supervised = semi_supervised
        self.random_state = random_state
        self.device = device
        self.verbose = verbose
        self.checkpoint_path = checkpoint_path
        self.checkpoint_every = checkpoint_every

    _Fit = MinMaxEMFit

    _fits_together = True

    @with_callbacks
    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y=None):
        """Train the networks and the latent mixture on X.

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
        self : MinMaxEMClusterer
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
            stack.enter_context(one_thread(fit.architecture.small))
            fit.initialize()
            n_iter = fit.config.n_iter
            with self._fit_tasks(data, n_iter, lambda: fit.interruption) as tasks:
                with fit.interruption:
                    fit.train(tasks)
                fit.interruption.complete(lambda: self._finish(fit, X))
            with fit.interruption:
                fit.checkpoint.complete(fit.interruption.happened)
            fit.interruption.warn(fit.n_iter, n_iter)
        return self

    def _finish(self, fit, X):
        """Store the fitted attributes and warn of clusters that are nearly empty."""
        for name, value in fit.attributes().items():
            setattr(self, name, value)
        self.history_ = history_arrays(fit.state.history)
        self.occupancies_ = np.reshape(fit.occupancies, (-1, self.n_clusters))
        self.n_iter_ = fit.n_iter
        self.consistency_ = fit.report
        self.labels_ = self._labels(X)
        self._warn_empty()

    def _warn_empty(self):
        sizes = np.bincount(self.labels_, minlength=self.n_clusters)
        least = empty_share(self.n_clusters)
        shares = sizes / len(self.labels_)
        empty = np.flatnonzero(shares < least)
        if not len(empty):
            return
        found = ", ".join(f"{k} ({shares[k]:.2%})" for k in empty)
        since = self._empty_since(empty, least)
        warn_caller(
            f"Clusters have less than {least:.1%} of the samples: {found}{since}. "
            "Decrease n_clusters, give other initial responsibilities (init), or "
            "increase consistency_weight, or balance if it is below 1.",
            DegenerateComponentWarning,
        )

    def _empty_since(self, empty, least):
        """Tell from which iteration on the first of these clusters was as small."""
        # Those at a lower bound of this size may be below it by rounding.
        large = (self.occupancies_[:, empty] >= 0.99 * least).all(axis=1)
        if not len(large) or large[-1]:
            return ""
        last = np.flatnonzero(large)
        first = last[-1] + 2 if len(last) else 1
        return f", since EM iteration {first} of {self.n_iter_}"

    # Use -------------------------------------------------------------------------

    def _network(self, name, X=None):
        return restored(Architecture, vars(self), name, self._device(X))

    def _mixture(self, X):
        """Return encoder, means and weights for the samples of X."""
        device, dtype = self._device(X), self._preprocessing.inference_dtype
        means = convert.float64_tensor(self.means_, device).to(dtype)
        weights = convert.float64_tensor(self.weights_, device).to(dtype)
        return self._network("encoder", X), means, weights

    def _proba(self, X):
        encoder, means, weights = self._mixture(X)
        return lambda rows: latent.posterior(encoder(rows), means, weights)

    def _embed(self, X):
        return self._network("encoder", X)

    @property
    def _n_features_out(self):
        """Number of latent dimensions."""
        return self.means_.shape[1]

    def score_samples(self, X):
        """Compute the log-likelihood of the latent mixture at each sample.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Data.

        Returns
        -------
        log_prob : ndarray of shape (n_samples,)
            log sum_k omega_k N(E(x); mu_k, I), in nats.
        """
        check_is_fitted(self)
        encoder, means, weights = self._mixture(X)
        return self._apply(
            lambda rows: latent.log_likelihood(encoder(rows), means, weights), X
        )

    def inverse_transform(self, Z):
        """Generate the samples of latents.

        Parameters
        ----------
        Z : array-like of shape (n_samples, latent_dim)
            Latents, as of :meth:`transform`.

        Returns
        -------
        X : ndarray of shape (n_samples, n_features)
            G(z).

        Raises
        ------
        ValueError
            If Z has the wrong number of columns.
        """
        check_is_fitted(self)
        return self._generated(self._check_embedding(Z), Z)

    def _generated(self, latents, like=None):
        latents = latents.to(self._preprocessing.inference_dtype)
        return self._rows(in_batches(self._network("generator"), latents), like)

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
            Samples G(y), in the order of their clusters.

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
        means = convert.float64_tensor(self.means_[labels], self._device())
        return self._generated(latent.normal_latents(means, rng)), labels

    def interpolate(self, a, b, n_samples=10):
        """Generate samples along the latent line between two samples.

        Parameters
        ----------
        a : array-like of shape (n_features,) or (height, width[, channels])
            Where the line begins; the first sample is G(E(a)).

        b : array-like of shape (n_features,) or (height, width[, channels])
            Where the line ends.

        n_samples : int, default=10
            Number of samples, at even distances.

        Returns
        -------
        X : ndarray of shape (n_samples, n_features)
            Samples, both ends included.

        Raises
        ------
        ValueError
            If ``n_samples`` is below two or an end has the wrong size.
        """
        check_is_fitted(self)
        check_integer("n_samples", n_samples, 2)
        ends = [self._end(end, name) for end, name in ((a, "a"), (b, "b"))]
        rows = self._tensor(np.stack(ends))
        first, last = in_batches(self._embed(rows), rows).double()
        return self._generated(latent.line(first, last, n_samples))

    def _end(self, end, name):
        """Return an end of an interpolation as a row of X."""
        if convert.is_tensor(end):
            end = convert.to_numpy(end)
        end = np.ravel(end)
        if len(end) != self.n_features_in_:
            raise ValueError(
                f"{name} has {len(end)} values; expected one row of X, "
                f"{self.n_features_in_}."
            )
        return check_array(end[None], dtype=np.float64, input_name=name)[0]

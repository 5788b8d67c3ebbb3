"""Clustering, generation and embedding by semi-supervised MinMax+EM."""

from numbers import Integral, Real

import numpy as np
import torch
from sklearn.callback import with_callbacks
from sklearn.utils import check_array
from sklearn.utils.validation import check_is_fitted

from skdeepgmm._torch_backend import convert
from skdeepgmm._torch_backend.clusterers.minmax_em import latent
from skdeepgmm._torch_backend.clusterers.minmax_em.losses import ADVERSARIES
from skdeepgmm._torch_backend.clusterers.minmax_em.networks import TABLES, Architecture
from skdeepgmm._torch_backend.clusterers.network_tools import in_batches
from skdeepgmm.estimators._base import all_or_nothing, callback_data
from skdeepgmm.estimators._checks import check_integer
from skdeepgmm.estimators._sklearn_compat import Interval, StrOptions, _fit_context
from skdeepgmm.estimators._warnings import warn_caller
from skdeepgmm.estimators.clusterers._base import (
    DeepClusterer,
    memory_errors,
    restored,
)
from skdeepgmm.estimators.clusterers._run import history_arrays, warn_interrupted
from skdeepgmm.estimators.clusterers.minmax_em._fit import MinMaxEMFit
from skdeepgmm.estimators.clusterers.minmax_em._settings import least_share
from skdeepgmm.exceptions import DegenerateComponentWarning


class MinMaxEMClusterer(DeepClusterer):
    """Clustering by a mixture in the latent space of an encoder.

    An encoder E maps rows to a mixture of fixed Gaussians, a generator G inverts it,
    and a discriminator D holds generated rows against real ones. Networks and mixture
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
        that apart (see Notes for fewer dimensions than clusters). Deviations are one.
        From 1e-3 to 1e6.

    consistency_weight : float, default=None
        Weight lambda1 of ``||y - E(G(y))||^2``. None means 0.5, and 0.2 if at least
        8 % of the rows are labelled.

    adversarial_weight : float, default=1.0
        Weight lambda2 of the discriminator's verdict in the generator's objective.

    adversary : {'hinge', 'binary', 'wgan-gp', 'printed'}, default='hinge'
        The adversarial game: 'hinge' and 'binary' (cross-entropy), with spectral
        normalisation; 'wgan-gp', Wasserstein; or 'printed', the paper's term; the last
        two with a gradient penalty.

    init : {'auto', 'labels', 'kmeans', 'tsne'} or array-like of shape \
(n_samples, n_clusters), default='auto'
        First memberships, which the encoder is fitted to before all else: 'labels',
        those of the labelled rows alone; 'kmeans'; 'tsne', a mixture on a map of
        neighbourhoods (see Notes); or given ones. 'auto' means 'labels' if every
        cluster has at least five labelled rows (for images, see also Notes), else
        'tsne' for images and 'kmeans' for vectors.

    init_steps : int, default=None
        Steps of that start. None means 150, and 500 if at least 8 % of the rows are
        labelled; for images that do not start from labels 300, but 50 from k-means or
        given memberships of images of at least 16 x 16 pixels, because the encoder
        would learn their mistakes by heart.

    weight_prior : float, default=None
        Rows that a Dirichlet prior of the weights adds to every cluster, so that none
        dies for want of weight. None means a hundredth of an even cluster.

    balance : float, default=0.2
        Lower bound, from 0 to 1, of a cluster's mean membership in the E-step of the
        rows without label, relative to its share of the labelled rows (counted with one
        label more of each cluster), or to an even share without labels. 0 is the plain
        E-step, in which a cluster can die where the encoder is often wrong; 1 gives
        every cluster just that share, for classes of known sizes.

    networks : {'small', 'large'}, default='small'
        Layer widths: 'small' suits a CPU, 'large' a GPU.

    width : float, default=1.0
        Multiplier of all layer widths.

    affine : 'auto', None or tuple of (float, float, float), default=None
        Largest random change of images on the way to the encoder: shift in pixels,
        angle in degrees, relative change of the size. 'auto' is a fourteenth of the
        smaller side, 9 degrees and 0.1. This is not in the paper, and it assumes that
        such changes keep the cluster.

    max_iter : int, default=None
        EM iterations. Each is a pass over the rows without label, of ten steps or
        more. The encoder's learning rate falls to zero over the whole run. None means
        1,000 steps on images and 400 on vectors, in at least ten iterations.

    batch_size : int, default=None
        Rows without label, and generated rows, of a step. None means 50. Labelled
        rows, 25 or 50, come on top.

    learning_rate : float, default=1e-3
        Learning rate (Adam) of all networks.

    semi_supervised : bool, default=False
        Whether ``y`` holds known clusters, with -1 for unknown ones. False ignores y.

    random_state : int, RandomState instance or None, default=None
        Seed of weights, batches, noise and :meth:`sample`.

    device : str, default='auto'
        Where to compute: 'auto' (the device of a tensor X, else CUDA when present),
        'cpu', 'cuda' or 'cuda:<index>'.

    verbose : int, default=0
        Whether to print a line every EM iteration.

    Attributes
    ----------
    labels_ : ndarray of shape (n_samples,)
        Cluster of each training row.

    weights_ : ndarray of shape (n_clusters,)
        Mixture weights omega.

    means_ : ndarray of shape (n_clusters, latent_dim)
        Means of the latent mixture; ``inverse_transform(means_)`` shows them as rows.

    networks_ : dict of dict of str to ndarray
        Weights of 'encoder' (averaged over steps), 'generator' and 'discriminator'.

    n_iter_ : int
        EM iterations.

    history_ : dict of str to ndarray of shape (`n_iter_`,)
        Per EM iteration, means over its steps: 'energy', half the expected square
        distance of E(x) from its mean in rows without label, and 'labelled_energy' in
        labelled ones; 'consistency', ``||y - E(G(y))||^2``; the losses 'adversarial'
        of the generator and 'discriminator'. After it: 'log_likelihood', of the latent
        mixture in nats per row; 'changed', share of rows that changed their cluster,
        and 'moved', that have another one for the sake of ``balance``; 'latent_error',
        mean ``||y - E(G(y))||`` of the networks that predict.

    occupancies_ : ndarray of shape (`n_iter_`, n_clusters)
        Mean responsibilities per EM iteration.

    image_shape_ : tuple of int or None
        (height, width, channels), None for vectors.

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
    With ``P(x | k) = N(E(x); mu_k, I)`` and gamma its posteriors (known labels are
    certain), the objective is minimised over D and maximised over omega, E and G::

        sum_nk gamma_nk (log omega_k + log N(E(x_n); mu_k, I))
        - lambda1 E_y ||y - E(G(y))||^2
        - lambda2 (sum_n log D(x_n) - E_y log D(G(y))),   y ~ sum_k omega_k N(mu_k, I)

    The last line has no lower bound in D; ``adversary`` chooses one that has. Sums over
    rows are means here, one over rows without label and one over labelled rows. In the
    first tenth of the run the second line moves G alone. After every pass an E-step by
    the averaged encoder renews gamma, and every 25 steps that of the rows to come;
    omega is its mean under a Dirichlet prior.

    *Generator.* For images it sees soft memberships of a latent and its offset from
    the mean that these give, so that samples vary within a cluster.

    *Means* for ``latent_dim < n_clusters`` are the innermost points of a grid of the
    same spacing, ``sqrt(2) * separation``.

    *Start.* The likelihood alone is largest when all rows are sent onto one mean; what
    keeps clusters apart is where the memberships start. With ``init='tsne'`` these are
    of a mixture of Gaussians with full covariances on a two-dimensional t-SNE map [2]_
    of the first 50 principal components of at most 10,000 rows, as in [3]_; the other
    rows follow their ten nearest rows there. It has three Gaussians a cluster, put
    together so that few of the rows' ten nearest neighbours are in another cluster and
    clusters are of like sizes: at the least normalised cut [4]_ plus twice the
    Kullback-Leibler divergence of the sizes from equal ones. With at least five labels
    a cluster, each belongs to the clusters in the shares of the labelled rows in it
    instead (one without any to all alike), or there is one Gaussian a cluster if that
    makes no more mistakes on held-out labels. Fewer than 50 rows go to k-means. With
    fewer labels than 8 % of the images, 'auto' makes the map, and starts from it if it
    makes at most two thirds as many mistakes on labelled rows held out in five folds as
    an encoder does that starts on the labels of the other folds. Clusters that get
    small are held at a lower bound (``balance``), and a warning says so if one has less
    than 2 % of the rows (a fifth of the even share, of many clusters) in the end.

    *Density.* :meth:`score_samples` is the likelihood of the latent mixture at E(x), as
    in the paper: a score to compare rows by, no density of x.

    Interrupting a fit (Ctrl-C) keeps what was learned, with a warning; while the first
    memberships are looked for (up to a minute or two for a map), and by a second Ctrl-C
    in a fit, it leaves the estimator as it was.

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
    """

    _parameter_constraints = {
        "n_clusters": [Interval(Integral, 1, None, closed="left")],
        "image_shape": [tuple, list, None],
        "latent_dim": [Interval(Integral, 1, None, closed="left"), None],
        "separation": [Interval(Real, 1e-3, 1e6, closed="both")],
        "consistency_weight": [Interval(Real, 0, None, closed="left"), None],
        "adversarial_weight": [Interval(Real, 0, None, closed="left")],
        "adversary": [StrOptions(set(ADVERSARIES))],
        "init": [StrOptions({"auto", "labels", "kmeans", "tsne"}), "array-like"],
        "init_steps": [Interval(Integral, 0, None, closed="left"), None],
        "weight_prior": [Interval(Real, 0, None, closed="neither"), None],
        "balance": [Interval(Real, 0, 1, closed="both")],
        "networks": [StrOptions(set(TABLES))],
        "width": [Interval(Real, 0, None, closed="neither")],
        "affine": [StrOptions({"auto"}), tuple, list, None],
        "max_iter": [Interval(Integral, 1, None, closed="left"), None],
        "batch_size": [Interval(Integral, 1, None, closed="left"), None],
        "learning_rate": [Interval(Real, 0, None, closed="neither")],
        "semi_supervised": ["boolean"],
        "random_state": ["random_state"],
        "device": [str],
        "verbose": ["verbose"],
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
        networks="small",
        width=1.0,
        affine=None,
        max_iter=None,
        batch_size=None,
        learning_rate=1e-3,
        semi_supervised=False,
        random_state=None,
        device="auto",
        verbose=0,
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
        self.max_iter = max_iter
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.semi_supervised = semi_supervised
        self.random_state = random_state
        self.device = device
        self.verbose = verbose

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
            With ``semi_supervised=True`` the known clusters, -1 for unknown ones;
            otherwise ignored.

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
        with all_or_nothing(self), memory_errors(self):
            X = self._check_rows(X, reset=True)
            labels = self._check_labels(y, X.shape[0])
            data = callback_data(X, y)
            fit = MinMaxEMFit(self, X, labels, data)
            n_iter, keeping = fit.config.n_iter, fit.run.keeping
            with self._fit_tasks(data, n_iter, keeping) as tasks:
                fit(tasks)
                fit.run.complete(lambda: self._finish(fit, X))
            if fit.run.interrupted:
                warn_interrupted(fit.run.n_iter, n_iter, "EM iterations")
        return self

    def _finish(self, fit, X):
        """Store the fitted attributes and warn of clusters that die."""
        for name, value in fit.attributes().items():
            setattr(self, name, value)
        state = fit.run.state
        self.history_ = history_arrays(state.history if state else [])
        self.occupancies_ = np.reshape(fit.occupancies, (-1, self.n_clusters))
        self.n_iter_ = fit.run.n_iter
        self.labels_ = self._labels(X)
        self._warn_dying()

    def _warn_dying(self):
        sizes = np.bincount(self.labels_, minlength=self.n_clusters)
        least = least_share(self.n_clusters)
        shares = sizes / len(self.labels_)
        dying = np.flatnonzero(shares < least)
        if not len(dying):
            return
        found = ", ".join(f"{k} ({shares[k]:.2%})" for k in dying)
        since = self._dying_since(dying, least)
        warn_caller(
            f"Clusters have less than {least:.1%} of the rows: {found}{since}. "
            "Decrease n_clusters, give other first memberships (init), or increase "
            "consistency_weight, or balance if it is below 1.",
            DegenerateComponentWarning,
        )

    def _dying_since(self, dying, least):
        """Tell from which iteration on the first of these clusters was dying."""
        # Those at a lower bound of this size may be below it by rounding.
        large = (self.occupancies_[:, dying] >= 0.99 * least).all(axis=1)
        if not len(large) or large[-1]:
            return ""
        last = np.flatnonzero(large)
        first = last[-1] + 2 if len(last) else 1
        return f", since EM iteration {first} of {self.n_iter_}"

    # Use -------------------------------------------------------------------------

    def _network(self, name, X=None):
        return restored(Architecture, vars(self), name, self._device(X))

    def _mixture(self, X):
        """Return encoder, means and weights for the rows of X."""
        device, dtype = self._device(X), self._inference_dtype
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
        """Generate the rows of latents.

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
        generator = self._network("generator")
        made = in_batches(generator, latents.to(self._inference_dtype))
        return self._rows(made, like)

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
        # On the CPU: all devices make the same samples.
        draw = self._generator(random_state)
        shape = (n_samples, self._n_features_out)
        noise = torch.randn(shape, generator=draw, dtype=torch.float32, device="cpu")
        means = convert.float64_tensor(self.means_[labels], self._device())
        return self._generated(means + noise.to(means)), labels

    def interpolate(self, a, b, n_samples=10):
        """Generate rows along the latent line between two rows.

        Parameters
        ----------
        a : array-like of shape (n_features,) or (height, width[, channels])
            Where the line begins; the first row is G(E(a)).

        b : array-like of shape (n_features,) or (height, width[, channels])
            Where the line ends.

        n_samples : int, default=10
            Number of rows, at even distances.

        Returns
        -------
        X : ndarray of shape (n_samples, n_features)
            Rows, both ends included.

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
        share = torch.linspace(
            0.0, 1.0, n_samples, dtype=torch.float64, device=rows.device
        )[:, None]
        return self._generated((1.0 - share) * first + share * last)

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

"""Denoising and in-painting of images with a Gaussian mixture of their patches."""

from numbers import Integral, Real

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.callback import with_callbacks

from skdeepgmm._torch_backend import convert
from skdeepgmm._torch_backend.denoising.patches import dct_basis
from skdeepgmm.estimators._base import all_or_nothing, callback_data
from skdeepgmm.estimators._checkpoint import CONSTRAINTS
from skdeepgmm.estimators._sklearn_compat import Interval, StrOptions, _fit_context
from skdeepgmm.estimators.denoising._base import BasePatchDenoiser
from skdeepgmm.estimators.denoising._images import (
    ImageBatch,
    check_sizes,
    draw_patches,
)
from skdeepgmm.estimators.denoising._prior import (
    NATURAL_SIZE,
    mixture_parameters,
    natural_parameters,
    to_pixels,
)


class PatchGMMDenoiser(BasePatchDenoiser):
    """Image denoiser whose prior is a Gaussian mixture of small patches (EPLL).

    ``fit`` learns the mixture from clean images, ``transform`` removes white noise,
    ``inpaint`` fills missing pixels. :meth:`pretrained` brings a mixture of patches of
    natural photographs, so that nothing need be fitted.

    Parameters
    ----------
    n_components : int, default=200
        Components of the mixture that ``fit`` learns.

    patch_size : int or tuple of (int, int), default=8
        Side, or height and width, of a patch in pixels.

    sigma : "estimate" or float, default="estimate"
        Standard deviation of the noise in the units of the images (25 for noise of 25
        grey levels in 8-bit images). ``"estimate"`` measures it in each image.

    prior : None, "natural" or a fitted mixture, default=None
        None learns the mixture; ``"natural"`` takes the one that ships with the
        package, of 8 x 8 patches; a :class:`~skdeepgmm.GaussianMixture` of any
        covariance type (or scikit-learn's), fitted to mean-removed patches in C
        order, is used as it is. Wrap it in :class:`sklearn.frozen.FrozenEstimator`
        where the denoiser will be cloned.

    solver : {"half_quadratic", "gradient"}, default="half_quadratic"
        How the energy is minimised; "gradient" is plain gradient descent with a line
        search, for comparison.

    n_iter : int, default=None
        Steps at each noise level of the schedule; None is 1 for "half_quadratic" (3
        in-painting) and 10 for "gradient".

    stride : int, default=2
        Distance of neighbouring patches in pixels; 1 takes all patches and is about 4
        times slower.

    search_stride : int, default=1
        The component is searched for every such patch and shared with its
        neighbours: faster, coarser.

    truncation : float, default=0.3
        Eigenvalues of a component below this share of the noise variance are replaced
        by their mean, which makes search and filter cheaper. 0 is exact.

    n_scales : int, default=2
        With 2, the lowest frequencies come from the denoised image of half the size,
        and so on [2]_; matters for strong noise.

    adapt_iter : int, default=2
        Steps of EM that adapt the mixture to each noisy image before it is denoised
        [3]_; the fitted mixture counts as prior knowledge and is not changed. 0 uses it
        as it is.

    n_patches : int, default=200_000
        Most patches that ``fit`` draws at random from the images, but one of each.

    max_iter : int, default=100
        Most EM iterations of ``fit``.

    tol : float, default=1e-3
        EM stops when the mean log-likelihood of a patch gains less, in nats.

    reg_covar : float, default=1e-6
        Added to the variances of the mixture, for values in [0, 1].

    image_shape : tuple of int, default=None
        (height, width) or (height, width, channels) of the rows of a matrix X. None
        takes the rows as signals: images of one line, with patches of one line.

    data_range : float, default=None
        Largest minus smallest possible value of the images; None applies the rule
        below.

    random_state : int, RandomState instance or None, default=None
        Draws the patches and the initialization of the mixture.

    verbose : int, default=0
        1 prints a line for each EM report and each restored image, 2 also one for each
        noise level of the schedule.

    device : str, default="auto"
        "cpu", "cuda", "cuda:<index>"; "auto" takes CUDA when present.

    n_jobs : int, default=None
        Images of :meth:`transform` at the same time, each in a process and on one
        thread, as in joblib; None means 1, or what ``joblib.parallel_config`` says. The
        result does not depend on it. On a GPU they follow one another, with a warning.

    checkpoint_path : str or path-like, default=None
        File from which :meth:`fit` goes on after it was cut off, see
        :ref:`checkpoints`; that takes an integer ``random_state``. It is removed when
        the mixture has been learned. None writes no checkpoints.

    checkpoint_every : int, default=10
        EM iterations between two checkpoints.

    Attributes
    ----------
    weights_ : ndarray of shape (n_components,)
        Weights of the components.

    means_ : ndarray of shape (n_components, n_pixels)
        Means over the pixels of a mean-removed patch with values in [0, 1].

    covariances_ : ndarray of shape (n_components, n_pixels, n_pixels)
        Covariances; singular along the constant patch.

    patch_shape_ : tuple of int
        Height and width of a patch.

    mixture_ : GaussianMixture
        The learned mixture, over the DCT coefficients of a patch but the constant
        one; absent where ``prior`` was given.

    n_iter_ : int
        EM iterations of the mixture; absent where ``prior`` was given.

    n_features_in_ : int
        Columns of X, where X was a matrix.

    feature_names_in_ : ndarray of shape (n_features,)
        Their names, where they were strings.

    See Also
    --------
    GaussianMixture : The mixture behind it.

    Notes
    -----
    *Cost and tuning.* On one CPU core a photograph of 481 x 321 pixels takes
    6.7 seconds, and 4.4 seconds with ``adapt_iter=0``; nothing need be fitted. Then
    tune ``sigma`` (the level of the noise, if it is known), ``adapt_iter`` and
    ``stride``.

    The expected patch log-likelihood of an image is ``sum_i log p(P_i x)`` over all
    overlapping patches without their means [1]_. With noise variance v falling, each
    step picks the likeliest component of every patch, filters the patch by its Wiener
    filter, averages the patches and blends in the observation: a majorise-minimise
    step for the energy ``w/2 |x - y|^2 - sum_i max_k log pi_k N(P_i x; mu_k, Sigma_k +
    v I)``, which therefore never rises at fixed v. Computed in float32.

    *Images* are 2-D, (height, width), or 3-D with 1 or 3 channels, in a list (of
    different sizes) or a stacked array; a list comes back as a list. A matrix holds
    one image a row (``image_shape``), so that pipelines work.

    *Values*, by the rule for each image: integers range to 255, or to 65535 where a
    value is above 510; booleans to 1. A floating-point image ranges to 1 if its values
    lie in [-1, 2], or nine tenths of them do and all are in [-8, 9]; to 255 if they
    lie in [-255, 510] and are whole numbers, or more than a tenth is outside [-8, 9].
    Otherwise ``data_range`` is required; set it too for images that are nearly black.
    Signals are used as they are. Results have the range of the input and its type, but
    signed integers and booleans become float64; only unsigned integers are rounded and
    clipped.

    *Colour* images are split into grey, (R + G + B) / 3, and two orthonormal colour
    differences, each denoised with its own level of noise; the mixture is learned
    and scored on grey.

    References
    ----------
    .. [1] D. Zoran and Y. Weiss (2011). "From learning models of natural image patches
       to whole image restoration". ICCV.

    .. [2] G. Facciolo, N. Pierazzo and J.-M. Morel (2017). "Conservative scale
       recomposition for multiscale denoising (the devil is in the high frequency
       detail)". SIAM Journal on Imaging Sciences 10.

    .. [3] E. Luo, S. H. Chan and T. Q. Nguyen (2016). "Adaptive image denoising by
       mixture adaptation". IEEE Transactions on Image Processing 25.

    Examples
    --------
    >>> import numpy as np
    >>> from skdeepgmm import PatchGMMDenoiser
    >>> rng = np.random.default_rng(0)
    >>> clean = np.kron([[0.2, 0.8], [0.6, 0.3]], np.ones((16, 16)))
    >>> noisy = clean + rng.normal(scale=0.1, size=clean.shape)
    >>> denoiser = PatchGMMDenoiser.pretrained(sigma=0.1)
    >>> restored = denoiser.transform([noisy])[0]
    >>> bool(abs(restored - clean).mean() < 0.3 * abs(noisy - clean).mean())
    True

    The level of the noise, and pixels that are missing:

    >>> round(float(denoiser.estimate_sigma([noisy])[0]), 1)
    0.1
    >>> missing = rng.random(clean.shape) < 0.3
    >>> filled = denoiser.inpaint([clean], [missing])[0]
    >>> bool((filled[~missing] == clean[~missing]).all())
    True

    A prior of patches of your own images, learned at once or in chunks:

    >>> own = PatchGMMDenoiser(2, patch_size=4, reg_covar=1e-3, random_state=0)
    >>> own = own.fit([noisy])
    >>> own.sample_patches(3)[0].shape
    (3, 4, 4)
    >>> bool(own.score([noisy]) == own.score_samples([noisy]).mean())
    True
    >>> own = own.partial_fit([noisy])
    """

    _parameter_constraints = {
        "n_components": [Interval(Integral, 1, None, closed="left")],
        "patch_size": [Interval(Integral, 1, None, closed="left"), tuple, list],
        "sigma": [StrOptions({"estimate"}), Interval(Real, 0, None, closed="left")],
        "prior": [None, StrOptions({"natural"}), BaseEstimator],
        "solver": [StrOptions({"half_quadratic", "gradient"})],
        "n_iter": [Interval(Integral, 1, None, closed="left"), None],
        "stride": [Interval(Integral, 1, None, closed="left")],
        "search_stride": [Interval(Integral, 1, None, closed="left")],
        "truncation": [Interval(Real, 0, None, closed="left")],
        "n_scales": [Interval(Integral, 1, None, closed="left")],
        "adapt_iter": [Interval(Integral, 0, None, closed="left")],
        "n_patches": [Interval(Integral, 1, None, closed="left")],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "tol": [Interval(Real, 0, None, closed="left")],
        "reg_covar": [Interval(Real, 0, None, closed="left")],
        "image_shape": [tuple, list, None],
        "data_range": [Interval(Real, 0, None, closed="neither"), None],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
        "device": [str],
        "n_jobs": [Integral, None],
        **CONSTRAINTS,
    }

    def __init__(
        self,
        n_components=200,
        *,
        patch_size=8,
        sigma="estimate",
        prior=None,
        solver="half_quadratic",
        n_iter=None,
        stride=2,
        search_stride=1,
        truncation=0.3,
        n_scales=2,
        adapt_iter=2,
        n_patches=200_000,
        max_iter=100,
        tol=1e-3,
        reg_covar=1e-6,
        image_shape=None,
        data_range=None,
        random_state=None,
        verbose=0,
        device="auto",
        n_jobs=None,
        checkpoint_path=None,
        checkpoint_every=10,
    ):
        self.n_components = n_components
        self.patch_size = patch_size
        self.sigma = sigma
        self.prior = prior
        self.solver = solver
        self.n_iter = n_iter
        self.stride = stride
        self.search_stride = search_stride
        self.truncation = truncation
        self.n_scales = n_scales
        self.adapt_iter = adapt_iter
        self.n_patches = n_patches
        self.max_iter = max_iter
        self.tol = tol
        self.reg_covar = reg_covar
        self.image_shape = image_shape
        self.data_range = data_range
        self.random_state = random_state
        self.verbose = verbose
        self.device = device
        self.n_jobs = n_jobs
        self.checkpoint_path = checkpoint_path
        self.checkpoint_every = checkpoint_every

    @classmethod
    def pretrained(cls, sigma="estimate", **params):
        """Return a denoiser that is ready, with the prior that ships.

        Parameters
        ----------
        sigma : "estimate" or float, default="estimate"
            Standard deviation of the noise in the units of the images.
        **params : dict
            Other parameters of the class; ``prior`` is ``"natural"``.

        Returns
        -------
        denoiser : PatchGMMDenoiser
            Ready for :meth:`transform` and :meth:`inpaint`. A clone of it is not: it
            needs :meth:`fit`, which then only takes the prior.

        Raises
        ------
        ValueError
            If a parameter is out of range.
        """
        denoiser = cls(prior="natural", sigma=sigma, **params)
        denoiser._validate_params()
        return denoiser._take_prior(denoiser._patch_shape())

    @with_callbacks
    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y=None):
        """Learn the mixture of patches from clean images, or take the user's prior.

        Parameters
        ----------
        X : list of array-like, or array-like
            Images, a stack of images, or a matrix with one image or signal a row.

        y : Ignored
            Not used, present for API consistency by convention.

        Returns
        -------
        self : PatchGMMDenoiser
            The fitted denoiser.

        Raises
        ------
        ValueError
            If an image is smaller than a patch, not finite or of unknown range, or
            the images hold fewer patches than ``n_components``.

        Warns
        -----
        UserWarning
            If a matrix that is taken as signals looks like one image.
        """
        with all_or_nothing(self):
            batch = ImageBatch(X, self, reset=True)
            shape = self._patch_shape(batch)
            check_sizes(batch, shape)
            if self.prior is not None:
                return self._take_prior(shape)
            rows = self._coefficients(batch, shape, self._random_state())
            data = callback_data(X, y)
            with self._fit_tasks(data, 1) as tasks:
                mixture = self._learned(rows, shape, tasks, data)
                self._set(self._attributes(mixture, shape))
        return self

    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X, y=None):
        """Update the mixture with more images, by a step of online EM.

        Parameters
        ----------
        X : list of array-like, or array-like
            Clean images; the first call needs at least ``n_components`` patches.

        y : Ignored
            Not used, present for API consistency by convention.

        Returns
        -------
        self : PatchGMMDenoiser
            The updated denoiser.

        Raises
        ------
        ValueError
            If the prior is given rather than learned, or ``n_components`` or the
            patches differ from those of the first call.
        """
        if self.prior is not None:
            raise ValueError(
                f"partial_fit learns the prior, but prior={self.prior!r} is given. Set "
                "prior=None."
            )
        with all_or_nothing(self):
            first = not hasattr(self, "mixture_")
            batch = ImageBatch(X, self, reset=first)
            shape = self._patch_shape(batch)
            if not first:
                self._check_same(shape)
            check_sizes(batch, shape)
            rows = self._coefficients(batch, shape, self._random_state())
            mixture = self._new_mixture() if first else self.mixture_
            self._set(self._attributes(mixture.partial_fit(rows), shape))
        return self

    def _patch_shape(self, batch=None):
        """Return (height, width) of a patch; signals have patches of one line."""
        size = self.patch_size
        shape = (size, size) if isinstance(size, Integral) else tuple(size)
        whole = all(isinstance(side, Integral) for side in shape)
        if len(shape) != 2 or not whole or min(shape) < 1 or shape == (1, 1):
            raise ValueError(
                f"patch_size={size!r}; expected an integer above 1, or a height and a "
                "width with at least 2 pixels."
            )
        if batch is not None and batch.signals:
            n_features = batch.pictures[0].size[1]
            if n_features < 2:
                raise ValueError(
                    "Found array with 1 feature(s): a signal needs at least 2 values "
                    "to have patches without their mean."
                )
            shape = (1, min(shape[1] if shape[1] > 1 else shape[0], n_features))
        return shape

    def _check_same(self, shape):
        """Raise if the mixture learned so far has other components or patches."""
        known = (len(self.weights_), self.patch_shape_)
        if known != (self.n_components, shape):
            raise ValueError(
                f"The mixture so far has {known[0]} components of patches of shape "
                f"{known[1]}; now they are {self.n_components} of shape {shape}. Call "
                "fit to start anew."
            )

    def _take_prior(self, shape):
        """Store the user-supplied prior."""
        if isinstance(self.prior, str):
            if shape != NATURAL_SIZE:
                raise ValueError(
                    f"prior='natural' has patches of shape {NATURAL_SIZE}; these have "
                    f"the shape {shape}. Set patch_size=8, and image_shape if X is a "
                    "matrix of images."
                )
            parameters = natural_parameters()
        else:
            parameters = mixture_parameters(self.prior, shape)
        for name in ("mixture_", "n_iter_"):  # of an earlier fit
            vars(self).pop(name, None)
        return self._set(_prior_attributes(parameters, shape))

    def _set(self, attributes):
        for name, value in attributes.items():
            setattr(self, name, value)
        return self

    def _attributes(self, mixture, shape):
        """Return the fitted attributes of a learned mixture."""
        prior = _prior_attributes(mixture_parameters(mixture, shape), shape)
        return {"mixture_": mixture, "n_iter_": mixture.n_iter_, **prior}

    def _learned(self, rows, shape, tasks, data):
        """Return the mixture of these coefficients, fitted as a task of its own."""
        mixture = self._new_mixture().set_params(
            checkpoint_path=self.checkpoint_path,
            checkpoint_every=self.checkpoint_every,
        )
        task = tasks.subcontext(task_name="mixture")
        with task.propagate_callback_context(mixture):
            task.call_on_fit_task_begin(estimator=self, **data)
            mixture.fit(rows)
            task.call_on_fit_task_end(
                estimator=self,
                reconstruction_attributes=lambda: self._so_far(
                    self._attributes(mixture, shape)
                ),
                **data,
            )
        return mixture.set_params(checkpoint_path=None)

    def _new_mixture(self):
        # By the front door: families do not know each other.
        from skdeepgmm import GaussianMixture

        return GaussianMixture(
            self.n_components,
            max_iter=self.max_iter,
            tol=self.tol,
            reg_covar=self.reg_covar,
            # Of patches it finds a better mixture than k-means does.
            init_params="merge",
            random_state=self._random_state(),
            verbose=self.verbose,
            device=self.device,
        )

    def _coefficients(self, batch, shape, random_state):
        """Return DCT coefficients of patches at random places, one patch a row."""
        images = [picture.grey for picture in batch.pictures]
        counts = [np.prod(np.subtract(image.shape, shape) + 1) for image in images]
        share = min(1.0, self.n_patches / sum(counts))
        rows = [
            draw_patches(image, shape, max(1, round(share * count)), random_state)
            for image, count in zip(images, counts, strict=True)
        ]
        basis = convert.to_numpy(dct_basis(shape)).astype(np.float32)
        return np.concatenate(rows) @ basis


def _prior_attributes(parameters, shape):
    weights, means, covariances = to_pixels(parameters, shape)
    return {
        "patch_shape_": shape,
        "weights_": weights,
        "means_": means,
        "covariances_": covariances,
    }

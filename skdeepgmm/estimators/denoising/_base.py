"""What a fitted patch denoiser does: restore images, score them, draw patches."""

import time

import numpy as np
from sklearn.base import OneToOneFeatureMixin, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from skdeepgmm._torch_backend import convert
from skdeepgmm._torch_backend.denoising.patches import noise_level
from skdeepgmm._torch_backend.denoising.prior import mean_log_density
from skdeepgmm._torch_backend.denoising.restoration import Settings, denoise, inpaint
from skdeepgmm.estimators._base import TorchEstimator
from skdeepgmm.estimators._checks import check_integer
from skdeepgmm.estimators._jobs import jobs_of, on_one_thread, side_by_side
from skdeepgmm.estimators.denoising._images import LARGEST, ImageBatch, check_sizes
from skdeepgmm.estimators.denoising._prior import patch_prior

#: Smallest noise, as a share of the range: the square of less, or its inverse, is no
#: number.
LEAST_SIGMA = 1e-100


class BasePatchDenoiser(OneToOneFeatureMixin, TransformerMixin, TorchEstimator):
    """Restores images with the prior that a subclass has learned or was given.

    A subclass sets ``weights_``, ``means_``, ``covariances_`` and ``patch_shape_`` and
    has the parameters of :class:`PatchGMMDenoiser`.
    """

    def __sklearn_is_fitted__(self):
        return hasattr(self, "covariances_")

    # Restoring -------------------------------------------------------------------

    def transform(self, X):
        """Remove the noise from images.

        Parameters
        ----------
        X : list of array-like, or array-like
            Noisy images, in any container that :meth:`fit` takes.

        Returns
        -------
        restored : list of ndarray, or ndarray
            Images in the same container, shape, type and range.

        Raises
        ------
        ValueError
            If an image is smaller than a patch, not finite or of unknown range.
        """
        batch = self._fitted_batch(X)
        n_jobs = jobs_of(self, len(batch.pictures), fitting=False)
        with on_one_thread(self, n_jobs):
            if n_jobs > 1:
                return batch.restored(self._restored_side_by_side(batch, n_jobs))
            return batch.restored(self._restored_in_turn(batch))

    def _restored_side_by_side(self, batch, n_jobs):
        """Return the images without noise, computed in several processes."""
        calls = [
            (picture, self._sigma(picture, index))
            for index, picture in enumerate(batch.pictures)
        ]
        return side_by_side(self, n_jobs, _restored_alone, calls)

    def _restored_in_turn(self, batch):
        """Return the images without noise, one after the other."""
        prior = patch_prior(self, self._device())
        restored = []
        for index, picture in enumerate(batch.pictures):
            start = time.perf_counter()
            sigma = self._sigma(picture, index)
            restored.append(self._restored(prior, picture, sigma))
            noise = f"noise {sigma * picture.scale:.3g}"
            self._report(index, len(batch.pictures), noise, start)
        return restored

    def inpaint(self, X, masks=None):
        """Fill missing pixels; the others are kept as they are.

        Parameters
        ----------
        X : list of array-like, or array-like
            Images, in any container that :meth:`fit` takes. The values of missing
            pixels do not matter; in a matrix they may not be infinite.

        masks : list of array-like or array-like, default=None
            For each image a boolean array of shape (height, width), or a row of the
            same number of values: True where the pixel is missing. None takes the
            pixels that are NaN.

        Returns
        -------
        filled : list of ndarray, or ndarray
            Images in the same container, shape, type and range.

        Raises
        ------
        ValueError
            If a mask does not fit its image, or all of its pixels are missing, or a
            known pixel is not finite.
        """
        batch = self._fitted_batch(X, inpainting=True, masks=masks)
        prior = patch_prior(self, self._device())
        filled = []
        pairs = zip(batch.pictures, batch.missing, strict=True)
        for index, (image, missing) in enumerate(pairs):
            start = time.perf_counter()
            planes = [
                self._inpaint(prior, plane, missing)
                for plane, _ in image.filled(missing).planes
            ]
            filled.append(image.patched(planes, missing))
            share = f"{missing.mean():.0%} of the pixels missing"
            self._report(index, len(batch.pictures), share, start)
        return batch.restored(filled)

    def estimate_sigma(self, X):
        """Estimate the noise of images.

        Parameters
        ----------
        X : list of array-like, or array-like
            Noisy images, in any container that :meth:`fit` takes.

        Returns
        -------
        sigma : ndarray of shape (n_images,)
            Standard deviations of the noise in the units of each image.
        """
        check_is_fitted(self)
        batch = ImageBatch(X, self, reset=False)  # of any size
        values = [self._estimate(image) * image.scale for image in batch.pictures]
        return np.array(values)

    def _fitted_batch(self, X, **options):
        """Return validated images; parameters may have been set since the fit."""
        check_is_fitted(self)
        self._validate_params()
        batch = ImageBatch(X, self, reset=False, **options)
        check_sizes(batch, self.patch_shape_)
        return batch

    def _restored(self, prior, picture, sigma):
        """Return the array of a picture without its noise."""
        if sigma == 0:
            return picture.unchanged
        planes = [
            self._denoise(prior, plane, sigma * gain) for plane, gain in picture.planes
        ]
        return picture.restored(planes)

    def _sigma(self, picture, index):
        """Return the noise of a picture with values in [0, 1]."""
        if self.sigma == "estimate":
            sigma = self._estimate(picture)
            return sigma if sigma > LEAST_SIGMA else 0.0
        sigma = self.sigma / picture.scale
        if 0 < sigma < LEAST_SIGMA:
            raise ValueError(
                f"sigma={self.sigma:g} is too small for image {index} with the range "
                f"{picture.scale:g}: variances underflow. Give sigma in the units of "
                "the images, sigma=0 to leave them as they are, or set data_range."
            )
        if sigma > (LARGEST if self._is_signal(picture) else 1.0):
            raise ValueError(
                f"sigma={self.sigma:g} is more than the whole range of image {index}, "
                f"{picture.scale:g}. Give sigma in the units of the images, or set "
                "data_range."
            )
        return sigma

    def _is_signal(self, picture):
        return self.image_shape is None and picture.size[0] == 1

    def _estimate(self, picture):
        pixels = picture.pixels
        planes = np.moveaxis(pixels, -1, 0) if pixels.ndim == 3 else [pixels]
        levels = [
            noise_level(self._tensor(plane), self.patch_shape_) for plane in planes
        ]
        return float(np.mean(levels))

    def _denoise(self, prior, plane, sigma):
        image = self._tensor(plane, prior.means.device)
        return convert.to_numpy(denoise(prior, image, sigma, self._settings()))

    def _inpaint(self, prior, plane, missing):
        if not missing.any():
            return plane
        device = prior.means.device
        image, mask = self._tensor(plane, device), self._tensor(missing, device)
        return convert.to_numpy(inpaint(prior, image, mask > 0, self._settings()))

    def _tensor(self, plane, device="cpu"):
        plane = np.ascontiguousarray(plane, dtype=np.float32)
        return convert.rows_to_tensor(plane, device, convert.torch_dtype(plane))

    def _settings(self):
        return Settings(
            solver=self.solver,
            n_iter=self.n_iter,
            stride=self.stride,
            search_stride=self.search_stride,
            truncation=self.truncation,
            n_scales=self.n_scales,
            adapt_iter=self.adapt_iter,
            on_step=self._progress() if self.verbose > 1 else None,
        )

    def _progress(self):
        """Return what prints a line for each noise level of one grey image."""
        start = time.perf_counter()

        def on_step(done, n_steps):
            seconds = time.perf_counter() - start
            print(f"  noise level {done} of {n_steps}, {seconds:.1f} s", flush=True)

        return on_step

    def _report(self, index, n_images, what, start):
        if self.verbose:
            seconds = time.perf_counter() - start
            print(f"Image {index + 1} of {n_images}: {what}, {seconds:.1f} s")

    # Scoring ---------------------------------------------------------------------

    def score_samples(self, X):
        """Expected log-likelihood of a patch, for each image.

        Parameters
        ----------
        X : list of array-like, or array-like
            Images, in any container that :meth:`fit` takes.

        Returns
        -------
        log_likelihood : ndarray of shape (n_images,)
            Mean of log p over the patches of the grey image, ``stride`` pixels apart,
            in nats per mean-removed patch with values in [0, 1]: a density over
            pixels - 1 dimensions.
        """
        batch = self._fitted_batch(X)
        device = self._device()
        prior = patch_prior(self, device)
        images = [self._tensor(picture.grey, device) for picture in batch.pictures]
        return np.array([mean_log_density(prior, im, self.stride) for im in images])

    def score(self, X, y=None):
        """Mean of :meth:`score_samples` over the images.

        Parameters
        ----------
        X : list of array-like, or array-like
            Images, in any container that :meth:`fit` takes.

        y : Ignored
            Not used, present for API consistency by convention.

        Returns
        -------
        log_likelihood : float
            Nats per patch; higher is better.
        """
        return float(np.mean(self.score_samples(X)))

    def sample_patches(self, n_samples=1, component=None):
        """Draw patches from the prior.

        Parameters
        ----------
        n_samples : int, default=1
            Number of patches.

        component : int, default=None
            Component to draw from; None draws one by weight for each patch.

        Returns
        -------
        patches : ndarray of shape (n_samples, patch_height, patch_width)
            Mean-removed patches with values in units of the range of images.

        labels : ndarray of shape (n_samples,)
            Component of each patch.

        Raises
        ------
        ValueError
            If ``n_samples`` is below one or there is no such component.
        """
        check_is_fitted(self)
        check_integer("n_samples", n_samples, 1)
        if component is not None:
            check_integer("component", component, 0, len(self.weights_) - 1)
        random_state = self._random_state()
        labels = np.full(n_samples, component)
        if component is None:
            weights = self.weights_ / self.weights_.sum()
            labels = random_state.choice(len(weights), size=n_samples, p=weights)
        noise = random_state.standard_normal((n_samples, self.means_.shape[1]))
        patches = np.empty_like(noise)
        for k in np.unique(labels):
            values, vectors = np.linalg.eigh(self.covariances_[k])
            root = vectors * np.sqrt(values.clip(min=0))
            patches[labels == k] = self.means_[k] + noise[labels == k] @ root.T
        return patches.reshape(n_samples, *self.patch_shape_), labels

    def get_feature_names_out(self, input_features=None):
        """Name the columns of :meth:`transform`, where X is a matrix.

        Parameters
        ----------
        input_features : array-like of str, default=None
            Names of the columns of X, if they were not strings in :meth:`fit`.

        Returns
        -------
        names : ndarray of str
            The same names.

        Raises
        ------
        ValueError
            If the denoiser was fitted to images: they have no columns, and
            ``set_output`` does not apply to them.
        """
        check_is_fitted(self)
        if not hasattr(self, "n_features_in_"):
            raise ValueError(
                "Images in a list or a stack have no columns, so no names. Fit a "
                "matrix with one image a row and image_shape, or use "
                "set_output(transform='default')."
            )
        return super().get_feature_names_out(input_features)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags


def _restored_alone(estimator, picture, sigma):
    """Return the array of one picture without its noise."""
    prior = patch_prior(estimator, estimator._device())
    return estimator._restored(prior, picture, sigma)

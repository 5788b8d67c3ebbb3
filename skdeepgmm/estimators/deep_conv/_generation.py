"""What a fitted deep mixture draws: samples, variants, missing parts."""

from dataclasses import fields
from numbers import Integral, Real

import numpy as np

from skdeepgmm._torch_backend import convert
from skdeepgmm._torch_backend.deep_conv import inference
from skdeepgmm._torch_backend.deep_conv.sampling import (
    Descent,
    Sharpening,
    component_signal,
    descend_in_parts,
    fill_in_parts,
    resp_signal,
)
from skdeepgmm.estimators._image_shape import fitted_rows


class DeepGenerationMixin:
    """Methods that go down a fitted :class:`~skdeepgmm.DeepConvGMM`."""

    def sample(
        self,
        n_samples=1,
        *,
        temperature=1.0,
        noise=None,
        top_s=1,
        sharpening=False,
        y=None,
    ):
        """Draw images from the model.

        Parameters
        ----------
        n_samples : int, default=1
            Number of images.

        temperature : float or sequence of float, default=1.0
            Factor on the standard deviations, 0 takes means; a sequence has one for
            every mixture, from the image up. The noise of the first one is that of
            single pixels: ``(0, 1)`` varies what is drawn, without noise. In a low-rank
            mixture it multiplies the factors too.

        noise : float or sequence of float, default=None
            Further factor on the standard deviations of what low-rank mixtures have
            beside their factors, the noise of single values. None takes 1 in the first
            mixture and 0 in those above, whose noise would choose patches that do not
            go together.

        top_s : int or None, default=1
            Below the top, a component is drawn from the ``top_s`` with the largest
            top-down signal; None takes all.

        sharpening : bool or dict, default=False
            Whether to raise, after each Folding on the way down, the log-likelihood of
            a mixture above by gradient ascent. A dict changes its settings: 'rate'
            (length of the first step, root mean square, 0.05 by default), 'n_iter'
            (30), 'penalty' (weight of the mean squared change, in nats a value that
            the mixture sees, 1.5) and 'layer' (index of the Mixture layer; None for
            the next one above).

        y : scalar, default=None
            Class of the images to draw; after a fit with ``semi_supervised=True``.

        Returns
        -------
        X : ndarray of shape (n_samples, n_features)
            Images as rows, in the order of their components.

        labels : ndarray of shape (n_samples,)
            Component of the top mixture of each image.

        Raises
        ------
        ValueError
            If ``n_samples`` is below one or an option is out of range.
        """
        spec = self._fitted_spec()
        _check_count(n_samples)
        how = _descent(spec, temperature, noise, top_s, sharpening)
        random_state = self._random_state()
        weights = np.asarray(self._component_weights(y), dtype=np.float64)
        counts = random_state.multinomial(n_samples, weights / weights.sum())
        labels = np.repeat(np.arange(len(weights)), counts)
        network = spec.restore(self.mixtures_, self._device())
        signal = component_signal(network, convert.index_tensor(labels))
        rows = self._descend(spec, network, signal, -1, how, random_state)
        return rows, labels

    def sample_variants(
        self,
        X,
        layer=-1,
        *,
        temperature=1.0,
        noise=None,
        top_s=1,
        sharpening=False,
    ):
        """Draw a variant of each image: the same responsibilities, drawn anew.

        Factors that a layer passes up are kept with its responsibilities.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Images as rows, or (n_samples, height, width[, channels]).

        layer : int, default=-1
            Mixture layer whose responsibilities are kept, counted from the image. The
            top gives the loosest variants.

        temperature : float or sequence of float, default=1.0
            As for :meth:`sample`.

        noise : float or sequence of float, default=None
            As for :meth:`sample`.

        top_s : int or None, default=1
            As for :meth:`sample`.

        sharpening : bool or dict, default=False
            As for :meth:`sample`.

        Returns
        -------
        X_variants : ndarray of shape (n_samples, n_features)
            One image for each row of X.
        """
        X, spec = self._check_fitted_rows(X)
        spec.check_layer(layer, "layer")
        how = _descent(spec, temperature, noise, top_s, sharpening)
        network = spec.restore(self.mixtures_, self._device())
        resp = self._apply(X, spec, inference.responsibilities, layer)
        signal = resp_signal(network, network.places[layer], resp)
        return self._descend(spec, network, signal, layer, how, self._random_state())

    def inpaint(self, X, mask):
        """Fill the missing part of images with its expectation given the rest.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Images as rows, or (n_samples, height, width[, channels]). Values under the
            mask are ignored; they may be NaN.

        mask : array-like of bool
            True where a value is missing: one mask for all images or one for each, as
            rows, (height, width, channels) or (height, width) for all channels.

        Returns
        -------
        X_filled : ndarray of shape (n_samples, n_features)
            X with the missing values replaced.

        Raises
        ------
        ValueError
            If the mask does not fit X, or X is not finite outside of it.

        Notes
        -----
        The first mixture takes its marginal density over the known pixels of each
        patch. The mixtures above weigh every position by the known share of what it
        sees, and the way down combines the evidence of a position with what the layers
        above expect there. Patches average where they overlap.
        """
        spec = self._fitted_spec(X)
        X = fitted_rows(X, None if spec.vector else spec.shape)
        missing = _mask_rows(mask, X, spec)
        X = self._check_X(X, reset=False, allow_nan=True)
        X = convert.to_numpy(X) if convert.is_tensor(X) else X[:]
        missing = np.broadcast_to(missing, X.shape)
        values = np.where(missing, self._mean().astype(X.dtype), X)
        filled = self._fill(spec, _finite(values), missing)
        return np.where(missing, filled, values)

    def _mean(self):
        """Return the mean value of every feature: a neutral filling."""
        return np.resize(self.shift_, self.n_features_in_)

    def _fill(self, spec, values, missing):
        images = self._images(values, spec)
        network = spec.restore(self.mixtures_, images.device)
        filled = fill_in_parts(network, images, missing, spec.batch_size)
        return spec.to_rows(filled).astype(values.dtype)

    def _descend(self, spec, network, signal, layer, how, random_state):
        """Return rows drawn from the signal of a mixture, batch by batch."""
        generator = self._generator(random_state, self._device())
        place = network.places[layer]
        return spec.to_rows(
            descend_in_parts(network, signal, place, how, generator, spec.batch_size)
        )


def _check_count(n_samples):
    if not isinstance(n_samples, Integral) or n_samples < 1:
        raise ValueError(
            f"Invalid value for 'n_samples': {n_samples!r}. The sampling requires a "
            "whole number of samples, at least one."
        )


def _descent(spec, temperature, noise, top_s, sharpening):
    """Return the checked options of a way down."""
    count = len(spec.mixtures)
    temperatures = _by_mixture(temperature, count, "temperature")
    noise = (1.0, *[0.0] * (count - 1)) if noise is None else noise
    noises = _by_mixture(noise, count, "noise")
    if top_s is not None and (not isinstance(top_s, Integral) or top_s < 1):
        raise ValueError(f"top_s must be None or at least 1, got {top_s!r}.")
    return Descent(temperatures, noises, top_s, _sharpening(spec, sharpening))


def _by_mixture(factor, count, name):
    """Return one factor for every mixture."""
    single = not np.iterable(factor)
    values = (factor,) * count if single else tuple(factor)
    if len(values) != count or not all(map(_is_non_negative, values)):
        raise ValueError(
            f"{name} must be a finite number of at least 0, or {count} of them, one "
            f"for each Mixture layer; got {factor!r}."
        )
    return tuple(map(float, values))


def _sharpening(spec, options):
    """Return the settings of the sharpening, None for none."""
    if options is False or options is None:
        return None
    options = {} if options is True else options
    names = {field.name for field in fields(Sharpening)}
    if not isinstance(options, dict) or not set(options) <= names:
        raise ValueError(
            "sharpening must be True, False or a dict with keys among "
            f"{sorted(names)}, got {options!r}."
        )
    if options.get("layer") is not None:
        spec.check_layer(options["layer"], "sharpening['layer']")
    found = Sharpening(**options)
    whole = isinstance(found.n_iter, Integral)
    if not whole or not all(
        map(_is_non_negative, (found.rate, found.n_iter, found.penalty))
    ):
        raise ValueError(
            "sharpening needs finite numbers of at least 0, and a whole number of "
            f"steps 'n_iter'; got {options!r}."
        )
    return found


def _is_non_negative(value):
    return isinstance(value, Real) and 0 <= value < np.inf


def _mask_rows(mask, X, spec):
    """Return a mask as rows: one for each row of X, or a single one."""
    mask = np.asarray(mask)
    if mask.dtype != bool:
        raise ValueError(
            f"mask must be boolean, True where a value is missing; got {mask.dtype}."
        )
    n_samples, n_features = np.shape(X)[0], int(np.prod(spec.shape))
    plane = spec.shape[:2]
    for count in ((), (1,), (n_samples,)):
        if mask.shape == (*count, *plane):
            # Not the layout of rows: every channel of a pixel has its mask.
            mask = np.repeat(mask[..., None], spec.shape[2], axis=-1)
        if mask.shape in ((*count, n_features), (*count, *spec.shape)):
            return mask.reshape(-1, n_features)
    raise ValueError(
        f"mask of shape {mask.shape} fits neither one image of shape {spec.shape} "
        f"({n_features} values) nor all {n_samples} of X."
    )


def _finite(values):
    """Return the values; raise where one outside of the mask is not finite."""
    if not np.isfinite(values).all():
        raise ValueError(
            "X has NaN or infinite values that the mask does not call missing. Add "
            "them to the mask."
        )
    return values

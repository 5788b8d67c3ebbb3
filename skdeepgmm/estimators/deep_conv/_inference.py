"""What a fitted deep mixture says about data: components, responsibilities, scores."""

import numpy as np
import torch
from sklearn.utils.validation import check_is_fitted

from skdeepgmm._torch_backend import convert
from skdeepgmm.estimators._image_shape import fitted_rows
from skdeepgmm.estimators.deep_conv._images import Images, Units
from skdeepgmm.estimators.deep_conv._setup import (
    Setup,
    fitted_floors,
    score_batch_size,
)


class DeepInferenceMixin:
    """Methods that read a fitted :class:`~skdeepgmm.DeepConvGMM` from the image up."""

    def _fitted_setup(self):
        """Return what the model was fitted with."""
        check_is_fitted(self)
        vector = self.image_shape_ is None
        shape = (1, 1, self.n_features_in_) if vector else (*self.image_shape_, 1)[:3]
        units = Units(self.shift_, self.scale_)
        floors = fitted_floors(self.mixtures_, units)
        return Setup.of(self, self.layers_, shape, units, vector, floors)

    def _check_fitted_rows(self, X):
        """Return validated rows for the fitted model."""
        setup = self._fitted_setup()
        X = fitted_rows(X, None if setup.vector else setup.shape)
        return self._check_X(X, reset=False), setup

    def _apply(self, X, setup, function):
        """Return a function of the network and batches of images, over all of X.

        Batches have one size, whatever X: then no row's result depends on the others.
        """
        device = self._device(X)
        network = setup.restore(self.mixtures_, device)
        size = score_batch_size(setup.stack, setup.shape)
        images = Images(X, setup.shape, setup.units, device, setup.dtype, keep=False)
        parts = []
        for index in torch.arange(len(images)).split(size):
            batch = _padded(images(index), size)
            parts.append(function(network, batch)[: len(index)])
        return torch.cat(parts)

    def _resp(self, X, layer):
        """Return validated X and the flattened output of a mixture."""
        X, setup = self._check_fitted_rows(X)
        setup.check_layer(layer, "layer")

        def function(network, batch):
            return network.up_to(batch, network.places[layer] + 1).flatten(1)

        return X, self._apply(X, setup, function)

    def predict(self, X):
        """Find the most probable component of the top mixture.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Images as rows, or (n_samples, height, width[, channels]).

        Returns
        -------
        labels : ndarray of shape (n_samples,)
            Component indices.
        """
        X, resp = self._resp(X, -1)
        return self._output(resp.argmax(1), X)

    def predict_proba(self, X):
        """Compute the responsibilities of the top mixture.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Images as rows, or (n_samples, height, width[, channels]).

        Returns
        -------
        resp : ndarray of shape (n_samples, n_components)
            Probabilities of the components; rows sum to one.
        """
        X, resp = self._resp(X, -1)
        return self._output(resp, X, convert.torch_dtype(X))

    def transform(self, X, layer=-1):
        """Compute the responsibilities of a mixture at all of its positions.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Images as rows, or (n_samples, height, width[, channels]).

        layer : int, default=-1
            Which Mixture layer, counted from the image; -1 is the top.

        Returns
        -------
        resp : ndarray of shape (n_samples, n_positions * n_components)
            Rows in the order (height, width, component).
        """
        X, resp = self._resp(X, layer)
        return self._output(resp, X, convert.torch_dtype(X))

    def score_samples_per_layer(self, X):
        """Compute the log-density of the input of every Mixture layer.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Images as rows, or (n_samples, height, width[, channels]).

        Returns
        -------
        log_prob : ndarray of shape (n_samples, n_mixtures)
            Means over positions, in nats. The first column is a density of patches
            of pixels, the others of responsibilities of the layer below.
        """
        X, setup = self._check_fitted_rows(X)
        scores = self._apply(X, setup, _all_scores)
        scores[:, 0] = setup.in_data_units(0, scores[:, 0])
        return self._output(scores, X)

    def score_samples(self, X):
        """Compute the log-density of the input of the layer ``score_layer``.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Images as rows, or (n_samples, height, width[, channels]).

        Returns
        -------
        log_prob : ndarray of shape (n_samples,)
            Mean over positions, in nats; higher is more typical. A density of X itself
            only where the first mixture sees all of X.
        """
        return self.score_samples_per_layer(X)[:, self.score_layer]

    def score(self, X, y=None, sample_weight=None):
        """Compute the (weighted) mean of :meth:`score_samples`.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Images as rows, or (n_samples, height, width[, channels]).

        y : Ignored
            Not used, present for API consistency by convention.

        sample_weight : array-like of shape (n_samples,), default=None
            Non-negative weights.

        Returns
        -------
        log_likelihood : float
            In nats per sample; higher is better.
        """
        log_prob = self.score_samples(X)
        sample_weight = self._check_weight(sample_weight, log_prob)
        if sample_weight is None:
            return float(log_prob.mean())
        return float(np.average(np.asarray(log_prob), weights=sample_weight))

    def predict_class(self, X):
        """Predict the class of each image from its responsibilities.

        Only after a fit with ``semi_supervised=True``.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Images as rows, or (n_samples, height, width[, channels]).

        Returns
        -------
        y : ndarray of shape (n_samples,)
            The class with the largest sum over components of
            p(component | x) p(class | component).

        Raises
        ------
        AttributeError
            If the model was fitted without labels.
        """
        readout = self._readout()
        resp = np.asarray(self._resp(X, -1)[1].cpu())
        return self.classes_[(resp @ readout).argmax(axis=1)]

    def _readout(self):
        """Return p(class | component), (n_components, n_classes)."""
        check_is_fitted(self)
        if not hasattr(self, "class_proba_"):
            raise AttributeError(
                "The model knows no classes. Set semi_supervised=True and give fit the "
                "labels y, with -1 for unlabelled samples."
            )
        return self.class_proba_


def _all_scores(network, batch):
    return torch.stack(network.log_prob(batch), dim=1)


def _padded(images, size):
    """Return images in a batch of fixed size, filled up with zeros."""
    if len(images) == size:
        return images
    full = images.new_zeros(size, *images.shape[1:])
    full[: len(images)] = images
    return full

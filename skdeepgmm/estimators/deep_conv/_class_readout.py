"""Classes of a semi-supervised deep mixture: a linear read-out of components."""

import numpy as np
from sklearn.utils.validation import check_is_fitted

from skdeepgmm._torch_backend import convert
from skdeepgmm.estimators._labels import check_labels, encoded, warn_ignored

#: Labelled samples that the classes' overall shares are worth, for each component.
SMOOTHING = 1e-3


class ClassReadoutMixin:
    """Learns p(class | component) from labels, and predicts classes by it."""

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
        resp = convert.to_numpy(self._resp(X, -1)[1])
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

    def _component_weights(self, y):
        """Return the weights of the top components, of class ``y`` unless None."""
        if y is None:
            return self.weights_
        self._readout()
        number = np.flatnonzero([known == y for known in self.classes_.tolist()])
        if len(number) != 1:
            raise ValueError(
                f"y={y!r} is none of the classes {self.classes_.tolist()}."
            )
        # p(class | component), shrunk to zero where hardly a label tells it.
        counts = self.class_counts_
        return self.weights_ * counts[:, number[0]] / (counts.sum(axis=1) + 1.0)

    def _check_labels(self, y, n_samples):
        """Return the labels of a semi-supervised fit, else y as it came."""
        if not self.semi_supervised:
            warn_ignored(y)
            return y
        if y is None:
            raise ValueError(
                "semi_supervised=True needs labels: give fit y, with -1 for unlabelled "
                "samples, or set semi_supervised=False."
            )
        y = check_labels(y, n_samples)
        if not (y != -1).any():
            raise ValueError("y has no labelled sample: all are -1.")
        return y

    def _learn_classes(self, y, responsibilities):
        """Count classes by component.

        Parameters
        ----------
        y : ndarray of shape (n_samples,)
            Checked labels; not used unless ``semi_supervised``.
        responsibilities : callable
            Returns those of the samples at given indices, (n_indices, n_components).
        """
        for name in ("classes_", "class_counts_", "class_proba_"):
            vars(self).pop(name, None)
        if not self.semi_supervised:
            return
        self.classes_, codes = encoded(y)
        labelled = np.flatnonzero(codes >= 0)
        resp = responsibilities(labelled)
        one_hot = np.eye(len(self.classes_))[codes[labelled]]
        # A component without labelled samples takes the classes' overall shares.
        self.class_counts_ = resp.T.astype(np.float64) @ one_hot
        smooth = self.class_counts_ + SMOOTHING * one_hot.mean(axis=0)
        self.class_proba_ = smooth / smooth.sum(axis=1, keepdims=True)

"""What a fitted deep mixture says about data: components, responsibilities, scores."""

from sklearn.base import ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from skdeepgmm._torch_backend import convert
from skdeepgmm._torch_backend.deep_conv import inference
from skdeepgmm._torch_backend.rows import TrainingRows
from skdeepgmm._torch_backend.standardization import from_arrays
from skdeepgmm.estimators._checks import missing_values_explained
from skdeepgmm.estimators._image_shape import fitted_rows
from skdeepgmm.estimators._sklearn_compat import _get_output_config
from skdeepgmm.estimators.deep_conv._model_spec import ModelSpec, fitted_floors


class DeepInferenceMixin(ClassNamePrefixFeaturesOutMixin, TransformerMixin):
    """Methods that read a fitted :class:`~skdeepgmm.DeepConvGMM` from the image up."""

    def _fitted_spec(self, X=None):
        """Return what the model was fitted with, for the device of X."""
        check_is_fitted(self)
        vector = self.image_shape_ is None
        shape = (1, 1, self.n_features_in_) if vector else (*self.image_shape_, 1)[:3]
        standardization = from_arrays(self.shift_, self.scale_, self._device(X))
        floors = fitted_floors(self.mixtures_, self.scale_)
        return ModelSpec.of(self, self.layers_, shape, standardization, vector, floors)

    def _check_fitted_rows(self, X):
        """Return validated rows for the fitted model, and its specification."""
        spec = self._fitted_spec(X)
        X = fitted_rows(X, None if spec.vector else spec.shape)
        with missing_values_explained(self):
            return self._check_X(X, reset=False), spec

    def _images(self, X, spec):
        """Return validated rows as standardised images, converted as they are read."""
        return TrainingRows(
            *(X, spec.standardization, self._device(X), spec.dtype, spec.shape),
            keep=False,
        )

    def _apply(self, X, spec, function, *options):
        """Return a function of ``inference`` of the fitted network and all of X."""
        network = spec.restore(self.mixtures_, self._device(X))
        size = spec.batch_size
        return function(network, self._images(X, spec).split(size), size, *options)

    def _resp(self, X, layer):
        """Return validated X and the flattened output of a mixture."""
        X, spec = self._check_fitted_rows(X)
        spec.check_layer(layer, "layer")
        return X, self._apply(X, spec, inference.responsibilities, layer)

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
        """Compute the output of a mixture at all of its positions.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Images as rows, or (n_samples, height, width[, channels]).

        layer : int, default=-1
            Which Mixture layer, counted from the image; -1 is the top.

        Returns
        -------
        codes : ndarray of shape (n_samples, n_positions * n_channels)
            Responsibilities, in the order (height, width, component). A layer with
            ``output="responsibilities+factors"`` has its factors after the components.

        Raises
        ------
        ValueError
            If ``layer`` is not the top and ``set_output`` asks for a data frame:
            :meth:`get_feature_names_out` names the columns of the top.
        """
        check_is_fitted(self)
        self._check_named(layer)
        X, resp = self._resp(X, layer)
        return self._output(resp, X, convert.torch_dtype(X))

    def _check_named(self, layer):
        """Raise where a data frame is wanted of a layer whose columns have no names."""
        n_mixtures = len(self.mixtures_)
        top = layer in (-1, n_mixtures - 1)
        if not top and _get_output_config("transform", self)["dense"] != "default":
            raise ValueError(
                f"layer={layer!r} is not the top mixture, whose columns alone have "
                "names (get_feature_names_out). Use set_output(transform='default') "
                "for the layers below."
            )

    @property
    def _n_features_out(self):
        """Number of columns of :meth:`transform`: the top mixture has one position."""
        return len(self.weights_)

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
        X, spec = self._check_fitted_rows(X)
        scores = self._apply(X, spec, inference.scores, spec.log_volume())
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
        return self._weighted_mean(self.score_samples(X), sample_weight)

"""Mixtures from parameters, from scikit-learn, and from other mixtures."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import sklearn.mixture
from sklearn.utils.validation import check_is_fitted

from skdeepgmm._torch_backend import convert
from skdeepgmm._torch_backend.device import resolve_device
from skdeepgmm._torch_backend.mixture import merging
from skdeepgmm._torch_backend.mixture.covariances import COVARIANCES
from skdeepgmm._torch_backend.mixture.density import MixtureDensity
from skdeepgmm.estimators._checks import check_integer
from skdeepgmm.estimators.mixture._validation import (
    check_covariances,
    check_features,
    check_means,
    check_weights,
)


class MixtureAlgebraMixin:
    """Conversions of flat mixtures; a subclass has ``n_components`` and so on."""

    @classmethod
    def from_parameters(
        cls, weights, means, covariances, *, covariance_type="full", **params
    ):
        """Build a fitted mixture from its parameters.

        Parameters
        ----------
        weights : array-like of shape (n_components,)
            Mixture weights; they sum to one.

        means : array-like of shape (n_components, n_features)
            Means.

        covariances : array-like or tuple
            Covariances, shaped as ``covariances_``; for 'low_rank' the tuple
            ``(factors, noise_variance)``, shaped as the attributes of that name.

        covariance_type : {'full', 'tied', 'diag', 'spherical', 'low_rank'}, \
default='full'
            Form of the covariances.

        **params : dict
            Other constructor parameters, for example ``random_state``.

        Returns
        -------
        mixture : GaussianMixture
            Ready to score, predict and sample; ``fit`` is not needed.

        Raises
        ------
        ValueError
            If the shapes do not fit, the weights are no distribution or a
            covariance is not symmetric positive-definite.

        Examples
        --------
        >>> from skdeepgmm import GaussianMixture
        >>> gm = GaussianMixture.from_parameters(
        ...     [0.5, 0.5], [[0.0], [4.0]], [1.0, 1.0], covariance_type="spherical"
        ... )
        >>> gm.score_samples([[0.0]]).round(3)
        array([-1.612])
        """
        if covariance_type not in COVARIANCES:
            raise ValueError(
                f"covariance_type must be one of {sorted(COVARIANCES)}, got "
                f"{covariance_type!r}."
            )
        means = np.atleast_2d(np.asarray(means))
        n_components, n_features = means.shape
        weights = check_weights(weights, n_components)
        means = check_means(means, n_components, n_features)
        covariance_class = COVARIANCES[covariance_type]
        tensors = check_covariances(
            covariances, covariance_class, n_components, n_features
        )
        device = resolve_device(params.get("device", "auto"))
        covariance_class.check_regular(*tensors)
        covariance = covariance_class.from_supplied(*(t.to(device) for t in tensors))
        params = {**covariance.estimator_parameters(), **params}
        self = cls(n_components, covariance_type=covariance_type, **params)
        mixture = MixtureDensity(
            convert.float64_tensor(weights, device),
            convert.float64_tensor(means, device),
            covariance,
        )
        return self._set_parameters(mixture, convert.torch_dtype(means))

    def _set_parameters(self, mixture, dtype):
        """Store parameters that no fit found."""
        self.n_features_in_ = mixture.n_features
        self._set_mixture(mixture, dtype)
        self.converged_ = True
        self.n_iter_ = 0
        self.lower_bound_ = -np.inf
        self.lower_bounds_ = []
        self.n_samples_seen_ = 0.0
        self.n_batches_seen_ = 0
        return self

    @classmethod
    def from_sklearn(cls, estimator, **params):
        """Build a fitted mixture from scikit-learn's.

        Parameters
        ----------
        estimator : sklearn.mixture.GaussianMixture
            A fitted mixture.

        **params : dict
            Constructor parameters that differ from the estimator's.

        Returns
        -------
        mixture : GaussianMixture
            The same density with the same parameters.
        """
        check_is_fitted(estimator)
        shared = cls().get_params()
        theirs = {k: v for k, v in estimator.get_params().items() if k in shared}
        self = cls(**{**theirs, "n_components": len(estimator.means_), **params})
        device = resolve_device(self.device)
        # Their factors, not new ones: those of nearly singular matrices would differ.
        covariance = COVARIANCES[estimator.covariance_type].from_stored(
            convert.float64_tensor(estimator.precisions_cholesky_, device)
        )
        values = convert.float64_tensor(estimator.covariances_, device)
        mixture = MixtureDensity(
            convert.float64_tensor(estimator.weights_, device),
            convert.float64_tensor(estimator.means_, device),
            replace(covariance, values=values),
        )
        return self._set_parameters(mixture, convert.torch_dtype(estimator.means_))

    def to_sklearn(self):
        """Return the same mixture as scikit-learn's class.

        Returns
        -------
        mixture : sklearn.mixture.GaussianMixture
            Fitted; covariances of a type that scikit-learn lacks ('low_rank') become
            'full' matrices of n_features x n_features.
        """
        check_is_fitted(self)
        theirs = sklearn.mixture.GaussianMixture()
        shared = theirs.get_params()
        mine = {k: v for k, v in self.get_params().items() if k in shared}
        source = self
        if not self._covariance_class.in_sklearn:
            source = type(self).from_parameters(
                self.weights_, self.means_, self.dense_covariances()
            )
            mine["covariance_type"] = "full"
        theirs.set_params(**mine)
        for name in SHARED_ATTRIBUTES:
            value = getattr(source if hasattr(source, name) else self, name)
            setattr(theirs, name, np.copy(value) if np.ndim(value) else value)
        return theirs

    def dense_covariances(self):
        """Return the covariance matrices, whatever the covariance type.

        Returns
        -------
        covariances : ndarray of shape (n_components, n_features, n_features)
            One matrix for every component, also where all share one.

        Examples
        --------
        >>> from skdeepgmm import GaussianMixture
        >>> gm = GaussianMixture.from_parameters(
        ...     [1.0], [[0.0, 0.0]], [2.0], covariance_type="spherical"
        ... )
        >>> gm.dense_covariances()
        array([[[2., 0.],
                [0., 2.]]])
        """
        check_is_fitted(self)
        covariance_class = self._covariance_class
        covariance = covariance_class.from_supplied(
            *(
                convert.float64_tensor(getattr(self, f"{name}_"), "cpu")
                for name in covariance_class.supplied
            )
        )
        dense = covariance.dense(*self.means_.shape)
        return convert.to_numpy(dense, convert.torch_dtype(self.means_))

    @staticmethod
    def _dense_matrices(means, covariances, covariance_type):
        """Return covariances of a type of scikit-learn as matrices, unchecked."""
        values = convert.float64_tensor(np.asarray(covariances), "cpu")
        covariance, _ = COVARIANCES[covariance_type].from_values(values)
        return convert.to_numpy(covariance.dense(*np.shape(means)))

    def marginal(self, features):
        """Return the mixture of some of the features.

        Parameters
        ----------
        features : int, str or array-like of int or str
            Features to keep, in the order wanted: indices, or names where the mixture
            was fitted to a data frame.

        Returns
        -------
        mixture : GaussianMixture
            The density of X[:, features], with their names.

        Raises
        ------
        ValueError
            If a feature is unknown or given twice.

        Examples
        --------
        >>> from skdeepgmm import GaussianMixture
        >>> gm = GaussianMixture.from_parameters(
        ...     [1.0], [[3.0, 5.0]], [2.0], covariance_type="spherical"
        ... )
        >>> gm.marginal(1).means_
        array([[5.]])
        """
        kept = self._check_features(features)
        mixture = self._mixture().marginal(convert.index_tensor(kept))
        return self._derived(mixture, kept)

    def condition(self, features, values=None):
        """Return the mixture of the other features given some.

        Parameters
        ----------
        features : int, str, array-like of int or str, or dict
            The given features: indices, or names where the mixture was fitted to a
            data frame. A dict maps them to their values.

        values : float or array-like of shape (len(features),), default=None
            The values of the features; None with a dict.

        Returns
        -------
        mixture : GaussianMixture
            The density of the remaining features, in their order and with their
            names, given ``X[:, features] = values``. Its weights are the posterior
            probabilities of the components.

        Raises
        ------
        ValueError
            If a feature is unknown, given twice, or none is left; or if a value is not
            finite, or so far from the data that the density underflows.

        Examples
        --------
        >>> import numpy as np
        >>> import pandas as pd
        >>> from skdeepgmm import GaussianMixture
        >>> rng = np.random.RandomState(0)
        >>> age = rng.uniform(20, 60, 500)
        >>> income = age + rng.normal(size=500)
        >>> X = pd.DataFrame({"age": age, "income": income})
        >>> given = GaussianMixture(random_state=0).fit(X).condition({"age": 40})
        >>> given.feature_names_in_.tolist(), given.means_.round()
        (['income'], array([[40.]]))
        """
        given, values = self._check_given(features, values)
        rest = np.setdiff1d(np.arange(self.n_features_in_), given)
        if not len(rest):
            raise ValueError("condition needs at least one feature that is not given.")
        mixture = self._mixture()
        device = mixture.means.device
        conditional = mixture.conditional(
            convert.index_tensor(given).to(device),
            convert.index_tensor(rest).to(device),
            convert.float64_tensor(values, device),
        )
        if not conditional.is_finite:
            raise ValueError(
                f"values={values!r} are so far from every component that their density "
                "underflows. Give values nearer to the data."
            )
        return self._derived(conditional, rest)

    def merged(self, n_components):
        """Return the mixture with fewer components.

        Pairs of components become one with the mean and covariance of both, in the
        order of least loss of likelihood: the bound of [1]_,

            ((w_i + w_j) log|P_ij| - w_i log|P_i| - w_j log|P_j|) / 2

        for weights w, covariances P and P_ij of the pair. Means and, but for
        'low_rank', all moments that the covariance type has are kept exactly.

        Parameters
        ----------
        n_components : int
            Number of components, from 1 to as many as there are.

        Returns
        -------
        mixture : GaussianMixture
            A mixture of ``n_components``, ready to score, predict and sample; with
            ``warm_start=True`` its ``fit`` goes on from there.

        Raises
        ------
        ValueError
            If ``n_components`` is not such a number.

        References
        ----------
        .. [1] Runnalls (2007). "Kullback-Leibler approach to Gaussian mixture
           reduction". IEEE Transactions on Aerospace and Electronic Systems, 43.

        Examples
        --------
        >>> from skdeepgmm import GaussianMixture
        >>> gm = GaussianMixture.from_parameters(
        ...     [0.25, 0.25, 0.5], [[0.0], [2.0], [9.0]], [1.0, 1.0, 1.0],
        ...     covariance_type="spherical",
        ... )
        >>> two = gm.merged(2)
        >>> two.means_
        array([[1.],
               [9.]])
        >>> two.covariances_
        array([2., 1.])
        """
        check_is_fitted(self)
        check_integer("n_components", n_components, 1, len(self.means_))
        return self._derived(merging.merged(self._mixture(), n_components), slice(None))

    def _check_features(self, features):
        """Return the indices of features."""
        check_is_fitted(self)
        names = getattr(self, "feature_names_in_", None)
        return check_features(features, self.n_features_in_, names)

    def _check_given(self, features, values):
        """Return the indices of given features and their values."""
        if isinstance(features, Mapping):
            if values is not None:
                raise ValueError(
                    "features is a dict, which has the values; leave out values."
                )
            features, values = list(features), list(features.values())
        elif values is None:
            raise ValueError(
                "values is None; give a value for each of the features, or a dict such "
                "as {'age': 40}."
            )
        given = self._check_features(features)
        values = np.atleast_1d(np.asarray(values, dtype=np.float64))
        if values.shape != given.shape or not np.isfinite(values).all():
            raise ValueError(
                f"values must hold one finite number for each of the {len(given)} "
                f"features, got {values!r}."
            )
        return given, values

    def _derived(self, mixture, features):
        """Return an estimator with this one's settings and a mixture of features."""
        params = self.get_params(deep=False)
        for name in ("weights_init", "means_init", "precisions_init"):
            if name in params:
                params[name] = None
        params["n_components"] = mixture.n_components
        other = type(self)(**params)
        if hasattr(self, "feature_names_in_"):
            other.feature_names_in_ = self.feature_names_in_[features]
        return other._set_parameters(mixture, convert.torch_dtype(self.means_))


SHARED_ATTRIBUTES = (
    "weights_",
    "means_",
    "covariances_",
    "precisions_",
    "precisions_cholesky_",
    "converged_",
    "n_iter_",
    "lower_bound_",
    "lower_bounds_",
    "n_features_in_",
)

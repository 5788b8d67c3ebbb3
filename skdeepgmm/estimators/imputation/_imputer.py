"""Missing entries filled by a mixture fitted to the observed ones."""

import numpy as np
from sklearn import get_config
from sklearn.base import (
    BaseEstimator,
    MetaEstimatorMixin,
    OneToOneFeatureMixin,
    TransformerMixin,
    clone,
)
from sklearn.utils import check_random_state
from sklearn.utils.metadata_routing import (
    MetadataRouter,
    MethodMapping,
    process_routing,
)
from sklearn.utils.validation import check_is_fitted, validate_data

from skdeepgmm.estimators._base import MAX_SEED, undone_on_failure
from skdeepgmm.estimators._sklearn_compat import StrOptions, _fit_context

#: What a mixture must have to fill missing entries.
METHODS = ("fit", "impute", "sample_conditional")


class MixtureImputer(
    OneToOneFeatureMixin, TransformerMixin, MetaEstimatorMixin, BaseEstimator
):
    """Missing entries filled by a Gaussian mixture of the data.

    The mixture is fitted to incomplete samples as they are, by their marginal
    likelihood. Each missing entry is then filled given the observed entries of its
    sample: with the conditional mean, or with a draw from the conditional
    distribution. Observed entries stay as they are, bit for bit.

    Parameters
    ----------
    estimator : estimator, default=None
        Mixture to fit, :class:`~skdeepgmm.GaussianMixture` or
        :class:`~skdeepgmm.SGDGaussianMixture`; a clone of it is fitted. None uses a
        ``GaussianMixture`` of one component, which makes imputation a linear
        regression on the observed features. A fitted mixture wrapped in
        :class:`sklearn.frozen.FrozenEstimator` is used as it is.

    strategy : {'mean', 'draw'}, default='mean'
        What is filled in: 'mean', the conditional mean, which has the least squared
        error; 'draw', a draw from the conditional distribution, which keeps variances
        and correlations, for multiple imputation.

    add_indicator : bool, default=False
        Whether to append a column of 0 and 1 for every feature with missing entries
        in ``fit``, which tells where they are missing.

    random_state : int, RandomState instance or None, default=None
        Seed of the draws: with an integer, ``transform`` fills the same data with the
        same draws. Also the seed of the default mixture.

    Attributes
    ----------
    estimator_ : estimator
        The fitted mixture.

    missing_features_ : ndarray of shape (n_missing,)
        Indices of the features with missing entries in ``fit``.

    n_features_in_ : int
        Number of features seen during ``fit``.

    feature_names_in_ : ndarray of shape (n_features,)
        Names of the features seen during ``fit``, if they were all strings.

    See Also
    --------
    GaussianMixture : Has ``impute`` and ``sample_conditional`` itself.
    sklearn.impute.IterativeImputer : Imputation by regressions, one a feature.

    Notes
    -----
    With o the observed and m the missing features of a sample, the conditional mean is
    ``sum_k p(k | x_o) (mu_km + Sigma_kmo Sigma_koo^-1 (x_o - mu_ko))`` [1]_. The fit
    assumes that values are missing at random: whether an entry is missing depends on
    observed entries only.

    Keyword arguments of ``fit`` reach the mixture's ``fit``: all of them by default,
    those that it requests when metadata routing is enabled.

    References
    ----------
    .. [1] Z. Ghahramani and M. I. Jordan (1994). "Supervised learning from incomplete
       data via an EM approach". Advances in Neural Information Processing Systems 6.

    Examples
    --------
    >>> import numpy as np
    >>> from skdeepgmm import GaussianMixture, MixtureImputer
    >>> x = np.random.RandomState(0).normal(size=(200, 1))
    >>> X = np.hstack([x, 2 * x + 0.01 * np.sin(9 * x)])
    >>> X[:20, 1] = np.nan
    >>> imputer = MixtureImputer(GaussianMixture(random_state=0)).fit(X)
    >>> imputer.transform([[1.0, np.nan], [np.nan, -6.0]]).round(1)
    array([[ 1.,  2.],
           [-3., -6.]])
    >>> imputer.get_feature_names_out()
    array(['x0', 'x1'], dtype=object)
    """

    _parameter_constraints = {
        "estimator": "no_validation",
        "strategy": [StrOptions({"mean", "draw"})],
        "add_indicator": ["boolean"],
        "random_state": ["random_state"],
    }

    def __init__(
        self, estimator=None, *, strategy="mean", add_indicator=False, random_state=None
    ):
        self.estimator = estimator
        self.strategy = strategy
        self.add_indicator = add_indicator
        self.random_state = random_state

    def _model(self):
        """Return the unfitted mixture: the parameter, or the default."""
        if self.estimator is not None:
            return self.estimator
        from skdeepgmm import GaussianMixture

        return GaussianMixture(random_state=self.random_state)

    @_fit_context(prefer_skip_nested_validation=False)
    def fit(self, X, y=None, **fit_params):
        """Fit the mixture to incomplete samples.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Training data; NaN marks a missing entry.

        y : Ignored
            Not used, present for API consistency by convention.

        **fit_params : dict
            Keyword arguments for the mixture's ``fit``, such as ``sample_weight``.

        Returns
        -------
        self : MixtureImputer
            The fitted imputer.

        Raises
        ------
        TypeError
            If ``estimator`` is no mixture that can impute.
        ValueError
            If a feature has no observed entry, or the mixture refuses X.
        """
        with undone_on_failure(self):
            model = self._model()
            _check_imputes(model)
            missing = np.isnan(self._checked(X, reset=True))
            self._check_observed(missing)
            self.missing_features_ = np.flatnonzero(missing.any(axis=0))
            self.estimator_ = clone(model).fit(X, None, **self._route(fit_params))
        return self

    def _route(self, fit_params):
        if get_config()["enable_metadata_routing"]:
            return process_routing(self, "fit", **fit_params).estimator.fit
        return fit_params

    def _checked(self, X, *, reset):
        return validate_data(
            self,
            X,
            dtype=[np.float64, np.float32],
            reset=reset,
            ensure_all_finite="allow-nan",
        )

    def _check_observed(self, missing):
        empty = np.flatnonzero(missing.all(axis=0))
        if len(empty):
            names = getattr(self, "feature_names_in_", None)
            which = empty.tolist() if names is None else names[empty].tolist()
            raise ValueError(
                f"Features {which} of X have no observed entry, so that nothing tells "
                "what to fill in. Drop these columns before the imputer."
            )

    def transform(self, X):
        """Fill the missing entries of X.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Data; NaN marks a missing entry. A sample without any observed entry gets
            the mean of the mixture, or a draw from it.

        Returns
        -------
        X_filled : ndarray of shape (n_samples, n_features + n_indicators)
            X with every missing entry filled; ``n_indicators`` is 0 unless
            ``add_indicator=True``.
        """
        check_is_fitted(self)
        values = self._checked(X, reset=False)
        missing = np.isnan(values)
        filled = values.copy()
        if missing.any():
            filled[missing] = self._fill(X)[missing]
        if not self.add_indicator:
            return filled
        indicators = missing[:, self.missing_features_].astype(filled.dtype)
        return np.hstack([filled, indicators])

    def _fill(self, X):
        """Return X as the mixture fills it."""
        if self.strategy == "mean":
            return np.asarray(self.estimator_.impute(X))
        # The mixture's own seed would make the draws of every call the same.
        random_state = np.random.RandomState()
        if self.random_state is not None:
            random_state = check_random_state(self.random_state)
        seed = int(random_state.randint(MAX_SEED))
        return np.asarray(self.estimator_.sample_conditional(X, random_state=seed))[0]

    def get_feature_names_out(self, input_features=None):
        """Return the names of the columns of the output.

        Parameters
        ----------
        input_features : array-like of str or None, default=None
            Names of the features; None takes those seen in ``fit``, or x0, x1, ...

        Returns
        -------
        names : ndarray of str
            The same names, followed by those of the indicators.
        """
        check_is_fitted(self)
        names = super().get_feature_names_out(input_features)
        if not self.add_indicator:
            return names
        flagged = [f"missingindicator_{name}" for name in names[self.missing_features_]]
        return np.concatenate([names, np.asarray(flagged, dtype=object)])

    def get_metadata_routing(self):
        """Tell scikit-learn which arguments of ``fit`` go to the mixture.

        Returns
        -------
        routing : MetadataRouter
            The routing of this estimator.
        """
        return MetadataRouter(owner=self).add(
            estimator=self._model(),
            method_mapping=MethodMapping().add(caller="fit", callee="fit"),
        )

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags


def _check_imputes(model):
    if not all(hasattr(model, name) for name in METHODS):
        raise TypeError(
            f"estimator must have the methods {', '.join(METHODS)}; got {model!r}. "
            "Pass a GaussianMixture or SGDGaussianMixture of skdeepgmm."
        )

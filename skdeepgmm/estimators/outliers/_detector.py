"""Outlier detection by the density of any estimator that has one."""

from numbers import Real

import numpy as np
from sklearn import get_config
from sklearn.base import BaseEstimator, MetaEstimatorMixin, OutlierMixin, clone
from sklearn.callback import CallbackSupportMixin, with_callbacks
from sklearn.frozen import FrozenEstimator
from sklearn.utils import check_scalar, get_tags
from sklearn.utils.metadata_routing import (
    MetadataRouter,
    MethodMapping,
    process_routing,
)
from sklearn.utils.validation import check_is_fitted

from skdeepgmm.estimators._base import (
    callback_data,
    check_alone,
    undone_on_failure,
    whole_state,
    without_callbacks,
)
from skdeepgmm.estimators.outliers._missing import (
    as_numpy,
    comparable,
    reference_samples,
)
from skdeepgmm.estimators.outliers._trimmed_mixtures import TrimmedMixtures

#: What a detector takes over from its model.
FEATURE_ATTRIBUTES = ("n_features_in_", "feature_names_in_")


def threshold(scores, contamination):
    """Return the quantile of the scores, among which -inf is the least.

    Parameters
    ----------
    scores : ndarray of shape (n_samples,)
    contamination : float

    Raises
    ------
    ValueError
        If a score is NaN.
    """
    unknown = np.isnan(scores)
    if unknown.any():
        raise ValueError(
            f"The model's score_samples is NaN for {unknown.sum()} of {len(scores)} "
            f"training samples, the first of them row {int(np.argmax(unknown))}; "
            "expected log-densities. Rescale X or choose another estimator."
        )
    limits = np.finfo(np.float64)
    # Of values near the limits, half: the quantile lies between two of them.
    finite = np.clip(scores.astype(np.float64), limits.min / 4, limits.max / 4)
    return float(np.quantile(finite, contamination))


class DensityOutlierDetector(
    CallbackSupportMixin, OutlierMixin, MetaEstimatorMixin, BaseEstimator
):
    """Outliers as the samples of least density under a fitted model.

    Any estimator whose ``score_samples`` is higher for more typical samples serves:
    the mixtures of this package, :class:`sklearn.neighbors.KernelDensity`, a
    :class:`~sklearn.pipeline.Pipeline` that ends in one.

    Parameters
    ----------
    estimator : estimator, default=None
        Model with ``fit`` and ``score_samples``; a clone of it is fitted. None uses
        diagonal mixtures of several sizes, each fitted again without its least
        probable samples (see Notes). A fitted model
        wrapped in :class:`sklearn.frozen.FrozenEstimator` is used as it is, and ``fit``
        only finds the threshold.
    contamination : float, default=0.1
        Share of outliers among the training samples, in (0, 0.5].

    Attributes
    ----------
    estimator_ : estimator
        The fitted model.
    offset_ : float
        Threshold on ``score_samples`` (nats for a density): the quantile
        ``contamination`` of the training scores.
    reference_ : ndarray of shape (n_reference, n_features) or None
        Up to 1,000 complete training samples, by which the scores of samples with
        missing features are made comparable; None if the model accepts no NaN.
    n_features_in_ : int
        Number of features seen during ``fit``, if the model tells it.
    feature_names_in_ : ndarray of shape (n_features,)
        Names of the features seen during ``fit``, if they were all strings.

    See Also
    --------
    sklearn.ensemble.IsolationForest : Outliers by the ease of separating them.
    sklearn.neighbors.LocalOutlierFactor : Outliers by density relative to neighbours.

    Notes
    -----
    A sample x is an outlier when log p(x) < ``offset_``. Ranking measures such as the
    area under the ROC curve depend on ``score_samples`` alone, not on
    ``contamination``.

    The default model fits :class:`~skdeepgmm.GaussianMixture` with 3, 5 and 8 diagonal
    components, ``reg_covar`` of half of each feature's variance, and fits each three
    times again without the tenth of the samples that it finds least probable, so that
    no component sits on the outliers; its score is the mean of the three log-densities.

    The log-density of a sample with missing features (NaN) is one of fewer features,
    with other units. ``decision_function`` and ``predict`` replace it by the
    log-density of a complete sample that is as rare, found by matching quantiles on the
    samples in ``reference_``; ``score_samples`` is left as it is.

    Keyword arguments of ``fit`` reach the model's ``fit``: all of them by default,
    those that it requests when metadata routing is enabled. Each training sample
    counts once in ``offset_``, whatever its ``sample_weight``.

    References
    ----------
    .. [1] C. M. Bishop (1994). "Novelty detection and neural network validation".
       IEE Proceedings - Vision, Image and Signal Processing 141, 217-222.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.mixture import GaussianMixture
    >>> from skdeepgmm import DensityOutlierDetector
    >>> X = np.array([[-0.3], [0.1], [0.2], [-0.1], [0.0], [0.3], [9.0]])
    >>> detector = DensityOutlierDetector(
    ...     GaussianMixture(random_state=0), contamination=0.1
    ... )
    >>> detector.fit_predict(X)
    array([ 1,  1,  1,  1,  1,  1, -1])

    New rows: their log-density, that above the threshold, and the verdict.

    >>> detector = detector.fit(X)
    >>> new = np.array([[0.1], [-7.0]])
    >>> int(detector.score_samples(new).argmin())
    1
    >>> detector.decision_function(new) > 0
    array([ True, False])
    >>> detector.predict(new)
    array([ 1, -1])
    """

    def __init__(self, estimator=None, *, contamination=0.1):
        self.estimator = estimator
        self.contamination = contamination

    def _model(self):
        """Return the unfitted model: the parameter, or the default."""
        if self.estimator is not None:
            return self.estimator
        return TrimmedMixtures(random_state=0)

    def _check_parameters(self):
        check_scalar(
            self.contamination,
            "contamination",
            Real,
            min_val=0,
            max_val=0.5,
            include_boundaries="right",
        )
        if self.contamination != self.contamination:
            raise ValueError("contamination == nan, must be in (0, 0.5].")
        if not hasattr(self._model(), "score_samples"):
            raise TypeError(
                "estimator must have the method score_samples; got "
                f"{self.estimator!r}. Pass a density such as GaussianMixture."
            )

    @with_callbacks
    def fit(self, X, y=None, **fit_params):
        """Fit the model, then the threshold on its training scores.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Training samples.
        y : array-like of shape (n_samples,), default=None
            Passed to the model, which ignores it unless it says otherwise.
        **fit_params : dict
            Keyword arguments for the model's ``fit``, such as ``sample_weight``.

        Returns
        -------
        self : DensityOutlierDetector
            The fitted detector.

        Raises
        ------
        TypeError
            If ``estimator`` has no ``score_samples``.
        ValueError
            If ``contamination`` is not in (0, 0.5], or the model refuses ``X``.
        """
        with undone_on_failure(self):
            check_alone(self)
            self._check_parameters()
            context = self._init_callback_context(max_subtasks=1)
            data = callback_data(X, y)
            context.call_on_fit_task_begin(estimator=self, **data)
            model = clone(self._model())
            self._fit_model(model, X, y, self._route(fit_params), context)
            reference = reference_samples(model, X)
            scores = comparable(model, X, as_numpy(model.score_samples(X)), reference)
            # All at once: until then the last fit goes on serving.
            self.__dict__ = {
                **{k: v for k, v in vars(self).items() if k not in FEATURE_ATTRIBUTES},
                **{
                    k: getattr(model, k)
                    for k in FEATURE_ATTRIBUTES
                    if hasattr(model, k)
                },
                "estimator_": model,
                "offset_": threshold(scores, self.contamination),
                "reference_": reference,
            }
            context.call_on_fit_task_end(
                estimator=self,
                reconstruction_attributes=lambda: whole_state(without_callbacks(self)),
                **data,
            )
        return self

    def _route(self, fit_params):
        if get_config()["enable_metadata_routing"]:
            return process_routing(self, "fit", **fit_params).estimator.fit
        return fit_params

    def _fit_model(self, model, X, y, fit_params, context):
        if isinstance(model, FrozenEstimator):
            return
        task = context.subcontext(task_name="fit-estimator")
        with task.propagate_callback_context(model):
            task.call_on_fit_task_begin(estimator=self, X=X, y=y)
            model.fit(X, y, **fit_params)
            task.call_on_fit_task_end(estimator=self, X=X, y=y)

    def score_samples(self, X):
        """Score of each sample under the model; higher is more typical.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Samples.

        Returns
        -------
        scores : ndarray of shape (n_samples,)
            The model's ``score_samples``, log-densities in nats for a density.
        """
        check_is_fitted(self)
        return as_numpy(self.estimator_.score_samples(X))

    def decision_function(self, X):
        """Score of each sample above the threshold; outliers are negative.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Samples.

        Returns
        -------
        decision : ndarray of shape (n_samples,)
            ``score_samples(X) - offset_``; of samples with missing features, the
            score of a complete sample that is as rare takes the place of theirs.
        """
        check_is_fitted(self)
        fitted = dict(vars(self))  # of one fit, whatever another thread does
        model = fitted["estimator_"]
        scores = as_numpy(model.score_samples(X))
        return comparable(model, X, scores, fitted["reference_"]) - fitted["offset_"]

    def predict(self, X):
        """Tell inliers from outliers.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Samples.

        Returns
        -------
        is_inlier : ndarray of shape (n_samples,)
            +1 for inliers, -1 for outliers.
        """
        return np.where(self.decision_function(X) < 0, -1, 1)

    def score(self, X, y=None):
        """Compute the mean of :meth:`score_samples`, for searches without labels.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Samples.
        y : Ignored
            Not used, present for API consistency by convention: where outliers are
            known, search by ``scoring="roc_auc"`` as in the example, with +1 for
            inliers and -1 for outliers, as :meth:`predict` returns them (1 for
            outliers would turn all ranks around), and splits that put some of either
            into every fold.

        Returns
        -------
        score : float
            Mean score, in nats per sample for a density; higher is better. It does not
            depend on ``contamination``.

        Examples
        --------
        >>> import numpy as np
        >>> from sklearn.model_selection import GridSearchCV, StratifiedKFold
        >>> from skdeepgmm import DensityOutlierDetector, GaussianMixture
        >>> rng = np.random.RandomState(0)
        >>> X = np.concatenate([rng.normal(size=(60, 1)) + s for s in (-9, 9)])
        >>> X = np.concatenate([X, rng.uniform(-2, 2, size=(12, 1))])
        >>> y = np.repeat([1, -1], [120, 12])
        >>> search = GridSearchCV(
        ...     DensityOutlierDetector(GaussianMixture(random_state=0)),
        ...     {"estimator__n_components": [1, 2]},
        ...     scoring="roc_auc",
        ...     cv=StratifiedKFold(3, shuffle=True, random_state=0),
        ... ).fit(X, y)
        >>> search.best_params_
        {'estimator__n_components': 2}
        """
        return float(self.score_samples(X).mean())

    def get_metadata_routing(self):
        """Tell scikit-learn which arguments of ``fit`` go to the model.

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
        model_tags = get_tags(self._model())
        tags.input_tags = model_tags.input_tags
        tags.array_api_support = model_tags.array_api_support
        tags.non_deterministic = model_tags.non_deterministic
        return tags

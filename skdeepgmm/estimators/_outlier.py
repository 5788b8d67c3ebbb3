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

from skdeepgmm.estimators._base import undone_on_failure


def _as_numpy(scores):
    # With array API dispatch a sub-estimator returns tensors, perhaps on a GPU.
    if hasattr(scores, "cpu"):
        scores = scores.cpu()
    return np.asarray(scores)


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
        :class:`~skdeepgmm.GaussianMixture` with its default settings. A fitted model
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
    """

    def __init__(self, estimator=None, *, contamination=0.1):
        self.estimator = estimator
        self.contamination = contamination

    def _model(self):
        """Return the unfitted model: the parameter, or the default."""
        if self.estimator is not None:
            return self.estimator
        # Imported here so that another model does not pull in the default one.
        from skdeepgmm.estimators.mixture._gaussian_mixture import GaussianMixture

        return GaussianMixture()

    def _check_parameters(self):
        check_scalar(
            self.contamination,
            "contamination",
            Real,
            min_val=0,
            max_val=0.5,
            include_boundaries="right",
        )
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
            self._check_parameters()
            context = self._init_callback_context(max_subtasks=1)
            context.call_on_fit_task_begin(estimator=self, X=X, y=y)
            self.estimator_ = clone(self._model())
            self._fit_model(X, y, self._route(fit_params), context)
            self._copy_feature_attributes()
            scores = _as_numpy(self.estimator_.score_samples(X))
            self.offset_ = float(np.quantile(scores, self.contamination))
            context.call_on_fit_task_end(estimator=self, X=X, y=y)
        return self

    def _route(self, fit_params):
        if get_config()["enable_metadata_routing"]:
            return process_routing(self, "fit", **fit_params).estimator.fit
        return fit_params

    def _fit_model(self, X, y, fit_params, context):
        if isinstance(self.estimator_, FrozenEstimator):
            return
        task = context.subcontext(task_name="fit-estimator")
        with task.propagate_callback_context(self.estimator_):
            task.call_on_fit_task_begin(estimator=self, X=X, y=y)
            self.estimator_.fit(X, y, **fit_params)
            task.call_on_fit_task_end(estimator=self, X=X, y=y)

    def _copy_feature_attributes(self):
        for name in ("n_features_in_", "feature_names_in_"):
            # A second fit on unnamed columns must not keep the names of the first.
            vars(self).pop(name, None)
            if hasattr(self.estimator_, name):
                setattr(self, name, getattr(self.estimator_, name))

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
        return _as_numpy(self.estimator_.score_samples(X))

    def decision_function(self, X):
        """Score of each sample above the threshold; outliers are negative.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Samples.

        Returns
        -------
        decision : ndarray of shape (n_samples,)
            ``score_samples(X) - offset_``.
        """
        return self.score_samples(X) - self.offset_

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

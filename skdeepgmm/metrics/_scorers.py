"""Information criteria as scorers: greater is better, through pipelines."""

from sklearn.pipeline import Pipeline


def _last_step(estimator, X):
    """Return the model at the end of pipelines, and X as it sees it."""
    while isinstance(estimator, Pipeline):
        if len(estimator) > 1:
            X = estimator[:-1].transform(X)
        estimator = estimator[-1]
    return estimator, X


def _negative(criterion, estimator, X):
    model, X = _last_step(estimator, X)
    if not hasattr(model, criterion):
        raise TypeError(
            f"{criterion}_scorer needs a model with the method {criterion}; "
            f"{type(model).__name__} has none. Pass a GaussianMixture, or a Pipeline "
            "that ends in one."
        )
    return -float(getattr(model, criterion)(X))


def bic_scorer(estimator, X, y=None):
    """Negative Bayesian information criterion, for ``scoring`` of searches.

    Parameters
    ----------
    estimator : estimator
        Fitted model with ``bic``, or a :class:`~sklearn.pipeline.Pipeline` that ends
        in one: X then goes through its leading steps.
    X : array-like of shape (n_samples, n_features)
        Data.
    y : Ignored
        Not used, present for API consistency by convention.

    Returns
    -------
    score : float
        ``-estimator.bic(X)``, in nats; higher is better.

    Raises
    ------
    TypeError
        If the model has no ``bic``.

    See Also
    --------
    aic_scorer : A smaller penalty, for prediction.
    icl_scorer : A penalty on overlapping components too, for clustering.

    Notes
    -----
    The criterion is meant for the data that the model was fitted to: give the search
    one split whose training and test samples are all of them, as in the example. With
    ordinary cross-validation it is computed on the held-out samples, where the plain
    log-likelihood (no ``scoring`` at all) is the better choice. Models that see other
    features, for instance after another scaler, cannot be compared by it: densities of
    rescaled data have other units.

    References
    ----------
    .. [1] G. Schwarz (1978). "Estimating the dimension of a model". Annals of
       Statistics 6, 461-464.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.model_selection import GridSearchCV
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import StandardScaler
    >>> from skdeepgmm import GaussianMixture
    >>> from skdeepgmm.metrics import bic_scorer
    >>> rng = np.random.RandomState(0)
    >>> X = np.concatenate([rng.randn(80, 2), rng.randn(80, 2) + [9, 0]])
    >>> everything = np.arange(len(X))
    >>> search = GridSearchCV(
    ...     make_pipeline(StandardScaler(), GaussianMixture(random_state=0)),
    ...     {"gaussianmixture__n_components": [1, 2, 3]},
    ...     scoring=bic_scorer,
    ...     cv=[(everything, everything)],
    ... ).fit(X)
    >>> search.best_params_
    {'gaussianmixture__n_components': 2}
    """
    return _negative("bic", estimator, X)


def aic_scorer(estimator, X, y=None):
    """Negative Akaike information criterion, for ``scoring`` of searches.

    Parameters
    ----------
    estimator : estimator
        Fitted model with ``aic``, or a :class:`~sklearn.pipeline.Pipeline` that ends
        in one: X then goes through its leading steps.
    X : array-like of shape (n_samples, n_features)
        Data.
    y : Ignored
        Not used, present for API consistency by convention.

    Returns
    -------
    score : float
        ``-estimator.aic(X)``, in nats; higher is better.

    Raises
    ------
    TypeError
        If the model has no ``aic``.

    See Also
    --------
    bic_scorer : A larger penalty; its notes on the splits hold here too.

    References
    ----------
    .. [1] H. Akaike (1974). "A new look at the statistical model identification".
       IEEE Transactions on Automatic Control 19, 716-723.

    Examples
    --------
    >>> import numpy as np
    >>> from skdeepgmm import GaussianMixture
    >>> from skdeepgmm.metrics import aic_scorer
    >>> X = np.random.RandomState(0).randn(50, 2)
    >>> gm = GaussianMixture(random_state=0).fit(X)
    >>> aic_scorer(gm, X) == -gm.aic(X)
    True
    """
    return _negative("aic", estimator, X)


def icl_scorer(estimator, X, y=None):
    """Negative integrated completed likelihood, for ``scoring`` of searches.

    Parameters
    ----------
    estimator : estimator
        Fitted model with ``icl``, or a :class:`~sklearn.pipeline.Pipeline` that ends
        in one: X then goes through its leading steps.
    X : array-like of shape (n_samples, n_features)
        Data.
    y : Ignored
        Not used, present for API consistency by convention.

    Returns
    -------
    score : float
        ``-estimator.icl(X)``, in nats; higher is better.

    Raises
    ------
    TypeError
        If the model has no ``icl``.

    See Also
    --------
    bic_scorer : Without the entropy; its notes on the splits hold here too.

    References
    ----------
    .. [1] C. Biernacki, G. Celeux and G. Govaert (2000). "Assessing a mixture model
       for clustering with the integrated completed likelihood". IEEE Transactions on
       Pattern Analysis and Machine Intelligence 22, 719-725.

    Examples
    --------
    >>> import numpy as np
    >>> from skdeepgmm import GaussianMixture
    >>> from skdeepgmm.metrics import icl_scorer
    >>> X = np.random.RandomState(0).randn(50, 2)
    >>> gm = GaussianMixture(random_state=0).fit(X)
    >>> icl_scorer(gm, X) == -gm.icl(X)
    True
    """
    return _negative("icl", estimator, X)

"""Agreement of a clustering with known classes."""

import numpy as np
from scipy.optimize import linear_sum_assignment
from sklearn.metrics.cluster import contingency_matrix
from sklearn.utils import check_consistent_length, column_or_1d
from sklearn.utils.multiclass import type_of_target


def _check_labels(labels, name):
    labels = column_or_1d(labels)
    if labels.size == 0:
        raise ValueError(f"{name} is empty; expected the label of at least one sample.")
    if type_of_target(labels, input_name=name) == "continuous":
        raise ValueError(
            f"{name} holds continuous values; expected one class or cluster label per "
            "sample. Pass the result of predict, not of predict_proba or transform."
        )
    return labels


def _check_weight(sample_weight, n_samples):
    # Not sklearn's private weight check: here only sums of weights matter.
    weight = column_or_1d(sample_weight, dtype=np.float64)
    if weight.shape[0] != n_samples:
        raise ValueError(
            f"sample_weight has {weight.shape[0]} values; expected one per sample, "
            f"{n_samples}."
        )
    if not np.all(np.isfinite(weight)) or np.any(weight < 0) or weight.sum() == 0:
        raise ValueError(
            "sample_weight must be finite and non-negative with a positive sum; got "
            f"values in [{weight.min()}, {weight.max()}]."
        )
    return weight


def _weighted_contingency(labels_true, labels_pred, weight):
    classes, row = np.unique(labels_true, return_inverse=True)
    clusters, column = np.unique(labels_pred, return_inverse=True)
    table = np.zeros((classes.size, clusters.size))
    np.add.at(table, (row, column), weight)
    return table


def _contingency(labels_true, labels_pred, sample_weight):
    labels_true = _check_labels(labels_true, "labels_true")
    labels_pred = _check_labels(labels_pred, "labels_pred")
    check_consistent_length(labels_true, labels_pred)
    if sample_weight is None:
        return contingency_matrix(labels_true, labels_pred)
    weight = _check_weight(sample_weight, labels_true.shape[0])
    return _weighted_contingency(labels_true, labels_pred, weight)


def clustering_accuracy(labels_true, labels_pred, *, sample_weight=None):
    """Fraction of samples whose cluster is matched to their class, one to one.

    Every cluster is matched to at most one class and every class to at most one
    cluster, by the matching that agrees on the most samples (Hungarian method).
    Samples of unmatched clusters count as wrong, so that more clusters than classes
    do not raise the value as they do for :func:`purity`.

    Parameters
    ----------
    labels_true : array-like of shape (n_samples,)
        Known classes: integers, strings or booleans.
    labels_pred : array-like of shape (n_samples,)
        Clusters. They need neither the type nor the number of the classes.
    sample_weight : array-like of shape (n_samples,), default=None
        Weight of each sample. None gives every sample the weight 1.

    Returns
    -------
    accuracy : float
        Value in (0, 1]; 1 means that the clusters are the classes, up to names.

    Raises
    ------
    ValueError
        If the inputs are empty, differ in length or hold continuous values, or if the
        weights are negative, not finite or all zero.

    See Also
    --------
    purity : Each cluster counts for its most frequent class, many to one.

    Notes
    -----
    With n(c, k) the (weighted) number of samples of class c in cluster k, the value is
    max_m sum_c n(c, m(c)) / n over the one-to-one maps m from classes to clusters.

    With an estimator whose ``fit`` ignores ``y``, the measure selects hyper-parameters
    through :func:`sklearn.metrics.make_scorer`, as in the second example.

    References
    ----------
    .. [1] H. W. Kuhn (1955). "The Hungarian method for the assignment problem".
       Naval Research Logistics Quarterly 2, 83-97.

    Examples
    --------
    >>> from skdeepgmm.metrics import clustering_accuracy
    >>> clustering_accuracy(["a", "a", "b", "b"], [1, 1, 0, 2])
    0.75

    As the score of a grid search:

    >>> from sklearn.cluster import KMeans
    >>> from sklearn.datasets import make_blobs
    >>> from sklearn.metrics import make_scorer
    >>> from sklearn.model_selection import GridSearchCV
    >>> X, y = make_blobs(90, centers=3, cluster_std=0.5, random_state=0)
    >>> search = GridSearchCV(
    ...     KMeans(n_init=3, random_state=0),
    ...     {"n_clusters": [2, 3, 6]},
    ...     scoring=make_scorer(clustering_accuracy),
    ... ).fit(X, y)
    >>> search.best_params_
    {'n_clusters': 3}
    """
    table = _contingency(labels_true, labels_pred, sample_weight)
    rows, columns = linear_sum_assignment(table, maximize=True)
    return float(table[rows, columns].sum() / table.sum())


def purity(labels_true, labels_pred, *, sample_weight=None):
    """Fraction of samples that belong to the most frequent class of their cluster.

    Several clusters may count for the same class: purity never falls when a cluster
    is split and reaches 1 with one sample per cluster. Compare only clusterings with
    the same number of clusters, or use :func:`clustering_accuracy`.

    Parameters
    ----------
    labels_true : array-like of shape (n_samples,)
        Known classes: integers, strings or booleans.
    labels_pred : array-like of shape (n_samples,)
        Clusters. They need neither the type nor the number of the classes.
    sample_weight : array-like of shape (n_samples,), default=None
        Weight of each sample. None gives every sample the weight 1.

    Returns
    -------
    purity : float
        Value in (0, 1].

    Raises
    ------
    ValueError
        If the inputs are empty, differ in length or hold continuous values, or if the
        weights are negative, not finite or all zero.

    See Also
    --------
    clustering_accuracy : One-to-one matching of clusters and classes.

    Notes
    -----
    With n(c, k) the (weighted) number of samples of class c in cluster k, the value is
    sum_k max_c n(c, k) / n.

    References
    ----------
    .. [1] C. D. Manning, P. Raghavan and H. Schütze (2008). "Introduction to
       Information Retrieval", section 16.3. Cambridge University Press.

    Examples
    --------
    >>> from skdeepgmm.metrics import purity
    >>> purity(["a", "a", "b", "b"], [1, 1, 0, 2])
    1.0
    """
    table = _contingency(labels_true, labels_pred, sample_weight)
    return float(table.max(axis=0).sum() / table.sum())

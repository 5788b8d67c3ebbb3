"""Log-densities of incomplete samples, made comparable to those of complete ones.

The density of fewer features has other units and fewer factors: as it is, a sample is
typical or an outlier by the number of its missing features. A log-density of some
features is mapped to the log-density of all that is as rare: quantiles of both are
matched on complete reference samples.
"""

import copy

import numpy as np
from sklearn.utils import get_tags

from skdeepgmm.chunked import masked_as_nan
from skdeepgmm.estimators._sklearn_compat import _safe_indexing

#: Most reference samples, fewest complete ones that serve, and rows read at a time.
N_REFERENCE, FEWEST, CHUNK_ROWS = 1000, 100, 2**14


def reference_samples(model, X):
    """Return complete samples on which scores are made comparable, None for none.

    Training samples that miss nothing; where there are few, samples of the model.

    Parameters
    ----------
    model : estimator
        Fitted; None is returned unless it accepts NaN.
    X : array-like of shape (n_samples, n_features)
        Training data.

    Returns
    -------
    ndarray of shape (n_reference, n_features) or None
    """
    if not get_tags(model).input_tags.allow_nan:
        return None
    X = indexable(X)
    missing = missing_entries(X)
    if missing is None:
        return None
    complete = np.flatnonzero(~missing.any(axis=1))
    if len(complete) < FEWEST and hasattr(model, "sample"):
        return as_numpy(_seeded(model).sample(N_REFERENCE)[0])
    if not len(complete):
        return None
    order = np.random.RandomState(0).permutation(len(complete))
    return np.array(as_numpy(_safe_indexing(X, complete[order[:N_REFERENCE]])))


def _seeded(model):
    """Return the model with a fixed seed, so that fits are repeatable."""
    if "random_state" not in model.get_params(deep=False):
        return model
    return copy.copy(model).set_params(random_state=0)


def comparable(model, X, scores, reference):
    """Return the scores with those of incomplete samples on the scale of the others.

    Parameters
    ----------
    model : estimator
        Fitted, with ``score_samples``.
    X : array-like of shape (n_samples, n_features)
    scores : ndarray of shape (n_samples,)
        ``model.score_samples(X)``.
    reference : ndarray of shape (n_reference, n_features) or None
        As from :func:`reference_samples`; None leaves the scores.
    """
    missing = None if reference is None else missing_entries(indexable(X))
    if missing is None or not missing.any():
        return scores
    complete = np.sort(as_numpy(model.score_samples(reference)))
    scores = np.array(scores)
    patterns, which = np.unique(missing, axis=0, return_inverse=True)
    for number, pattern in enumerate(patterns):
        if pattern.any():
            masked = np.where(pattern, np.nan, reference)
            incomplete = np.sort(as_numpy(model.score_samples(masked)))
            mine = which.ravel() == number
            scores[mine] = matched(scores[mine], incomplete, complete)
    return scores


def matched(values, source, target):
    """Map values by the quantiles of two sorted samples, linearly beyond their ends.

    Beyond them distances are measured in standard deviations. Where the source has a
    single value, nothing is known of a sample, and the median is returned.
    """
    if source[-1] - source[0] <= 1e-9 * max(1.0, abs(source[0])):
        return np.full(len(values), np.median(target))
    found = np.interp(values, source, target)
    slope = target.std() / source.std()
    found += slope * np.minimum(values - source[0], 0.0)
    found += slope * np.maximum(values - source[-1], 0.0)
    return found


def as_numpy(values):
    """Return an array: with array API dispatch a model returns tensors."""
    return np.asarray(values.cpu() if hasattr(values, "cpu") else values)


def indexable(X):
    """Return X, as an array where it only can become one (``__array__``).

    Masked entries become NaN: slices of masked arrays would lose the mask.
    """
    if isinstance(X, np.ma.MaskedArray):
        return masked_as_nan(X)
    return X if hasattr(X, "shape") or hasattr(X, "__len__") else np.asarray(X)


def missing_entries(X):
    """Return where X is NaN or masked, None where it does not hold numbers."""
    n_samples = X.shape[0] if hasattr(X, "shape") else len(X)
    parts = []
    for start in range(0, n_samples, CHUNK_ROWS):
        part = _safe_indexing(X, slice(start, min(start + CHUNK_ROWS, n_samples)))
        try:
            parts.append(np.isnan(as_numpy(part).astype(np.float64)))
        except (TypeError, ValueError):
            return None
    return np.concatenate(parts)

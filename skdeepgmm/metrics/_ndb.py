"""Number of statistically different bins: do samples fill the data's modes?"""

from dataclasses import dataclass
from numbers import Integral, Real

import numpy as np
from scipy.special import rel_entr
from scipy.stats import norm
from sklearn.cluster import KMeans
from sklearn.utils import check_array, check_scalar


@dataclass(frozen=True)
class NDBResult:
    """Outcome of :func:`ndb_score`.

    Parameters
    ----------
    n_different : int
        Number of bins whose shares differ significantly (NDB).
    ndb : float
        ``n_different`` divided by the number of bins, in [0, 1]; lower is better. About
        the significance level is expected of a perfect model.
    js_divergence : float
        Jensen-Shannon divergence of the two shares, in nats, in [0, log 2].
    train_proportions : ndarray of shape (n_bins,)
        Share of the training rows in each bin.
    sample_proportions : ndarray of shape (n_bins,)
        Share of the compared rows in each bin.
    p_values : ndarray of shape (n_bins,)
        Two-sided p-value of each bin's test.

    Examples
    --------
    >>> import numpy as np
    >>> from skdeepgmm.metrics import ndb_score
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(500, 2))
    >>> result = ndb_score(X, X, n_bins=10, random_state=0)
    >>> result.n_different, result.js_divergence
    (0, 0.0)
    """

    n_different: int
    ndb: float
    js_divergence: float
    train_proportions: np.ndarray
    sample_proportions: np.ndarray
    p_values: np.ndarray


def two_proportion_p_values(proportions_1, n_1, proportions_2, n_2):
    """Two-sided p-values of the pooled two-proportion z-test.

    Parameters
    ----------
    proportions_1, proportions_2 : ndarray of shape (n_bins,)
        Observed shares of the two groups.
    n_1, n_2 : int
        Sizes of the two groups.

    Returns
    -------
    p_values : ndarray of shape (n_bins,)
        Probability of a difference at least as large under equal shares.
    """
    pooled = (n_1 * proportions_1 + n_2 * proportions_2) / (n_1 + n_2)
    error = np.sqrt(pooled * (1 - pooled) * (1 / n_1 + 1 / n_2))
    # A pooled share of 0 or 1 means that both groups agree exactly: z = 0, not 0 / 0.
    z = np.divide(
        proportions_1 - proportions_2, error, out=np.zeros_like(error), where=error > 0
    )
    return 2 * norm.sf(np.abs(z))


def _js_divergence(p, q):
    middle = (p + q) / 2
    return float((rel_entr(p, middle).sum() + rel_entr(q, middle).sum()) / 2)


def _check_inputs(X_train, X_samples, n_bins, significance_level):
    check_scalar(n_bins, "n_bins", Integral, min_val=2)
    check_scalar(
        significance_level,
        "significance_level",
        Real,
        min_val=0,
        max_val=1,
        include_boundaries="neither",
    )
    dtypes = [np.float64, np.float32]
    X_train = check_array(
        X_train, dtype=dtypes, ensure_min_samples=int(n_bins), input_name="X_train"
    )
    X_samples = check_array(X_samples, dtype=X_train.dtype, input_name="X_samples")
    if X_train.shape[1] != X_samples.shape[1]:
        raise ValueError(
            f"X_samples has {X_samples.shape[1]} features; expected the "
            f"{X_train.shape[1]} features of X_train."
        )
    return X_train, X_samples


def _proportions(labels, n_bins):
    return np.bincount(labels, minlength=n_bins) / labels.size


def ndb_score(
    X_train, X_samples, *, n_bins=100, significance_level=0.05, random_state=None
):
    """Compare two sets of rows by the share that falls into each k-means bin.

    The bins are the cells of a k-means fit to the training rows. A model that drops
    or over-represents a mode leaves bins whose shares differ by more than chance.
    Samples of the model are compared, or held-out rows to see what is reachable.

    Parameters
    ----------
    X_train : array-like of shape (n_train, n_features)
        Rows that define the bins, at least ``n_bins`` of them.
    X_samples : array-like of shape (n_samples, n_features)
        Rows to compare: generated, or held out.
    n_bins : int, default=100
        Number of k-means cells, at least 2.
    significance_level : float, default=0.05
        A bin counts as different when its p-value is below this value.
    random_state : int, RandomState instance or None, default=None
        Randomness of k-means. Use one integer to compare several models.

    Returns
    -------
    result : NDBResult
        The count, its fraction of the bins, the Jensen-Shannon divergence and the
        shares they come from.

    Raises
    ------
    ValueError
        If there are fewer training rows than bins, the numbers of features differ, a
        value is not finite or a parameter is out of range.

    Notes
    -----
    With shares p, q of n, m rows and the pooled share r = (n p + m q) / (n + m), each
    bin is tested by z = (p - q) / sqrt(r (1 - r) (1/n + 1/m)). The test relies on the
    normal approximation: use about ten expected rows per bin or more.

    References
    ----------
    .. [1] E. Richardson and Y. Weiss (2018). "On GANs and GMMs". Advances in Neural
       Information Processing Systems 31.

    Examples
    --------
    >>> import numpy as np
    >>> from skdeepgmm.metrics import ndb_score
    >>> rng = np.random.default_rng(0)
    >>> X_train = rng.normal(size=(1000, 2))
    >>> X_dropped = np.abs(rng.normal(size=(1000, 2)))  # one quadrant of four
    >>> result = ndb_score(X_train, X_dropped, n_bins=20, random_state=0)
    >>> result.ndb > 0.5
    True
    """
    X_train, X_samples = _check_inputs(X_train, X_samples, n_bins, significance_level)
    kmeans = KMeans(n_bins, n_init=1, random_state=random_state).fit(X_train)
    p = _proportions(kmeans.labels_, n_bins)
    q = _proportions(kmeans.predict(X_samples), n_bins)
    p_values = two_proportion_p_values(p, len(X_train), q, len(X_samples))
    n_different = int(np.sum(p_values < significance_level))
    return NDBResult(
        n_different, n_different / n_bins, _js_divergence(p, q), p, q, p_values
    )

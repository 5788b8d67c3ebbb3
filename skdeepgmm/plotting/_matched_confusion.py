"""Classes against clusters, after matching them one to one."""

import numpy as np
from scipy.optimize import linear_sum_assignment
from sklearn.metrics.cluster import contingency_matrix
from sklearn.utils import check_consistent_length
from sklearn.utils.validation import check_is_fitted

from skdeepgmm.plotting._image_grid import import_pyplot
from skdeepgmm.plotting._style import COUNTS

#: Largest table whose cells hold their counts.
MOST_WRITTEN = 16


class MatchedConfusionDisplay:
    """Confusion matrix of a clustering, its clusters in the order of the classes.

    Clusters are matched to classes by the Hungarian method, as in
    :func:`~skdeepgmm.metrics.clustering_accuracy`; clusters without a class come last.

    Parameters
    ----------
    counts : ndarray of shape (n_classes, n_clusters)
        Samples by class and cluster, columns in the order drawn.
    classes : ndarray of shape (n_classes,)
        Names of the classes.
    clusters : ndarray of shape (n_clusters,)
        Names of the clusters, in the order drawn.

    Attributes
    ----------
    ax_ : matplotlib Axes
        Axes of the matrix.
    figure_ : matplotlib Figure
        Figure of the matrix.
    im_ : matplotlib AxesImage
        The matrix: share of each cluster in its class.

    See Also
    --------
    sklearn.metrics.ConfusionMatrixDisplay : Of predictions that are classes.

    Examples
    --------
    >>> from skdeepgmm.plotting import MatchedConfusionDisplay
    >>> display = MatchedConfusionDisplay.from_predictions(
    ...     ["a", "a", "b", "b"], [7, 7, 3, 7]
    ... )
    >>> display.counts, display.clusters, display.accuracy
    (array([[2, 0],
           [1, 1]]), array([7, 3]), 0.75)

    Of a fitted clusterer:

    >>> from sklearn.cluster import KMeans
    >>> X, y = [[0.0], [0.1], [5.0], [5.1]], ["a", "a", "b", "b"]
    >>> kmeans = KMeans(2, random_state=0).fit(X)
    >>> MatchedConfusionDisplay.from_estimator(kmeans, X, y).accuracy
    1.0
    """

    def __init__(self, counts, classes, clusters):
        self.counts = counts
        self.classes = classes
        self.clusters = clusters

    @property
    def accuracy(self):
        """Share of samples whose cluster is that of their class."""
        counts = np.asarray(self.counts)
        return float(np.trace(counts) / counts.sum())

    @classmethod
    def from_estimator(cls, estimator, X, y, *, ax=None, **plot_params):
        """Predict the clusters of samples and draw them against their classes.

        Parameters
        ----------
        estimator : estimator
            Fitted, with ``predict``.
        X : array-like of shape (n_samples, n_features)
            Samples.
        y : array-like of shape (n_samples,)
            Their classes.
        ax : matplotlib Axes, default=None
            Axes to draw in. None makes a figure.
        **plot_params : dict
            Keyword arguments of :meth:`plot`.

        Returns
        -------
        display : MatchedConfusionDisplay
            The drawn display.

        Examples
        --------
        >>> from skdeepgmm.plotting import MatchedConfusionDisplay
        >>> MatchedConfusionDisplay.from_estimator(
        ...     clusterer, X_test, y_test
        ... )  # doctest: +SKIP
        """
        check_is_fitted(estimator)
        return cls.from_predictions(y, estimator.predict(X), ax=ax, **plot_params)

    @classmethod
    def from_predictions(cls, y_true, y_pred, *, ax=None, **plot_params):
        """Match clusters to classes and draw the table of both.

        Parameters
        ----------
        y_true : array-like of shape (n_samples,)
            Classes.
        y_pred : array-like of shape (n_samples,)
            Clusters.
        ax : matplotlib Axes, default=None
            Axes to draw in. None makes a figure.
        **plot_params : dict
            Keyword arguments of :meth:`plot`.

        Returns
        -------
        display : MatchedConfusionDisplay
            The drawn display.

        Raises
        ------
        ValueError
            If both differ in length.

        Examples
        --------
        >>> from skdeepgmm.plotting import MatchedConfusionDisplay
        >>> MatchedConfusionDisplay.from_predictions(y, labels)  # doctest: +SKIP
        """
        y_true, y_pred = np.asarray(y_true), np.asarray(y_pred)
        check_consistent_length(y_true, y_pred)
        classes, clusters = np.unique(y_true), np.unique(y_pred)
        counts = contingency_matrix(y_true, y_pred)
        rows, columns = _matched_order(counts)
        display = cls(counts[rows][:, columns], classes[rows], clusters[columns])
        return display.plot(ax=ax, **plot_params)

    def plot(self, ax=None, *, cmap=COUNTS):
        """Draw the matrix.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw in. None makes a figure.
        cmap : str or matplotlib Colormap, default="Blues"
            Colours of the shares, white to dark from 0 to 1.

        Returns
        -------
        display : MatchedConfusionDisplay
            The display, with ``ax_``, ``figure_`` and ``im_``.

        Raises
        ------
        ImportError
            If matplotlib is not installed.

        Examples
        --------
        >>> display.plot(cmap="Greens")  # doctest: +SKIP
        """
        plt = import_pyplot(type(self).__name__)
        counts = np.asarray(self.counts)
        if ax is None:
            height, width = 0.42 * np.array(counts.shape) + [1.4, 1.6]
            size = (max(width, 3.6), max(height, 3.2))
            _, ax = plt.subplots(figsize=size, layout="constrained")
        shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
        self.im_ = ax.imshow(shares, cmap=cmap, vmin=0, vmax=1)
        ax.set_xticks(range(len(self.clusters)), self.clusters)
        ax.set_yticks(range(len(self.classes)), self.classes)
        ax.set(xlabel="cluster, in the order of its class", ylabel="class")
        ax.set_title(f"accuracy {self.accuracy:.1%} after matching", fontsize="medium")
        if max(counts.shape) <= MOST_WRITTEN:
            _write_counts(ax, counts, shares)
        self.ax_, self.figure_ = ax, ax.figure
        return self


def _matched_order(counts):
    """Return the orders of rows and columns that put matched pairs on the diagonal.

    Classes keep their order, those without a cluster come last, as do clusters
    without a class, the largest first.
    """
    rows, columns = linear_sum_assignment(counts, maximize=True)
    other_rows = np.setdiff1d(np.arange(counts.shape[0]), rows)
    others = np.setdiff1d(np.arange(counts.shape[1]), columns)
    others = others[np.argsort(-counts[:, others].sum(axis=0), kind="stable")]
    return np.append(rows, other_rows), np.append(columns, others)


def _write_counts(ax, counts, shares):
    for (row, column), count in np.ndenumerate(counts):
        if count:
            color = "white" if shares[row, column] > 0.5 else "0.2"
            ax.text(
                *(column, row, str(count)),
                ha="center",
                va="center",
                color=color,
                fontsize="x-small",
            )

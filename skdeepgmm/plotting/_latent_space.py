"""The embedding of a model in two dimensions."""

import numpy as np
from sklearn.decomposition import PCA
from sklearn.utils.validation import check_is_fitted

from skdeepgmm.plotting._image_grid import import_pyplot
from skdeepgmm.plotting._style import SAMPLES, color_of, legend_beside

#: Most classes that a legend lists.
MOST_LABELS = 20


class LatentSpaceDisplay:
    """Embedded samples in the plane, in the colours of their classes or clusters.

    Parameters
    ----------
    embedding : ndarray of shape (n_samples, 2)
        Points in the plane.
    labels : ndarray of shape (n_samples,) or None, default=None
        Class or cluster of each sample.
    axis_labels : tuple of str, default=("latent 0", "latent 1")
        Labels of the axes.
    label_name : str, default="class"
        What the labels are: the title of the legend.

    Attributes
    ----------
    ax_ : matplotlib Axes
        Axes of the points.
    figure_ : matplotlib Figure
        Figure of the points.
    points_ : list of matplotlib PathCollection
        Points by label, in sorted order.

    See Also
    --------
    InterpolationDisplay : What lies between two points of this space.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.decomposition import PCA
    >>> from skdeepgmm.plotting import LatentSpaceDisplay
    >>> X = np.random.RandomState(0).normal(size=(30, 4))
    >>> y = np.repeat(["a", "b", "c"], 10)
    >>> display = LatentSpaceDisplay.from_estimator(PCA(3).fit(X), X, y)
    >>> display.embedding.shape, len(display.points_)
    ((30, 2), 3)
    """

    def __init__(
        self,
        embedding,
        labels=None,
        *,
        axis_labels=("latent 0", "latent 1"),
        label_name="class",
    ):
        self.embedding = embedding
        self.labels = labels
        self.axis_labels = axis_labels
        self.label_name = label_name

    @classmethod
    def from_estimator(
        cls, estimator, X, y=None, *, max_samples=2000, ax=None, **plot_params
    ):
        """Embed samples by ``transform`` and draw them.

        Parameters
        ----------
        estimator : estimator
            Fitted, with ``transform``. An embedding of more than two dimensions is
            projected on its first two principal components.
        X : array-like of shape (n_samples, n_features)
            Samples.
        y : array-like of shape (n_samples,), default=None
            Classes that colour the samples. None takes the clusters that ``predict``
            finds, if the estimator has it.
        max_samples : int, default=2000
            Most samples that are drawn, chosen at random (always the same).
        ax : matplotlib Axes, default=None
            Axes to draw in. None makes a figure.
        **plot_params : dict
            Keyword arguments of :meth:`plot`.

        Returns
        -------
        display : LatentSpaceDisplay
            The drawn display.

        Raises
        ------
        ValueError
            If y does not have a label for each sample, or the embedding has one column.

        Examples
        --------
        >>> from skdeepgmm.plotting import LatentSpaceDisplay
        >>> LatentSpaceDisplay.from_estimator(clusterer, X, y)  # doctest: +SKIP
        """
        check_is_fitted(estimator)
        embedding = np.asarray(estimator.transform(X), dtype=float)
        labels, name = y, "class"
        if y is None and hasattr(estimator, "predict"):
            labels, name = estimator.predict(X), "cluster"
        if labels is not None and len(labels) != len(embedding):
            raise ValueError(
                f"y has {len(labels)} labels; expected one a sample, {len(embedding)}."
            )
        points, axis_labels = _in_the_plane(embedding)
        order = np.random.RandomState(0).permutation(len(points))[:max_samples]
        labels = None if labels is None else np.asarray(labels)[order]
        display = cls(points[order], labels, axis_labels=axis_labels, label_name=name)
        return display.plot(ax=ax, **plot_params)

    def plot(self, ax=None, *, legend=True, s=8, alpha=0.7):
        """Draw the points.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw in. None makes a figure.
        legend : bool, default=True
            Whether to draw a legend beside the axes, for up to 20 labels.
        s : float, default=8
            Size of the points, in square points.
        alpha : float, default=0.7
            Their opacity.

        Returns
        -------
        display : LatentSpaceDisplay
            The display, with ``ax_``, ``figure_`` and ``points_``.

        Raises
        ------
        ImportError
            If matplotlib is not installed.

        Examples
        --------
        >>> display.plot(s=3)  # doctest: +SKIP
        """
        plt = import_pyplot(type(self).__name__)
        if ax is None:
            _, ax = plt.subplots(figsize=(5.6, 4.4), layout="constrained")
        style = {"s": s, "alpha": alpha, "lw": 0}
        points = np.asarray(self.embedding)
        if self.labels is None:
            self.points_ = [ax.scatter(*points.T, color=SAMPLES, **style)]
        else:
            known = np.unique(self.labels)
            self.points_ = [
                ax.scatter(
                    *points[np.asarray(self.labels) == label].T,
                    color=color_of(number),
                    label=str(label),
                    **style,
                )
                for number, label in enumerate(known)
            ]
            if legend and len(known) <= MOST_LABELS:
                legend_beside(ax, title=self.label_name, markerscale=2)
        ax.set(xlabel=self.axis_labels[0], ylabel=self.axis_labels[1])
        self.ax_, self.figure_ = ax, ax.figure
        return self


def _in_the_plane(embedding):
    """Return points of two dimensions, and what the axes are."""
    if embedding.ndim != 2 or embedding.shape[1] < 2:
        raise ValueError(
            f"The embedding has the shape {embedding.shape}; expected at least two "
            "columns to draw in the plane."
        )
    if embedding.shape[1] == 2:
        return embedding, ("latent 0", "latent 1")
    pca = PCA(2, random_state=0).fit(embedding)
    labels = (
        f"principal component {number + 1} ({share:.0%} of the variance)"
        for number, share in enumerate(pca.explained_variance_ratio_)
    )
    return pca.transform(embedding), tuple(labels)

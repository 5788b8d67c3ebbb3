"""The colours that all displays share, and panels beside each other.

Components, clusters and classes have the colour of their number; densities are grey
behind them, as phases of a fit are behind its curves; counts are blue, inliers blue and
outliers red, signed differences blue to red around white.
"""

import numpy as np

#: Of components, clusters and classes, by their number.
CYCLE = (
    *("#1f77b4", "#ff7f0e", "#2ca02c", "#d62728", "#9467bd"),
    *("#8c564b", "#e377c2", "#7f7f7f", "#bcbd22", "#17becf"),
)
INLIERS, OUTLIERS = "#1f77b4", "#d62728"
#: Colour maps of densities, of counts and of signed differences.
DENSITY, COUNTS, DIFFERENCE = "Greys", "Blues", "RdBu_r"
#: Colours of samples without a class, and of phases of a fit in their order.
SAMPLES, PHASES = "0.2", ("0.85", "0.93")


def color_of(number):
    """Return the colour of a component, cluster or class."""
    return CYCLE[int(number) % len(CYCLE)]


def panels(plt, ax, n_rows, n_columns, size, *, gap=(0.14, 0.3), heights=None):
    """Return (outer axes, array of panels), in ``ax`` or in a new figure.

    Parameters
    ----------
    plt : module
    ax : matplotlib Axes or None
    n_rows, n_columns : int
    size : tuple of float
        Width and height of a panel of a new figure, in inches.
    gap : tuple of float
        Gaps between columns and rows inside ``ax``, in shares of it.
    heights : sequence of float, default=None
        Heights of the rows of a new figure, in panels.
    """
    if ax is not None:
        return ax, _panels_in(ax, n_rows, n_columns, gap)
    heights = [1.0] * n_rows if heights is None else heights
    _, axes = plt.subplots(
        n_rows,
        n_columns,
        figsize=(size[0] * n_columns, size[1] * sum(heights)),
        height_ratios=heights,
        squeeze=False,
        layout="constrained",
    )
    return axes[0, 0], axes


def _panels_in(ax, n_rows, n_columns, gap):
    """Return an array of axes inside ``ax``; a single one is ``ax`` itself."""
    if n_rows == n_columns == 1:
        return np.array([[ax]], dtype=object)
    ax.set_axis_off()
    width = (1 - gap[0] * (n_columns - 1)) / n_columns
    height = (1 - gap[1] / n_rows * (n_rows - 1)) / n_rows
    axes = np.empty((n_rows, n_columns), dtype=object)
    for row, column in np.ndindex(axes.shape):
        left = column * (width + gap[0])
        top = 1 - row * (height + gap[1] / n_rows)
        axes[row, column] = ax.inset_axes((left, top - height, width, height))
    return axes


def legend_beside(ax, **options):
    """Draw a legend to the right of the axes, where it hides nothing."""
    return ax.legend(
        loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False, **options
    )

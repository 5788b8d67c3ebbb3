"""The colours that all displays share, and panels beside each other.

Components, clusters and classes have the colour of their number, densities are blue,
inliers blue and outliers red, signed differences blue to red around white, phases of a
fit grey.
"""

import numpy as np

#: Of components, clusters and classes, by their number.
CYCLE = (
    *("#1f77b4", "#ff7f0e", "#2ca02c", "#d62728", "#9467bd"),
    *("#8c564b", "#e377c2", "#7f7f7f", "#bcbd22", "#17becf"),
)
INLIERS, OUTLIERS = "#1f77b4", "#d62728"
#: Colour maps of densities and counts, of signed differences, of grey images.
DENSITY, DIFFERENCE, GREY = "Blues", "RdBu_r", "gray"
#: Colours of samples drawn over a density, and of phases of a fit.
SAMPLES, PHASES = "0.25", ("0.87", "0.94")


def color_of(number):
    """Return the colour of a component, cluster or class."""
    return CYCLE[int(number) % len(CYCLE)]


def new_panels(plt, n_rows, n_columns, size):
    """Return an array of axes in a new figure, panels of ``size`` (inches)."""
    figsize = (size[0] * n_columns, size[1] * n_rows)
    _, axes = plt.subplots(
        n_rows, n_columns, figsize=figsize, squeeze=False, layout="constrained"
    )
    return axes


def panels_in(ax, n_rows, n_columns, gap=(0.14, 0.3)):
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


def panels(plt, ax, n_rows, n_columns, size, gap=(0.14, 0.3)):
    """Return (outer axes, array of panels), in ``ax`` or in a new figure."""
    if ax is not None:
        return ax, panels_in(ax, n_rows, n_columns, gap)
    axes = new_panels(plt, n_rows, n_columns, size)
    return axes[0, 0], axes


def legend_beside(ax, **options):
    """Draw a legend to the right of the axes, where it hides nothing."""
    return ax.legend(
        loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False, **options
    )

"""The role ``:measured:`TEXT <NAME>```: a figure, with the file that it is from.

The text is what readers see, the name that of a figure in ``benchmarks/results`` (see
``benchmarks/_figures.py``). A text that is not the figure ends a build with ``-W``.
"""

import sys
from pathlib import Path

from docutils import nodes
from sphinx.util.docutils import SphinxRole

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

import _figures


class Measured(SphinxRole):
    """Check a figure and show its text."""

    def run(self):
        """Return the text as a node, and a message where it is wrong."""
        text, _, name = self.text.partition(" <")
        found = self.env.temp_data.setdefault("measured", None) or _figures.load()
        self.env.temp_data["measured"] = found
        wrong = _figures.problem(text, name.removesuffix(">"), found)
        messages = [] if wrong is None else [self.inliner.reporter.warning(wrong)]
        return [nodes.inline(text, text, classes=["measured"])], messages


def setup(app):
    """Register the role."""
    app.add_role("measured", Measured())
    return {"version": "1", "parallel_read_safe": True}

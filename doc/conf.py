"""Sphinx configuration. Builds offline; warnings are errors (make doc)."""

import importlib.util
import os
import sys
from pathlib import Path

os.environ.setdefault("MPLBACKEND", "Agg")

import skdeepgmm

sys.path.insert(0, str(Path(__file__).parent / "_extensions"))

project = "skdeepgmm"
author = "skdeepgmm developers"
copyright = "2026, skdeepgmm developers"
release = skdeepgmm.__version__
version = ".".join(release.split(".")[:2])

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
    "numpydoc",
    "matplotlib.sphinxext.plot_directive",
    "sphinx_gallery.gen_gallery",
    "measured",
]
# MathJax in the pages themselves, so that formulas show without the network.
if importlib.util.find_spec("sphinx-mathjax-offline"):
    extensions.append("sphinx-mathjax-offline")
# Links to other packages' pages need the network: SKDEEPGMM_DOC_ONLINE=1 make doc
if os.environ.get("SKDEEPGMM_DOC_ONLINE"):
    extensions.append("sphinx.ext.intersphinx")
    intersphinx_mapping = {
        "python": ("https://docs.python.org/3", None),
        "numpy": ("https://numpy.org/doc/stable", None),
        "sklearn": ("https://scikit-learn.org/stable", None),
        "torch": ("https://docs.pytorch.org/docs/stable", None),
    }

exclude_patterns = ["_build", "_extensions", "**/GALLERY_HEADER.rst"]
templates_path = ["_templates"]
# The guide's figures: the code of a page as it stands, one file a figure. What they
# write falls into a folder that git ignores.
plot_include_source = True
plot_html_show_source_link = False
plot_html_show_formats = False
plot_formats = [("png", 100)]
plot_rcparams = {"figure.figsize": (6, 3.5), "savefig.bbox": "tight"}
plot_apply_rcparams = True
plot_working_directory = str(Path(__file__).parent / "_build" / "plots")
Path(plot_working_directory).mkdir(parents=True, exist_ok=True)
html_theme = "pydata_sphinx_theme"
html_title = f"skdeepgmm {version}"
html_static_path = ["_static"]
html_css_files = ["style.css"]
# Pages without siblings leave the room to their tables.
html_sidebars = {name: [] for name in ("index", "install", "results", "support")}
html_theme_options = {
    "show_toc_level": 2,
    "navigation_with_keys": False,
    "secondary_sidebar_items": ["page-toc"],
}

autosummary_generate = True
autodoc_typehints = "none"
default_role = "literal"
numpydoc_show_class_members = False

sphinx_gallery_conf = {
    "examples_dirs": "examples",
    "gallery_dirs": "auto_examples",
    "filename_pattern": r"plot_",
    "abort_on_example_error": True,
    "download_all_examples": False,
    "show_signature": False,
    "plot_gallery": "True",
    "min_reported_time": 60,
    # Pages of classes and functions show the examples that use them.
    "backreferences_dir": "api/generated/backreferences",
    "doc_module": ("skdeepgmm",),
    # Examples print what is worth reading; the last expression is often a picture.
    "capture_repr": (),
}


def skip_members_of_scikit_learn(app, what, name, obj, skip, options):
    """Leave out what is inherited: scikit-learn documents it, with its own labels."""
    module = getattr(obj, "__module__", None) or ""
    return True if module.startswith("sklearn.") else skip


def setup(app):
    app.connect("autodoc-skip-member", skip_members_of_scikit_learn)

"""Labels of semi-supervised fits: names, missing ones, and ignored ones."""

import numpy as np
import pandas as pd
import pytest
import torch

from skdeepgmm import DeepConvGMM, GANEMClusterer, MinMaxEMClusterer
from skdeepgmm.estimators._labels import check_labels, encoded, warn_ignored

SHORT = {
    GANEMClusterer: {
        "max_iter": 4,
        "tol": 1.0,
        "n_iter_no_change": 3,
        "recipe": {"gan_steps": 20},
        "learning_rate": 3e-3,
        "n_init": 1,
    },
    MinMaxEMClusterer: {"max_iter": 3},
}
each_clusterer = pytest.mark.parametrize("cls", SHORT, ids=lambda cls: cls.__name__)
quiet = pytest.mark.filterwarnings("ignore::skdeepgmm.exceptions.ConvergenceWarning")


def make(cls, n_clusters=3, **params):
    return cls(n_clusters, random_state=0, **SHORT[cls], **params)


@quiet
@each_clusterer
def test_names_are_the_codes_of_their_order(cls, blobs):
    X, truth = blobs[0][::3], blobs[1][::3]
    y = np.where(np.arange(100) % 3 == 0, truth, -1)
    names = np.array(["ant", "bee", "cat", -1], dtype=object)
    by_number = make(cls, semi_supervised=True).fit(X, y)
    by_name = make(cls, semi_supervised=True).fit(X, names[y])
    np.testing.assert_array_equal(by_name.labels_, by_number.labels_)
    assert by_number.classes_.tolist() == [0, 1, 2]
    assert by_name.classes_.tolist() == ["ant", "bee", "cat"]
    np.testing.assert_array_equal(
        by_name.predict_class(X), by_name.classes_[by_name.predict(X)]
    )
    assert (by_name.predict_class(X) == names[truth]).mean() > 0.9


@quiet
def test_clusters_without_a_name_are_left_out(blobs):
    X, y = blobs
    names = np.array(["ant", "bee", -1], dtype=object)[y]
    model = make(MinMaxEMClusterer, semi_supervised=True).fit(X, names)
    assert model.classes_.tolist() == ["ant", "bee"]
    resp = model.predict_proba(X)[:, :2]
    expected = model.classes_[resp.argmax(axis=1)]
    np.testing.assert_array_equal(model.predict_class(X), expected)
    # A fit without labels forgets them.
    model.set_params(semi_supervised=False).fit(X)
    with pytest.raises(AttributeError, match="knows no classes"):
        model.predict_class(X)


@each_clusterer
def test_more_classes_than_clusters_are_refused(cls, blobs):
    X, y = blobs
    names = np.array(["a", "b", "c"])[y]
    with pytest.raises(ValueError, match="3 classes, more than n_clusters=2"):
        make(cls, 2, semi_supervised=True).fit(X, names)


@pytest.mark.parametrize("missing", [np.nan, None, pd.NA])
@pytest.mark.parametrize(
    "cls", [DeepConvGMM, *SHORT], ids=lambda cls: getattr(cls, "__name__", str(cls))
)
def test_missing_labels_are_counted(cls, missing, blobs):
    X, y = blobs
    y = y.astype(object)
    y[[4, 7]] = missing
    model = cls(3, semi_supervised=True) if cls in SHORT else cls(semi_supervised=True)
    message = r"missing labels \(NaN or None\), 2 of 300, the first in row 4.*Use -1"
    with pytest.raises(ValueError, match=message):
        model.fit(X, y)


@quiet
@pytest.mark.parametrize("cls", [DeepConvGMM, MinMaxEMClusterer])
def test_unlabelled_samples_that_are_ignored_are_told(cls, blobs):
    X, y = blobs
    y[::2] = -1
    model = make(cls) if cls in SHORT else cls(max_iter=2, tol=1e9)
    with pytest.warns(UserWarning, match="but semi_supervised=False"):
        model.fit(X, y)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    "y", [None, [0, 1, 2], [-1, 1, 1], [[0], [1, 2]], ["a", None], "text", object()]
)
def test_other_labels_are_ignored_in_silence(y):
    warn_ignored(y)


@pytest.mark.parametrize(
    "y", [[-1, 0, 1], np.array(["a", -1], dtype=object), torch.tensor([-1, 3]), [-1.0]]
)
def test_marks_of_unlabelled_samples_in_any_container(y):
    if isinstance(y, np.ndarray):
        assert encoded(check_labels(y, 2))[1].tolist() == [0, -1]
        return
    with pytest.warns(UserWarning, match="semi_supervised=True"):
        warn_ignored(y)

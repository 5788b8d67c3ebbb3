"""Semi-supervised deep mixtures: classes read off the components."""

import numpy as np
import pytest
import torch

from tests.estimators.deep_conv.problems import make


def test_labels_give_conditional_samples(pictures):
    X, y = pictures
    partly = np.where(np.arange(200) < 30, y, -1)
    names = {"semi_supervised": True}
    model = make(**names).fit(X, partly)
    np.testing.assert_array_equal(model.classes_, range(4))
    np.testing.assert_allclose(model.class_proba_.sum(axis=1), 1.0)
    assert (model.predict_class(X) == y).mean() > 0.95
    for label in range(4):
        drawn, _ = model.sample(20, temperature=0.0, y=label)
        assert (model.predict_class(drawn) == label).mean() > 0.95
    with pytest.raises(ValueError, match="none of the classes"):
        model.sample(2, y=9)
    with pytest.warns(UserWarning, match="semi_supervised=False"):
        without = make().fit(X, partly)
    np.testing.assert_array_equal(without.predict(X), model.predict(X))
    with pytest.raises(AttributeError, match="semi_supervised=True"):
        without.predict_class(X)


@pytest.mark.parametrize(
    "y, match",
    [(None, "needs labels"), (np.full(200, -1), "no labelled"), ([1, 2], "shape")],
)
def test_bad_labels_are_refused(y, match, pictures):
    with pytest.raises(ValueError, match=match):
        make(semi_supervised=True).fit(pictures[0], y)


def test_classes_may_have_names(pictures):
    X, y = pictures
    names = np.array(list("abcd"), dtype=object)
    partly = np.where(np.arange(200) < 40, names[y], -1)
    model = make(semi_supervised=True).fit(X, partly)
    assert model.classes_.tolist() == list("abcd")
    assert (model.predict_class(X) == names[y]).mean() > 0.95
    drawn, _ = model.sample(8, temperature=0.0, y="c")
    assert (model.predict_class(drawn) == "c").all()
    for wrong in (2, ["a", "b"]):
        with pytest.raises(ValueError, match="none of the classes"):
            model.sample(2, y=wrong)


@pytest.mark.parametrize(
    "label, match", [("-1", "object array of strings"), (np.nan, "missing labels")]
)
def test_other_marks_of_unlabelled_samples_are_refused(label, match, pictures):
    y = ["a" if isinstance(label, str) else 0.0] * 100 + [label] * 100
    with pytest.raises(ValueError, match=match):
        make(semi_supervised=True).fit(pictures[0], y)


def test_a_class_is_read_off_the_responsibilities(pictures):
    """Counts are sums of responsibilities over the labelled samples of a class."""
    X, y = pictures
    partly = np.where(np.arange(200) % 3 == 0, y, -1)
    model = make(semi_supervised=True, max_iter=5).fit(X, partly)
    resp = model.predict_proba(X)
    counts = [resp[partly == label].sum(axis=0) for label in range(4)]
    np.testing.assert_allclose(model.class_counts_.T, counts, rtol=1e-5, atol=1e-6)
    expected = (resp @ model.class_proba_).argmax(axis=1)
    np.testing.assert_array_equal(model.predict_class(X), expected)


def test_labels_of_tensors_are_learned(pictures):
    X, y = pictures
    expected = make(semi_supervised=True, max_iter=3).fit(X, y)
    model = make(semi_supervised=True, max_iter=3).fit(torch.from_numpy(X), y)
    np.testing.assert_array_equal(model.class_counts_, expected.class_counts_)

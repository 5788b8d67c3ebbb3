"""The demonstration runs from its command line and shows what it promises."""

import inspect
import re
import sys
import warnings

import numpy as np
import pytest
from sklearn.base import is_outlier_detector

import skdeepgmm
from skdeepgmm import demo


@pytest.fixture(scope="module")
def quick_data():
    return demo.split(seed=0, quick=True)


def run(out, capsys):
    demo.main(["--quick", "--out", str(out)])
    return capsys.readouterr().out


def test_the_whole_demo(tmp_path, capsys):
    pytest.importorskip("matplotlib")
    text = run(tmp_path / "pictures", capsys)
    assert max(len(line) for line in text.splitlines()) <= 100
    for label in ("sklearn KMeans", "sklearn GaussianMixture", *demo.OURS):
        (line,) = re.findall(rf"^{label} +(0\.\d+) .*$", text, flags=re.MULTILINE)
        assert float(line) > 0.4  # chance is about 0.2
    assert re.search(r"AUROC 0\.[6-9]", text)
    names = {path.name for path in (tmp_path / "pictures").iterdir()}
    kinds = ("means", "samples", "training")
    assert names == {f"{label}_{kind}.png" for label in demo.OURS for kind in kinds}
    assert all(name in text for name in names)


def test_without_rich_and_matplotlib(tmp_path, capsys, monkeypatch):
    for name in ("rich", "matplotlib"):
        monkeypatch.setitem(sys.modules, name, None)  # importing it now fails
    monkeypatch.setattr(demo, "OURS", {"GaussianMixture": demo.OURS["GaussianMixture"]})
    text = run(tmp_path / "pictures", capsys)
    assert "pip install 'skdeepgmm[plot]'" in text
    assert not (tmp_path / "pictures").exists()


def test_warnings_are_printed_once_on_short_lines(capsys):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(2):
            warnings.warn("a long message " * 10)
    demo.print_warnings(caught)
    text = capsys.readouterr().out
    assert text.count("UserWarning") == 1
    assert text.count("long") == 10
    assert max(map(len, text.splitlines())) <= 80


def test_every_public_mixture_takes_part():
    public = {
        name
        for name in skdeepgmm.__all__
        if inspect.isclass(getattr(skdeepgmm, name))
        and hasattr(getattr(skdeepgmm, name), "sample")
    }
    searches = {"GaussianMixtureIC"}  # whose best one is a GaussianMixture
    assert public - searches == set(demo.OURS)


def test_no_model_is_an_outlier_detector_and_all_have_the_seed():
    for model in demo.models(seed=5).values():
        assert model.random_state == 5
        assert not is_outlier_detector(model)


def test_split_holds_out_a_quarter_of_each_digit(quick_data):
    X_train, X_test, y_train, y_test = quick_data
    assert (len(X_train), len(X_test)) == (450, 150)
    shares = np.bincount(y_test) / (np.bincount(y_train) + np.bincount(y_test))
    np.testing.assert_allclose(shares, 0.25, atol=0.02)


def test_the_table_has_a_line_a_row():
    rows = [
        demo.Row("first", None, 0.5, 0.25, 0.125, None, 1.0),
        demo.Row("second", None, 0.75, 0.5, 0.25, -123.456, 10.0),
    ]
    head, rule, first, second = demo.format_table(rows).splitlines()
    assert len(head) == len(rule) == len(first) == len(second) <= 80
    assert first.split() == ["first", "0.500", "0.250", "0.125", "-", "1.00"]
    assert second.split() == ["second", "0.750", "0.500", "0.250", "-123.46", "10.00"]

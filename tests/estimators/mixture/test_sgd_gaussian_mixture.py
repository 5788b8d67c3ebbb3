"""SGDGaussianMixture: quality from a random start, streams, schedule, reports."""

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.metrics import adjusted_rand_score
from sklearn.mixture import GaussianMixture as ReferenceMixture

from skdeepgmm.estimators.mixture._sgd_gaussian_mixture import SGDGaussianMixture
from skdeepgmm.exceptions import (
    ConvergenceWarning,
    DegenerateComponentWarning,
    TrainingDivergedError,
)

KINDS = ["full", "tied", "diag", "spherical"]


@pytest.fixture
def mixture_data(rng):
    """Training and held-out rows of four overlapping groups in uneven units."""
    means = rng.normal(size=(4, 5)) * 3.0
    scale = np.array([1.0, 1e-3, 50.0, 0.2, 4.0])
    labels = rng.choice(4, size=6000, p=[0.4, 0.3, 0.2, 0.1])
    spread = np.array([0.5, 1.0, 1.5, 1.0])[labels, None]
    X = (means[labels] + spread * rng.normal(size=(6000, 5))) * scale + 100.0 * scale
    return X[:3000], X[3000:]


def make(**settings):
    return SGDGaussianMixture(**{"n_components": 4, "random_state": 0, **settings})


@pytest.mark.parametrize("kind", KINDS)
def test_random_start_reaches_em_from_kmeans(kind, mixture_data):
    X, held_out = mixture_data
    settings = {"covariance_type": kind, "reg_covar": 1e-9}
    sgd = make(**settings).fit(X)
    em = ReferenceMixture(4, n_init=5, random_state=0, **settings).fit(X)
    assert sgd.score(held_out) > em.score(held_out) - 0.02


@pytest.mark.parametrize("annealing", ["max", "soft", "none"])
def test_every_objective_ends_on_the_likelihood(annealing, mixture_data):
    X, held_out = mixture_data
    model = make(annealing=annealing, reg_covar=1e-9).fit(X)
    bounds = model.lower_bounds_
    assert bounds[-1] > bounds[0]
    assert model.lower_bound_ == pytest.approx(model.score(X), abs=0.01)
    assert model.score(held_out) == pytest.approx(model.lower_bound_, abs=0.2)


def test_history_is_a_lower_bound_that_becomes_exact(mixture_data):
    X, _ = mixture_data
    model = make(reg_covar=1e-9).fit(X)
    objective, likelihood = -model.history_["loss"], model.history_["log_likelihood"]
    assert len(objective) == len(likelihood) == model.n_iter_ == 30
    assert (objective <= likelihood + 1e-9).all()
    assert objective[0] < likelihood[0] - 1e-6
    np.testing.assert_allclose(objective[-15:], likelihood[-15:])
    np.testing.assert_array_equal(likelihood, model.lower_bounds_)


@pytest.mark.parametrize("kind", KINDS)
def test_affine_change_of_a_feature_changes_nothing_but_units(kind, mixture_data):
    X, _ = mixture_data
    model = make(covariance_type=kind, reg_covar=0.0, max_iter=5, tol=1e-6)
    scale = np.full(5, 1024.0)
    if kind != "spherical":
        scale = 2.0 ** np.array([10, -3, 0, 5, 1])
    with pytest.warns(ConvergenceWarning):
        first, second = clone(model).fit(X), clone(model).fit(X * scale)
    np.testing.assert_allclose(first.means_ * scale, second.means_, rtol=1e-6)
    np.testing.assert_allclose(
        first.score_samples(X) - np.log(scale).sum(),
        second.score_samples(X * scale),
        rtol=1e-6,
        atol=1e-6,
    )


def test_same_seed_same_model_and_other_seed_another(mixture_data):
    X, _ = mixture_data
    first, again = (make(reg_covar=1e-9).fit(X) for _ in range(2))
    other = make(reg_covar=1e-9, random_state=1).fit(X)
    np.testing.assert_array_equal(first.means_, again.means_)
    np.testing.assert_array_equal(first.lower_bounds_, again.lower_bounds_)
    assert not np.array_equal(first.means_, other.means_)


@pytest.mark.parametrize("kind", KINDS)
def test_precisions_invert_covariances(kind, blobs):
    X, _ = blobs
    model = make(covariance_type=kind, n_components=3).fit(X)
    if kind in ("full", "tied"):
        product = model.covariances_ @ model.precisions_
        np.testing.assert_allclose(product, np.eye(4) + 0 * product, atol=1e-8)
        triangle = model.precisions_cholesky_
        np.testing.assert_allclose(np.triu(triangle), triangle)
    else:
        np.testing.assert_allclose(model.covariances_ * model.precisions_, 1.0)
    assert model.weights_.sum() == pytest.approx(1.0)


def test_float32_data_give_float32_parameters_and_agree(mixture_data):
    X, _ = mixture_data
    wide = make(reg_covar=1e-9).fit(X)
    narrow = make(reg_covar=1e-9).fit(X.astype(np.float32))
    assert narrow.means_.dtype == np.float32
    assert narrow.score(X) == pytest.approx(wide.score(X), abs=0.02)


def test_float32_with_a_large_offset(blobs):
    X, _ = blobs
    shifted = (X + 1e4).astype(np.float32)
    model = make(n_components=3).fit(shifted)
    same = make(n_components=3).fit(shifted.astype(np.float64))
    assert model.score(shifted) == pytest.approx(same.score(shifted), abs=1e-2)


def test_stream_learns_the_groups_and_keeps_no_chunk(blobs, rng):
    X, y = blobs
    order = rng.permutation(np.tile(np.arange(len(X)), 10))
    model = make(n_components=3, covariance_type="spherical")
    for number, chunk in enumerate(np.array_split(order, 60), start=1):
        assert model.partial_fit(X[chunk]) is model
        assert model.n_iter_ == len(model.lower_bounds_) == number
    assert adjusted_rand_score(y, model.predict(X)) == 1.0
    kept = sum(np.size(value) for value in model._stream["velocity"].values())
    assert kept == 3 + 3 * 4 + 3


def test_stream_does_not_depend_on_the_units(blobs):
    X, _ = blobs
    scale = 2.0 ** np.array([5, -5, 0, 3])
    first, second = make(reg_covar=0.0), make(reg_covar=0.0)
    for start in range(0, 300, 60):
        chunk = X[start : start + 60]
        first.partial_fit(chunk)
        second.partial_fit(chunk * scale)
    np.testing.assert_allclose(first.means_ * scale, second.means_, rtol=1e-6)


def test_stream_goes_on_from_a_fit(mixture_data):
    X, held_out = mixture_data
    model = make(reg_covar=1e-9).fit(X)
    before = model.score(held_out)
    means = model.means_.copy()
    model.partial_fit(held_out[:500])
    assert not np.array_equal(means, model.means_)
    assert model.score(held_out) > before - 0.1


def test_early_stopping_ends_in_the_exact_phase(mixture_data):
    X, _ = mixture_data
    settings = {"early_stopping": True, "max_iter": 60, "tol": 0.05}
    model = make(n_iter_no_change=3, **settings).fit(X)
    scores = model.history_["score"]
    assert model.converged_
    assert model.n_iter_ < 60
    assert np.isnan(scores[:20]).all()
    assert np.isfinite(scores[-3:]).all()


def test_validation_fraction_that_leaves_too_few_rows(blobs):
    X, _ = blobs
    model = make(covariance_type="diag", early_stopping=True, validation_fraction=0.9)
    with pytest.raises(ValueError, match=r"validation_fraction=0.9 leaves .* samples"):
        model.fit(X[:20])


def test_given_means_are_kept_together_with_their_order(blobs):
    X, y = blobs
    means = np.array([X[y == group].mean(axis=0) for group in (2, 0, 1)])
    model = make(n_components=3, means_init=means).fit(X)
    np.testing.assert_allclose(model.means_, means, atol=0.1)
    with pytest.raises(ValueError, match="means"):
        make(n_components=4, means_init=means).fit(X)


@pytest.mark.parametrize("init_params", ["random", "random_from_data"])
def test_restarts_keep_the_best(init_params, blobs):
    X, _ = blobs
    one = make(max_iter=3, init_params=init_params, tol=100.0)
    many = clone(one).set_params(n_init=4)
    assert many.fit(X).lower_bound_ >= one.fit(X).lower_bound_


def test_short_run_warns_that_it_did_not_converge(blobs):
    X, _ = blobs
    with pytest.warns(ConvergenceWarning, match="Increase max_iter or tol"):
        model = make(max_iter=1).fit(X)
    assert not model.converged_


def test_more_components_than_groups_end_finite(rng):
    X = np.repeat(rng.normal(size=(3, 2)), 50, axis=0)
    with pytest.warns((DegenerateComponentWarning, ConvergenceWarning)):
        model = make(n_components=8, tol=0.0).fit(X)
    assert np.isfinite(model.score_samples(X)).all()
    assert np.isfinite(model.covariances_).all()


def test_constant_feature_and_single_component(rng):
    X = np.column_stack([rng.normal(size=200), np.full(200, 7.0)])
    model = make(n_components=1, tol=1.0).fit(X)
    assert model.means_[0, 1] == pytest.approx(7.0)
    np.testing.assert_allclose(model.means_[0, 0], X[:, 0].mean(), atol=0.02)


def test_divergence_names_the_parameter_to_change(blobs, monkeypatch):
    from skdeepgmm._torch_backend.mixture import sgd

    X, _ = blobs

    def broken(self, batch):
        x, _ = batch
        return {"loss": x.sum() * np.nan, "log_likelihood": x.sum()}

    monkeypatch.setattr(sgd.SGDMixture, "step", broken)
    with pytest.raises(TrainingDivergedError, match="learning_rate"):
        make().fit(X)


def test_verbose_prints_one_line_an_epoch(blobs, capsys):
    X, _ = blobs
    make(n_components=3, max_iter=7, verbose=1, tol=10.0).fit(X)
    lines = [line for line in capsys.readouterr().out.splitlines() if "left" in line]
    assert len(lines) == 7


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("momentum", 1.0),
        ("learning_rate", 0.0),
        ("annealing", "hot"),
        ("covariance_type", "round"),
        ("validation_fraction", 1.0),
        ("max_iter", 0),
    ],
)
def test_bad_parameters_are_named(name, value, blobs):
    with pytest.raises(ValueError, match=f"'{name}' parameter of SGDGaussianMixture"):
        make(**{name: value}).fit(blobs[0])

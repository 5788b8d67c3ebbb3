"""Exact EM: the likelihood never falls, and no component is lost in silence."""

import math

import numpy as np
import pytest
import torch

from skdeepgmm._torch_backend.mixture import e_step, em
from skdeepgmm._torch_backend.mixture.covariances import COVARIANCES
from skdeepgmm._torch_backend.mixture.density import MixtureDensity
from skdeepgmm._torch_backend.mixture.e_step import CenteredKernel, add_block
from skdeepgmm._torch_backend.mixture.em import (
    MAX_RESEEDS,
    DegeneracyGuard,
    EMConfig,
    EMResult,
    fit_em,
    maximize,
    with_floor,
)
from skdeepgmm._torch_backend.rng import new_generator
from tests._torch_backend.mixture.problems import (
    all_types,
    as_block,
    dense_covariances,
    dense_responsibilities,
    random_mixture,
    source_of,
    types,
    weighted_covariances,
)
from tests.oracles import ORACLES, OWN_TYPES


def keep_going(*_):
    return False


def start_at(name, means, weights=None):
    """Return unit covariances at given means."""
    cls = COVARIANCES[name]
    n_components, n_features = np.shape(means)
    ones = torch.ones(n_features, dtype=torch.float64)
    covariance, _ = cls.from_values(cls.from_variances(ones, n_components))
    if weights is None:
        weights = np.full(n_components, 1 / n_components)
    return MixtureDensity(
        torch.tensor(weights, dtype=torch.float64),
        torch.tensor(np.asarray(means), dtype=torch.float64),
        covariance,
    )


def run(source, start, max_iter=20, tol=0.0, ridge=1e-6, on_iteration=keep_going, **kw):
    ridges = torch.full((source.n_features,), ridge, dtype=torch.float64)
    guard = DegeneracyGuard(source, new_generator(0))
    config = EMConfig(max_iter, tol, ridges)
    return fit_em(source, start, config, guard, on_iteration, **kw)


def clusters(rng, n_features=3, dtype=float):
    centers = rng.normal(scale=4.0, size=(3, n_features))
    spread = rng.uniform(0.3, 2.0, size=(3, 1, n_features))
    X = (centers[:, None] + spread * rng.normal(size=(3, 80, n_features))).astype(dtype)
    return X.reshape(240, n_features)


def assert_healthy(mixture):
    assert torch.isfinite(mixture.means).all()
    assert torch.isfinite(mixture.covariance.values).all()
    assert torch.isfinite(mixture.covariance.precisions_chol).all()
    assert mixture.weights.sum().item() == pytest.approx(1.0)
    assert not type(mixture.covariance).from_values(mixture.covariance.values)[1].any()


# The M-step ----------------------------------------------------------------------


@types
@pytest.mark.parametrize("offset", [0.0, 1e6])
def test_maximize_equals_weighted_numpy_plus_the_ridge(rng, name, offset):
    mixture = random_mixture(name, rng)
    mixture = MixtureDensity(
        mixture.weights, mixture.means + offset, mixture.covariance
    )
    X = rng.normal(scale=3.0, size=(100, 4)) + offset
    kernel = CenteredKernel(mixture)
    stats = kernel.empty_statistics()
    add_block(kernel, stats, as_block(X))
    ridge = np.array([0.0, 0.1, 0.2, 0.3])
    fitted, failed = maximize(COVARIANCES[name], stats, torch.from_numpy(ridge))
    assert not failed.any()
    resp, _ = dense_responsibilities(mixture, X)
    means = resp.T @ X / resp.sum(0)[:, None]
    expected = weighted_covariances(name, X - offset, resp, means - offset)
    ridges = np.repeat(np.diag(ridge)[None], 3, axis=0)
    expected = expected + ORACLES[name].project(ridges, np.ones(3))
    np.testing.assert_allclose(fitted.means, means, rtol=1e-12, atol=1e-9)
    np.testing.assert_allclose(fitted.covariance.values, expected, rtol=1e-6, atol=1e-6)


@all_types
def test_expected_statistics_lead_back_to_the_mixture(rng, name):
    mixture = random_mixture(name, rng)
    ridge = torch.tensor([0.0, 0.01, 0.02, 0.03], dtype=torch.float64)
    stats = mixture.expected_statistics(ridge)
    again, failed = maximize(type(mixture.covariance), stats, ridge)
    assert not failed.any()
    torch.testing.assert_close(again.weights, mixture.weights)
    torch.testing.assert_close(again.means, mixture.means)
    np.testing.assert_allclose(
        dense_covariances(again), dense_covariances(mixture), rtol=1e-9, atol=1e-12
    )


@types
def test_maximize_leaves_the_statistics_alone(rng, name):
    kernel = CenteredKernel(random_mixture(name, rng))
    stats = kernel.empty_statistics()
    add_block(kernel, stats, as_block(rng.normal(size=(30, 4))))
    before = stats.nk.clone(), stats.first.clone(), stats.second.clone()
    maximize(COVARIANCES[name], stats, torch.ones(4).double())
    for tensor, copy in zip((stats.nk, stats.first, stats.second), before, strict=True):
        torch.testing.assert_close(tensor, copy, rtol=0, atol=0)


@types
def test_maximize_gives_an_empty_component_a_finite_mean(rng, name):
    kernel = CenteredKernel(random_mixture(name, rng))
    fitted, _ = maximize(
        COVARIANCES[name], kernel.empty_statistics(), torch.ones(4).double()
    )
    assert torch.isfinite(fitted.means).all()
    assert fitted.weights.sum().item() == pytest.approx(1.0)


# Laws of a run -------------------------------------------------------------------


@types
@pytest.mark.parametrize("batch_size", [7, 240])
@pytest.mark.parametrize("seed", range(3))
def test_the_likelihood_never_falls(name, batch_size, seed):
    rng = np.random.default_rng(seed)
    source = source_of(clusters(rng), batch_size, standardize=True)
    # Rows of three clusters: without a ridge a component on three rows is singular.
    start = start_at(name, source.take([0, 80, 160]).T)
    result = run(source, start, ridge=0.0, max_iter=40)
    gains = np.diff(result.lower_bounds)
    assert not result.events
    assert gains.min() > -1e-10
    assert gains.max() > 0.01


@types
def test_weighted_likelihood_never_falls(rng, name):
    weight = rng.uniform(0.1, 3.0, size=240)
    source = source_of(clusters(rng), 50, weight, standardize=True)
    result = run(source, start_at(name, rng.normal(size=(3, 3))), ridge=0.0)
    assert np.diff(result.lower_bounds).min() > -1e-10


@types
def test_both_kernels_run_the_same_em(rng, name, monkeypatch):
    source = source_of(clusters(rng), 50, standardize=True)
    start = start_at(name, rng.normal(size=(3, 3)))
    fast = run(source, start)
    monkeypatch.setattr(e_step, "MAX_MOMENT_FEATURES", -1)
    exact = run(source, start)
    np.testing.assert_allclose(fast.lower_bounds, exact.lower_bounds, rtol=1e-9)
    torch.testing.assert_close(
        fast.mixture.means, exact.mixture.means, rtol=1e-7, atol=1e-8
    )


@types
@pytest.mark.parametrize("offset", [0.0, 1e4])
def test_float32_runs_like_float64(rng, name, offset):
    X = (clusters(rng) + offset).astype(np.float32)
    start = start_at(name, rng.normal(size=(3, 3)))
    single = run(source_of(X, 50, standardize=True), start)
    double = run(source_of(X.astype(float), 50, standardize=True), start)
    np.testing.assert_allclose(single.lower_bounds, double.lower_bounds, atol=1e-3)
    torch.testing.assert_close(
        single.mixture.means, double.mixture.means, rtol=1e-2, atol=1e-2
    )


def test_float32_survives_a_step_from_broad_to_tight(rng):
    # 100 equal rows far from the rest: a component collapses on them to the ridge,
    # from a variance of 1 in one step.
    spike = np.tile([20.0, -20.0, 20.0], (100, 1))
    X = np.concatenate([spike, rng.normal(size=(300, 3))])
    start = start_at("diag", [[-0.1, -0.1, -0.1], [0.1, -0.1, 0.1]])
    events = []
    for dtype in (np.float64, np.float32):
        source = source_of(X.astype(dtype), standardize=True)
        events.append(run(source, start, ridge=1e-7, max_iter=40).events)
    assert events == [{}, {}]


def test_the_bounds_are_the_mean_log_likelihood(rng):
    X = clusters(rng)
    mixtures, bounds = [], []

    def record(n_iter, lower_bound, mixture):
        mixtures.append(mixture)
        bounds.append(lower_bound)
        return False

    source = source_of(X, 100)
    start = start_at("full", X[:3])
    result = run(source, start, on_iteration=record, max_iter=5)
    assert bounds == result.lower_bounds
    expected = [dense_responsibilities(m, X)[1].mean() for m in (start, *mixtures[:-1])]
    np.testing.assert_allclose(bounds, expected, rtol=1e-10)
    assert result.mixture is mixtures[-1]
    np.testing.assert_allclose(
        result.nk, dense_responsibilities(mixtures[-2], X)[0].sum(0), rtol=1e-6
    )


def test_a_run_stops_when_the_gain_is_below_tol(rng):
    result = run(source_of(clusters(rng)), start_at("full", np.eye(3)), 500, tol=1e-3)
    gains = np.abs(np.diff(result.lower_bounds))
    assert result.converged
    assert gains[-1] < 1e-3 <= gains[:-1].min()


def test_a_hook_stops_a_run(rng):
    source = source_of(clusters(rng))
    result = run(source, start_at("full", np.eye(3)), on_iteration=lambda n, *_: n == 3)
    assert (result.n_iter, result.stopped, result.converged) == (3, True, False)


def test_a_run_that_continues_is_one_long_run(rng):
    source, start = source_of(clusters(rng)), start_at("full", np.eye(3))
    long = run(source, start, max_iter=12)
    first = run(source, start, max_iter=5)
    second = run(source, first.mixture, max_iter=7, lower_bound=first.last_bound)
    np.testing.assert_allclose(
        first.lower_bounds + second.lower_bounds, long.lower_bounds, rtol=1e-12
    )


def test_no_iterations_return_the_start(rng):
    start = start_at("full", np.eye(3))
    result = run(source_of(clusters(rng)), start, max_iter=0)
    assert result.mixture is start
    assert result.last_bound == -math.inf
    assert result.n_iter == 0
    assert isinstance(result, EMResult)


# Degenerate components -----------------------------------------------------------


def test_a_component_is_reseeded_so_often_and_no_more(rng):
    guard = DegeneracyGuard(source_of(clusters(rng)), new_generator(0))
    mixture = start_at("full", rng.normal(size=(3, 3)))
    nk, failed = torch.tensor([90.0, 0.0, 90.0]), torch.zeros(3, dtype=torch.bool)
    moved = []
    for _ in range(MAX_RESEEDS + 2):
        mixture, has_moved = guard(mixture, failed, nk)
        moved.append(has_moved)
    assert moved == [True] * MAX_RESEEDS + [False] * 2
    assert guard.events == {1: "empty, kept with floored variances"}


@pytest.mark.parametrize(
    ("variances", "is_point"), [([0.0, 0.0, 0.0], True), ([1.0, 1.0, 0.0], False)]
)
def test_components_on_one_point_move_and_flat_ones_stay(rng, variances, is_point):
    guard = DegeneracyGuard(source_of(clusters(rng)), new_generator(0))
    mixture = start_at("diag", rng.normal(size=(3, 3)))
    mixture.covariance.values[1] = torch.tensor(variances, dtype=torch.float64)
    nk, failed = torch.full((3,), 50.0), torch.tensor([False, True, False])
    repaired, moved = guard(mixture, failed, nk)
    assert moved == is_point
    assert ("one point" in guard.events[1]) == is_point
    stays = torch.equal(repaired.means[1], mixture.means[1])
    assert stays != is_point


@types
def test_an_empty_component_is_reseeded_and_named(rng, name):
    means = np.concatenate([rng.normal(size=(2, 3)), np.full((1, 3), 1e4)])
    source = source_of(clusters(rng), 50, standardize=True)
    result = run(source, start_at(name, means))
    if ORACLES[name].shared:  # it may stretch, any component may go
        assert all("empty" in event for event in result.events.values())
    else:
        assert list(result.events) == [2]
        assert "empty, re-seeded" in result.events[2]
        assert result.nk[2] > 1
    assert_healthy(result.mixture)


@types
def test_a_start_weight_of_zero_is_repaired(rng, name):
    start = start_at(name, rng.normal(size=(2, 3)), weights=[0.0, 1.0])
    result = run(source_of(clusters(rng), 50, standardize=True), start)
    assert "empty" in result.events[0]
    assert result.nk.min() > 1
    assert_healthy(result.mixture)


@types
@pytest.mark.parametrize("ridge", [0.0, 1e-6])
@pytest.mark.parametrize("data", ["duplicates", "constant column", "constant"])
def test_collapsed_data_never_end_in_an_error(rng, name, ridge, data):
    X = clusters(rng)
    if data == "duplicates":
        X = np.repeat(X[[0, 100, 200]], 20, axis=0)
    if data == "constant column":
        X = np.column_stack([X, np.full(len(X), 5.0)])
    if data == "constant":
        X = np.full((30, 3), 2.0)
    source = source_of(X, 17)
    source.standardize(COVARIANCES[name].isotropic)
    means = source.take([0, len(X) // 2]).T
    result = run(source, start_at(name, means), ridge=ridge, max_iter=15)
    assert_healthy(result.mixture)
    assert np.isfinite(result.lower_bounds).all()


@types
def test_a_singular_covariance_is_reported(rng, name):
    X = np.full((30, 3), 2.0)
    result = run(source_of(X), start_at(name, [[2.0] * 3]), ridge=0.0, max_iter=6)
    assert "singular" in result.events[0]
    assert result.mixture.means[0].tolist() == pytest.approx([2.0] * 3)


@types
def test_a_run_on_singular_data_converges(rng, name):
    X = np.full((30, 3), 2.0)
    result = run(
        source_of(X), start_at(name, [[2.0] * 3]), ridge=0.0, max_iter=50, tol=1e-3
    )
    assert result.converged


@pytest.mark.parametrize("name", ["full", "diag"])
def test_a_constant_feature_does_not_move_the_components(rng, name):
    X = np.concatenate([rng.normal(size=(50, 2)) - 9, rng.normal(size=(50, 2)) + 9])
    X = np.column_stack([X, np.zeros(100)])
    start = start_at(name, [[-9.0, -9.0, 0.0], [9.0, 9.0, 0.0]])
    result = run(source_of(X), start, ridge=0.0, max_iter=1)
    np.testing.assert_allclose(
        result.mixture.means, [X[:50].mean(0), X[50:].mean(0)], atol=1e-6
    )


@types
def test_reseeding_is_bounded_and_reproducible(rng, name):
    X = np.repeat(clusters(rng)[[0, 100]], 10, axis=0)
    source = source_of(X, standardize=True)
    start = start_at(name, [[0.0] * 3, [1e3] * 3, [-1e3] * 3])
    first, second = (run(source, start, ridge=0.0, max_iter=30) for _ in range(2))
    torch.testing.assert_close(
        first.mixture.means, second.mixture.means, rtol=0, atol=0
    )
    guard = DegeneracyGuard(source, new_generator(0))
    fit_em(source, start, EMConfig(30, 0.0, torch.zeros(3).double()), guard, keep_going)
    assert max(guard.reseeds.values()) <= em.MAX_RESEEDS


@types
def test_a_healthy_mixture_is_left_alone(rng, name):
    source = source_of(clusters(rng), standardize=True)
    guard = DegeneracyGuard(source, new_generator(0))
    mixture = start_at(name, np.zeros((2, 3)))
    failed = torch.zeros(1 if ORACLES[name].shared else 2, dtype=torch.bool)
    assert guard(mixture, failed, torch.full((2,), 100.0)) == (mixture, False)
    assert not guard.events


@types
def test_repair_of_the_start_keeps_the_means(rng, name):
    source = source_of(clusters(rng), standardize=True)
    guard = DegeneracyGuard(source, new_generator(0))
    zero = torch.zeros(COVARIANCES[name].values_shape(2, 3), dtype=torch.float64)
    covariance, failed = COVARIANCES[name].from_values(zero)
    half = torch.full((2,), 0.5, dtype=torch.float64)
    mixture = MixtureDensity(half, torch.eye(3, dtype=torch.float64)[:2], covariance)
    repaired = guard.repair_initial(mixture, failed, torch.ones(2))
    assert torch.equal(repaired.means, mixture.means)
    assert not guard.events
    assert_healthy(repaired)


@pytest.mark.parametrize("name", OWN_TYPES)
def test_with_floor_changes_only_what_failed(rng, name):
    mixture = random_mixture(name, rng)
    values = mixture.covariance.values.clone()
    values[1] = -values[1]
    covariance, failed = COVARIANCES[name].from_values(values)
    repaired = with_floor(
        MixtureDensity(mixture.weights, mixture.means, covariance), failed
    )
    assert_healthy(repaired)
    torch.testing.assert_close(
        repaired.covariance.values[[0, 2]], values[[0, 2]], rtol=0, atol=0
    )


@pytest.mark.parametrize("name", OWN_TYPES)
def test_shrunk_covariances_are_averaged_with_pooled_samples(name):
    # The mean of the component's own scatter and of `prior` rows whose scatter is
    # the pooled one.
    kind = COVARIANCES[name]
    matrices = np.stack([1.0 * np.eye(3), 4.0 * np.eye(3)])
    values = torch.tensor(ORACLES[name].project(matrices, np.ones(2)))
    weights = torch.tensor([0.25, 0.75], dtype=torch.float64)
    covariance, failed = kind.from_values(values)
    mixture = MixtureDensity(
        weights, torch.zeros(2, 3, dtype=torch.float64), covariance
    )
    shrunk, _ = em.shrunk(mixture, failed, n_samples=8.0, prior=2.0)
    pooled = 0.25 * 1.0 + 0.75 * 4.0
    expected = [(2.0 * 1.0 + 2.0 * pooled) / 4.0, (6.0 * 4.0 + 2.0 * pooled) / 8.0]
    got = shrunk.covariance.variances().expand(2, 3)
    np.testing.assert_allclose(got, np.array(expected)[:, None].repeat(3, 1))
    unchanged, _ = em.shrunk(mixture, failed, n_samples=1e12, prior=2.0)
    torch.testing.assert_close(unchanged.covariance.values, values)

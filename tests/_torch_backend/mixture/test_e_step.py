"""The E-step: kernels, responsibilities and additive statistics."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from skdeepgmm._torch_backend.mixture import e_step as module
from skdeepgmm._torch_backend.mixture.covariances import COVARIANCES
from skdeepgmm._torch_backend.mixture.density import MixtureDensity
from skdeepgmm._torch_backend.mixture.e_step import (
    CenteredKernel,
    MomentKernel,
    TiledKernel,
    add_block,
    choose_kernel,
    choose_whole_kernel,
    e_step,
    normalize,
    statistics_of,
)
from skdeepgmm._torch_backend.mixture.em import maximize
from skdeepgmm._torch_backend.mixture.suffstats import Statistics
from tests._torch_backend.mixture.problems import (
    as_block,
    assert_statistics_close,
    dense_responsibilities,
    random_mixture,
    source_of,
    types,
    weighted_covariances,
)
from tests.oracles import MATRIX_TYPES, ORACLES

FLOATS = (torch.float32, torch.float64)
dtypes = pytest.mark.parametrize("dtype", FLOATS, ids=str)


def run(kernel, X, dtype=torch.float64, weight=None):
    stats = kernel.empty_statistics()
    add_block(kernel, stats, as_block(X, dtype, weight))
    return stats


def tight(name, n_features=3, deviation=1e-3):
    """Return two components of small deviation, at +1 and -1 in every feature."""
    cls = COVARIANCES[name]
    variances = torch.full((n_features,), deviation**2, dtype=torch.float64)
    covariance, _ = cls.from_values(cls.from_variances(variances, 2))
    ones = torch.ones(n_features, dtype=torch.float64)
    weights = torch.full((2,), 0.5, dtype=torch.float64)
    return MixtureDensity(weights, torch.stack([ones, -ones]), covariance)


def draw_from(mixture, rng, count=200):
    parts = [
        mean + mixture.covariance.color(torch.from_numpy(noise), k)
        for k, mean in enumerate(mixture.means)
        for noise in [rng.normal(size=(count, mixture.n_features))]
    ]
    return torch.cat(parts).numpy()


# normalize -----------------------------------------------------------------------


@settings(max_examples=50, deadline=None)
@given(
    st.lists(
        st.lists(
            st.floats(-1e300, 700, allow_nan=False) | st.just(-np.inf),
            min_size=3,
            max_size=3,
        ),
        min_size=1,
        max_size=5,
    )
)
def test_responsibilities_sum_to_one(rows):
    log_joint = torch.tensor(rows, dtype=torch.float64).T.contiguous()
    reachable = ~torch.isneginf(log_joint).all(0)
    expected = torch.logsumexp(log_joint, dim=0)
    log_prob = normalize(log_joint)
    assert ((log_joint >= 0) & (log_joint <= 1)).all()
    torch.testing.assert_close(
        log_joint.sum(0)[reachable], torch.ones(int(reachable.sum())).double()
    )
    torch.testing.assert_close(log_prob, expected)


@dtypes
def test_normalize_works_in_place_and_far_from_zero(dtype):
    log_joint = torch.tensor([[-1e30, 50.0], [-1e30, 49.0]], dtype=dtype)
    resp = log_joint
    log_prob = normalize(log_joint)
    assert log_prob[0] == pytest.approx(-1e30)
    np.testing.assert_allclose(resp[:, 0], [0.5, 0.5])
    np.testing.assert_allclose(resp[:, 1], [0.7310586, 0.2689414], rtol=1e-6)


def test_responsibilities_sum_to_one_for_a_sample_no_component_reaches():
    log_joint = torch.full((2, 1), -torch.inf, dtype=torch.float64)
    normalize(log_joint)
    assert log_joint.sum(0).item() == pytest.approx(1.0)


# Kernels -------------------------------------------------------------------------


@types
@dtypes
@pytest.mark.parametrize("make", ["moment", "centered"])
@pytest.mark.parametrize("weighted", [False, True])
def test_m_step_of_either_kernel_equals_weighted_numpy(
    rng, name, dtype, make, weighted
):
    mixture = random_mixture(name, rng)
    X = rng.normal(scale=3.0, size=(200, 4))
    weight = rng.uniform(0.1, 2.0, size=200) if weighted else None
    kernel = (
        MomentKernel(mixture, dtype, keep=False)
        if make == "moment"
        else CenteredKernel(mixture)
    )
    stats = run(kernel, X, dtype, weight)
    resp, log_prob = dense_responsibilities(mixture, X)
    mass = np.ones(200) if weight is None else weight
    resp = resp * mass[:, None]
    rtol = 1e-3 if dtype == torch.float32 else 1e-9
    assert stats.mean_log_likelihood == pytest.approx(
        mass @ log_prob / mass.sum(), rel=rtol
    )
    assert float(stats.total) == pytest.approx(mass.sum(), rel=1e-6)
    np.testing.assert_allclose(stats.nk, resp.sum(0), rtol=rtol)
    fitted, failed = maximize(COVARIANCES[name], stats, torch.zeros(4).double())
    assert not failed.any()
    means = resp.T @ X / resp.sum(0)[:, None]
    expected = weighted_covariances(name, X, resp, means)
    scale = np.abs(expected).max()
    np.testing.assert_allclose(fitted.weights, resp.sum(0) / mass.sum(), rtol=rtol)
    np.testing.assert_allclose(fitted.means, means, rtol=rtol, atol=rtol)
    np.testing.assert_allclose(fitted.covariance.values, expected, atol=rtol * scale)


@types
def test_both_kernels_give_one_mixture(rng, name):
    mixture = random_mixture(name, rng)
    X = rng.normal(scale=3.0, size=(100, 4))
    ridge = torch.full((4,), 1e-3, dtype=torch.float64)
    kernels = MomentKernel(mixture, torch.float64, keep=False), CenteredKernel(mixture)
    first, second = (maximize(COVARIANCES[name], run(k, X), ridge)[0] for k in kernels)
    torch.testing.assert_close(first.means, second.means, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(
        first.covariance.values, second.covariance.values, rtol=1e-9, atol=1e-9
    )


@types
@pytest.mark.parametrize("make", ["moment", "centered"])
@settings(max_examples=8, deadline=None)
@given(cuts=st.lists(st.integers(1, 59), min_size=1, max_size=4))
def test_statistics_add_over_any_split(name, make, cuts):
    rng = np.random.default_rng(1)
    mixture = random_mixture(name, rng)
    X, weight = rng.normal(scale=3.0, size=(60, 4)), rng.uniform(size=60)
    kernel = (
        MomentKernel(mixture, torch.float64, keep=False)
        if make == "moment"
        else CenteredKernel(mixture)
    )
    whole = run(kernel, X, weight=weight)
    parts = zip(
        np.split(X, sorted(set(cuts))), np.split(weight, sorted(set(cuts))), strict=True
    )
    merged = kernel.empty_statistics()
    for rows, weights in parts:
        merged = merged.merge(run(kernel, rows, weight=weights))
    assert_statistics_close(merged, whole)


@types
def test_recentred_statistics_are_those_about_the_new_centre(rng, name):
    mixture = random_mixture(name, rng)
    X = rng.normal(size=(40, 4))
    centered = run(CenteredKernel(mixture), X)
    moment = run(MomentKernel(mixture, torch.float64, keep=False), X)
    kind = COVARIANCES[name]
    assert_statistics_close(moment.recentered(kind, mixture.means), centered)
    assert_statistics_close(centered.recentered(kind, moment.center), moment)


def test_statistics_of_different_centres_do_not_add(rng):
    mixture = random_mixture("diag", rng)
    first = CenteredKernel(mixture).empty_statistics()
    second = MomentKernel(mixture, torch.float64, keep=False).empty_statistics()
    with pytest.raises(ValueError, match="different centres"):
        first.merge(second)


def test_scaled_statistics_are_those_of_repeated_data(rng):
    mixture = random_mixture("full", rng)
    kernel = CenteredKernel(mixture)
    X = rng.normal(size=(30, 4))
    repeated = run(kernel, np.concatenate([X, X, X]))
    assert_statistics_close(run(kernel, X).scaled(3.0), repeated)


@types
def test_weights_equal_repeated_rows(rng, name):
    mixture = random_mixture(name, rng)
    X, counts = rng.normal(size=(30, 4)), rng.integers(0, 4, size=30)
    kernel = MomentKernel(mixture, torch.float64, keep=False)
    weighted = run(kernel, X, weight=counts)
    assert_statistics_close(weighted, run(kernel, np.repeat(X, counts, axis=0)))


@types
@dtypes
def test_statistics_are_float64(rng, name, dtype):
    mixture = random_mixture(name, rng)
    X = rng.normal(size=(20, 4)).astype(np.float32)
    for kernel in (MomentKernel(mixture, dtype, keep=False), CenteredKernel(mixture)):
        stats = run(kernel, X, dtype)
        for field in set(Statistics.__dataclass_fields__) - {"cancellation_bound"}:
            assert getattr(stats, field).dtype == torch.float64, field


# Choice of the kernel ------------------------------------------------------------


@types
def test_broad_components_take_the_natural_form_of_the_data_type(rng, name):
    mixture = random_mixture(name, rng, spread=1.0)
    for dtype in FLOATS:
        kernel = choose_kernel(mixture, dtype, 1000)
        assert isinstance(kernel, MomentKernel)
        assert kernel.dtype == dtype


@types
@pytest.mark.parametrize(
    "deviation, expected",
    [(1e-1, torch.float32), (1e-3, torch.float64), (1e-6, None)],
)
def test_the_kernel_follows_the_tightness(name, deviation, expected):
    kernel = choose_kernel(tight(name, deviation=deviation), torch.float32, 1000)
    if expected is None:
        assert isinstance(kernel, CenteredKernel)
    else:
        assert kernel.dtype == expected


def test_many_features_and_undefined_parameters_take_the_exact_form(rng, monkeypatch):
    mixture = random_mixture("full", rng)
    undefined = MixtureDensity(
        mixture.weights, mixture.means * np.nan, mixture.covariance
    )
    assert isinstance(choose_kernel(undefined, torch.float64, 10), CenteredKernel)
    monkeypatch.setattr(module, "MAX_MOMENT_FEATURES", 9)
    assert isinstance(choose_kernel(mixture, torch.float64, 10), CenteredKernel)


@types
@pytest.mark.parametrize("deviation", [1e-2, 1e-3, 1e-4, 1e-5])
def test_float32_stays_accurate_with_tight_components(rng, name, deviation):
    mixture = tight(name, deviation=deviation)
    X = draw_from(mixture, rng).astype(np.float32)
    kernel = choose_kernel(mixture, torch.float32, len(X))
    stats = run(kernel, X, torch.float32)
    exact = run(CenteredKernel(mixture), X.astype(float))
    assert stats.mean_log_likelihood == pytest.approx(
        exact.mean_log_likelihood, abs=2e-3
    )
    ridge = torch.zeros(3, dtype=torch.float64)
    found, failed = maximize(COVARIANCES[name], stats, ridge)
    expected, _ = maximize(COVARIANCES[name], exact, ridge)
    assert not failed.any()
    np.testing.assert_allclose(
        (found.means - expected.means) / deviation, 0.0, atol=1e-3
    )
    np.testing.assert_allclose(
        found.covariance.values / deviation**2,
        expected.covariance.values / deviation**2,
        atol=5e-3,
    )


@pytest.mark.parametrize("name", MATRIX_TYPES)
@pytest.mark.parametrize(
    "dtype, condition", [(torch.float32, 1e8), (torch.float64, 1e14)]
)
def test_ill_conditioned_components_stay_accurate(rng, name, dtype, condition):
    cls = COVARIANCES[name]
    vectors, _ = np.linalg.qr(rng.normal(size=(2, 2)))
    value = (vectors * [1.0, 1.0 / condition]) @ vectors.T
    value = ORACLES[name].project(0.5 * (value + value.T)[None], np.ones(1))
    covariance, failed = cls.from_values(torch.from_numpy(value))
    assert not failed.any()
    mixture = MixtureDensity(
        torch.ones(1).double(), torch.zeros(1, 2).double(), covariance
    )
    assert not (
        isinstance(choose_kernel(mixture, dtype, 10), MomentKernel)
        and choose_kernel(mixture, dtype, 10).dtype == dtype
    )
    noise = torch.from_numpy(rng.normal(size=(300, 2)))
    X = mixture.covariance.color(noise, 0).numpy()
    if dtype == torch.float32:
        X = X.astype(np.float32).astype(float)
    stats = run(choose_kernel(mixture, dtype, 10), X, dtype)
    assert stats.mean_log_likelihood == pytest.approx(
        mixture.log_joint(as_block(X).x).mean().item(), abs=0.02
    )


# Passes over the data ------------------------------------------------------------


@types
@pytest.mark.parametrize("batch_size", [1, 7, 50])
def test_a_pass_does_not_depend_on_the_batches(rng, name, batch_size):
    mixture = random_mixture(name, rng)
    X = rng.normal(size=(50, 4))
    split, whole = (e_step(mixture, source_of(X, size)) for size in (batch_size, 50))
    assert_statistics_close(split, whole, rtol=1e-11, atol=1e-11)


@types
@pytest.mark.parametrize("n_bytes", [0, 2**26])
def test_kept_features_change_nothing(rng, name, n_bytes, monkeypatch):
    monkeypatch.setattr(module, "FEATURE_CACHE_BYTES", n_bytes)
    source = source_of(rng.normal(size=(50, 4)), 7)
    for _ in range(2):
        mixture = random_mixture(name, rng)
        found = e_step(mixture, source)
        kept = [block.features is not None for block in source.blocks()]
        assert all(kept) == any(kept) == (n_bytes > 0)
        fresh = source_of(source.X, 50)
        assert_statistics_close(found, e_step(mixture, fresh), atol=1e-10)


def test_features_kept_in_one_type_are_not_used_in_the_other(rng):
    source = source_of(rng.normal(size=(400, 3)).astype(np.float32), 64)
    broad = random_mixture("full", rng, 2, 3, spread=1.0)
    for mixture in (broad, tight("full", deviation=1e-3), broad):
        stats = e_step(mixture, source)
        exact = run(CenteredKernel(mixture), source.X.astype(float))
        assert stats.mean_log_likelihood == pytest.approx(
            exact.mean_log_likelihood, rel=1e-5
        )


WIDE = [("full", 45), ("full", 46), ("full", 130), ("diag", 129), ("diag", 1100)]


@pytest.mark.parametrize(("name", "n_features"), WIDE)
@pytest.mark.parametrize("weighted", [False, True])
@dtypes
def test_tiles_of_features_give_what_all_of_them_do(
    rng, name, n_features, weighted, dtype
):
    mixture = random_mixture(name, rng, 3, n_features, spread=1.0)
    assert mixture.covariance.tile_features(n_features) > 0
    X = rng.normal(size=(40, n_features))
    weight = rng.uniform(size=40) if weighted else None
    moments = MomentKernel(mixture, dtype, keep=False)
    kernels = TiledKernel(moments), moments
    block = as_block(X, dtype, weight)
    tiled, whole = (kernel.log_joint(block) for kernel in kernels)
    error = 1e-11 if dtype == torch.float64 else 2e-3
    torch.testing.assert_close(tiled, whole, rtol=error, atol=error)
    found, expected = (run(kernel, X, dtype, weight) for kernel in kernels)
    for part in ("nk", "first", "second", "log_likelihood", "total"):
        ours, theirs = getattr(found, part), getattr(expected, part)
        torch.testing.assert_close(ours, theirs, rtol=error, atol=40 * error)


@pytest.mark.parametrize(("name", "n_features"), WIDE)
def test_many_features_are_written_in_tiles_unless_they_are_kept(
    rng, name, n_features, monkeypatch
):
    mixture = random_mixture(name, rng, 2, n_features, spread=0.1)
    few = choose_kernel(mixture, torch.float64, 10)
    assert isinstance(few, MomentKernel)
    assert few.keep
    monkeypatch.setattr(module, "FEATURE_CACHE_BYTES", 0)
    assert isinstance(choose_kernel(mixture, torch.float64, 10), TiledKernel)
    whole = choose_whole_kernel(mixture, torch.float64, 10)
    assert isinstance(whole, MomentKernel)


@pytest.mark.parametrize("name", ["full", "diag"])
def test_few_features_are_written_at_once(name):
    most = {"full": 44, "diag": 128}[name]
    assert COVARIANCES[name].tile_features(most) == 0
    assert COVARIANCES[name].tile_features(most + 1) > 0


@types
@pytest.mark.parametrize("exact", [False, True])
def test_responsibilities_never_exist_for_more_than_a_batch(
    rng, name, exact, monkeypatch
):
    shapes = []

    def spy(log_joint):
        shapes.append(tuple(log_joint.shape))
        return normalize(log_joint)

    monkeypatch.setattr(module, "normalize", spy)
    if exact:
        monkeypatch.setattr(module, "MAX_MOMENT_FEATURES", -1)
    mixture = random_mixture(name, rng)
    source = source_of(rng.normal(size=(50, 4)), 8)
    e_step(mixture, source)
    assert sorted(shapes) == [(3, 2)] + [(3, 8)] * 6


@types
def test_statistics_of_given_responsibilities(rng, name):
    X, resp = rng.normal(size=(40, 3)) + 1e4, rng.dirichlet(np.ones(2), size=40)
    weight = rng.uniform(0.5, 2.0, size=40)
    block = as_block(X, torch.float64, weight)
    center = torch.full((2, 3), 1e4, dtype=torch.float64)
    stats = statistics_of(
        COVARIANCES[name], center, [(block, torch.from_numpy(resp.T.copy()))]
    )
    resp = resp * weight[:, None]
    fitted, _ = maximize(COVARIANCES[name], stats, torch.zeros(3).double())
    means = resp.T @ X / resp.sum(0)[:, None]
    np.testing.assert_allclose(fitted.means, means, rtol=1e-12)
    np.testing.assert_allclose(
        fitted.covariance.values,
        weighted_covariances(name, X, resp, means),
        rtol=1e-6,
        atol=1e-6,
    )
    assert float(stats.total) == pytest.approx(weight.sum())

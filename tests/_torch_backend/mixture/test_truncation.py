"""Truncated E-steps: what they give with all candidates, and that no step lowers F."""

import math

import numpy as np
import pytest
import torch

from skdeepgmm._torch_backend.mixture.covariances import COVARIANCES
from skdeepgmm._torch_backend.mixture.density import MixtureDensity
from skdeepgmm._torch_backend.mixture.e_step import e_step
from skdeepgmm._torch_backend.mixture.em import DegeneracyGuard, EMConfig, fit_em
from skdeepgmm._torch_backend.mixture.init import (
    from_responsibilities,
    nearest_function,
)
from skdeepgmm._torch_backend.mixture.truncated_kernels import (
    MOST_ROWS,
    PACK_VALUES,
    MatrixShift,
    Pack,
    PackedMoments,
    SingleGroups,
    SquareShift,
    groups_of,
    packs_of,
)
from skdeepgmm._torch_backend.mixture.truncation import (
    Truncation,
    hard_start,
    hard_statistics,
    nearest,
    nearest_neighbours,
)
from skdeepgmm._torch_backend.rng import new_generator
from tests._torch_backend.mixture.problems import (
    all_types,
    random_mixture,
    source_of,
)

N_COMPONENTS, N_FEATURES = 12, 3


@pytest.fixture
def X(rng):
    centers = rng.normal(scale=2.0, size=(N_COMPONENTS, N_FEATURES))
    which = rng.integers(N_COMPONENTS, size=600)
    return centers[which] + rng.normal(scale=0.7, size=(600, N_FEATURES))


def candidates(mixture, X, count, weight=None):
    rows = torch.from_numpy(np.asarray(X))
    return Truncation.about(mixture, rows, count, new_generator(0), weight)


def terms_of(truncation, mixture):
    """Return the bound of the present candidates in nats per sample, by NumPy."""
    log_joint = mixture.log_joint(truncation.rows.T.contiguous()).numpy()
    seen = truncation.neighbours[truncation.anchors].numpy()
    return np.logaddexp.reduce(
        np.take_along_axis(log_joint.T, seen, axis=1), axis=1
    ).mean()


# The statistics ------------------------------------------------------------------


@all_types
@pytest.mark.parametrize("weighted", [False, True])
def test_all_candidates_give_the_exact_statistics(name, weighted, X, rng):
    mixture = random_mixture(name, rng, N_COMPONENTS, N_FEATURES, spread=2.0)
    weight = rng.uniform(0.1, 3.0, size=len(X)) if weighted else None
    source = source_of(X, sample_weight=weight)
    tensor = None if weight is None else torch.from_numpy(weight)
    truncation = candidates(mixture, X, N_COMPONENTS, tensor)
    found = truncation(mixture, source)
    exact = e_step(mixture, source)
    covariance_class = type(mixture.covariance)
    found, exact = (
        stats.recentered(covariance_class, mixture.means) for stats in (found, exact)
    )
    for field in ("log_likelihood", "total", "nk", "first", "second"):
        torch.testing.assert_close(
            getattr(found, field), getattr(exact, field), rtol=1e-9, atol=1e-7
        )


@all_types
def test_the_bound_is_that_of_the_candidates(name, X, rng):
    """With EXTRA components looked at, it is at least that of those known before."""
    mixture = random_mixture(name, rng, N_COMPONENTS, N_FEATURES, spread=2.0)
    truncation, source = candidates(mixture, X, 3), source_of(X)
    before = terms_of(truncation, mixture)
    bound = truncation(mixture, source).mean_log_likelihood
    after = terms_of(truncation, mixture)
    exact = e_step(mixture, source).mean_log_likelihood
    assert before < bound < exact
    assert bound == pytest.approx(after, abs=1e-10)


@all_types
def test_no_step_lowers_the_bound(name, X, rng):
    source, n_iter = source_of(X, standardize=True), 15
    rows = source.standardization(torch.from_numpy(X))
    start, failed, _ = hard_start(
        COVARIANCES[name].sized(N_FEATURES, 2), rows, rows[:N_COMPONENTS], ridge(0.0)
    )
    assert not failed.any()
    truncation = Truncation.about(start, rows, 3, new_generator(0))
    result = fit_em(
        source,
        start,
        EMConfig(n_iter, 0.0, ridge(0.0)),
        DegeneracyGuard(source, new_generator(0)),
        lambda *_: False,
        expectation=truncation,
    )
    assert result.n_iter == n_iter
    assert not result.events
    assert np.diff(result.lower_bounds).min() > -1e-10
    assert result.lower_bounds[-1] > result.lower_bounds[0] + 1e-2


def ridge(value):
    return torch.full((N_FEATURES,), value, dtype=torch.float64)


def test_neighbours_stay_themselves_and_distinct(X, rng):
    mixture = random_mixture("full", rng, N_COMPONENTS, N_FEATURES, spread=2.0)
    truncation, source = candidates(mixture, X, 4), source_of(X)
    for _ in range(5):
        truncation(mixture, source)
        listed = truncation.neighbours
        assert torch.equal(listed[:, 0], torch.arange(N_COMPONENTS))
        assert all(len(set(row)) == 4 for row in listed.tolist())


def test_searches_find_neighbours_that_matter(rng):
    """From the worst lists the bound comes near the exact one in a few passes."""
    mixture = random_mixture("diag", rng, N_COMPONENTS, 2, spread=2.0)
    X = mixture.sample([50] * N_COMPONENTS, new_generator(0))[0].numpy()
    truncation, source = candidates(mixture, X, 6), source_of(X)
    far = (mixture.means[:, None] - mixture.means).square().sum(2).argsort(1)
    truncation.neighbours[:, 1:] = far.flip(1)[:, :5]
    exact = e_step(mixture, source).mean_log_likelihood
    gaps = [exact - truncation(mixture, source).mean_log_likelihood for _ in range(15)]
    assert np.diff(gaps).max() < 1e-10
    assert gaps[-1] < 0.15 * gaps[0]


def test_the_gap_is_the_difference_to_the_exact_bound(X, rng):
    mixture = random_mixture("full", rng, N_COMPONENTS, N_FEATURES, spread=2.0)
    weight = torch.from_numpy(rng.uniform(0.1, 3.0, size=len(X)))
    truncation = candidates(mixture, X, 3, weight)
    seen = truncation.neighbours[truncation.anchors]
    log_joint = mixture.log_joint(torch.from_numpy(X).T.contiguous()).T
    gap = log_joint.logsumexp(1) - log_joint.gather(1, seen).logsumexp(1)
    expected = float(weight @ gap / weight.sum())
    assert expected > 0.01
    assert truncation.gap(mixture) == pytest.approx(expected, rel=1e-9)


def test_the_gap_is_of_samples_that_have_weight(X, rng):
    mixture = random_mixture("full", rng, N_COMPONENTS, N_FEATURES, spread=2.0)
    weight = torch.zeros(len(X), dtype=torch.float64)
    weight[:5] = 2.0
    found = candidates(mixture, X, 3, weight).gap(mixture, count=5)
    expected = candidates(mixture, X[:5], 3).gap(mixture)
    assert expected > 1e-3
    assert found == pytest.approx(expected, rel=1e-9)


# Precision -----------------------------------------------------------------------


def test_gains_that_underflow_do_not_outweigh_losses():
    """One sample that only a new neighbour explains, 100 that need the old one."""
    kinds = [([-80.0, 0.0, -80.0], 100), ([-5.0, -90.0, 0.0], 101)]
    kinds.append(([-200.0, -200.0, 0.0], 1))
    columns = torch.cat([torch.tensor([kind]).repeat(n, 1) for kind, n in kinds])
    n_samples = len(columns)

    class Groups:
        def log_joint(self, candidates):
            assert candidates.tolist() == [[0, 1, 2]]
            return columns.T[:, None].clone()

    truncation = Truncation(
        torch.zeros(n_samples, 1),
        torch.zeros(n_samples, dtype=torch.int64),
        torch.tensor([[0, 1], [1, 0], [2, 0]]),
        new_generator(0),
    )
    places = torch.arange(n_samples)[None]
    pack = Pack(torch.tensor([0]), places, torch.ones_like(places, dtype=torch.bool))
    seen, best = truncation._search(Groups(), pack, torch.tensor([[2]]))
    assert truncation.neighbours[0].tolist() == [0, 1]
    torch.testing.assert_close(seen[:, 0].T, columns[:, :2])
    assert torch.equal(best[0], columns.argmax(1))


@pytest.mark.parametrize("name", ["full", "diag", "spherical"])
def test_tight_components_far_from_the_origin_lose_nothing(name, rng):
    """Products of x would cancel to nothing; those about anchors do not."""
    cls, spread = COVARIANCES[name], 1e-4
    means = torch.from_numpy(rng.normal(scale=3.0, size=(6, N_FEATURES)))
    variances = torch.full((N_FEATURES,), spread**2, dtype=torch.float64)
    covariance, _ = cls.from_values(cls.from_variances(variances, 6))
    mixture = MixtureDensity(torch.full((6,), 1 / 6).double(), means, covariance)
    X = mixture.sample([200] * 6, new_generator(0))[0]
    assert mixture.covariance.cancellation(means) > 1e8
    truncation = candidates(mixture, X, 4)
    groups = groups_of(mixture, truncation.neighbours, X)
    assert isinstance(groups, PackedMoments)
    stats = truncation(mixture, source_of(X.numpy()))
    exact = mixture.log_joint(X.T.contiguous()).logsumexp(0).sum()
    assert float(stats.log_likelihood) == pytest.approx(float(exact), rel=1e-6)
    stats = stats.recentered(cls, stats.first / stats.nk[:, None])
    values = cls.estimate(stats, torch.zeros_like(means), torch.zeros(N_FEATURES))
    diagonal = cls.from_values(values)[0].variances().expand_as(means)
    own = torch.stack(
        [X[200 * k : 200 * k + 200].var(0, correction=0) for k in range(6)]
    )
    if name == "spherical":
        own = own.mean(1, keepdim=True).expand_as(own)
    torch.testing.assert_close(diagonal, own, rtol=1e-4, atol=0.0)


def test_what_would_cancel_even_so_takes_the_exact_form(rng):
    mixture = random_mixture("diag", rng, 4, N_FEATURES)
    values = mixture.covariance.values * 1e-16
    tight = MixtureDensity(
        mixture.weights, mixture.means, type(mixture.covariance).from_values(values)[0]
    )
    rows = mixture.means.clone()
    neighbours = nearest_neighbours(tight, 2)
    for least_bound in (0.0, math.inf):
        groups = groups_of(tight, neighbours, rows, least_bound)
        assert isinstance(groups, SingleGroups)
    assert groups_of(mixture, neighbours, rows.float()).dtype == torch.float32
    wide = groups_of(mixture, neighbours, rows.float(), math.inf)
    assert wide.dtype == torch.float64


@pytest.mark.parametrize("name", ["full", "tied", "diag", "spherical"])
@pytest.mark.parametrize("n_features", [1, 4])
def test_features_about_another_centre(name, n_features, rng):
    """f(y + c) = f(y) + B(c, y) + f(c), and B gives coefficients as well."""
    mixture = random_mixture(name, rng, 3, n_features)
    groups = PackedMoments(mixture, torch.zeros(1, n_features), torch.float64)
    first = 1 + n_features
    center, y = (torch.from_numpy(rng.normal(size=(5, n_features))) for _ in "cy")
    moved, own, at = (groups._features(v.T)[first:].T for v in (y + center, y, center))
    shift = groups._shift(center)
    found = shift.products(y[:, None])
    torch.testing.assert_close(found[:, 0], moved - own - at)
    quadratic = torch.from_numpy(rng.normal(size=(5, 2, groups.n_moments)))
    linear = shift.coefficients(quadratic).expand(5, 2, n_features)
    torch.testing.assert_close((linear @ y[..., None]), quadratic @ found.mT)


def test_many_features_need_no_large_matrices(rng):
    full = random_mixture("full", rng, 3, 50)
    groups = PackedMoments(full, torch.zeros(1, 50), torch.float64)
    n_anchors = groups.most_anchors(4)
    shift = groups._shift(torch.zeros(n_anchors, 50))
    assert isinstance(shift, MatrixShift)
    assert n_anchors > 1
    assert shift.cross.numel() <= PACK_VALUES
    diag = random_mixture("diag", rng, 3, 50)
    groups = PackedMoments(diag, torch.zeros(1, 50), torch.float64)
    assert isinstance(groups._shift(diag.means), SquareShift)
    # Here exact EM does without second-moment features as well.
    wide = random_mixture("full", rng, 3, 200)
    neighbours = nearest_neighbours(wide, 2)
    assert isinstance(groups_of(wide, neighbours, wide.means), SingleGroups)


# Parts ---------------------------------------------------------------------------


def test_packs_hold_every_sample_once(rng):
    counts = rng.integers(0, 40, size=50)
    counts[3] = MOST_ROWS + 10
    labels = torch.from_numpy(np.repeat(np.arange(50), counts))
    seen = torch.zeros(len(labels), dtype=torch.int64)
    for pack in packs_of(labels, 8):
        assert len(pack.anchors) <= 8
        assert pack.whole == (3 not in pack.anchors.tolist())
        places = pack.places[pack.valid]
        seen[places] += 1
        expected = pack.anchors[:, None].expand_as(pack.places)[pack.valid]
        assert torch.equal(labels[places], expected)
    assert torch.equal(seen, torch.ones_like(seen))


def test_nearest_by_brute_force(rng):
    points, centers = (torch.from_numpy(rng.normal(size=(n, 4))) for n in (50, 9))
    scale = torch.tensor([1.0, 2.0, 0.5, 3.0], dtype=torch.float64)
    distances = ((points[:, None] - centers) / scale).square().sum(2)
    found = nearest(points, centers, scale, 3)
    assert torch.equal(found, distances.argsort(1)[:, :3])
    assert torch.equal(nearest(points, centers, scale)[:, 0], distances.argmin(1))


def test_equal_means_are_neighbours_once():
    means = torch.zeros(5, 2, dtype=torch.float64)
    cls = COVARIANCES["diag"]
    ones = torch.ones(2, dtype=torch.float64)
    covariance, _ = cls.from_values(cls.from_variances(ones, 5))
    mixture = MixtureDensity(torch.full((5,), 0.2).double(), means, covariance)
    found = nearest_neighbours(mixture, 3)
    assert torch.equal(found[:, 0], torch.arange(5))
    assert all(len(set(row)) == 3 for row in found.tolist())


@all_types
def test_statistics_of_the_nearest_centres(name, X):
    if name == "low_rank":
        pytest.skip("starts as 'diag'")
    centers, cls = torch.from_numpy(X[:N_COMPONENTS]), COVARIANCES[name]
    rows = torch.from_numpy(X)
    labels = nearest(rows, centers, torch.ones(N_FEATURES, dtype=torch.float64))[:, 0]
    zero = torch.zeros_like(centers)
    found = hard_statistics(cls, rows, labels, zero)
    expected = from_responsibilities(
        cls, source_of(X), N_COMPONENTS, nearest_function(centers)
    )
    for field in ("total", "nk", "first", "second"):
        torch.testing.assert_close(getattr(found, field), getattr(expected, field))

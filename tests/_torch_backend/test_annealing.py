"""Annealed objectives: bounds of the log-likelihood, gradients, schedule."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from skdeepgmm._torch_backend import annealing

SIZES = st.integers(1, 40)
RADII = st.floats(0.005, 50.0)
SEEDS = st.integers(0, 2**31 - 1)


def log_joints(seed, n_components, n_samples=30, spread=5.0):
    draw = torch.Generator().manual_seed(seed)
    shape = (n_samples, n_components)
    return spread * torch.randn(shape, generator=draw, dtype=torch.float64)


def couple_for(n_components, radius):
    return annealing.coupling(annealing.torus_distances(n_components), radius)


@given(SIZES)
@settings(deadline=None)
def test_grid_holds_every_component(n_components):
    rows, cols = annealing.torus_shape(n_components)
    assert rows * cols >= n_components > rows * (cols - 1)
    assert abs(rows - cols) <= cols / 2 + 1


@given(SIZES)
@settings(deadline=None)
def test_distances_are_a_torus_metric(n_components):
    distances = annealing.torus_distances(n_components)
    assert torch.equal(distances, distances.T)
    assert torch.equal(distances == 0, torch.eye(n_components, dtype=torch.bool))
    rows, cols = annealing.torus_shape(n_components)
    assert distances.max() <= (rows // 2) ** 2 + (cols // 2) ** 2


def test_full_grid_has_no_border():
    distances = annealing.torus_distances(12)
    profiles = distances.sort(dim=1).values
    assert torch.equal(profiles, profiles[:1].expand_as(profiles))


@given(SIZES, RADII)
@settings(deadline=None)
def test_coupling_is_a_convex_combination(n_components, radius):
    couple = couple_for(n_components, radius)
    ones = torch.ones(n_components, dtype=torch.float64)
    assert (couple >= 0).all()
    torch.testing.assert_close(couple.sum(1), ones)
    torch.testing.assert_close(couple.sum(0), ones, rtol=0, atol=1e-6)


@pytest.mark.parametrize("n_components", [1, 4, 7])
def test_coupling_ends_at_the_identity_and_begins_flat(n_components):
    eye = torch.eye(n_components, dtype=torch.float64)
    torch.testing.assert_close(couple_for(n_components, 0.01), eye)
    flat = torch.full_like(eye, 1.0 / n_components)
    torch.testing.assert_close(couple_for(n_components, 1e4), flat, atol=1e-6, rtol=0)


@given(SEEDS, SIZES, RADII)
@settings(max_examples=200, deadline=None)
def test_annealed_is_below_maximum_is_below_log_likelihood(seed, n_components, radius):
    log_joint = log_joints(seed, n_components)
    couple = couple_for(n_components, radius)
    annealed, _ = annealing.maximum(log_joint, couple)
    largest = log_joint.max(1).values
    likelihood, _ = annealing.exact(log_joint)
    assert (annealed <= largest + 1e-9).all()
    assert (largest <= likelihood + 1e-9).all()
    assert (likelihood <= largest + math.log(n_components) + 1e-9).all()


@given(SEEDS, SIZES, RADII)
@settings(max_examples=200, deadline=None)
def test_soft_annealed_is_below_log_likelihood(seed, n_components, radius):
    log_joint = log_joints(seed, n_components)
    annealed, _ = annealing.soft_maximum(log_joint, couple_for(n_components, radius))
    likelihood, _ = annealing.exact(log_joint)
    assert (annealed <= likelihood + 1e-5).all()


@pytest.mark.parametrize("name", ["exact", "max", "soft"])
@pytest.mark.parametrize("radius", [0.01, 0.7, 3.0])
def test_weights_are_the_derivative_of_the_objective(name, radius):
    log_joint = log_joints(3, 7, spread=2.0).requires_grad_()
    if name == "exact":
        value, weights = annealing.exact(log_joint)
    else:
        value, weights = annealing.OBJECTIVES[name](log_joint, couple_for(7, radius))
    (gradient,) = torch.autograd.grad(value.sum(), log_joint)
    torch.testing.assert_close(weights.detach(), gradient)
    torch.testing.assert_close(weights.sum(1), torch.ones(30, dtype=torch.float64))


def test_schedule_holds_then_falls_exponentially_then_is_exact():
    schedule = annealing.Schedule(start=2.0, stop=0.02, hold=0.3, end=0.8)
    assert schedule.radius(0.0) == schedule.radius(0.3) == 2.0
    assert schedule.radius(0.55) == pytest.approx(0.2)
    assert schedule.radius(0.8 - 1e-9) == pytest.approx(0.02)
    assert schedule.radius(0.8) is None
    assert schedule.radius(1.0) is None

"""Stochastic natural gradients: against autograd, EM and the laws of training."""

import math

import pytest
import torch
from torch.distributions import MultivariateNormal

from skdeepgmm._torch_backend import annealing
from skdeepgmm._torch_backend.mixture import sgd
from skdeepgmm._torch_backend.mixture.sgd_factors import FACTORS
from skdeepgmm._torch_backend.training import TrainingConfig, batched, shuffled, train

# Low rank has parameters of its own: test_sgd_low_rank.py.
KINDS = sorted(set(FACTORS) - {"low_rank"})
K, D, N = 4, 3, 60
FLOOR = 1e-3


def draw(seed=0):
    return torch.Generator().manual_seed(seed)


def random_factor(kind, generator):
    """Return a factor with different values everywhere."""
    shape = {"full": (K, D, D), "tied": (D, D), "diag": (K, D), "spherical": (K,)}
    noise = torch.randn(shape[kind], generator=generator, dtype=torch.float64)
    if kind in ("diag", "spherical"):
        return (0.3 * noise).exp()
    return torch.triu(0.3 * noise, 1) + torch.diag_embed(
        (0.3 * noise.diagonal(dim1=-2, dim2=-1)).exp()
    )


def dense(kind, factor):
    """Return the factor as triangular matrices (K, D, D)."""
    if kind == "full":
        return factor
    if kind == "tied":
        return factor.expand(K, D, D)
    diagonal = factor if kind == "diag" else factor[:, None].expand(K, D)
    return torch.diag_embed(diagonal)


def make_model(kind, plan=None, momentum=0.0, seed=0, floor=FLOOR):
    generator = draw(seed)
    parameters = sgd.Parameters(
        torch.randn(K, generator=generator, dtype=torch.float64).log_softmax(0),
        torch.randn(K, D, generator=generator, dtype=torch.float64),
        random_factor(kind, generator),
    )
    ridge = torch.full((D,), floor, dtype=torch.float64)
    plan = plan or sgd.RunPlan(0.1, 1000, fresh=False)
    return sgd.SGDMixture(
        parameters, sgd.SGDConfig(kind, plan, momentum, ridge), draw()
    )


def rows(seed=1, n_samples=N):
    return 1.5 * torch.randn(n_samples, D, generator=draw(seed), dtype=torch.float64)


def clusters(n_samples=2000):
    """Return samples of four well separated groups, standardised."""
    centers = torch.tensor([[0.0, 0, 0], [9, 0, 0], [0, 9, 0], [0, 0, 9]]).double()
    noise = torch.randn(n_samples, D, generator=draw(5), dtype=torch.float64)
    x = centers[torch.arange(n_samples) % K] + noise
    return (x - x.mean(0)) / x.std(0)


def oracle_log_joint(model, kind, x):
    u = dense(kind, model.parameters.factor)
    normal = MultivariateNormal(model.parameters.means, precision_matrix=u @ u.mT)
    weights = torch.softmax(model.parameters.logits, 0)
    return normal.log_prob(x[:, None]) + weights.log()


@pytest.mark.parametrize("kind", KINDS)
def test_log_joint_is_torch_distributions_density(kind):
    model, x = make_model(kind), rows()
    torch.testing.assert_close(model.log_joint(x)[0], oracle_log_joint(model, kind, x))


def penalized(model, kind, x, objective):
    """Return the trained objective as a function of leaf parameters."""
    now = model.parameters
    leaves = [value.clone().requires_grad_() for value in vars(now).values()]
    copy = sgd.SGDMixture(sgd.Parameters(*leaves), model.config, draw())
    value, weights = objective(copy.log_joint(x)[0])
    u = dense(kind, leaves[2])
    penalty = (u.square().sum(-1) * model.config.ridge).sum(-1)
    total = value.mean() - 0.5 * (weights.detach().mean(0) * penalty).sum()
    return torch.autograd.grad(total, leaves)


@pytest.mark.parametrize("objective", ["exact", "max", "soft"])
@pytest.mark.parametrize("kind", KINDS)
def test_steps_are_the_natural_gradient(kind, objective):
    """Euclidean gradients by autograd, times the inverse Fisher information."""
    model, x = make_model(kind), rows()
    couple = annealing.coupling(annealing.torus_distances(K), 0.8)
    function = annealing.exact
    if objective != "exact":

        def function(log_joint):
            return annealing.OBJECTIVES[objective](log_joint, couple)

    log_joint, cache = model.log_joint(x)
    weights = function(log_joint)[1]
    found = model.gradient(x, cache, weights)
    euclid = penalized(model, kind, x, function)
    prior, mass = torch.softmax(model.parameters.logits, 0), weights.mean(0)
    norm = torch.maximum(prior, mass)
    u = dense(kind, model.parameters.factor)
    # Fisher of the mean is pi P, of the logits diag(pi); z = U^T x whitens.
    whitened = torch.linalg.solve_triangular(u, euclid[1][:, :, None], upper=True)
    torch.testing.assert_close(found.means, whitened[:, :, 0] / norm[:, None])
    torch.testing.assert_close(found.logits, euclid[0] / norm)
    # d/dU along U T: <grad, U T> with the T of a unit step is the slope.
    check_factor(kind, model, found.factor, euclid[2], norm)


def check_factor(kind, model, direction, euclid, norm):
    factor = model.parameters.factor
    if kind in ("diag", "spherical"):
        # log factor has Fisher information 2 a feature (times pi).
        scale = 2.0 * (1 if kind == "diag" else D)
        norm = norm[:, None] if kind == "diag" else norm
        torch.testing.assert_close(direction, euclid * factor / (scale * norm))
        return
    # In W = U^-1 dU the Fisher information is 1 off the diagonal and 2 on it.
    local = torch.triu(factor.mT @ euclid)
    local = local - 0.5 * torch.diag_embed(local.diagonal(dim1=-2, dim2=-1))
    if kind == "full":
        local = local / norm[:, None, None]
    torch.testing.assert_close(direction, local)


@pytest.mark.parametrize("kind", KINDS)
def test_the_maximum_of_the_likelihood_is_a_fixed_point(kind):
    """One component: the scatter plus the ridge, as in EM."""
    x = rows(n_samples=400)
    scatter = torch.cov(x.T, correction=0) + FLOOR * torch.eye(D, dtype=torch.float64)
    plan = sgd.RunPlan(0.5, 400)
    shape = {"full": (1, D, D), "tied": (D, D), "diag": (1, D), "spherical": (1,)}[kind]
    start = torch.ones(shape, dtype=torch.float64)
    if kind in ("full", "tied"):
        start = torch.eye(D, dtype=torch.float64).expand(shape).contiguous()
    parameters = sgd.Parameters(
        torch.zeros(1, dtype=torch.float64), x[:1].clone(), start
    )
    ridge = torch.full((D,), FLOOR, dtype=torch.float64)
    model = sgd.SGDMixture(parameters, sgd.SGDConfig(kind, plan, 0.5, ridge), draw())
    for _ in range(400):
        model.step(x)
    torch.testing.assert_close(model.parameters.means[0], x.mean(0))
    factor = model.parameters.factor
    if kind in ("full", "tied"):
        u = factor.reshape(D, D)
        torch.testing.assert_close(torch.linalg.inv(u @ u.T), scatter)
    else:
        variance = scatter.diagonal()
        expected = variance if kind == "diag" else variance.mean()[None]
        torch.testing.assert_close(factor.reshape(-1) ** -2, expected.reshape(-1))


def random_start(kind, generator):
    start = make_model(kind).parameters
    start.means = sgd.random_means(K, D, generator)
    start.logits = torch.full((K,), -math.log(K), dtype=torch.float64)
    start.factor = torch.ones_like(start.factor)
    if kind in ("full", "tied"):
        eye = torch.eye(D, dtype=torch.float64)
        start.factor = eye.expand_as(start.factor).clone()
    return start


@pytest.mark.parametrize("name", ["max", "soft", "none"])
@pytest.mark.parametrize("kind", KINDS)
def test_training_from_a_random_start_nears_the_generating_mixture(kind, name):
    x, generator = clusters(), draw(3)
    schedule = annealing.Schedule(annealing.start_radius(K)) if name != "none" else None
    plan = sgd.RunPlan(0.2, 20 * 20, schedule)
    objective = annealing.OBJECTIVES.get(name, annealing.maximum)
    ridge = torch.full((D,), 1e-6, dtype=torch.float64)
    start = random_start(kind, generator)
    before = start.clone()
    config = sgd.SGDConfig(kind, plan, 0.9, ridge, objective)
    model = sgd.SGDMixture(start, config, generator)
    epoch = lambda: (x[index] for index in shuffled(len(x), 100, generator))  # noqa: E731
    state = train(model, batched(model, epoch), TrainingConfig(20))
    for value, old in zip(
        vars(model.parameters).values(), vars(before).values(), strict=True
    ):
        assert torch.isfinite(value).all()
        assert not torch.equal(value, old)
    bounds = [entry["log_likelihood"] for entry in state.history]
    assert bounds[-1] > bounds[0] + 0.1
    if name == "max":
        labels = model.log_joint(x)[0].argmax(1)
        winners = {int(labels[i::K].mode().values) for i in range(K)}
        assert winners == set(range(K))


@pytest.mark.parametrize("kind", KINDS)
def test_objectives_are_reported_in_their_order(kind):
    schedule = annealing.Schedule(2.0, hold=0.3, end=0.8)
    model = make_model(kind, sgd.RunPlan(0.1, 40, schedule))
    for _ in range(40):
        exact = not model.annealed
        losses = model.step(rows())
        if exact:
            torch.testing.assert_close(-losses["loss"], losses["log_likelihood"])
        else:
            assert -losses["loss"] <= losses["log_likelihood"]


@pytest.mark.parametrize("kind", KINDS)
def test_extreme_rows_and_steps_leave_everything_finite(kind):
    model = make_model(kind, sgd.RunPlan(50.0, 10**6, fresh=False))
    for scale in (1e-8, 1.0, 1e6, 1e-8, 1e6):
        model.step(scale * rows())
    for value in vars(model.parameters).values():
        assert torch.isfinite(value).all()


@pytest.mark.parametrize("kind", KINDS)
def test_variances_stay_above_the_floor_on_constant_data(kind):
    model = make_model(kind, sgd.RunPlan(0.5, 10**6, fresh=False))
    for _ in range(300):
        model.step(torch.zeros(20, D, dtype=torch.float64))
    factor = model.parameters.factor
    diagonal = factor.diagonal(dim1=-2, dim2=-1) if factor.ndim > 1 else factor
    if kind == "diag":
        diagonal = factor
    assert diagonal.max() <= FLOOR**-0.5 * (1 + 1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_a_restored_model_repeats_its_past(kind):
    model = make_model(kind, momentum=0.9)
    model.step(rows(1))
    saved = {
        name: value.clone() if torch.is_tensor(value) else value
        for name, value in model.state_dict().items()
    }
    first = [float(model.step(rows(seed))["loss"]) for seed in (2, 3)]
    model.load_state_dict(saved)
    assert [float(model.step(rows(seed))["loss"]) for seed in (2, 3)] == first


@pytest.mark.parametrize("kind", KINDS)
def test_a_dead_component_is_reseeded_and_lives(kind):
    x = clusters()
    model = make_model(kind, sgd.RunPlan(0.2, 400, fresh=False), momentum=0.5)
    model.parameters.means = x[:K].clone()
    model.parameters.means[0] = 1e3
    generator = draw()
    for _ in range(20):
        for index in shuffled(len(x), 100, generator):
            model.step(x[index])
    assert 0 in model.events
    assert model.usage.min() > 0.02
    assert torch.softmax(model.parameters.logits, 0)[0] > 0.02


def test_a_run_decays_to_zero_and_a_stream_does_not():
    run = sgd.RunPlan(0.2, 100)
    assert run.rate(0) == 0.2
    assert run.rate(50) == pytest.approx(0.1)
    assert run.rate(100) == 0.0
    stream = sgd.StreamPlan(0.2)
    rates = [stream.rate(step) for step in (0, 100, 10**4, 10**6)]
    assert rates == sorted(rates, reverse=True)
    assert rates[-1] > 0.0


def test_a_longer_run_is_the_same_schedule_stretched():
    schedule = annealing.Schedule(2.0)
    short, long = sgd.RunPlan(0.2, 100, schedule), sgd.RunPlan(0.2, 700, schedule)
    for step in range(100):
        assert short.rate(step) == pytest.approx(long.rate(7 * step))
        assert short.radius(step) == pytest.approx(long.radius(7 * step))
        assert short.frees_weights(step) == long.frees_weights(7 * step)

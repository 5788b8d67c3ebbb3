"""Stochastic natural gradients: against autograd, EM and the laws of training."""

import math

import numpy as np
import pytest
import torch
from torch.distributions import MultivariateNormal

from skdeepgmm._torch_backend import annealing
from skdeepgmm._torch_backend.mixture import sgd
from skdeepgmm._torch_backend.mixture.covariances import COVARIANCES
from skdeepgmm._torch_backend.schedules import RunPlan
from skdeepgmm._torch_backend.training import TrainingConfig, batched, shuffled, train
from tests.oracles import COVARIANCE_TYPES, ORACLES

# Low rank has parameters of its own: test_sgd_low_rank.py.
types = pytest.mark.parametrize("name", COVARIANCE_TYPES)
K, D, N = 4, 3, 60
FLOOR = 1e-3


def draw(seed=0):
    return torch.Generator().manual_seed(seed)


def random_factor(name, generator):
    """Return a factor with different values everywhere."""
    oracle = ORACLES[name]
    noise = torch.randn(oracle.shape(K, D), generator=generator, dtype=torch.float64)
    if not oracle.matrices:
        return (0.3 * noise).exp()
    return torch.triu(0.3 * noise, 1) + torch.diag_embed(
        (0.3 * noise.diagonal(dim1=-2, dim2=-1)).exp()
    )


def unit_factor(name, n_components):
    """Return the factor of unit variances."""
    oracle = ORACLES[name]
    shape = oracle.shape(n_components, D)
    if not oracle.matrices:
        return torch.ones(shape, dtype=torch.float64)
    return torch.eye(D, dtype=torch.float64).expand(shape).clone()


def dense(name, factor, n_components=K):
    """Return the factor as triangular matrices (n_components, D, D)."""
    eyes = torch.eye(D, dtype=torch.float64).repeat(n_components, 1, 1)
    return ORACLES[name].dense(factor, eyes)


def make_model(name, plan=None, momentum=0.0, seed=0, floor=FLOOR):
    generator = draw(seed)
    parameters = sgd.Parameters(
        torch.randn(K, generator=generator, dtype=torch.float64).log_softmax(0),
        torch.randn(K, D, generator=generator, dtype=torch.float64),
        random_factor(name, generator),
    )
    ridge = torch.full((D,), floor, dtype=torch.float64)
    plan = plan or RunPlan(0.1, 1000, fresh=False)
    return sgd.SGDMixture(
        parameters, sgd.SGDConfig(COVARIANCES[name], plan, momentum, ridge), draw()
    )


def rows(seed=1, n_samples=N):
    return 1.5 * torch.randn(n_samples, D, generator=draw(seed), dtype=torch.float64)


def clusters(n_samples=2000):
    """Return samples of four well separated groups, standardised."""
    centers = torch.tensor([[0.0, 0, 0], [9, 0, 0], [0, 9, 0], [0, 0, 9]]).double()
    noise = torch.randn(n_samples, D, generator=draw(5), dtype=torch.float64)
    x = centers[torch.arange(n_samples) % K] + noise
    return (x - x.mean(0)) / x.std(0)


def oracle_log_joint(model, name, x):
    u = dense(name, model.parameters.factor)
    normal = MultivariateNormal(model.parameters.means, precision_matrix=u @ u.mT)
    weights = torch.softmax(model.parameters.logits, 0)
    return normal.log_prob(x[:, None]) + weights.log()


@types
def test_log_joint_is_torch_distributions_density(name):
    model, x = make_model(name), rows()
    torch.testing.assert_close(model.log_joint(x)[0], oracle_log_joint(model, name, x))


@types
def test_the_log_likelihood_is_a_mean_whatever_the_parts(name, monkeypatch):
    model, x = make_model(name), rows()
    monkeypatch.setattr(sgd, "SCORE_ROWS", 7)
    expected = oracle_log_joint(model, name, x).logsumexp(1).mean()
    torch.testing.assert_close(model.log_likelihood(x), expected)


def penalized(model, name, x, objective):
    """Return the trained objective as a function of leaf parameters."""
    now = model.parameters
    leaves = [value.clone().requires_grad_() for value in vars(now).values()]
    copy = sgd.SGDMixture(sgd.Parameters(*leaves), model.config, draw())
    value, weights = objective(copy.log_joint(x)[0])
    u = dense(name, leaves[2])
    penalty = (u.square().sum(-1) * model.config.ridge).sum(-1)
    total = value.mean() - 0.5 * (weights.detach().mean(0) * penalty).sum()
    return torch.autograd.grad(total, leaves)


@pytest.mark.parametrize("objective", ["exact", "max", "soft"])
@types
def test_steps_are_the_natural_gradient(name, objective):
    """Euclidean gradients by autograd, times the inverse Fisher information."""
    model, x = make_model(name), rows()
    couple = annealing.coupling(annealing.torus_distances(K), 0.8)
    function = annealing.exact
    if objective != "exact":

        def function(log_joint):
            return annealing.OBJECTIVES[objective](log_joint, couple)

    log_joint, cache = model.log_joint(x)
    weights = function(log_joint)[1]
    found = model.gradient(x, cache, weights)
    euclid = penalized(model, name, x, function)
    prior, mass = torch.softmax(model.parameters.logits, 0), weights.mean(0)
    norm = torch.maximum(prior, mass)
    u = dense(name, model.parameters.factor)
    # Fisher of the mean is pi P, of the logits diag(pi); z = U^T x whitens.
    whitened = torch.linalg.solve_triangular(u, euclid[1][:, :, None], upper=True)
    torch.testing.assert_close(found.means, whitened[:, :, 0] / norm[:, None])
    torch.testing.assert_close(found.logits, euclid[0] / norm)
    # d/dU along U T: <grad, U T> with the T of a unit step is the slope.
    check_factor(name, model, found.factor, euclid[2], norm)


def check_factor(name, model, direction, euclid, norm):
    oracle, factor = ORACLES[name], model.parameters.factor
    # A shared factor has the Fisher information of all components together.
    norm = 1.0 if oracle.shared else norm.reshape(-1, *[1] * (factor.ndim - 1))
    if oracle.matrices:
        # In W = U^-1 dU the Fisher information is 1 off the diagonal and 2 on it.
        local = torch.triu(factor.mT @ euclid)
        local = local - 0.5 * torch.diag_embed(local.diagonal(dim1=-2, dim2=-1))
        torch.testing.assert_close(direction, local / norm)
        return
    # log factor has Fisher information 2 a feature (times pi).
    components = 1 if oracle.shared else K
    scale = 2.0 * D * components / factor.numel()
    torch.testing.assert_close(direction, euclid * factor / (scale * norm))


@types
def test_the_maximum_of_the_likelihood_is_a_fixed_point(name):
    """One component: the scatter plus the ridge, as in EM."""
    x = rows(n_samples=400)
    scatter = torch.cov(x.T, correction=0) + FLOOR * torch.eye(D, dtype=torch.float64)
    plan = RunPlan(0.5, 400)
    parameters = sgd.Parameters(
        torch.zeros(1, dtype=torch.float64), x[:1].clone(), unit_factor(name, 1)
    )
    ridge = torch.full((D,), FLOOR, dtype=torch.float64)
    config = sgd.SGDConfig(COVARIANCES[name], plan, 0.5, ridge)
    model = sgd.SGDMixture(parameters, config, draw())
    for _ in range(400):
        model.step(x)
    torch.testing.assert_close(model.parameters.means[0], x.mean(0))
    u = dense(name, model.parameters.factor, 1)[0]
    oracle = ORACLES[name]
    values = oracle.project(scatter[None].numpy(), np.ones(1))
    expected = torch.from_numpy(oracle.as_matrices(values, 1, D)[0])
    torch.testing.assert_close(torch.linalg.inv(u @ u.T), expected)


def random_init(name, generator):
    init = make_model(name).parameters
    init.means = sgd.random_means(K, D, generator)
    init.logits = torch.full((K,), -math.log(K), dtype=torch.float64)
    init.factor = unit_factor(name, K)
    return init


@pytest.mark.parametrize("objective", ["max", "soft", "none"])
@types
def test_training_from_a_random_init_nears_the_generating_mixture(name, objective):
    x, generator = clusters(), draw(3)
    schedule = (
        annealing.Schedule(annealing.start_radius(K)) if objective != "none" else None
    )
    plan = RunPlan(0.2, 20 * 20, schedule)
    function = annealing.OBJECTIVES.get(objective, annealing.maximum)
    ridge = torch.full((D,), 1e-6, dtype=torch.float64)
    init = random_init(name, generator)
    before = init.clone()
    config = sgd.SGDConfig(COVARIANCES[name], plan, 0.9, ridge, function)
    model = sgd.SGDMixture(init, config, generator)
    epoch = lambda: (x[index] for index in shuffled(len(x), 100, generator))  # noqa: E731
    state = train(model, batched(model, epoch), TrainingConfig(20))
    for value, old in zip(
        vars(model.parameters).values(), vars(before).values(), strict=True
    ):
        assert torch.isfinite(value).all()
        assert not torch.equal(value, old)
    bounds = [entry["log_likelihood"] for entry in state.history]
    assert bounds[-1] > bounds[0] + 0.1
    if objective == "max":
        labels = model.log_joint(x)[0].argmax(1)
        winners = {int(labels[i::K].mode().values) for i in range(K)}
        assert winners == set(range(K))


@types
def test_objectives_are_reported_in_their_order(name):
    schedule = annealing.Schedule(2.0, hold=0.3, end=0.8)
    model = make_model(name, RunPlan(0.1, 40, schedule))
    for _ in range(40):
        exact = not model.annealed
        losses = model.step(rows())
        if exact:
            torch.testing.assert_close(-losses["loss"], losses["log_likelihood"])
        else:
            assert -losses["loss"] <= losses["log_likelihood"]


@types
def test_extreme_rows_and_steps_leave_everything_finite(name):
    model = make_model(name, RunPlan(50.0, 10**6, fresh=False))
    for scale in (1e-8, 1.0, 1e6, 1e-8, 1e6):
        model.step(scale * rows())
    for value in vars(model.parameters).values():
        assert torch.isfinite(value).all()


@types
def test_variances_stay_above_the_floor_on_constant_data(name):
    model = make_model(name, RunPlan(0.5, 10**6, fresh=False))
    for _ in range(300):
        model.step(torch.zeros(20, D, dtype=torch.float64))
    diagonal = dense(name, model.parameters.factor).diagonal(dim1=-2, dim2=-1)
    assert diagonal.max() <= FLOOR**-0.5 * (1 + 1e-12)


@types
def test_a_restored_model_repeats_its_past(name):
    model = make_model(name, momentum=0.9)
    model.step(rows(1))
    saved = {
        name: value.clone() if torch.is_tensor(value) else value
        for name, value in model.state_dict().items()
    }
    first = [float(model.step(rows(seed))["loss"]) for seed in (2, 3)]
    model.load_state_dict(saved)
    assert [float(model.step(rows(seed))["loss"]) for seed in (2, 3)] == first


@types
def test_an_empty_component_is_reseeded_and_keeps_its_samples(name):
    x = clusters()
    model = make_model(name, RunPlan(0.2, 400, fresh=False), momentum=0.5)
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
    run = RunPlan(0.2, 100)
    assert run.lr(0) == 0.2
    assert run.lr(50) == pytest.approx(0.1)
    assert run.lr(100) == 0.0
    stream = sgd.StreamPlan(0.2)
    rates = [stream.lr(step) for step in (0, 100, 10**4, 10**6)]
    assert rates == sorted(rates, reverse=True)
    assert rates[-1] > 0.0


def test_a_longer_run_is_the_same_schedule_stretched():
    schedule = annealing.Schedule(2.0)
    short, long = RunPlan(0.2, 100, schedule), RunPlan(0.2, 700, schedule)
    for step in range(100):
        assert short.lr(step) == pytest.approx(long.lr(7 * step))
        assert short.radius(step) == pytest.approx(long.radius(7 * step))
        assert short.frees_weights(step) == long.frees_weights(7 * step)


@pytest.mark.parametrize("n_features", [8, 32, 128])
def test_factors_of_annealed_steps_are_slower(n_features):
    """By a fifth, and beyond 32 features by the square of their number."""
    x = torch.randn(50, n_features, generator=draw(3), dtype=torch.float64)

    def gradient(schedule):
        generator = draw(0)
        parameters = sgd.Parameters(
            torch.full((4,), -math.log(4.0), dtype=torch.float64),
            torch.randn(4, n_features, generator=generator, dtype=torch.float64),
            torch.rand(4, n_features, generator=generator, dtype=torch.float64) + 0.5,
        )
        plan = RunPlan(0.1, 1000, schedule, fresh=False)
        ridge = torch.full((n_features,), 1e-6, dtype=torch.float64)
        config = sgd.SGDConfig(COVARIANCES["diag"], plan, 0.0, ridge)
        model = sgd.SGDMixture(parameters, config, draw())
        log_joint, cache = model.log_joint(x)
        return model.gradient(x, cache, torch.softmax(log_joint, 1))

    exact, annealed = gradient(None), gradient(annealing.schedule(4, 0.5))
    expected = 0.2 * min(1.0, 32 / n_features) ** 2
    torch.testing.assert_close(annealed.factor, expected * exact.factor)
    torch.testing.assert_close(annealed.means, exact.means)

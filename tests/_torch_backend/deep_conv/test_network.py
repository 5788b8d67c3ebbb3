"""Deep mixtures: layers learn alone, in time, and serve in both directions."""

import pytest
import torch

from skdeepgmm._torch_backend import annealing
from skdeepgmm._torch_backend.deep_conv.layers import FoldingLayer, PoolingLayer
from skdeepgmm._torch_backend.deep_conv.layers.mixture import random_init
from skdeepgmm._torch_backend.deep_conv.network import Learner, Network
from skdeepgmm._torch_backend.deep_conv.sampling import (
    Descent,
    Sharpening,
    choose,
    descend,
    fill,
    sharpen,
    value_and_gradient,
)
from skdeepgmm._torch_backend.deep_conv.schedules import RunPlan, StreamPlan
from skdeepgmm._torch_backend.rng import new_generator

SHAPE = (6, 6, 1)


def network(dtype=torch.float64, pooling=False):
    draw = new_generator(0)
    layers = [FoldingLayer(SHAPE, (3, 3), (1, 1))]
    layers.append(random_init(layers[-1].output_shape, 5, True, 0.1, draw, dtype))
    if pooling:
        layers.append(PoolingLayer(layers[-1].output_shape, (2, 2), (2, 2)))
    grid = layers[-1].output_shape
    layers.append(FoldingLayer(grid, grid[:2], (1, 1)))
    layers.append(random_init(layers[-1].output_shape, 4, True, 0.01, draw, dtype))
    return Network(layers)


def pictures(n=60):
    """Images with a bright square in one of four corners, and noise."""
    draw = new_generator(1)
    x = 0.3 * torch.randn(n, *SHAPE, generator=draw, dtype=torch.float64)
    for i in range(n):
        row, col = 3 * (i % 2), 3 * (i // 2 % 2)
        x[i, row : row + 3, col : col + 3] += 2.0
    return x


def learner(plans=None, **settings):
    if plans is None:
        plans = [
            RunPlan(0.3, 60, annealing.schedule(k, 0.4), begin=0.1 * i)
            for i, k in ((0, 5), (1, 4))
        ]
    return Learner(network(**settings), plans, new_generator(2))


def trained(**settings):
    model, x = learner(**settings), pictures()
    for _ in range(60):
        model.step((x, None))
    return model.network


def parameters(mixture):
    return [mixture.weights.clone(), mixture.means.clone(), mixture.variances.clone()]


def test_a_layer_learns_the_same_whatever_happens_above():
    together, x = learner(), pictures()
    alone = learner(
        [RunPlan(0.3, 60, annealing.schedule(5, 0.4)), RunPlan(0.3, 60, begin=0.99)]
    )
    for _ in range(30):
        together.step((x, None))
        alone.step((x, None))
    first, second = together.mixtures[0], alone.mixtures[0]
    torch.testing.assert_close(parameters(first), parameters(second), rtol=0, atol=0)


def test_a_frozen_layer_does_not_move_and_reports_nothing():
    model, x = learner([RunPlan(0.3, 60), RunPlan(0.3, 60, begin=0.5)]), pictures()
    before = parameters(model.mixtures[1])
    for _ in range(30):
        assert "loss_1" not in model.step((x, None))
    torch.testing.assert_close(parameters(model.mixtures[1]), before, rtol=0, atol=0)
    assert "loss_1" in model.step((x, None))
    assert not torch.equal(model.mixtures[1].means, before[1])


def test_annealed_objectives_bound_the_likelihood_and_training_raises_it():
    model, x = learner(), pictures()
    found = [model.step((x, None)) for _ in range(60)]
    for losses in found:
        for number in range(len(losses) // 2):
            bound, value = -losses[f"loss_{number}"], losses[f"log_likelihood_{number}"]
            assert bound <= value + 1e-9
    assert not model.annealed
    # Once no longer annealed, objective and likelihood are one.
    torch.testing.assert_close(-found[-1]["loss_1"], found[-1]["log_likelihood_1"])
    assert found[-1]["log_likelihood_0"] > found[0]["log_likelihood_0"] + 1.0
    assert found[-1]["log_likelihood_1"] > found[10]["log_likelihood_1"] + 1.0


@pytest.mark.parametrize("pooling", [False, True])
def test_the_top_finds_the_four_kinds_of_pictures(pooling):
    found = trained(pooling=pooling)
    labels = found.up_to(pictures(), len(found.layers)).flatten(1).argmax(1)
    kinds = 2 * (torch.arange(60) // 2 % 2) + torch.arange(60) % 2
    pairs = set(zip(labels.tolist(), kinds.tolist(), strict=True))
    assert len(pairs) == len(labels.unique()) == 4


def test_weighted_images_count_like_repeated_ones():
    x = pictures(20)
    plans = [RunPlan(1.0, 10), RunPlan(1.0, 10)]
    weight = torch.ones(20, dtype=torch.float64)
    weight[:10] = 3.0
    weight /= weight.mean()
    weighted, repeated = learner(plans), learner(plans)
    for model in (weighted, repeated):
        model.step((x, None))  # the same start for both
    weighted.step((x, weight))
    repeated.step((torch.cat([x, x[:10], x[:10]]), None))
    for first, second in zip(weighted.mixtures, repeated.mixtures, strict=True):
        torch.testing.assert_close(parameters(first), parameters(second))


def test_a_restored_learner_repeats_its_steps():
    model, x = learner(), pictures()
    for _ in range(10):
        model.step((x, None))
    state = {
        name: value.clone() if isinstance(value, torch.Tensor) else value
        for name, value in model.state_dict().items()
    }
    seen = [model.step((x, None))["loss_0"] for _ in range(3)]
    model.load_state_dict(state)
    again = [model.step((x, None))["loss_0"] for _ in range(3)]
    torch.testing.assert_close(seen, again, rtol=0, atol=0)


def test_empty_components_are_seeded_anew():
    model = learner([RunPlan(0.1, 100, fresh=False), RunPlan(0.1, 100, fresh=False)])
    model.initialized, x = [True, True], pictures()
    mixture = model.mixtures[0]
    mixture.means[0, 2] = 50.0  # far from all data
    mixture.weights[0, 2] = 1e-6
    for _ in range(60):
        model.step((x, None))
    assert (0, 2) in model.events
    assert float(mixture.weights[0, 2]) * 5 > 0.05


def test_choice_keeps_to_the_largest_signals():
    signal = torch.tensor([0.1, -3.0, 0.6, 0.3]).expand(2000, 4)
    assert set(choose(signal, 1, new_generator(0)).tolist()) == {2}
    found = choose(signal, 2, new_generator(0))
    assert set(found.tolist()) == {2, 3}
    assert abs(float((found == 2).float().mean()) - 2 / 3) < 0.05
    assert set(choose(signal, None, new_generator(0)).tolist()) == {0, 2, 3}
    assert len(choose(torch.zeros(500, 4), None, new_generator(0)).unique()) == 4


@pytest.mark.parametrize("pooling", [False, True])
def test_samples_belong_to_the_component_they_were_drawn_from(pooling):
    found = trained(pooling=pooling)
    signal = torch.eye(4, dtype=torch.float64).reshape(4, 1, 1, 4)
    place = len(found.layers) - 1
    drawn = descend(found, signal, place, Descent((0.0, 0.0)), new_generator(0))
    assert tuple(drawn.shape) == (4, *SHAPE)
    labels = found.up_to(drawn, place + 1).flatten(1).argmax(1)
    if not pooling:  # which forgets where in a cell a patch was
        assert labels.tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("layer", [None, -1])
def test_sharpening_raises_its_objective_whatever_the_batch(layer):
    found, start = trained(), pictures(6) + 0.5
    how = Sharpening(rate=0.1, n_iter=15, penalty=0.5, layer=layer)
    target = found.places[0 if layer is None else layer]
    before, _ = value_and_gradient(found, 0, target, start, start, how)
    better = sharpen(found, 0, start, how)
    after, _ = value_and_gradient(found, 0, target, better, start, how)
    assert bool((after > before).all())
    torch.testing.assert_close(sharpen(found, 0, start[2:3], how), better[2:3])


def test_filling_keeps_what_is_known_and_finds_the_rest():
    found, x = trained(), pictures()
    known = torch.ones_like(x)
    known[:, :3, :3] = 0.0  # one corner: bright if the others are not
    filled = fill(found, torch.where(known > 0, x, torch.nan), known)
    seen = known > 0
    torch.testing.assert_close(filled[seen], x[seen], rtol=0, atol=0)
    error = (filled - x)[~seen].square().mean()
    assert float(error) < 0.5 * float(x[~seen].var())


def test_streams_are_annealed_first_and_again_on_request():
    plan = StreamPlan(0.1, 9)
    assert plan.radius(0) > 1.0
    assert plan.radius(299) < 0.1
    assert plan.radius(300) is None
    assert plan.rate(300) == pytest.approx(0.1)
    assert plan.rate(3000) < 0.03
    again = StreamPlan(0.1, 9, opened=3000, reopened=True)
    assert plan.radius(0) > again.radius(3000) > 0.3
    assert again.rate(3000) == pytest.approx(0.1)

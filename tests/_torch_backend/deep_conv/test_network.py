"""Deep mixtures: layers learn alone, in time, and find the classes."""

import pytest
import torch

from skdeepgmm._torch_backend import annealing
from skdeepgmm._torch_backend.deep_conv.network import as_distribution
from skdeepgmm._torch_backend.deep_conv.schedules import RunPlan
from tests._torch_backend.deep_conv.problems import (
    learner,
    parameters,
    pictures,
    trained,
)

KINDS = [{}, {"rank": 2}, {"rank": 2, "passes": True}]


@pytest.mark.parametrize("kind", KINDS)
def test_a_layer_learns_the_same_whatever_happens_above(kind):
    together, x = learner(**kind), pictures()
    alone = learner(
        [RunPlan(0.3, 60, annealing.schedule(5, 0.4)), RunPlan(0.3, 60, begin=0.99)],
        **kind,
    )
    for _ in range(45):
        together.step((x, None))
        alone.step((x, None))
    first, second = together.mixtures[0], alone.mixtures[0]
    assert not kind or first.has_factors
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


@pytest.mark.parametrize("kind", [*KINDS, {"pooling": True}])
def test_the_top_finds_the_four_kinds_of_pictures(kind):
    found = trained(**kind)
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


def test_heavy_images_move_a_layer_all_the_way_and_no_farther():
    x, heavy = pictures(20), torch.full((20,), 1000.0, dtype=torch.float64)
    whole = learner([RunPlan(1.0, 10**9), RunPlan(1.0, 10**9)])
    slow = learner([RunPlan(0.5, 10**9), RunPlan(0.5, 10**9)])
    whole.step((x, None))
    slow.step((x, heavy))
    for first, second in zip(whole.mixtures, slow.mixtures, strict=True):
        torch.testing.assert_close(parameters(first), parameters(second))


@pytest.mark.parametrize("kind", KINDS)
def test_a_restored_learner_repeats_its_steps(kind):
    model, x = learner(**kind), pictures()
    for _ in range(50):
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


@pytest.mark.parametrize(
    "signal", [[0.5, 1.5, 2.0], [-1.0, 0.0, 3.0], [0.0, -1.0, 0.0]]
)
def test_signals_become_probabilities(signal):
    found = as_distribution(torch.tensor(signal))
    assert float(found.min()) >= 0.0
    assert float(found.sum()) == pytest.approx(1.0)

"""The base of the adversarial trainers: batches, labels, learning rates, states."""

import copy
from itertools import islice

import pytest
import torch
from torch import nn

from skdeepgmm._torch_backend.clusterers import networks
from skdeepgmm._torch_backend.clusterers.adversarial import (
    AdversarialTrainer,
    TrainingData,
    at_least_two,
    stratified_labels,
)
from skdeepgmm._torch_backend.clusterers.augmentation import NO_AUGMENTATION
from skdeepgmm._torch_backend.clusterers.weights import WeightAverage
from skdeepgmm._torch_backend.rng import new_generator

LABELS = torch.tensor([1, -1, 0, -1])


class Trainer(AdversarialTrainer):
    """Two linear layers and a tensor."""

    NETWORKS = ("first", "second")
    TENSORS = ("weights",)

    def __init__(self, labels=LABELS, seed=0):
        rows = torch.rand(4, 3, generator=new_generator(1))
        super().__init__(TrainingData(rows, labels=labels), 2, NO_AUGMENTATION, seed)
        self.first, self.second = (
            networks.build(lambda: nn.Linear(3, 2), self.host_rng) for _ in range(2)
        )
        self.average = WeightAverage(self.first, 0.9)
        self.optimizers = {
            name: torch.optim.Adam(network.parameters())
            for name, network in self._networks().items()
        }
        self.weights = self._uniform_weights()

    def learn(self, *names):
        loss = (self.first(self.data.rows) * self.second(self.data.rows)).sum()
        self._descend(loss, *names)


def flat(trainer, name):
    return torch.cat(
        [p.detach().flatten() for p in getattr(trainer, name).parameters()]
    )


def test_batches_go_on_where_they_were():
    trainer = Trainer()
    pool = torch.tensor([3, 5, 8, 9])
    trainer._set_batches(pool, batch_size=2, n_steps=1)
    found = torch.cat([b for _ in range(2) for b in trainer._next_batches()])
    assert sorted(found.tolist()) == pool.tolist()


def test_known_labels_are_certain():
    resp = torch.full((4, 2), 0.5)
    expected = torch.tensor([[0.0, 1.0], [0.5, 0.5], [1.0, 0.0], [0.5, 0.5]])
    assert torch.equal(Trainer()._with_labels(resp, slice(None)), expected)
    index = torch.tensor([2, 1])
    assert torch.equal(Trainer()._with_labels(resp[:2], index), expected[index])
    assert Trainer(labels=None)._with_labels(resp, slice(None)) is resp


def test_learning_rates_follow_the_scale():
    trainer = Trainer()
    trainer.step_scale = 0.5
    trainer._set_lr({"first": 0.1, "second": 0.4})
    found = [o.param_groups[0]["lr"] for o in trainer.optimizers.values()]
    assert found == pytest.approx([0.05, 0.2])


@pytest.mark.parametrize("names", [["first"], ["second"], ["first", "second"]])
def test_a_step_moves_the_networks_it_names(names):
    trainer = Trainer()
    before = {name: flat(trainer, name) for name in Trainer.NETWORKS}
    trainer.learn(*names)
    moved = [n for n in before if not torch.equal(before[n], flat(trainer, n))]
    assert moved == names


def test_a_state_brings_everything_back():
    trainer = Trainer()
    trainer.learn("first", "second")
    trainer.average.update(trainer.first)
    state = copy.deepcopy(trainer.state_dict())
    before = {name: flat(trainer, name) for name in Trainer.NETWORKS}
    trainer.learn("first", "second")
    after = flat(trainer, "first")
    trainer.iteration += 1
    trainer.weights = torch.zeros(2)
    trainer.load_state_dict(copy.deepcopy(state))
    assert trainer.iteration == 0
    assert torch.equal(trainer.weights, torch.full((2,), 0.5))
    assert all(torch.equal(before[n], flat(trainer, n)) for n in before)
    # Optimisers, too: the same step follows.
    trainer.learn("first", "second")
    assert torch.equal(flat(trainer, "first"), after)


@pytest.mark.parametrize("size", [1, 7, 100])
def test_stratified_labels_keep_the_shares(size):
    shares = torch.tensor([0.5, 0.05, 0.45])
    for seed in range(20):
        labels = stratified_labels(shares, size, new_generator(seed))
        counts = torch.bincount(labels, minlength=3)
        assert ((counts - size * shares).abs() < 1.0).all()


def test_a_lone_row_comes_twice():
    assert at_least_two(torch.tensor([4])).tolist() == [4, 4]
    assert at_least_two(torch.tensor([4, 2])).tolist() == [4, 2]


def test_seeds_fix_both_random_streams():
    first, second, other = Trainer(seed=3), Trainer(seed=3), Trainer(seed=4)
    for name in ("rng", "host_rng"):
        states = [getattr(t, name).get_state() for t in (first, second, other)]
        assert torch.equal(states[0], states[1])
        assert not torch.equal(states[0], states[2])
    trainers = (first, second)
    for trainer in trainers:
        trainer._set_batches(torch.arange(9), 2, 5)
    batches = [torch.cat([*islice(t._next_batches(), 5)]) for t in trainers]
    assert torch.equal(*batches)

"""Consistency on real images: what is learned, from what, and when labels win."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from skdeepgmm._torch_backend.clusterers import consistency, networks
from skdeepgmm._torch_backend.clusterers.consistency import (
    ALONE,
    ConsistencyConfig,
    ConsistencyTrainer,
    held_out_labels,
    initial_targets,
    is_worse,
    label_targets,
    learn_from_labels,
)
from skdeepgmm._torch_backend.clusterers.image_changes import (
    ImageChanges,
    strong,
    weak,
)
from skdeepgmm._torch_backend.rng import new_generator

SAME = ImageChanges()
SMALL = ConsistencyConfig(
    weak(0.0, 1.0), strong(0.0, 1.0), n_steps=30, n_unlabelled=16, n_labelled=8
)


def images(size=60):
    """Bright squares at the left or at the right, and which."""
    rng = new_generator(0)
    y = torch.arange(size) % 2
    X = 0.3 * torch.rand(size, 1, 16, 16, generator=rng)
    for k, first in enumerate((2, 10)):
        X[y == k, :, 5:11, first : first + 4] += 0.6
    return X, y


def network(seed=0, n_clusters=2):
    def make():
        trunk, size = networks.photo_trunk((1, 16, 16), 0.25)
        return nn.Sequential(trunk, nn.Linear(size, n_clusters))

    return networks.build(make, new_generator(seed), gain=networks.TORCH_GAIN)


def some(y, n_labels):
    labels = y.clone()
    labels[n_labels:] = -1
    return labels


def trainer(config=SMALL, seed=0, n_labels=8):
    X, y = images()
    targets = label_targets(some(y, n_labels), 2)
    return ConsistencyTrainer(network(), X, targets, config, seed)


def test_few_labels_name_all_images():
    model = trainer()
    model.fit()
    assert not model.is_wrong(torch.arange(60), images()[1]).any()
    resp = model.responsibilities()
    torch.testing.assert_close(resp.sum(1), torch.ones(60))


def test_the_same_seed_learns_the_same():
    first, again, other = (trainer(seed=seed) for seed in (1, 1, 2))
    for model in (first, again, other):
        model.fit(10)
    assert torch.equal(first.responsibilities(), again.responsibilities())
    assert not torch.equal(first.responsibilities(), other.responsibilities())


def test_a_stop_on_the_way_changes_nothing():
    whole, parts = trainer(), trainer()
    whole.fit()
    parts.fit(20)
    parts.fit()
    assert torch.equal(whole.responsibilities(), parts.responsibilities())


def test_going_back_repeats_the_past():
    model = trainer()
    model.fit(10)
    fresh = trainer()
    fresh.load_state_dict(model.state_dict())
    assert torch.equal(model.responsibilities(), fresh.responsibilities())
    assert fresh.step == 10


def test_without_weight_images_without_label_change_nothing():
    alone = replace(SMALL, weight=0.0, n_steps=10)
    X, y = images()
    labels = some(y, 8)
    other = X.clone()
    other[8:] = 1.0 - other[8:]
    found = []
    for rows in (X, other):
        targets = label_targets(labels, 2)
        model = ConsistencyTrainer(network(), rows, targets, alone, 0)
        model.fit()
        found.append(model.average.module(X))
    assert torch.equal(*found)


def test_only_sure_images_are_learned():
    """At a threshold of one nothing is sure, at zero everything."""
    for threshold, share in ((1.01, 0.0), (0.0, 1.0)):
        model = trainer(replace(SMALL, threshold=threshold))
        model.step = round(ALONE * SMALL.n_steps)
        losses = model.do_step()
        assert losses["sure"] == share
        assert (losses["guessed"] == 0.0) == (share == 0.0)


def test_the_first_steps_learn_from_targets_alone():
    model = trainer(replace(SMALL, threshold=0.0))
    assert model.do_step()["sure"] == 0.0


def test_guessed_targets_are_those_of_the_teacher():
    """Without changes the loss is the network's cross-entropy with its own guess."""
    same = {"weak": SAME, "strong": SAME, "threshold": 0.0, "alignment": False}
    # With fewer images than asked for it is the mean over those.
    for size in (60, 192):
        model = trainer(replace(SMALL, **same, n_unlabelled=size))
        model.step = round(ALONE * SMALL.n_steps)
        wanted = -torch.log_softmax(model.network(model.rows), 1).amax(1).mean()
        torch.testing.assert_close(model.do_step()["guessed"], wanted.detach())


def test_aligned_targets_have_the_shares_of_the_labels():
    model = trainer()
    model.mean = torch.tensor([0.9, 0.1])
    model.targets = replace(model.targets, shares=torch.tensor([0.5, 0.5]))
    resp = torch.tensor([[0.9, 0.1]]).expand(16, 2)
    torch.testing.assert_close(model._aligned(resp), torch.full((16, 2), 0.5))
    same = replace(model.config, alignment=False)
    model.config = same
    assert torch.equal(model._aligned(resp), resp)


def test_targets():
    labels = torch.tensor([-1, 1, 1, -1, 0])
    targets = label_targets(labels, 3)
    assert targets.index.tolist() == [1, 2, 4]
    assert targets.resp.argmax(1).tolist() == [1, 1, 0]
    torch.testing.assert_close(targets.shares, torch.tensor([2.0, 3.0, 1.0]) / 6.0)
    resp = torch.softmax(torch.randn(20, 3, generator=new_generator(0)), 1)
    targets = initial_targets(resp)
    assert torch.equal(targets.resp, resp)
    torch.testing.assert_close(targets.shares.sum(), torch.tensor(1.0))


def test_labels_hold_and_initial_responsibilities_fade():
    resp = torch.full((4, 2), 0.5)
    labels, initial = label_targets(torch.tensor([0, 1]), 2), initial_targets(resp)
    assert labels.weight(0.0) == labels.weight(1.0) == initial.weight(0.0) == 1.0
    assert 0.0 < initial.weight(0.25) < 1.0
    assert initial.weight(0.5) == initial.weight(1.0) == 0.0


def test_held_out_labels_are_a_fifth_of_each_cluster():
    labels = torch.arange(120) % 3
    labels[90:] = -1
    out = held_out_labels(labels, new_generator(0))
    assert torch.bincount(labels[out]).tolist() == [6, 6, 6]
    many = torch.arange(5000) % 5
    assert len(held_out_labels(many, new_generator(0))) == 100
    assert len(held_out_labels(torch.arange(8) % 4, new_generator(0))) == 0


@pytest.mark.parametrize(("both", "first", "second", "worse"), [
    (5, 4, 0, True),
    (5, 4, 4, False),
    (0, 1, 0, False),
    (0, 0, 9, False),
])  # fmt: skip
def test_worse_by_more_than_noise(both, first, second, worse):
    wrong = [[1, 1]] * both + [[1, 0]] * first + [[0, 1]] * second + [[0, 0]] * 9
    columns = torch.tensor(wrong, dtype=torch.bool).T
    assert is_worse(*columns) == worse


@pytest.mark.parametrize("worse", [False, True])
def test_held_out_labels_choose(monkeypatch, worse):
    """Labels alone where images make it worse; in the end all labels are learned."""
    monkeypatch.setattr(consistency, "is_worse", lambda *wrong: worse)
    X, y = images()
    labels = some(y, 30)
    model, report = learn_from_labels(network, X, labels, 2, SMALL, 0)
    assert report["weight"] == model.config.weight == (0.0 if worse else 1.0)
    assert report["n_held_out"] == 6
    assert 0 <= report["mistakes"] <= 6
    assert 0 <= report["mistakes_alone"] <= 6
    assert torch.equal(model.targets.index, torch.arange(30))
    assert model.step == model.config.n_steps == (15 if worse else 30)


@pytest.mark.cuda
def test_consistency_on_cuda():
    X, y = images()
    X, labels = X.cuda(), some(y, 8).cuda()
    net = network().cuda()
    model = ConsistencyTrainer(net, X, label_targets(labels, 2), SMALL, 0)
    model.fit()
    assert not model.is_wrong(torch.arange(60, device="cuda"), y.cuda()).any()

"""The training of GAN-EM: who learns in which step, priors, states, batches."""

import copy
import dataclasses
from itertools import islice, pairwise

import pytest
import torch

from skdeepgmm._torch_backend.clusterers.adversarial import TrainingData
from skdeepgmm._torch_backend.clusterers.augmentation import Affine, Augmentation
from skdeepgmm._torch_backend.clusterers.gan_em import trainer as gan_em
from skdeepgmm._torch_backend.clusterers.gan_em.networks import Architecture
from skdeepgmm._torch_backend.clusterers.gan_em.recipes import RECIPES, Recipe
from skdeepgmm._torch_backend.clusterers.gan_em.trainer import GANEM, GANEMConfig
from skdeepgmm._torch_backend.rng import new_generator
from skdeepgmm._torch_backend.training import EndlessBatches, Means

N_ROWS, N_CLUSTERS = 60, 3
FAST = Recipe(gan_steps=3, batch_size=20)


def rows(*shape):
    return torch.rand(N_ROWS, *shape, generator=new_generator(1))


def make(
    recipe=FAST,
    shape=(2,),
    labels=None,
    init_resp=None,
    seed=0,
    device="cpu",
    affine=None,
    cutmix=None,
    **config,
):
    architecture = Architecture(
        shape,
        N_CLUSTERS,
        noise_dim=4,
        width=0.125,
        discriminator_norm=recipe.discriminator_norm,
        classifier_norm=recipe.classifier_norm,
    )
    augmentation = Augmentation(affine, cutmix)
    settings = GANEMConfig(
        recipe, augmentation=augmentation, **({"n_iter": 10} | config)
    )
    tensors = (rows(*shape), init_resp, labels)
    data = TrainingData(*[None if t is None else t.to(device) for t in tensors])
    return GANEM(architecture, settings, data, seed)


def batches(model, n=3):
    return islice(EndlessBatches(N_ROWS, 20, new_generator(2)), n)


NETWORKS = ("generator", "discriminator", "classifier")


def weights(model, name):
    return [value.detach().clone() for value in getattr(model, name).parameters()]


def moved(model, before):
    """Return the names of the networks whose weights differ from ``before``."""
    return {
        name
        for name in NETWORKS
        if any(
            not torch.equal(old, new)
            for old, new in zip(before[name], weights(model, name), strict=True)
        )
    }


@pytest.fixture(params=list(RECIPES))
def model(request):
    changes = {"batch_size": 20, "classifier_batch_size": 8, "classifier_steps": 2}
    return make(dataclasses.replace(RECIPES[request.param], **changes))


# Who learns ----------------------------------------------------------------------


def test_each_update_moves_one_network(model):
    index = torch.arange(20)
    real = model.data.rows[index]
    responsibilities = model.responsibilities(index, real)
    labels = model.draw_labels(20)
    images = model.generate(labels)
    steps = {
        "discriminator": lambda: model._descend(
            model._discriminator_loss(real, responsibilities, images.detach()),
            "discriminator",
        ),
        "generator": lambda: model._descend(
            model.losses.generator(model.discriminator(images), labels), "generator"
        ),
        "classifier": lambda: model._train_classifier(
            model._classifier_step, images.detach(), labels
        ),
    }
    for name, step in steps.items():
        before = {network: weights(model, network) for network in NETWORKS}
        step()
        assert moved(model, before) == {name}


def test_an_iteration_moves_all_and_reports_means(model):
    before = {network: weights(model, network) for network in NETWORKS}
    losses = model.em_iteration(batches(model))
    assert moved(model, before) == set(NETWORKS)
    assert model.iteration == 1
    assert {"discriminator", "generator", "classifier", "changed"} <= set(losses)
    assert all(torch.isfinite(value) for value in losses.values())
    assert 1.0 <= losses["n_effective"] <= N_CLUSTERS + 1e-5


def test_clipped_weights_stay_in_bounds():
    recipe = dataclasses.replace(RECIPES["paper"], classifier_steps=1)
    model = make(recipe)
    model.em_iteration(batches(model))
    bound = max(value.abs().max() for value in model.discriminator.parameters())
    assert 0.0 < bound <= recipe.weight_clip


def test_released_recipe_resets_its_optimisers():
    recipe = dataclasses.replace(RECIPES["released"], classifier_steps=1)
    model = make(recipe)
    first = model.optimizers["generator"]
    model.em_iteration(batches(model))
    assert model.optimizers["generator"] is not first
    kept = make(FAST)
    first = kept.optimizers["generator"]
    kept.em_iteration(batches(kept))
    assert kept.optimizers["generator"] is first


# Responsibilities ----------------------------------------------------------------


@pytest.mark.parametrize("teacher_from", [0.0, 0.2, 1.0])
def test_first_m_step_is_uniform_and_later_ones_are_the_e_nets(teacher_from):
    model = make(dataclasses.replace(FAST, ema_teacher_from=teacher_from))
    index = torch.arange(10)
    real = model.data.rows[index]
    first = model.responsibilities(index, real)
    torch.testing.assert_close(first, torch.full((10, 3), 1 / 3))
    for iteration in range(1, 4):
        model.em_iteration(batches(model))
        averaged = iteration >= teacher_from * model.config.n_iter
        net = model.average.module if averaged else model.classifier
        with torch.no_grad():
            expected = torch.softmax(net(real), 1)
        later = model.responsibilities(index, real)
        torch.testing.assert_close(later, expected)


def test_initial_responsibilities_hold_as_long_as_asked():
    init_resp = torch.softmax(rows(N_CLUSTERS), 1)
    model = make(init_resp=init_resp, hold=2)
    index = torch.tensor([4, 7])
    for _ in range(2):
        found = model.responsibilities(index, model.data.rows[index])
        assert torch.equal(found, init_resp[index])
        model.em_iteration(batches(model))
    found = model.responsibilities(index, model.data.rows[index])
    assert not torch.allclose(found, init_resp[index])


def test_known_labels_are_certain():
    labels = torch.full((N_ROWS,), -1)
    labels[:4] = torch.tensor([2, 0, 1, 2])
    model = make(labels=labels)
    found = model.responsibilities(torch.arange(6), model.data.rows[:6])
    expected = torch.eye(3)[[2, 0, 1, 2]]
    assert torch.equal(found[:4], expected)
    assert found[4:].amax() < 1.0


def test_e_step_learns_the_labels():
    labels = torch.full((N_ROWS,), -1)
    labels[:12] = (rows(2)[:12, 0] > 0.5).long()
    model = make(dataclasses.replace(FAST, joint_labels=False), labels=labels)
    assert model._label_error() > 0.05
    model._learn_labels()
    assert model._label_error() <= 0.05


def test_unknown_labels_only_change_nothing():
    plain, unknown = make(), make(labels=torch.full((N_ROWS,), -1))
    for each in (plain, unknown):
        each.em_iteration(batches(each))
    for name in NETWORKS:
        for first, second in zip(
            weights(plain, name), weights(unknown, name), strict=True
        ):
            assert torch.equal(first, second)


@pytest.mark.parametrize("size", [3, 20, 70])
def test_labels_are_drawn_as_evenly_as_possible(size):
    model = make()
    for _ in range(5):
        counts = torch.bincount(model.draw_labels(size), minlength=3)
        assert counts.max() - counts.min() <= 1


def test_labels_follow_the_prior():
    model = make()
    model.prior = torch.tensor([0.5, 0.3, 0.2])
    counts = sum(torch.bincount(model.draw_labels(9), minlength=3) for _ in range(2000))
    shares = counts / counts.sum()
    torch.testing.assert_close(shares, model.prior, atol=0.01, rtol=0)


# Learning rates, states, batches --------------------------------------------------


@pytest.mark.parametrize(
    "constant, factors",
    [
        (0.5, [1.0, 1.0, 1.0, 1.0, 1.0, 0.775, 0.55]),
        (0.0, [1.0, 0.8875, 0.775, 0.6625, 0.55, 0.4375, 0.325]),
    ],
)
def test_learning_rates_stay_then_fall_linearly_and_follow_the_scale(constant, factors):
    model = make(dataclasses.replace(FAST, constant_fraction=constant), n_iter=8)
    rates = []
    for _ in factors:
        model.em_iteration(batches(model, 1))
        rates.append(model.optimizers["generator"].param_groups[0]["lr"])
    assert rates == pytest.approx([FAST.generator_lr * f for f in factors])
    model.step_scale = 0.5
    model.em_iteration(batches(model, 1))
    now = model.optimizers["generator"].param_groups[0]["lr"]
    last = 1.0 - 0.9 * (7 / 8 - constant) / (1.0 - constant)
    assert now == pytest.approx(0.5 * FAST.generator_lr * last)


def test_exponential_learning_rates():
    assert RECIPES["released"].lr_factor(3, 10) == pytest.approx(0.98**3)


@pytest.mark.parametrize("decay", [0.0, 0.9])
def test_a_restored_state_repeats_its_past(decay):
    model = make(dataclasses.replace(FAST, ema_decay=decay))
    model.em_iteration(batches(model))
    state = copy.deepcopy(model.state_dict())
    draws = model.rng.get_state()
    first = model.em_iteration(batches(model))
    model.load_state_dict(state)
    model.rng.set_state(draws)
    second = model.em_iteration(batches(model))
    assert {k: float(v) for k, v in first.items()} == {
        k: float(v) for k, v in second.items()
    }


def test_averaged_classifier_predicts():
    model = make(dataclasses.replace(FAST, ema_decay=0.9))
    model.em_iteration(batches(model))
    assert model.predictor is model.average.module
    plain = make(dataclasses.replace(FAST, ema_decay=0.0))
    plain.em_iteration(batches(plain))
    assert plain.predictor is plain.classifier


def test_its_own_batches_are_those_of_a_pass():
    model = make()
    index = torch.cat([*model._next_batches()])
    assert torch.equal(index.sort().values, torch.arange(N_ROWS))
    model.em_iteration()
    assert model.iteration == 1


def test_batches_are_full_and_visit_every_row():
    found = [*islice(EndlessBatches(50, 20, new_generator(0)), 5)]
    assert {len(batch) for batch in found} == {20}
    counts = torch.bincount(torch.cat(found), minlength=50)
    assert counts.tolist() == [2] * 50
    (small,) = islice(EndlessBatches(7, 20, new_generator(0)), 1)
    assert sorted(small.tolist()) == [*range(7)]


def test_means_count_each_name_by_itself():
    means = Means()
    for value in (1.0, 2.0, 6.0):
        means.add("many", torch.tensor(value))
    means.add("once", torch.tensor(5.0))
    assert {k: v.item() for k, v in means.values().items()} == {
        "many": 3.0,
        "once": 5.0,
    }


# Augmentation --------------------------------------------------------------------


@pytest.mark.parametrize(
    "change", [{"affine": Affine(1.0, 10.0, 0.1)}, {"cutmix": 0.5}]
)
def test_augmentation_reaches_the_classifier_alone(change):
    """Adversarial steps see images as they are, real or generated."""
    plain = make(shape=(1, 8, 8))
    changed = make(shape=(1, 8, 8), **change)
    index = torch.arange(20)
    for each in (plain, changed):
        each._m_step(index)
    for name in ("generator", "discriminator"):
        for first, second in zip(
            weights(plain, name), weights(changed, name), strict=True
        ):
            assert torch.equal(first, second)
    images = plain.generate(plain.draw_labels(4)).detach()
    assert torch.equal(plain._augmented(images), images)
    assert not torch.allclose(changed._augmented(images), images)


@pytest.mark.parametrize(
    "change", [{}, {"affine": Affine(1.0, 10.0, 0.1)}, {"cutmix": 1.0}]
)
def test_labelled_images_are_augmented_like_generated_ones(change):
    labels = torch.arange(N_ROWS) % N_CLUSTERS
    model = make(shape=(1, 8, 8), labels=labels, **change)
    seen = []
    model.classifier.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    model._label_loss(64)
    known = (seen[0][:, None] == model.data.rows).flatten(2).all(2).any(1)
    assert known.all() if not change else (~known).sum() > 16


# Recorded steps ------------------------------------------------------------------


def recorded_and_launched(n_iter, n=8, **options):
    """Return models after the same iterations, and their losses."""
    models, losses = [], []
    for recorded in (True, False):
        model = make(device="cuda", **options)
        model.recorder.enabled = recorded
        found = [model.em_iteration(batches(model, n)) for _ in range(n_iter)]
        models.append(model)
        losses.append([{k: float(v) for k, v in each.items()} for each in found])
    return models, losses


def some_labels():
    labels = torch.full((N_ROWS,), -1)
    labels[:9] = torch.arange(9) % N_CLUSTERS
    return labels


@pytest.mark.cuda
@pytest.mark.parametrize("labels", [None, some_labels()], ids=["free", "labelled"])
@pytest.mark.parametrize("shape", [(2,), (1, 8, 8), (3, 16, 12)])
@pytest.mark.parametrize(
    "recipe",
    [FAST, dataclasses.replace(FAST, learned_prior=True, ema_teacher_from=0.1)],
    ids=["fast", "learned prior"],
)
def test_recorded_steps_do_what_launched_ones_do(recipe, shape, labels, monkeypatch):
    # Steps let the rounding of sums grow, which are in no fixed order: few of them, and
    # none whose number depends on what was learned.
    monkeypatch.setattr(gan_em, "LABEL_INIT_STEPS", 10)
    monkeypatch.setattr(gan_em, "MOST_LABEL_STEPS", 10)
    affine = Affine(1.0, 9.0, 0.1) if len(shape) == 3 else None
    (recorded, launched), losses = recorded_and_launched(
        3,
        recipe=recipe,
        shape=shape,
        labels=labels,
        affine=affine,
        cutmix=0.5 if affine else None,
        label_tol=-1.0,
    )
    assert recorded.recorder.recorded > 0
    assert launched.recorder.recorded == 0
    # As many random numbers, and the same ones.
    assert torch.equal(recorded.rng.get_state(), launched.rng.get_state())
    for first, second in zip(*losses, strict=True):
        assert first == pytest.approx(second, rel=0.1, abs=0.1)


@pytest.mark.cuda
@pytest.mark.parametrize("name", ["released", "paper"])
def test_other_recipes_are_recorded_too(name):
    changes = {"batch_size": 20, "classifier_batch_size": 8, "classifier_steps": 6}
    recipe = dataclasses.replace(RECIPES[name], **changes)
    (recorded, launched), losses = recorded_and_launched(2, recipe=recipe)
    assert recorded.recorder.recorded > 0
    assert torch.equal(recorded.rng.get_state(), launched.rng.get_state())
    for first, second in zip(*losses, strict=True):
        assert first == pytest.approx(second, rel=0.02, abs=0.02)


@pytest.mark.cuda
def test_each_replay_draws_anew_and_a_restored_state_is_recorded_anew():
    model = make(device="cuda", shape=(1, 8, 8))
    index = torch.arange(20)
    images = [model._m_step(index)["images"] for _ in range(8)]
    for first, second in pairwise(images):
        assert (first - second).abs().max() > 0.01
    state = copy.deepcopy(model.state_dict())
    draws = model.rng.get_state()
    first = model.em_iteration(batches(model, 8))
    model.load_state_dict(state)
    assert model.recorder.recorded == 0
    model.rng.set_state(draws)
    second = model.em_iteration(batches(model, 8))
    for key, value in first.items():
        assert float(value) == pytest.approx(float(second[key]), rel=0.02, abs=0.02)


@pytest.mark.cuda
def test_recorded_steps_follow_the_learning_rate():
    model = make(device="cuda")
    model.em_iteration(batches(model, 8))
    model.step_scale = 0.0
    before = {name: weights(model, name) for name in NETWORKS}
    model.em_iteration(batches(model, 8))
    assert moved(model, before) == set()


def test_the_learned_prior_is_the_occupancy_above_a_floor():
    """phi = 0.9 N_i / N + 0.1 / K: an empty cluster is generated all the same."""
    recipe = dataclasses.replace(FAST, learned_prior=True)
    model = make(recipe)
    model.em_iteration(batches(model))
    expected = 0.9 * model.occupancy + 0.1 / N_CLUSTERS
    torch.testing.assert_close(model.prior, expected)
    assert float(model.prior.sum()) == pytest.approx(1.0)
    assert float(model.prior.min()) >= 0.1 / N_CLUSTERS
    plain = make()
    plain.em_iteration(batches(plain))
    torch.testing.assert_close(plain.prior, torch.full((N_CLUSTERS,), 1 / N_CLUSTERS))

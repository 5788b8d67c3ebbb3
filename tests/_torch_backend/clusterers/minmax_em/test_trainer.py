"""MinMax+EM: who learns from what, E-steps, initialization, states."""

import copy
import dataclasses
import math

import pytest
import torch

from skdeepgmm._torch_backend.clusterers.adversarial import TrainingData
from skdeepgmm._torch_backend.clusterers.augmentation import Affine, Augmentation
from skdeepgmm._torch_backend.clusterers.minmax_em import latent
from skdeepgmm._torch_backend.clusterers.minmax_em.losses import (
    ADVERSARIES,
    gradient_penalty,
)
from skdeepgmm._torch_backend.clusterers.minmax_em.networks import Architecture
from skdeepgmm._torch_backend.clusterers.minmax_em.trainer import (
    NETWORKS,
    MinMaxEM,
    MinMaxEMConfig,
)
from skdeepgmm._torch_backend.rng import new_generator
from skdeepgmm._torch_backend.training import TrainingConfig, train

N_ROWS, N_CLUSTERS = 60, 3


def rand(*shape, seed=1):
    return torch.rand(shape, generator=new_generator(seed))


def initial_resp():
    return torch.eye(N_CLUSTERS).repeat(N_ROWS // N_CLUSTERS, 1)


def make(
    shape=(2,),
    labels=None,
    init=True,
    seed=0,
    width=0.125,
    device="cpu",
    affine=None,
    **config,
):
    sizes = {"n_iter": 10, "label_batch_size": 6, "init_batch_size": 8}
    settings = MinMaxEMConfig(augmentation=Augmentation(affine), **(sizes | config))
    spectral = ADVERSARIES[settings.adversary].spectral
    architecture = Architecture(
        shape, N_CLUSTERS, N_CLUSTERS, width=width, spectral=spectral
    )
    tensors = (
        rand(N_ROWS, *shape),
        initial_resp() if init else None,
        labels,
    )
    data = TrainingData(*[None if t is None else t.to(device) for t in tensors])
    return MinMaxEM(architecture, settings, data, seed)


def some_labels():
    labels = torch.full((N_ROWS,), -1)
    labels[:9] = torch.arange(9) % N_CLUSTERS
    return labels


def batches(n=3, size=20):
    return [torch.arange(i * size, (i + 1) * size) % N_ROWS for i in range(n)]


def weights(model, name):
    return [value.detach().clone() for value in getattr(model, name).parameters()]


def equal(first, second):
    return all(map(torch.equal, first, second))


@pytest.mark.parametrize("shape, gain", [((1, 16, 16), 1 / 3), ((200,), 2 / 1.04)])
def test_initial_weights_of_the_encoder(shape, gain):
    encoder = make(shape, width=1.0).encoder
    layers = [layer for layer in encoder if hasattr(layer, "weight")]
    largest = max(layers, key=lambda layer: layer.weight.numel()).weight.detach()
    assert largest.std() * largest[0].numel() ** 0.5 == pytest.approx(
        gain**0.5, rel=0.05
    )


# Who learns from what ------------------------------------------------------------


def gradients(model, name, term):
    found = torch.autograd.grad(
        term, getattr(model, name).parameters(), retain_graph=True, allow_unused=True
    )
    return any(g is not None and bool(g.abs().max() > 0) for g in found)


def test_each_term_reaches_its_own_networks():
    model = make(labels=some_labels())
    latents, _ = model.draw_latents(20)
    known = torch.arange(6)
    terms = model.terms(torch.arange(20, 40), known, latents, model.generator(latents))
    reached = {
        term: {
            name for name in ("encoder", "generator") if gradients(model, name, value)
        }
        for term, value in terms.items()
    }
    assert reached == {
        "energy": {"encoder"},
        "labelled_energy": {"encoder"},
        "consistency": {"encoder", "generator"},
        "adversarial": {"generator"},
    }


def test_consistency_does_not_reach_the_encoder_in_the_warm_up():
    model = make(warm_up=1)
    latents, _ = model.draw_latents(20)
    images = model.generator(latents)
    for reached in ({"generator"}, {"encoder", "generator"}):
        index = torch.arange(20)
        term = model.terms(index, index[:0], latents, images)["consistency"]
        names = ("encoder", "generator")
        assert {n for n in names if gradients(model, n, term)} == reached
        model.iteration += 1


def test_terms_are_their_formulas():
    model = make(labels=some_labels())
    index, known = torch.arange(20, 40), torch.arange(6)
    latents, _ = model.draw_latents(20)
    images = model.generator(latents)
    terms = model.terms(index, known, latents, images)
    encode, rows = model.encoder, model.data.rows
    mine = latent.expected_energy(encode(rows[index]), model.means, model.resp[index])
    torch.testing.assert_close(terms["energy"], mine)
    crisp = torch.eye(N_CLUSTERS)[some_labels()[known]]
    labelled = latent.expected_energy(encode(rows[known]), model.means, crisp)
    torch.testing.assert_close(terms["labelled_energy"], labelled)
    error = (latents - encode(images)).square().sum(1).mean()
    torch.testing.assert_close(terms["consistency"], error)


def test_the_discriminators_step_moves_nothing_else():
    model = make()
    before = {name: weights(model, name) for name in NETWORKS}
    model._train_discriminator(model.data.rows[:9], rand(9, 2, seed=3))
    moved = {n for n in NETWORKS if not equal(before[n], weights(model, n))}
    assert moved == {"discriminator"}


def test_the_other_step_leaves_the_discriminator():
    model = make()
    before = {name: weights(model, name) for name in NETWORKS}
    model._train_discriminator = lambda real, fake: torch.zeros(())
    model._m_step(torch.arange(20))
    moved = {n for n in NETWORKS if not equal(before[n], weights(model, n))}
    assert moved == {"encoder", "generator"}
    assert all(value.requires_grad for value in model.discriminator.parameters())


def test_the_e_step_moves_responsibilities_and_weights_alone():
    model = make()
    model.init_step()
    model.average.update(model.encoder)
    before = {name: weights(model, name) for name in NETWORKS}
    omega = model.weights.clone()
    model.e_step()
    assert all(equal(before[n], weights(model, n)) for n in NETWORKS)
    found = model.average.module(model.data.rows)
    expected = latent.posterior(found, model.means, omega)
    torch.testing.assert_close(model.resp, expected)
    omega = latent.expected_weights(expected, model.config.weight_prior)
    torch.testing.assert_close(model.weights, omega)


def test_an_e_step_of_some_rows_leaves_the_others():
    model = make()
    model.init_step()
    model.average.update(model.encoder)
    index = torch.tensor([4, 1, 30])
    model.e_step(index)
    others = torch.ones(len(model.resp), dtype=torch.bool)
    others[index] = False
    assert torch.equal(model.resp[others], initial_resp()[others])
    found = model.average.module(model.data.rows[index])
    even = torch.full((N_CLUSTERS,), 1 / N_CLUSTERS)
    expected = latent.posterior(found, model.means, even)
    torch.testing.assert_close(model.resp[index], expected)
    omega = latent.expected_weights(model.resp, model.config.weight_prior)
    torch.testing.assert_close(model.weights, omega)


def test_responsibilities_are_renewed_before_every_block_but_the_first():
    model = make(refresh=2)
    seen = []
    model.e_step = lambda index=None: seen.append(index) or {}
    model._m_step = lambda index: seen.append(index) or {}
    a, b, c, d, e = (torch.tensor([i, i + 1]) for i in range(0, 10, 2))
    model.em_iteration(iter([a, b, c, d, e]))
    expected = [a, b, torch.cat([c, d]), c, d, e, e]
    assert all(map(torch.equal, seen[:-1], expected))
    assert seen[-1] is None


def one_sided(**parameters):
    """Return a model whose encoder sends all rows to the first cluster."""
    model = make(**parameters)
    with torch.no_grad():
        for weight in model.average.module.parameters():
            weight.zero_()
        model.average.module[-1].bias[0] = 6.0
    return model


def bound(model, least):
    """Bound the mean responsibilities of the clusters from below."""
    model.config = dataclasses.replace(model.config, min_resp=tuple(least.tolist()))


def test_e_step_keeps_every_cluster_at_its_lower_bound():
    model = one_sided()
    model.e_step()
    assert (model.resp.argmax(1) == 0).all()
    least = torch.tensor([0.0, 0.1, 0.2])
    bound(model, least)
    model.e_step()
    assert (model.resp.mean(0) >= 0.999 * least).all()
    # A block takes the factors of all rows, and does not find its own.
    factors, joint = (
        model.factors,
        latent.log_joint(torch.tensor([[6.0, 0.0, 0.0]]), model.means, model.weights),
    )
    model.e_step(torch.arange(5))
    assert torch.equal(model.factors, factors)
    expected = torch.softmax(joint + factors, 1).expand(5, -1)
    torch.testing.assert_close(model.resp[:5], expected)


def test_lower_bounds_are_those_of_rows_without_label():
    labels = some_labels()
    model = one_sided(labels=labels)
    least = torch.tensor([0.0, 0.1, 0.2])
    bound(model, least)
    model.e_step()
    found = model.resp[labels < 0].mean(0)
    torch.testing.assert_close(found[1:], least[1:], rtol=2e-3, atol=0.0)


def test_all_labelled_rows_need_no_factors():
    labels = torch.arange(N_ROWS) % N_CLUSTERS
    model = one_sided(labels=labels)
    bound(model, torch.full((N_CLUSTERS,), 0.3))
    assert model.e_step()["moved"] == 0.0
    assert not model.factors.any()


def test_known_labels_stay_certain():
    model = make(labels=some_labels())
    model.em_iteration(batches())
    torch.testing.assert_close(model.resp[:9], torch.eye(N_CLUSTERS)[some_labels()[:9]])


# Training ------------------------------------------------------------------------


@pytest.mark.parametrize("adversary", ADVERSARIES)
@pytest.mark.parametrize("shape", [(2,), (1, 8, 8)])
def test_every_adversary_trains(adversary, shape):
    model = make(shape, labels=some_labels(), adversary=adversary)
    before = {name: weights(model, name) for name in NETWORKS}
    losses = model.em_iteration(batches())
    assert set(losses) == {
        "discriminator",
        "energy",
        "labelled_energy",
        "consistency",
        "adversarial",
        "log_likelihood",
        "changed",
        "moved",
        "latent_error",
    }
    assert all(math.isfinite(value) for value in losses.values())
    for name in NETWORKS:
        assert not equal(before[name], weights(model, name))


def test_initialization_fits_the_encoder_to_the_responsibilities():
    model = make(seed=1, learning_rate=1e-2)
    rows = model.data.rows
    # Clusters that can be told apart.
    rows += 4.0 * (initial_resp() @ torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]]))
    before = {name: weights(model, name) for name in NETWORKS}
    train(model, lambda: model.init_encoder(200), TrainingConfig(1))
    moved = {n for n in NETWORKS if not equal(before[n], weights(model, n))}
    assert moved == {"encoder"}
    assert torch.equal(model.resp.argmax(1), initial_resp().argmax(1))


def test_initialization_on_labels_sees_labelled_samples_only():
    models = [make(labels=some_labels(), init=False) for _ in range(2)]
    models[1].data.rows[9:] = 7.0
    for model in models:
        for _ in range(3):
            model.init_step()
    assert equal(weights(models[0], "encoder"), weights(models[1], "encoder"))


def test_same_seed_same_model():
    models = [make((1, 8, 8), affine=Affine(1.0, 5.0, 0.1)) for _ in range(2)]
    for model in models:
        model.em_iteration(batches())
    for name in NETWORKS:
        assert equal(weights(models[0], name), weights(models[1], name))
    other = make((1, 8, 8), affine=Affine(1.0, 5.0, 0.1), seed=1)
    assert not equal(weights(models[0], "encoder"), weights(other, "encoder"))


def test_affine_changes_what_the_encoder_sees_of_real_samples():
    plain, changed = make((1, 8, 8)), make((1, 8, 8), affine=Affine(2.0, 0.0, 0.0))
    assert torch.equal(plain._augmented(plain.data.rows), plain.data.rows)
    assert not torch.equal(changed._augmented(plain.data.rows), plain.data.rows)


def test_a_lost_iteration_is_undone_with_a_smaller_learning_rate():
    model = make()
    spoilt = iter([True])

    def once_spoilt():
        losses = model.em_iteration(batches())
        return losses | ({"energy": torch.tensor(math.nan)} if next(spoilt, 0) else {})

    state = train(model, once_spoilt, TrainingConfig(2))
    assert state.epoch == 2
    assert model.iteration == 2
    assert model.step_scale == 0.5
    assert model.optimizers["generator"].param_groups[0]["lr"] == 0.5e-3


def test_its_own_batches_are_the_unlabelled_samples():
    model = make(labels=some_labels(), batch_size=17, n_steps=3)
    index = torch.cat([*model._next_batches()])
    assert torch.equal(index.sort().values, torch.arange(9, N_ROWS))
    every = make(labels=torch.arange(N_ROWS) % N_CLUSTERS, batch_size=20, n_steps=3)
    index = torch.cat([*every._next_batches()])
    assert torch.equal(index.sort().values, torch.arange(N_ROWS))
    model.em_iteration()
    assert model.iteration == 1


def test_a_state_is_complete():
    model = make((1, 8, 8), labels=some_labels())
    before = copy.deepcopy(model.state_dict())
    model.em_iteration(batches())
    model.load_state_dict(copy.deepcopy(before))
    after = model.state_dict()
    assert after.keys() == before.keys()
    for name in before:
        assert_same(before[name], after[name])


def assert_same(first, second):
    if isinstance(first, dict):
        # Adam's moments come into being with the first step.
        for name in first:
            assert_same(first[name], second[name])
    elif isinstance(first, torch.Tensor):
        assert torch.equal(first, second)


@pytest.mark.cuda
@pytest.mark.parametrize("labelled", [False, True])
@pytest.mark.parametrize("adversary", list(ADVERSARIES))
@pytest.mark.parametrize("shape", [(2,), (1, 8, 8), (3, 16, 12)])
def test_recorded_steps_do_what_launched_ones_do(shape, adversary, labelled):
    models, losses = [], []
    for recorded in (True, False):
        model = make(
            shape,
            some_labels() if labelled else None,
            device="cuda",
            adversary=adversary,
            warm_up=1,
            affine=Affine(1.0, 9.0, 0.1) if len(shape) == 3 else None,
        )
        model.recorder.enabled = recorded
        begun = model.init_encoder(6)
        found = [begun, *(model.em_iteration(batches(8)) for _ in range(3))]
        models.append(model)
        losses.append([{k: float(v) for k, v in each.items()} for each in found])
    assert models[0].recorder.recorded > 0
    assert models[1].recorder.recorded == 0
    # As many random numbers, and the same ones.
    assert torch.equal(models[0].rng.get_state(), models[1].rng.get_state())
    for first, second in zip(*losses, strict=True):
        assert first == pytest.approx(second, rel=0.05, abs=0.05)


def test_the_gradient_penalty_pulls_the_discriminators_slope_towards_one():
    name = next(n for n, adversary in ADVERSARIES.items() if adversary.penalty)
    model = make(adversary=name)
    real, fake = rand(40, 2), rand(40, 2, seed=9)
    for weight in model.discriminator.parameters():
        weight.data *= 3.0

    def excess():
        penalty = gradient_penalty(model.discriminator, real, fake, new_generator(4))
        return float(penalty.detach())

    before = excess()
    for _ in range(30):
        model._train_discriminator(real, fake)
    assert before > 0.1
    assert excess() < before


def test_the_latent_error_is_that_of_the_way_back():
    model = make()
    model.generator, model.average.module = torch.nn.Identity(), torch.nn.Identity()
    assert float(model._latent_error()) == 0.0


def test_the_initialization_has_the_whole_learning_rate():
    model = make()
    model.init_step()
    (group,) = model.optimizers["encoder"].param_groups
    assert float(group["lr"]) == pytest.approx(model.config.learning_rate)


def test_the_loss_is_the_weighted_sum_of_its_terms(monkeypatch):
    model, descended = make(consistency=0.5, adversarial=7.0), []
    monkeypatch.setattr(model, "_descend", lambda total, *_: descended.append(total))
    terms = {"energy": 2.0, "consistency": 3.0, "adversarial": 5.0}
    model._train_encoder_and_generator({k: torch.tensor(v) for k, v in terms.items()})
    assert [float(total) for total in descended] == [2.0 + 0.5 * 3.0 + 7.0 * 5.0]

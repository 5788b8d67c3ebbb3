"""MinMax+EM: its formulas on small cases, who learns from what, states and starts."""

import copy
import dataclasses
import math

import pytest
import torch
from torch import nn

from skdeepgmm._torch_backend.clusterers import networks
from skdeepgmm._torch_backend.clusterers.minmax_em import latent
from skdeepgmm._torch_backend.clusterers.minmax_em.losses import (
    ADVERSARIES,
    gradient_penalty,
)
from skdeepgmm._torch_backend.clusterers.minmax_em.networks import (
    Architecture,
    LatentSplit,
)
from skdeepgmm._torch_backend.clusterers.minmax_em.trainer import (
    NETWORKS,
    Config,
    Data,
    Labelled,
    MinMaxEM,
)
from skdeepgmm._torch_backend.clusterers.network_tools import Affine
from skdeepgmm._torch_backend.rng import new_generator
from skdeepgmm._torch_backend.training import TrainingConfig, train

N_ROWS, N_CLUSTERS = 60, 3


def rand(*shape, seed=1):
    return torch.rand(shape, generator=new_generator(seed))


def start_resp():
    return torch.eye(N_CLUSTERS).repeat(N_ROWS // N_CLUSTERS, 1)


def make(
    shape=(2,),
    labels=None,
    start=True,
    seed=0,
    width=0.125,
    device="cpu",
    **config,
):
    settings = Config(**({"n_iter": 10, "label_batch": 6, "start_batch": 8} | config))
    spectral = ADVERSARIES[settings.adversary].spectral
    architecture = Architecture(
        shape, N_CLUSTERS, N_CLUSTERS, width=width, spectral=spectral
    )
    tensors = (
        rand(N_ROWS, *shape),
        latent.component_means(N_CLUSTERS, N_CLUSTERS, 6.0),
        start_resp() if start else None,
        labels,
    )
    data = Data(*[None if t is None else t.to(device) for t in tensors])
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


# Adversaries ---------------------------------------------------------------------

REAL, FAKE = torch.tensor([2.0, 0.0]), torch.tensor([-3.0, 0.5])


def log_d(a):
    return math.log(1.0 / (1.0 + math.exp(-a)))


@pytest.mark.parametrize(
    "name, discriminator, made",
    [
        ("hinge", (0 + 1) / 2 + (0 + 1.5) / 2, 1.25),
        (
            "binary",
            -(log_d(2) + log_d(0)) / 2 - (log_d(3) + log_d(-0.5)) / 2,
            -(log_d(-3) + log_d(0.5)) / 2,
        ),
        ("wgan-gp", -1.0 - 1.25, 1.25),
        (
            "printed",
            -(log_d(2) + log_d(0)) / 2 + (log_d(-3) + log_d(0.5)) / 2,
            -(log_d(-3) + log_d(0.5)) / 2,
        ),
    ],
)
def test_adversarial_losses_by_hand(name, discriminator, made):
    adversary = ADVERSARIES[name]
    assert adversary.discriminator(REAL, FAKE).item() == pytest.approx(discriminator)
    assert adversary.generator(FAKE).item() == pytest.approx(made)


def test_unbounded_losses_have_a_penalty_and_the_others_spectral_norm():
    for name, adversary in ADVERSARIES.items():
        assert bool(adversary.penalty) == (name in ("wgan-gp", "printed"))
        assert adversary.spectral != bool(adversary.penalty)


def test_gradient_penalty_of_a_linear_discriminator():
    linear = networks.build(lambda: nn.Linear(3, 1), new_generator(0))
    with torch.no_grad():
        linear.weight.copy_(torch.tensor([[2.0, -1.0, 2.0]]))
    penalty = gradient_penalty(linear, rand(9, 3), rand(5, 3, seed=2), new_generator(0))
    assert penalty.item() == pytest.approx((3.0 - 1.0) ** 2, rel=1e-5)


# Networks ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "shape", [(5,), (1, 8, 8), (1, 28, 28), (3, 32, 32), (3, 64, 64), (2, 12, 17)]
)
@pytest.mark.parametrize("table", ["small", "large"])
def test_networks_by_shape(shape, table):
    made = Architecture(shape, 3, 4, table=table, width=0.1)
    built = {
        name: networks.build(getattr(made, name), new_generator(0)) for name in NETWORKS
    }
    images = built["generator"](rand(3, 4))
    assert images.shape == (3, *shape)
    assert built["encoder"](images).shape == (3, 4)
    assert built["discriminator"](images).shape == (3, 1)
    if made.image:
        assert images.abs().max() <= 1.0


def test_a_generator_of_images_sees_cluster_and_style():
    split = networks.build(lambda: LatentSplit(3, 5, separation=6.0), new_generator(0))
    means = latent.component_means(3, 5, 6.0)
    style = torch.tensor([0.0, 0.0, 0.0, 1.0, -2.0])
    memberships, offset = split(means + style).split([3, 5], dim=1)
    # Log-odds of 6 between neighbours, at a mean.
    expected = torch.softmax(6.0 * torch.eye(3), 1)
    torch.testing.assert_close(memberships, expected)
    torch.testing.assert_close(offset, 0.5 * (means - memberships @ means + style))
    middle = (means[0] + means[1])[None] / 2
    torch.testing.assert_close(split(middle)[0, :2], split(middle)[0, [1, 0]])


def test_spectral_norm_is_in_the_discriminator_alone():
    made = Architecture((1, 8, 8), 3, 4, width=0.1)
    for name in NETWORKS:
        module = networks.build(getattr(made, name), new_generator(0))
        found = any("direction" in key for key in module.state_dict())
        assert found == (name == "discriminator")


@pytest.mark.parametrize("shape, gain", [((1, 16, 16), 1 / 3), ((200,), 2 / 1.04)])
def test_first_weights_of_the_encoder(shape, gain):
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


def test_the_e_step_moves_memberships_and_weights_alone():
    model = make()
    model.start_step()
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
    model.start_step()
    model.average.update(model.encoder)
    index = torch.tensor([4, 1, 30])
    model.e_step(index)
    others = torch.ones(len(model.resp), dtype=torch.bool)
    others[index] = False
    assert torch.equal(model.resp[others], start_resp()[others])
    found = model.average.module(model.data.rows[index])
    even = torch.full((N_CLUSTERS,), 1 / N_CLUSTERS)
    expected = latent.posterior(found, model.means, even)
    torch.testing.assert_close(model.resp[index], expected)
    omega = latent.expected_weights(model.resp, model.config.weight_prior)
    torch.testing.assert_close(model.weights, omega)


def test_memberships_are_renewed_before_every_block_but_the_first():
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


def test_e_step_keeps_every_cluster_at_its_lower_bound():
    model = one_sided()
    model.e_step()
    assert (model.resp.argmax(1) == 0).all()
    least = torch.tensor([0.0, 0.1, 0.2])
    model.data = dataclasses.replace(model.data, least=least)
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
    model.data = dataclasses.replace(model.data, least=least)
    model.e_step()
    found = model.resp[labels < 0].mean(0)
    torch.testing.assert_close(found[1:], least[1:], rtol=2e-3, atol=0.0)


def test_all_labelled_rows_need_no_factors():
    labels = torch.arange(N_ROWS) % N_CLUSTERS
    model = one_sided(labels=labels)
    least = torch.full((N_CLUSTERS,), 0.3)
    model.data = dataclasses.replace(model.data, least=least)
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


def test_the_start_fits_the_encoder_to_the_memberships():
    model = make(seed=1, rate=1e-2)
    rows = model.data.rows
    # Clusters that can be told apart.
    rows += 4.0 * (start_resp() @ torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]]))
    before = {name: weights(model, name) for name in NETWORKS}
    train(model, lambda: model.init_encoder(200), TrainingConfig(1))
    moved = {n for n in NETWORKS if not equal(before[n], weights(model, n))}
    assert moved == {"encoder"}
    assert torch.equal(model.resp.argmax(1), start_resp().argmax(1))


def test_a_start_on_labels_sees_labelled_rows_only():
    models = [make(labels=some_labels(), start=False) for _ in range(2)]
    models[1].data.rows[9:] = 7.0
    for model in models:
        for _ in range(3):
            model.start_step()
    assert equal(weights(models[0], "encoder"), weights(models[1], "encoder"))


def test_same_seed_same_model():
    models = [make((1, 8, 8), affine=Affine(1.0, 5.0, 0.1)) for _ in range(2)]
    for model in models:
        model.em_iteration(batches())
    for name in NETWORKS:
        assert equal(weights(models[0], name), weights(models[1], name))
    other = make((1, 8, 8), affine=Affine(1.0, 5.0, 0.1), seed=1)
    assert not equal(weights(models[0], "encoder"), weights(other, "encoder"))


def test_affine_changes_what_the_encoder_sees_of_real_rows():
    plain, changed = make((1, 8, 8)), make((1, 8, 8), affine=Affine(2.0, 0.0, 0.0))
    assert torch.equal(plain._changed(plain.data.rows), plain.data.rows)
    assert not torch.equal(changed._changed(plain.data.rows), plain.data.rows)


def test_a_lost_step_is_undone_with_a_smaller_rate():
    model = make()
    spoilt = iter([True])
    step = model.step

    def step_once_spoilt(batch):
        losses = step(batch)
        return losses | ({"energy": torch.tensor(math.nan)} if next(spoilt, 0) else {})

    model.step = step_once_spoilt
    state = train(model, lambda: model.em_iteration(batches()), TrainingConfig(2))
    assert state.epoch == 2
    assert model.iteration == 2
    assert model.step_scale == 0.5
    assert model.optimizers["generator"].param_groups[0]["lr"] == 0.5e-3


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


# Labelled rows -------------------------------------------------------------------


def test_labelled_rows_are_drawn_evenly():
    labels = torch.tensor([-1, 2, 0, 0, 0, 0, 0, -1, 2, 0])
    labelled = Labelled(labels)
    assert len(labelled) == 8
    drawn = torch.cat([labelled.sample(10, new_generator(seed)) for seed in range(50)])
    assert set(drawn.tolist()) == set(torch.nonzero(labels >= 0)[:, 0].tolist())
    assert torch.bincount(labels[drawn]).tolist() == [250, 0, 250]


@pytest.mark.parametrize("labels", [None, torch.full((4,), -1)])
def test_without_labels_nothing_is_drawn(labels):
    assert len(Labelled(labels).sample(10, new_generator(0))) == 0


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
        start = model.init_encoder(6)
        found = [start, *(model.em_iteration(batches(8)) for _ in range(3))]
        models.append(model)
        losses.append([{k: float(v) for k, v in each.items()} for each in found])
    assert models[0].recorder.recorded > 0
    assert models[1].recorder.recorded == 0
    # As many random numbers, and the same ones.
    assert torch.equal(models[0].draw.get_state(), models[1].draw.get_state())
    for first, second in zip(*losses, strict=True):
        assert first == pytest.approx(second, rel=0.05, abs=0.05)

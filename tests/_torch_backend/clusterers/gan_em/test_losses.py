"""Each loss term of GAN-EM equals its formula, written out with plain numbers."""

from math import exp, log

import pytest
import torch

from skdeepgmm._torch_backend.clusterers.gan_em import losses

# Two rows, two clusters and the extra output.
LOGITS = [[0.3, -1.2, 0.7], [2.0, 0.1, -0.4]]
WEIGHTS = [[0.9, 0.1], [0.25, 0.75]]
LABELS = [1, 0]


def d(logit):
    """Sigmoid: the discriminator's output."""
    return 1.0 / (1.0 + exp(-logit))


@pytest.fixture
def logits():
    return torch.tensor(LOGITS, dtype=torch.float64)


@pytest.fixture
def weights():
    return torch.tensor(WEIGHTS, dtype=torch.float64)


def mean(values):
    return sum(values) / len(values)


def test_binary_real(logits, weights):
    expected = mean(
        [
            -w[0] * log(d(a[0])) - w[1] * log(d(a[1])) - 2.0 * log(1.0 - d(a[2]))
            for a, w in zip(LOGITS, WEIGHTS, strict=True)
        ]
    )
    assert losses.binary_real(logits, weights).item() == pytest.approx(expected)


def test_binary_fake(logits):
    expected = mean(
        [-log(1 - d(a[0])) - log(1 - d(a[1])) - log(d(a[2])) for a in LOGITS]
    )
    assert losses.binary_fake(logits).item() == pytest.approx(expected)


def test_binary_generator(logits):
    first, second = LOGITS
    expected = mean(
        [
            -log(1 - d(first[0])) - log(d(first[1])) - log(1 - d(first[2])),
            -log(d(second[0])) - log(1 - d(second[1])) - log(1 - d(second[2])),
        ]
    )
    found = losses.binary_generator(logits, torch.tensor(LABELS))
    assert found.item() == pytest.approx(expected)


def test_paper_real(logits, weights):
    expected = mean(
        [
            -w[0] * log(d(a[0])) - w[1] * log(d(a[1]))
            for a, w in zip(LOGITS, WEIGHTS, strict=True)
        ]
    )
    assert losses.paper_real(logits, weights).item() == pytest.approx(expected)


def test_paper_fake(logits):
    expected = mean([-log(1 - d(a[0])) - log(1 - d(a[1])) for a in LOGITS])
    assert losses.paper_fake(logits).item() == pytest.approx(expected)


def test_paper_generator(logits):
    # D / (1 - D) is the exponential of the logit.
    ratios = [d(LOGITS[0][1]) / (1 - d(LOGITS[0][1])), exp(LOGITS[1][0])]
    expected = -0.5 * mean(ratios)
    found = losses.paper_generator(logits, torch.tensor(LABELS))
    assert found.item() == pytest.approx(expected)


def test_paper_generator_stays_finite():
    huge = torch.full((1, 3), 1000.0)
    value = losses.paper_generator(huge, torch.tensor([0]))
    assert value.item() == pytest.approx(-0.5 * exp(losses.LARGEST_LOGIT))


@pytest.mark.parametrize("name", list(losses.LOSSES))
def test_losses_survive_extreme_logits(name):
    form = losses.LOSSES[name]
    for value in (-1e4, 1e4):
        logits = torch.full((2, 4), value)
        found = [
            form.real(logits, torch.full((2, 3), 1 / 3)),
            form.fake(logits),
            form.generator(logits, torch.tensor([0, 2])),
        ]
        assert all(torch.isfinite(loss) for loss in found)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_soften_is_the_normalised_power(weights, temperature):
    powers = weights ** (1.0 / temperature)
    expected = powers / powers.sum(1, keepdim=True)
    torch.testing.assert_close(losses.soften(weights, temperature), expected)


def test_soften_keeps_certain_rows_certain():
    certain = torch.eye(3)
    found = losses.soften(certain, 2.0)
    assert torch.isfinite(found).all()
    torch.testing.assert_close(found, certain, atol=1e-6, rtol=0)

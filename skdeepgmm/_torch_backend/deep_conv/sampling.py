"""Deep mixtures from the top down: samples, sharpening, in-painting.

A top-down signal is an array over a mixture's positions and components: which
component to draw there. The input that a mixture draws is, after the inverse of the
layers below, the signal of the next mixture.
"""

from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

from skdeepgmm._torch_backend.convert import ArrayLike2D, rows_to_tensor
from skdeepgmm._torch_backend.deep_conv.layers import (
    FoldingLayer,
    LowRankMixtureLayer,
    MixtureLayer,
)
from skdeepgmm._torch_backend.deep_conv.layers.mixture import Hidden
from skdeepgmm._torch_backend.deep_conv.network import Network, as_distribution, invert
from skdeepgmm._torch_backend.rows import TrainingRows

#: What a mixture knows of the known part of its input (``MixtureLayer.marginal``).
Evidence: TypeAlias = tuple[Tensor, Hidden | None]

#: Exponent of the density of a patch's known pixels where patches overlap; in-painting
#: of digits was best around it.
PATCH_EVIDENCE = 0.3
#: Powers of a drawn signal, and how often their interval is halved.
LEAST_MOST_POWER, POWER_STEPS = (1.0 / 16.0, 64.0), 20


@dataclass(frozen=True)
class Sharpening:
    """Gradient ascent on what a Folding layer gives top-down.

    Attributes
    ----------
    rate : float
        Length of the first step: root mean square over an image.
    n_iter : int
    penalty : float
        Weight of the mean squared distance from the start, in nats a value that the
        mixture sees: without it a likelihood of patches prefers blank ones.
    layer : int or None
        The mixture whose likelihood is raised, None for the next one above.
    """

    rate: float = 0.05
    n_iter: int = 30
    penalty: float = 1.5
    layer: int | None = None


@dataclass(frozen=True)
class Descent:
    """How to go down.

    Attributes
    ----------
    temperatures : tuple of float
        Factor on the standard deviations of every mixture, from the image up.
    noises : tuple of float
        Further factor on those of the noise beside the factors of a low-rank mixture.
    top_s : int or None
        Only so many components with the largest signal may be drawn, None for all.
    sharpening : Sharpening or None
    """

    temperatures: tuple[float, ...]
    noises: tuple[float, ...]
    top_s: int | None = 1
    sharpening: Sharpening | None = None


def component_signal(network: Network, labels: Tensor) -> Tensor:
    """Return the signal (n, 1, 1, K) that chooses components of the top mixture."""
    top = network.mixtures[-1]
    one_hot = torch.nn.functional.one_hot(labels, top.n_components)
    return one_hot.reshape(-1, 1, 1, top.n_components).to(top.means.dtype)


def resp_signal(network: Network, place: int, resp: Tensor) -> Tensor:
    """Return flattened responsibilities of the mixture at ``place`` as its signal."""
    return resp.reshape(-1, *network.layers[place].output_shape)


def descend_in_parts(
    network: Network,
    signal: Tensor,
    place: int,
    how: Descent,
    generator: torch.Generator,
    size: int,
) -> Tensor:
    """Return what :func:`descend` draws, ``size`` images at a time, on the CPU."""
    parts = (part.to(generator.device) for part in torch.split(signal, size))
    return torch.cat(
        [descend(network, part, place, how, generator).cpu() for part in parts]
    )


def descend(
    network: Network,
    signal: Tensor,
    place: int,
    how: Descent,
    generator: torch.Generator,
) -> Tensor:
    """Return images drawn from the signal (n, h, w, K) of the mixture at ``place``."""
    precision: Tensor | None = None
    peak: Tensor | None = None
    for index in range(place, -1, -1):
        layer = network.layers[index]
        if isinstance(layer, MixtureLayer):
            prob, z = layer.parts(signal)
            if peak is not None and how.top_s != 1:
                prob = as_peaked(as_distribution(prob), peak)
            components = choose(prob, how.top_s, generator)
            number = network.places.index(index)
            signal, precision = draw(layer, components, z, how, number, generator)
            peak = peak_of(network, number, components)
            continue
        signal, precision = invert(layer, signal, precision), None
        if isinstance(layer, FoldingLayer) and how.sharpening is not None:
            signal = sharpen(network, index, signal, how.sharpening)
    return signal


def draw(
    layer: MixtureLayer,
    components: Tensor,
    z: Tensor | None,
    how: Descent,
    number: int,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor]:
    """Return draws of chosen components of mixture ``number``, and precisions.

    Factors come from the layers above or are drawn, whole: they move all values of a
    position together.
    """
    shape, like = tuple(components.shape), layer.means
    noise = normal((*shape, layer.input_shape[2]), like, generator)
    temperature = how.temperatures[number]
    if not isinstance(layer, LowRankMixtureLayer):
        return layer.draw(components, temperature, noise)
    if z is None:
        z = temperature * normal((*shape, layer.rank), like, generator)
    drawn, precision = layer.draw(components, temperature * how.noises[number], noise)
    return drawn + layer.factor_rows(components, z), precision


def peak_of(network: Network, number: int, components: Tensor) -> Tensor | None:
    """Return how peaked real inputs of components of a mixture are, (n,).

    That is E |x|^2 over |E x|_1, for responsibilities the mean over positions of
    sum_k r_k^2: 1 where one component has all, 1 / K where all are alike. None for
    diagonal mixtures, and for the first one.
    """
    layer = network.mixtures[number]
    if number == 0 or not isinstance(layer, LowRankMixtureLayer):
        return None
    below = network.mixtures[number - 1]
    channel = torch.arange(layer.input_shape[2], device=components.device)
    kept = channel % below.output_shape[2] < below.n_components
    second = layer.means.square() + layer.noise() + layer.factors.square().sum(3)
    site = layer.sites(components)
    first = layer.means[..., kept].clamp_min(0.0).sum(2)[site, components].mean((1, 2))
    return second[..., kept].sum(2)[site, components].mean((1, 2)) / first.clamp_min(
        1e-30
    )


def as_peaked(prob: Tensor, peak: Tensor) -> Tensor:
    """Return probabilities (n, h, w, K) to such a power that they are as peaked.

    Each image has its power; ``peak`` (n,) is the mean over positions of sum_k p_k^2.
    """
    log_prob = prob.clamp_min(1e-12).log()
    low, high = (torch.full_like(peak, value) for value in LEAST_MOST_POWER)
    for _ in range(POWER_STEPS):
        power = (low * high).sqrt()
        tried = torch.softmax(power[:, None, None, None] * log_prob, -1)
        flat = tried.square().sum(-1).mean((1, 2)) < peak
        low, high = torch.where(flat, power, low), torch.where(flat, high, power)
    return torch.softmax((low * high).sqrt()[:, None, None, None] * log_prob, -1)


def choose(signal: Tensor, top_s: int | None, generator: torch.Generator) -> Tensor:
    """Return components drawn from a signal restricted to its largest values."""
    size = signal.shape[-1]
    if top_s == 1:
        return signal.argmax(-1)
    prob = as_distribution(signal)
    if top_s is not None and top_s < size:
        largest, index = prob.topk(top_s, dim=-1)
        prob = torch.zeros_like(prob).scatter(-1, index, largest)
    uniform = torch.rand(
        (*prob.shape[:-1], 1),
        generator=generator,
        device=prob.device,
        dtype=torch.float64,
    )
    cumulative = prob.double().cumsum(-1)
    chosen = (cumulative <= uniform * cumulative[..., -1:]).sum(-1)
    return chosen.clamp_max(size - 1)


def normal(shape: tuple[int, ...], like: Tensor, generator: torch.Generator) -> Tensor:
    """Return standard normal noise on the device of ``like``."""
    return torch.randn(shape, generator=generator, device=like.device, dtype=like.dtype)


def sharpen(network: Network, index: int, start: Tensor, how: Sharpening) -> Tensor:
    """Return inputs of layer ``index`` that a mixture above it likes better.

    Steps have the length ``rate`` (root mean square over an image) and shrink to zero;
    each image keeps the best of its iterates, so its objective cannot fall.
    """
    target = target_place(network, index, how.layer)
    if target is None or how.n_iter == 0:
        return start
    best, best_value = start, torch.full_like(start[:, 0, 0, 0], -torch.inf)
    x = start
    for number in range(how.n_iter + 1):
        value, gradient = value_and_gradient(network, index, target, x, start, how)
        better = value > best_value
        best = torch.where(better[:, None, None, None], x, best)
        best_value = torch.where(better, value, best_value)
        size = gradient.square().mean((1, 2, 3), keepdim=True).sqrt()
        rate = how.rate * (1.0 - number / how.n_iter)
        x = x + rate * gradient / size.clamp_min(1e-12)
    return best


def target_place(network: Network, index: int, layer: int | None) -> int | None:
    """Return the layer index of the mixture to please; None if it lies below."""
    above = [place for place in network.places if place > index]
    if layer is None:
        return above[0]
    place = network.places[layer]
    return place if place in above else None


def value_and_gradient(
    network: Network, index: int, target: int, x: Tensor, start: Tensor, how: Sharpening
) -> tuple[Tensor, Tensor]:
    """Return the objective of every image, in nats a position, and its gradient."""
    with torch.enable_grad():
        leaf = x.detach().requires_grad_()
        signal = leaf
        for layer in network.layers[index:target]:
            signal = layer.forward(signal)
        mixture = network.layers[target]
        assert isinstance(mixture, MixtureLayer)
        value = mixture.log_prob(signal).mean((1, 2)).to(x.dtype)
        penalty = how.penalty * mixture.input_shape[2]
        value = value - penalty * (leaf - start).square().mean((1, 2, 3))
        (gradient,) = torch.autograd.grad(value.sum(), leaf)
    return value.detach(), gradient


def fill_in_parts(
    network: Network, images: TrainingRows, missing: ArrayLike2D, size: int
) -> Tensor:
    """Return what :func:`fill` makes of images, ``size`` at a time, on the CPU.

    Parameters
    ----------
    missing : array of bool of shape (n_images, n_features)
    """
    filled = []
    for start, x in zip(range(0, len(images), size), images.split(size), strict=True):
        part = missing[start : start + size]
        hidden = rows_to_tensor(part, images.device, torch.bool)
        known = (~hidden).to(x.dtype).reshape(x.shape)
        filled.append(fill(network, x, known).cpu())
    return torch.cat(filled)


def fill(network: Network, x: Tensor, known: Tensor) -> Tensor:
    """Return images whose unknown pixels are their expectation given the known ones.

    On the way up the first mixture takes its marginal over the known pixels of a patch,
    and the mixtures above weigh positions by how much is known of them; on the way down
    each position combines its own evidence with the signal from above.

    Parameters
    ----------
    x : Tensor of shape (n, height, width, channels)
        Unknown entries are arbitrary.
    known : Tensor of the same shape
        1 for known entries, 0 for unknown.
    """
    seen = torch.where(known > 0, x, 0.0)
    return torch.where(known > 0, x, expected(network, seen, known))


def expected(network: Network, x: Tensor, known: Tensor) -> Tensor:
    """Return the expectation of images after one pass up and down."""
    evidence: list[Evidence | None] = []
    signal, seen, n_below = x, known, 0
    for layer in network.layers:
        if isinstance(layer, MixtureLayer):
            found = layer.marginal(signal, seen * share_of(layer, n_below))
            n_below = layer.output_shape[2]
            evidence.append(found)
            signal = layer.joined(torch.softmax(found[0], -1), found[1])
            share = seen.mean(-1, keepdim=True)
            seen = share.expand_as(signal)
        else:
            evidence.append(None)
            signal, seen = layer.forward(signal), layer.forward(seen)
    return down(network, evidence)


def share_of(layer: MixtureLayer, n_below: int) -> float:
    """Return the exponent of a mixture's evidence about what is unknown.

    Its factors are far from independent. Above another mixture of ``n_below``
    channels, evidence is averaged over the positions that a patch holds.
    """
    if n_below:
        return n_below / layer.input_shape[2]
    whole = layer.input_shape[:2] == (1, 1)
    return 1.0 if whole else PATCH_EVIDENCE


def down(network: Network, evidence: list[Evidence | None]) -> Tensor:
    """Return expected images, combining evidence with the signal from above."""
    signal: Tensor | None = None
    precision: Tensor | None = None
    certainty: Tensor | None = None
    for layer, found in zip(reversed(network.layers), reversed(evidence), strict=True):
        if not isinstance(layer, MixtureLayer):
            assert signal is not None
            certainty = None if precision is None else invert(layer, precision, None)
            signal, precision = invert(layer, signal, precision), None
            continue
        assert found is not None
        log_joint, hidden = found
        if signal is not None:
            signal, z = layer.parts(signal)
            hidden = told(layer, hidden, z, certainty)
            # ``log_joint`` holds the mixture's weights; the signal takes their place.
            log_weights = layer.weights.clamp_min(1e-30).log()
            prior = as_distribution(signal).clamp_min(1e-6).log()
            rows = layer.rows(log_joint) - log_weights[:, None] + layer.rows(prior)
            log_joint = layer.grid(rows)
        signal, precision = layer.expect(torch.softmax(log_joint, -1), hidden)
    assert signal is not None
    return signal


def told(
    layer: MixtureLayer,
    hidden: Hidden | None,
    z: Tensor | None,
    certainty: Tensor | None,
) -> Hidden | None:
    """Return the posterior of factors for which a signal ``z`` from above is the prior.

    ``certainty`` are the precisions of that signal, None for those of the factors.
    """
    if z is None or hidden is None:
        return hidden
    precision = torch.ones_like(z) if certainty is None else layer.parts(certainty)[1]
    assert precision is not None
    return hidden.updated(layer.rows(z), layer.rows(precision))

"""The way down: choice, samples, sharpening, filling."""

import copy

import pytest
import torch

from skdeepgmm._torch_backend.deep_conv.network import as_distribution
from skdeepgmm._torch_backend.deep_conv.sampling import (
    Descent,
    Sharpening,
    as_peaked,
    choose,
    descend,
    down,
    fill,
    peak_of,
    sharpen,
    value_and_gradient,
)
from skdeepgmm._torch_backend.rng import new_generator
from tests._torch_backend.deep_conv.problems import (
    SHAPE,
    pictures,
    trained,
)


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
    drawn = descend(
        found, signal, place, Descent((0.0, 0.0), (0.0, 0.0)), new_generator(0)
    )
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


def test_on_the_way_down_the_signal_takes_the_place_of_the_weights():
    found, x = trained(), pictures(5)
    first, top = found.places
    other = copy.deepcopy(found)
    weights = other.layers[first].weights
    other.layers[first].weights = weights.flip(-1).square() + 0.01
    signal = torch.softmax(found.log_prob(x)[0].new_ones(5, 1, 1, 4).cumsum(-1), -1)

    def expected(network):
        evidence = [None] * len(network.layers)
        patches = network.up_to(x, first)
        known = torch.full_like(patches, 0.1)
        evidence[first] = network.layers[first].marginal(patches, known)
        evidence[top] = signal.log(), None
        return down(network, evidence)

    torch.testing.assert_close(expected(other), expected(found))


def test_steps_of_sharpening_shrink_to_zero():
    found, start = trained(), pictures(6) + 0.5
    # So short that all steps have one direction: r, or r + r / 2.
    for n_iter, length in ((1, 1e-4), (2, 1.5e-4)):
        how = Sharpening(rate=1e-4, n_iter=n_iter, penalty=0.0, layer=None)
        moved = sharpen(found, 0, start, how) - start
        size = moved.square().mean((1, 2, 3)).sqrt()
        expected = torch.full_like(size, length)
        torch.testing.assert_close(size, expected, rtol=0.02, atol=0)


def test_signals_become_as_peaked_as_asked_and_keep_their_order():
    prob = torch.softmax(torch.randn(3, 4, 5, 6, generator=new_generator(0)), -1)
    peak = torch.tensor([0.3, 0.6, 0.95])
    found = as_peaked(prob, peak)
    torch.testing.assert_close(found.sum(-1), torch.ones(3, 4, 5))
    sharp = found.square().sum(-1).mean((1, 2))
    torch.testing.assert_close(sharp, peak, rtol=1e-3, atol=0)
    assert bool((found.argsort(-1) == prob.argsort(-1)).all())
    torch.testing.assert_close(as_peaked(prob[1:2], peak[1:2]), found[1:2])


@pytest.mark.parametrize("passes", [False, True])
def test_the_peak_is_that_of_what_a_component_has_seen(passes):
    found, x = trained(rank=2, passes=passes), pictures()
    top = found.layers[-1]
    codes = found.up_to(x, found.places[1])  # rows of a patch of 4 x 4 codes
    labels = top.forward(codes).argmax(-1)
    resp = codes.unflatten(-1, (16, -1))[..., :5].flatten(-2)
    seen = resp.square().sum(-1) / resp.sum(-1)
    for k in range(4):
        (peak,) = peak_of(found, 1, torch.full((1, 1, 1), k))
        expected = seen[labels == k].mean()
        torch.testing.assert_close(peak, expected, rtol=0.1, atol=0)
    nothing = torch.zeros(1, 1, 1, dtype=int)
    assert peak_of(trained(), 1, nothing) is None
    assert peak_of(found, 0, nothing) is None


def test_passed_factors_shape_the_patches_on_the_way_down():
    found, x = trained(rank=2, passes=True), pictures(8)
    layer = found.mixtures[0]
    signal = found.up_to(x, 2)
    drawn = descend(found, signal, 1, Descent((0.0,) * 2, (0.0,) * 2), new_generator(0))
    choice, z = layer.parts(signal)
    choice = choice.argmax(-1)
    mean, std = layer.at(choice)
    patches = mean + layer.factor_rows(choice, z)
    expected = found.layers[0].inverse(patches, std.square().reciprocal())
    torch.testing.assert_close(drawn, expected)
    plain = found.layers[0].inverse(mean, std.square().reciprocal())
    assert (drawn - x).square().mean() < 0.9 * (plain - x).square().mean()


def test_factors_of_hidden_patches_come_from_above():
    found, x = trained(rank=2, passes=True), pictures(4)
    layer, top = found.mixtures
    nothing = layer.marginal(*(torch.zeros_like(found.up_to(x, 1)),) * 2)
    codes = found.up_to(x, 3)
    evidence = [None, nothing, None, top.marginal(codes, torch.ones_like(codes))]
    signal = torch.softmax(evidence[3][0], -1)
    above, _ = top.expect(signal, evidence[3][1])
    prob, z = layer.parts(found.layers[2].inverse(above))
    prob = as_distribution(prob).clamp_min(1e-6)
    expected, precision = layer.expect(
        prob / prob.sum(-1, keepdim=True), layer.given(z)
    )
    told = down(found, evidence)
    patches, _ = layer.expect(prob / prob.sum(-1, keepdim=True))
    # The means are those that the top says, the weights of overlaps nearly so.
    near = found.layers[0].inverse(expected, precision)
    far = found.layers[0].inverse(patches)
    assert (told - near).abs().mean() < 0.2 * (told - far).abs().mean()

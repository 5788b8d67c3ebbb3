"""Start values made batch by batch equal those of the whole data."""

import numpy as np
import pytest
import torch

from skdeepgmm._torch_backend.mixture import init
from skdeepgmm._torch_backend.mixture.covariances import COVARIANCES
from skdeepgmm._torch_backend.mixture.em import maximize
from tests._torch_backend.mixture.problems import (
    CPU,
    assert_statistics_close,
    source_of,
    types,
    weighted_covariances,
)

batches = pytest.mark.parametrize("batch_size", [1, 7, 60])


def gather(function, X, batch_size):
    blocks = source_of(X, batch_size).blocks()
    return torch.cat([function(block) for block in blocks]).numpy()


@types
@batches
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_start_from_labels_equals_numpy(rng, name, batch_size, dtype):
    X = (rng.normal(size=(60, 3)) + 100.0).astype(dtype)
    labels = np.repeat([0, 1, 2], 20)
    function = init.labels_function(torch.from_numpy(labels), 3)
    stats = init.from_responsibilities(
        COVARIANCES[name], source_of(X, batch_size), 3, function
    )
    mixture, failed = maximize(COVARIANCES[name], stats, torch.zeros(3).double())
    assert not failed.any()
    wide = X.astype(float)
    means = np.stack([wide[labels == k].mean(0) for k in range(3)])
    expected = weighted_covariances(name, wide, np.eye(3)[labels], means)
    np.testing.assert_allclose(mixture.means, means, rtol=1e-11)
    np.testing.assert_allclose(
        mixture.covariance.values, expected, rtol=1e-7, atol=1e-8
    )
    np.testing.assert_allclose(mixture.weights, 1 / 3)


@batches
def test_rows_function_gives_one_row_to_each_component(rng, batch_size):
    indices = [59, 0, 8, 7]
    function = init.samples_function(torch.tensor(indices))
    resp = gather(function, rng.normal(size=(60, 2)), batch_size)
    expected = np.zeros((60, 4))
    expected[indices, range(4)] = 1
    np.testing.assert_array_equal(resp, expected)


def test_one_row_may_start_two_components(rng):
    function = init.samples_function(torch.tensor([3, 3]))
    resp = gather(function, rng.normal(size=(6, 2)), 2)
    np.testing.assert_array_equal(resp[3], [1, 1])
    assert resp.sum() == 2


@batches
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_nearest_function_finds_the_nearest_centre(rng, batch_size, dtype):
    X = rng.normal(size=(60, 3)).astype(dtype)
    centers = rng.normal(size=(5, 3))
    resp = gather(init.nearest_function(torch.from_numpy(centers)), X, batch_size)
    distance = ((X[:, None].astype(float) - centers) ** 2).sum(-1)
    np.testing.assert_array_equal(resp, np.eye(5)[distance.argmin(1)])


@types
@batches
def test_soft_responsibilities_do_not_depend_on_the_batches(rng, name, batch_size):
    X, resp = rng.normal(size=(60, 3)), rng.dirichlet(np.ones(2), size=60)
    tensor = torch.from_numpy(resp)

    def function(block):
        return tensor[block.index]

    split, whole = (
        init.from_responsibilities(COVARIANCES[name], source_of(X, size), 2, function)
        for size in (batch_size, 60)
    )
    assert_statistics_close(split, whole, rtol=1e-12, atol=1e-12)
    assert float(split.total) == 60.0
    assert split.center.device == CPU


@types
@pytest.mark.parametrize("missing", [False, True])
def test_sample_weights_act_as_repeated_rows(rng, name, missing):
    X, counts = rng.normal(size=(30, 3)), rng.integers(1, 4, size=30)
    if missing:
        X[rng.random(X.shape) < 0.3] = np.nan
    labels = np.arange(30) % 2
    weighted, repeated = (
        init.from_responsibilities(
            COVARIANCES[name],
            source,
            2,
            init.labels_function(torch.from_numpy(given), 2),
        )
        for source, given in (
            (source_of(X, 7, counts), labels),
            (source_of(np.repeat(X, counts, axis=0)), np.repeat(labels, counts)),
        )
    )
    assert_statistics_close(weighted, repeated)

"""Initial factors are those of probabilistic PCA in closed form."""

import numpy as np
import torch

from skdeepgmm._torch_backend.mixture.probabilistic_pca import probabilistic_pca


def test_factors_are_the_leading_directions_beyond_the_noise(rng):
    """Tipping & Bishop (1999): W W^T = U (Lambda - sigma^2 I) U^T."""
    rank, n_features = 2, 6
    turn = np.linalg.qr(rng.normal(size=(n_features, n_features)))[0]
    spectrum = np.array([9.0, 4.0, 0.3, 0.3, 0.3, 0.3])
    sigma = (turn * spectrum) @ turn.T
    nk = torch.tensor([50.0], dtype=torch.float64)
    scatter = 50.0 * torch.from_numpy(sigma)[None]
    variances = torch.from_numpy(np.diagonal(sigma).copy())[None]
    found = probabilistic_pca(variances, nk, rank, lambda basis: scatter @ basis)
    factors, noise = found[0, :, :rank].numpy(), found[0, :, rank].numpy()
    leading = turn[:, :rank]
    expected = (leading * (spectrum[:rank] - 0.3)) @ leading.T
    np.testing.assert_allclose(factors @ factors.T, expected, atol=1e-8)
    np.testing.assert_allclose(noise, 0.3, atol=1e-8)


def test_variances_are_kept(rng):
    variances = torch.from_numpy(rng.uniform(0.5, 2.0, size=(3, 5)))
    nk = torch.full((3,), 10.0, dtype=torch.float64)
    diagonal = 10.0 * variances[..., None]
    found = probabilistic_pca(variances, nk, 2, lambda basis: diagonal * basis)
    kept = found[..., :-1].square().sum(-1) + found[..., -1]
    assert (kept >= variances * (1.0 - 1e-9)).all()
    assert (found[..., -1] > 0.0).all()

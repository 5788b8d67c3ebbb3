"""Networks of MinMax+EM by the shape of the data."""

import pytest
import torch

from skdeepgmm._torch_backend.clusterers import networks
from skdeepgmm._torch_backend.clusterers.minmax_em import latent
from skdeepgmm._torch_backend.clusterers.minmax_em.networks import (
    Architecture,
    LatentSplit,
)
from skdeepgmm._torch_backend.clusterers.minmax_em.trainer import NETWORKS
from skdeepgmm._torch_backend.rng import new_generator


@pytest.mark.parametrize(
    "shape", [(5,), (1, 8, 8), (1, 28, 28), (3, 32, 32), (3, 64, 64), (2, 12, 17)]
)
@pytest.mark.parametrize("table", ["small", "large"])
def test_networks_by_shape(shape, table):
    made = Architecture(shape, 3, 4, table=table, width=0.1)
    built = {
        name: networks.build(getattr(made, name), new_generator(0)) for name in NETWORKS
    }
    images = built["generator"](torch.rand(3, 4, generator=new_generator(1)))
    assert images.shape == (3, *shape)
    assert built["encoder"](images).shape == (3, 4)
    assert built["discriminator"](images).shape == (3, 1)
    if made.image:
        assert images.abs().max() <= 1.0


def test_a_generator_of_images_sees_cluster_and_style():
    split = networks.build(lambda: LatentSplit(3, 5, separation=6.0), new_generator(0))
    means = latent.component_means(3, 5, 6.0)
    style = torch.tensor([0.0, 0.0, 0.0, 1.0, -2.0])
    resp, offset = split(means + style).split([3, 5], dim=1)
    # Log-odds of 6 between neighbours, at a mean.
    expected = torch.softmax(6.0 * torch.eye(3), 1)
    torch.testing.assert_close(resp, expected)
    torch.testing.assert_close(offset, 0.5 * (means - resp @ means + style))
    middle = (means[0] + means[1])[None] / 2
    torch.testing.assert_close(split(middle)[0, :2], split(middle)[0, [1, 0]])


def test_spectral_norm_is_in_the_discriminator_alone():
    made = Architecture((1, 8, 8), 3, 4, width=0.1)
    for name in NETWORKS:
        module = networks.build(getattr(made, name), new_generator(0))
        found = any("direction" in key for key in module.state_dict())
        assert found == (name == "discriminator")

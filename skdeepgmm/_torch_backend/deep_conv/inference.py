"""What a network says about images, in batches of one size whatever the data."""

from collections.abc import Iterable

import torch
from torch import Tensor

from skdeepgmm._torch_backend.deep_conv.network import Network
from skdeepgmm._torch_backend.inference import over_parts
from skdeepgmm._torch_backend.rows import TrainingRows

#: Largest standardised values that networks see: squares of larger ones would overflow.
FARTHEST = 1e9


def near(x: Tensor) -> Tensor:
    """Return standardised images with values that a network can compute with."""
    return x.clamp(-FARTHEST, FARTHEST)


def responsibilities(
    network: Network, parts: Iterable[Tensor], size: int, layer: int = -1
) -> Tensor:
    """Return the output of a mixture, (n_images, n_positions * n_components).

    Parameters
    ----------
    parts : iterable of Tensor of shape (at most size, height, width, channels)
        The images.
    size : int
        Images a batch.
    layer : int
        Number of the mixture.
    """
    index = network.places[layer] + 1
    return over_parts(lambda x: network.up_to(near(x), index).flatten(1), parts, size)


def scores(
    network: Network, parts: Iterable[Tensor], size: int, log_volume: float
) -> Tensor:
    """Return the log-density of the input of every mixture, (n_images, n_mixtures).

    That of the first mixture is in the units of the data; standardization has added
    ``log_volume`` to it.
    """
    found = over_parts(
        lambda x: torch.stack(network.log_prob(near(x)), dim=1), parts, size
    )
    found[:, 0] -= log_volume
    return found


def mean_score(
    network: Network, images: TrainingRows, index: Tensor, size: int, layer: int
) -> float:
    """Return the mean log-density of a mixture's input over the images at ``index``."""
    parts = (network.log_prob(part)[layer] for part in images.split(size, index))
    found = torch.cat(list(parts)).mean()
    if images.ranks is not None:
        images.ranks.mean_(len(index), found)
    return float(found)

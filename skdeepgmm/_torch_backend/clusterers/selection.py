"""By what restarts are compared: a score in which no label enters."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from skdeepgmm._torch_backend.clusterers.augmentation import Affine
from skdeepgmm._torch_backend.inference import in_batches


def selection_score(
    probabilities: Callable[[Tensor], Tensor],
    rows: Tensor,
    affine: Affine | None,
    rng: torch.Generator,
) -> float:
    """Return mutual information of samples and clusters, minus instability.

    The mutual information, in nats, is high where clusters are in equal use and samples
    assigned with certainty. Instability is log(n_clusters) times the share of samples
    whose cluster changes with a small affine change of the image.

    Parameters
    ----------
    probabilities : callable
        P(cluster | x) of samples.
    rows : Tensor
        Samples in the range of the networks.
    affine : Affine or None
        None takes no instability off.
    rng : torch.Generator
        On the device of ``rows``.
    """
    resp = in_batches(probabilities, rows).double()
    weights = resp.mean(0)
    information = entropy(weights) - entropy(resp).mean()
    if affine is None:
        return float(information)
    other = in_batches(probabilities, affine(rows, rng)).argmax(1)
    unstable = (other != resp.argmax(1)).double().mean()
    return float(information - math.log(len(weights)) * unstable)


def entropy(probabilities: Tensor) -> Tensor:
    """Return -sum_k p_k log p_k over the last axis, in nats."""
    plogp: Tensor = torch.special.xlogy(probabilities, probabilities)
    return -plogp.sum(-1)


def random_rows(rows: Tensor, most: int, rng: torch.Generator) -> Tensor:
    """Return at most ``most`` of the rows in random order."""
    order = torch.randperm(len(rows), generator=rng, device=rng.device)
    return rows[order[:most].to(rows.device)]

"""Batches of labelled samples."""

import torch
from torch import Tensor


class LabelledSampler:
    """Draws samples of known clusters, evenly from the clusters.

    Parameters
    ----------
    labels : Tensor of shape (n,) or None
        -1 where unknown.
    """

    def __init__(self, labels: Tensor | None) -> None:
        if labels is None:
            labels = torch.empty(0, dtype=torch.int64)
        order = labels.argsort(stable=True)
        self.rows = order[labels[order] >= 0]
        _, self.counts = torch.unique_consecutive(labels[self.rows], return_counts=True)
        self.first = self.counts.cumsum(0) - self.counts

    def __len__(self) -> int:
        return len(self.rows)

    def sample(self, size: int, rng: torch.Generator) -> Tensor:
        """Return ``size`` row indices, none if no sample is labelled."""
        device = self.rows.device
        if not len(self.rows):
            return torch.empty(0, dtype=torch.int64, device=rng.device)
        drawn = torch.rand(size + 1, generator=rng, device=device, dtype=torch.float32)
        turn = (drawn[-1] * len(self.counts)).long()
        cluster = (torch.arange(size, device=device) + turn) % len(self.counts)
        place = (drawn[:-1] * self.counts[cluster]).long()
        # A product may be rounded up to the count.
        place = torch.minimum(place, self.counts[cluster] - 1)
        return self.rows[self.first[cluster] + place]

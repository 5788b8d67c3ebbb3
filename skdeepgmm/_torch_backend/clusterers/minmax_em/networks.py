"""Encoder, generator and discriminator of MinMax+EM by the shape of the data."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from skdeepgmm._torch_backend.clusterers import networks
from skdeepgmm._torch_backend.clusterers.minmax_em import latent
from skdeepgmm._torch_backend.clusterers.networks import Shape, scaled


@dataclass(frozen=True)
class Table:
    """Layer widths at multiplier one.

    Attributes
    ----------
    encoder : int
        Channels of the first convolution; each pooling doubles them.
    encoder_hidden : int
        Fully connected layer before the latent.
    generator_hidden : int
        Fully connected layer before the first image.
    generator : int
        Channels before the last doubling; each earlier image has twice as many.
    discriminator : int
        Channels of the first convolution; each halving doubles them.
    discriminator_hidden : int
    vector : int
        Width of fully connected layers for vectors.
    """

    encoder: int
    encoder_hidden: int
    generator_hidden: int
    generator: int
    discriminator: int
    discriminator_hidden: int
    vector: int


#: "large" is meant for a GPU.
TABLES = {
    "small": Table(16, 128, 256, 32, 32, 256, 128),
    "large": Table(64, 512, 1024, 128, 64, 1024, 512),
}
#: Dropout before the fully connected layers of an encoder of images.
DROPOUT = 0.3
#: What a generator of images sees of a latent: log-odds of neighbouring clusters at a
#: mean, and factor of the offset from the mean.
LOG_ODDS, OFFSET_FACTOR = 6.0, 0.5


@dataclass(frozen=True)
class Architecture:
    """What the three networks look like.

    Attributes
    ----------
    shape : tuple of int
        (channels, height, width), or (features,).
    n_clusters, latent_dim : int
    separation : float
        Of the latent means, see :func:`latent.component_means`.
    table : str
        Key of ``TABLES``.
    width : float
        Multiplier of all widths.
    spectral : bool
        Whether the discriminator's layers have spectral norm one.
    """

    shape: Shape
    n_clusters: int
    latent_dim: int
    separation: float = 6.0
    table: str = "small"
    width: float = 1.0
    spectral: bool = True

    @property
    def image(self) -> bool:
        return networks.is_image(self.shape)

    def latent_means(self) -> Tensor:
        """Return the fixed means of the latent mixture, (n_clusters, latent_dim)."""
        return latent.component_means(self.n_clusters, self.latent_dim, self.separation)

    @property
    def output(self) -> str:
        """Last function of the generator."""
        return "tanh" if self.image else "linear"

    @property
    def small(self) -> bool:
        """Whether one thread is fast enough."""
        return networks.are_small((self.encoder, self.generator, self.discriminator))

    def encoder(self) -> nn.Sequential:
        """Return the encoder: samples to latents."""
        table = TABLES[self.table]
        if not self.image:
            width = self._width(table.vector)
            body = networks.dense([math.prod(self.shape), width, width])
            return nn.Sequential(*body, nn.Linear(width, self.latent_dim))
        channels = self._doubling(table.encoder, networks.n_halvings(self.shape))
        trunk, size = networks.pooled_trunk(self.shape, channels, dropout=DROPOUT)
        hidden = self._width(table.encoder_hidden)
        body = networks.dense([size, hidden])
        return nn.Sequential(*trunk, *body, nn.Linear(hidden, self.latent_dim))

    def generator(self) -> nn.Sequential:
        """Return the generator: latents to samples."""
        if not self.image:
            return self.decoder(self.latent_dim)
        split = LatentSplit(self.n_clusters, self.latent_dim, self.separation)
        return nn.Sequential(split, *self.decoder(split.n_outputs))

    def decoder(self, n_inputs: int) -> nn.Sequential:
        """Return a network from vectors to samples."""
        table = TABLES[self.table]
        if not self.image:
            hidden = [self._width(table.vector)] * 2
            # Batch statistics would tie the few samples of a small batch together.
            return networks.dense_generator(
                n_inputs, math.prod(self.shape), hidden, "none", self.output
            )
        channels = self._doubling(table.generator, networks.n_doublings(self.shape))
        return networks.deconv_generator(
            n_inputs,
            self.shape,
            [self._width(table.generator_hidden)],
            channels[::-1],
            "batch",
            self.output,
        )

    def discriminator(self) -> nn.Sequential:
        """Return the discriminator: samples to one output."""
        table = TABLES[self.table]
        if not self.image:
            width = self._width(table.vector)
            body = networks.dense(
                [math.prod(self.shape), width, width], spectral=self.spectral
            )
            return nn.Sequential(*body, networks.linear(width, 1, self.spectral))
        halvings = max(2, networks.n_halvings(self.shape) - 1)
        channels = self._doubling(table.discriminator, halvings)
        trunk, size = networks.strided_trunk(
            self.shape, channels, "none", self.spectral
        )
        hidden = self._width(table.discriminator_hidden)
        body = networks.dense([size, hidden], spectral=self.spectral)
        return nn.Sequential(*trunk, *body, networks.linear(hidden, 1, self.spectral))

    def _width(self, width: int) -> int:
        return scaled(width, self.width)

    def _doubling(self, first: int, levels: int) -> Sequence[int]:
        return [self._width(first * 2**level) for level in range(levels)]


class LatentSplit(networks.Constant):
    """Cluster and style of a latent: soft assignments, and the offset from the mean.

    A latent ``mu_k + noise`` varies from cluster to cluster far more than within one;
    a generator that sees it as it is learns one image a cluster. Assignments are softer
    than the mixture's, so that the way between two clusters stays smooth.
    """

    means: Tensor

    def __init__(self, n_clusters: int, dim: int, separation: float) -> None:
        super().__init__()
        self.sizes = n_clusters, dim, separation
        self.register_buffer("means", torch.empty(n_clusters, dim))
        self.n_outputs = n_clusters + dim

    def reset_parameters(self) -> None:
        """Set the means."""
        self.means.copy_(latent.component_means(*self.sizes))

    def forward(self, latents: Tensor) -> Tensor:
        # Neighbours are sqrt(2) * separation apart.
        factor = LOG_ODDS / (2.0 * self.sizes[2] ** 2)
        distances = latent.square_distances(latents, self.means)
        resp = torch.softmax(-factor * distances, 1)
        offset = latents - resp @ self.means
        return torch.cat([resp, OFFSET_FACTOR * offset], 1)

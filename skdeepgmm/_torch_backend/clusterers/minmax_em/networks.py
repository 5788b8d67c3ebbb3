"""Encoder, generator and discriminator of MinMax+EM by the shape of the data."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from skdeepgmm._torch_backend import convert
from skdeepgmm._torch_backend.clusterers import networks
from skdeepgmm._torch_backend.clusterers.minmax_em import latent
from skdeepgmm._torch_backend.clusterers.networks import Shape, scaled
from skdeepgmm._torch_backend.clusterers.weights import restore
from skdeepgmm._torch_backend.inference import in_batches
from skdeepgmm._torch_backend.rng import new_generator


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


#: "large" is meant for a GPU; "photo" has the encoder of photographs.
TABLES = {
    "small": Table(16, 128, 256, 32, 32, 256, 128),
    "photo": Table(16, 128, 256, 32, 32, 256, 128),
    "large": Table(64, 512, 1024, 128, 64, 1024, 512),
}
#: Dropout before the fully connected layers of an encoder of images.
DROPOUT = 0.3
#: Ridge of the map from features to latents, as a share of their mean variance.
RIDGE = 1e-3
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
        if self.table == "photo":
            trunk, size = networks.photo_trunk(self.shape, self.width)
            return nn.Sequential(*trunk, nn.Linear(size, self.latent_dim))
        channels = self._doubling(table.encoder, networks.n_halvings(self.shape))
        trunk, size = networks.pooled_trunk(self.shape, channels, dropout=DROPOUT)
        hidden = self._width(table.encoder_hidden)
        body = networks.dense([size, hidden])
        return nn.Sequential(*trunk, *body, nn.Linear(hidden, self.latent_dim))

    def classifier(self) -> nn.Sequential:
        """Return the encoder with logits of the clusters in place of latents."""
        *body, last = self.encoder()
        assert isinstance(last, nn.Linear)
        return nn.Sequential(*body, nn.Linear(last.in_features, self.n_clusters))

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


def initial_classifier(
    architecture: Architecture, seed: int, device: torch.device
) -> nn.Sequential:
    """Return a network of logits with initial weights by fan-in, to be trained."""
    rng, gain = new_generator(seed), networks.TORCH_GAIN
    return networks.build(architecture.classifier, rng, device, gain=gain)


def encoder_arrays(
    architecture: Architecture,
    arrays: Mapping[str, NDArray[Any]],
    rows: Tensor,
    resp: Tensor,
) -> dict[str, NDArray[Any]]:
    """Return the weights of an encoder with the features of a trained classifier.

    Its last layer maps them to the expected means, by least squares over the samples:
    ``min sum_n ||W f(x_n) + b - sum_k resp_nk mu_k||^2``, with a small ridge.

    Parameters
    ----------
    arrays : mapping of str to ndarray
        Of :meth:`Architecture.classifier`.
    rows : Tensor of shape (n, channels, height, width)
    resp : Tensor of shape (n, n_clusters)
    """
    classifier = restore(architecture.classifier, arrays, rows.device)
    features = in_batches(classifier[:-1], rows).double()
    wanted = resp.double() @ architecture.latent_means().double().to(rows.device)
    weight, bias = least_squares(features, wanted)
    last = f"{len(classifier) - 1}."
    head = {f"{last}weight": weight.T, f"{last}bias": bias}
    return dict(arrays) | {
        name: convert.to_numpy(value.float()) for name, value in head.items()
    }


def least_squares(features: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
    """Return weight (n_features, n_wanted) and bias of a ridge regression."""
    center, target = features.mean(0), wanted.mean(0)
    centered = features - center
    gram = centered.T @ centered / len(features)
    ridge = RIDGE * gram.diagonal().mean().clamp_min(torch.finfo(gram.dtype).tiny)
    moments = centered.T @ (wanted - target) / len(features)
    weight = torch.linalg.solve(
        gram + ridge * torch.eye(len(gram), dtype=gram.dtype, device=gram.device),
        moments,
    )
    return weight, target - center @ weight

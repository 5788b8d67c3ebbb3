"""Generator, discriminator and E-net of GAN-EM by the shape of the data."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from skdeepgmm._torch_backend.clusterers import networks
from skdeepgmm._torch_backend.clusterers.networks import Shape, scaled
from skdeepgmm._torch_backend.inference import in_batches
from skdeepgmm._torch_backend.rng import new_generator


@dataclass(frozen=True)
class Table:
    """Layer widths at multiplier one.

    Attributes
    ----------
    generator_hidden : sequence of int
        Fully connected layers before the first image.
    generator_channels : sequence of int
        Channels of the first image and of every doubling but the last.
    channels : sequence of int
        Convolutions of discriminator and E-net.
    hidden : int
        Fully connected layer after them, 0 for none.
    output : str
        Last function of the generator.
    """

    generator_hidden: Sequence[int]
    generator_channels: Sequence[int]
    channels: Sequence[int]
    hidden: int
    output: str = "sigmoid"


#: The paper's networks. "svhn" starts from 4 x 4 and needs three doublings to reach
#: 32 x 32: of its two layers with 64 channels one is left.
TABLES = {
    "mnist": Table((1024,), (128, 64), (64, 128, 256), 1024),
    "svhn": Table((), (128, 64, 32), (64, 128, 256), 1024, "tanh"),
    "celeba": Table((), (1024, 512, 256, 128), (128, 256, 512, 1024), 0, "tanh"),
}


#: Names of tables that follow the image shape.
AUTOMATIC = ("auto", "photo")
#: Multiplier at which the E-net of photographs has its plain size.
DEFAULT_WIDTH = 0.25


def automatic_table(shape: Shape) -> Table:
    """Return the "mnist" table with the halvings and doublings of ``shape``."""
    doublings, halvings = networks.n_doublings(shape), networks.n_halvings(shape)
    return Table(
        (1024,),
        [128 // 2 ** min(level, 2) for level in range(doublings)],
        [64 * 2**level for level in range(halvings)],
        1024,
        "sigmoid" if shape[0] == 1 else "tanh",
    )


@dataclass(frozen=True)
class Architecture:
    """What the three networks look like.

    Attributes
    ----------
    shape : tuple of int
        (channels, height, width), or (features,).
    n_clusters, noise_dim : int
    embedding_dim : int or None
        Units of a linear layer before the E-net's output; None adds none.
    table : str
        Key of ``TABLES``, or one of ``AUTOMATIC``.
    width : float
        Multiplier of all widths.
    discriminator_norm, classifier_norm, generator_norm : str
        Names of :func:`networks.norm`.
    photo : bool
        Whether the E-net is that of photographs.
    """

    shape: Shape
    n_clusters: int
    noise_dim: int
    embedding_dim: int | None = None
    table: str = "auto"
    width: float = 1.0
    discriminator_norm: str = "batch"
    classifier_norm: str = "group"
    generator_norm: str = "batch"
    photo: bool = False

    @property
    def image(self) -> bool:
        return networks.is_image(self.shape)

    @property
    def output(self) -> str:
        return self._table().output if self.image else "linear"

    @property
    def small(self) -> bool:
        """Whether one thread is fast enough."""
        return networks.are_small((self.generator, self.discriminator, self.classifier))

    def _table(self) -> Table:
        if self.table in AUTOMATIC:
            return automatic_table(self.shape)
        return TABLES[self.table]

    def generator(self) -> "Generator":
        n_inputs = self.n_clusters + self.noise_dim
        if not self.image:
            hidden = [self._vector_width()] * 2
            size = math.prod(self.shape)
            # Batch statistics would tie the few samples of a small batch together.
            body = networks.dense_generator(n_inputs, size, hidden, "none")
            return Generator(body, self.n_clusters, self.noise_dim)
        table = self._table()
        body = networks.deconv_generator(
            n_inputs,
            self.shape,
            [scaled(size, self.width) for size in table.generator_hidden],
            [scaled(size, self.width) for size in table.generator_channels],
            self.generator_norm,
            table.output,
        )
        return Generator(body, self.n_clusters, self.noise_dim)

    def discriminator(self) -> "Classifier":
        return self._classifier(self.n_clusters + 1, self.discriminator_norm, None)

    def classifier(self) -> "Classifier":
        n_out, embedding = self.n_clusters, self.embedding_dim
        if not self.photo:
            return self._classifier(n_out, self.classifier_norm, embedding)
        trunk, size = networks.photo_trunk(self.shape, self.width / DEFAULT_WIDTH)
        return _with_head([*trunk], size, n_out, embedding)

    def _classifier(self, n_out: int, norm: str, embedding: int | None) -> "Classifier":
        return _with_head(*self._body(norm), n_out, embedding)

    def _body(self, norm: str) -> tuple[list[nn.Module], int]:
        if not self.image:
            width = self._vector_width()
            return [*networks.dense([math.prod(self.shape), width, width])], width
        table = self._table()
        channels = [scaled(size, self.width) for size in table.channels]
        trunk, size = networks.strided_trunk(self.shape, channels, norm)
        if not table.hidden:
            return [*trunk], size
        hidden = scaled(table.hidden, self.width)
        return [*trunk, *networks.dense([size, hidden], norm)], hidden

    def _vector_width(self) -> int:
        return scaled(512, self.width, least=32)


def _with_head(
    layers: list[nn.Module], size: int, n_out: int, embedding: int | None
) -> "Classifier":
    """Return a classifier on these layers, with a linear layer between if asked for."""
    if embedding is not None:
        layers, size = [*layers, nn.Linear(size, embedding)], embedding
    return Classifier(nn.Sequential(*layers), nn.Linear(size, n_out))


class Generator(nn.Module):
    """Maps noise in [0, 1] and a cluster to a sample."""

    def __init__(self, body: nn.Module, n_clusters: int, noise_dim: int) -> None:
        super().__init__()
        self.body = body
        self.n_clusters, self.noise_dim = n_clusters, noise_dim

    def forward(self, noise: Tensor, labels: Tensor) -> Tensor:
        one_hot = F.one_hot(labels, self.n_clusters).to(noise.dtype)
        images: Tensor = self.body(torch.cat([one_hot, noise], 1))
        return images

    def sample(self, labels: Tensor, rng: torch.Generator) -> Tensor:
        """Return generated samples of these clusters, in evaluation mode.

        Parameters
        ----------
        labels : Tensor of shape (n,)
            On the CPU, like ``rng``: all devices make the same samples.
        """
        shape = (len(labels), self.noise_dim)
        noise = torch.rand(shape, generator=rng, dtype=torch.float32, device="cpu")
        one_hot = F.one_hot(labels, self.n_clusters)
        first = next(self.parameters())
        return in_batches(self.eval().body, torch.cat([one_hot, noise], 1).to(first))


class Classifier(nn.Module):
    """Features and their linear read-out."""

    def __init__(self, body: nn.Module, head: nn.Linear) -> None:
        super().__init__()
        self.body = body
        self.head = head

    def forward(self, rows: Tensor) -> Tensor:
        logits: Tensor = self.head(self.body(rows))
        return logits

    def probabilities(self, rows: Tensor) -> Tensor:
        """Return P(cluster | x), (n, n_clusters)."""
        return torch.softmax(self(rows), 1)

    def embed(self, rows: Tensor) -> Tensor:
        """Return the layer before the output."""
        features: Tensor = self.body(rows)
        return features


def initial_classifier(
    architecture: Architecture, seed: int, device: torch.device
) -> Classifier:
    """Return an E-net of images with initial weights by fan-in, to be trained."""
    rng = new_generator(seed)
    return networks.build(
        architecture.classifier, rng, device, gain=networks.TORCH_GAIN
    )

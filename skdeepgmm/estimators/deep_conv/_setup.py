"""What a deep mixture is made for: layers, image shape, units and variance floors."""

import math
from dataclasses import dataclass
from numbers import Integral

import numpy as np
import torch

from skdeepgmm._torch_backend import convert
from skdeepgmm.estimators.deep_conv import _layers as structure
from skdeepgmm.estimators.deep_conv._images import Units
from skdeepgmm.layers import Mixture

#: A component with less than this share of an equal part of the data is out of use.
USED_SHARE = 0.05
#: Images that are scored at a time, less where their layers need this much memory.
SCORE_IMAGES, SCORE_BYTES = 256, 128 * 2**20
#: ``reg_covar=None``: share of the data's variance, for images and for vectors.
IMAGE_FLOOR, VECTOR_FLOOR = 0.2, 1e-3


@dataclass(frozen=True)
class Setup:
    """Everything about a model but its parameters.

    Attributes
    ----------
    stack : list of layers
    shape : tuple of int
        (height, width, channels); (1, 1, n_features) for vectors.
    units : Units
    floors : tuple of float
        Smallest variance of the first mixture, in its units, and of the others.
    vector : bool
        Whether features have units of their own; then computations are in float64.
    """

    stack: list
    shape: tuple
    units: Units
    floors: tuple
    vector: bool

    @classmethod
    def of(cls, estimator, stack, shape, units, vector, floors=None):
        """Return the setup with an estimator's settings, checked.

        ``floors`` replaces its ``reg_covar`` and ``reg_resp``.
        """
        if floors is None:
            default = VECTOR_FLOOR if vector else IMAGE_FLOOR
            floor = default if estimator.reg_covar is None else estimator.reg_covar
            floors = floor, estimator.reg_resp
        setup = cls(stack, shape, units, floors, vector)
        setup.check_layer(estimator.score_layer, "score_layer")
        return setup

    @property
    def dtype(self):
        """Type of the computations."""
        return torch.float64 if self.vector else torch.float32

    def check_layer(self, layer, name):
        """Raise unless ``layer`` is the index of a mixture."""
        count = len(self.mixtures)
        if not isinstance(layer, Integral) or not -count <= layer < count:
            raise ValueError(
                f"{name}={layer!r} names no Mixture layer: there are {count}. Use "
                f"{-count} to {count - 1}; -1 is the top."
            )

    @property
    def mixtures(self):
        """The mixtures among the layers."""
        return [layer for layer in self.stack if isinstance(layer, Mixture)]

    def build(self, draw):
        """Return an untrained network."""
        return structure.build(self.stack, self.shape, self.floors, draw, self.dtype)

    def restore(self, mixtures, device):
        """Return the network of fitted ``mixtures_``."""
        return structure.from_attributes(
            *(self.stack, self.shape, mixtures, self.floors, self.units),
            *(device, self.dtype),
        )

    def first_features(self):
        """Return the number of values that the first mixture sees at a position."""
        place = self.stack.index(self.mixtures[0])
        return structure.shapes(self.stack, self.shape)[place][2]

    def in_data_units(self, number, log_density):
        """Return a mixture's log-density in the units of the data.

        Only the first mixture's is a density of pixels.
        """
        if number != 0:
            return log_density
        return log_density - self.units.log_scale(self.first_features())

    def attributes(self, network):
        """Return a network as fitted attributes."""
        mixtures = structure.to_attributes(network, self.units)
        usage = [np.mean(used(arrays["weights"])) for arrays in mixtures]
        top = mixtures[-1]["weights"].reshape(-1)
        return {
            "mixtures_": mixtures,
            "weights_": top / top.sum(),
            "means_": self._images_of_components(network),
            "usage_": np.array(usage),
        }

    def _images_of_components(self, network):
        """Return the mean image of each top component, (n_components, n_features)."""
        size = network.mixtures[-1].n_components
        one_hot = torch.eye(size, device=network.mixtures[-1].means.device)
        images = network.expect(one_hot.reshape(size, 1, 1, size).to(self.dtype))
        return self.to_rows(images)

    def to_rows(self, images):
        """Return images in units of the training as rows of data."""
        images = images.double()
        shift, scale = self.units.channels(images)
        return convert.to_numpy((images * scale + shift).flatten(1))


def fitted_floors(mixtures, units):
    """Return the smallest variances of fitted mixtures, as in ``Setup.floors``.

    What a fitted model says then depends on what was fitted, not on ``reg_covar``.
    """
    first, *others = (arrays["covariances"] for arrays in mixtures)
    scale = np.tile(units.scale, first.shape[-1] // len(units.scale))
    above = [float(variances.min()) for variances in others]
    return float((first / scale**2).min()), min(above, default=0.0)


def used(weights):
    """Tell which components are in use, by their weights (..., n_components)."""
    return weights > USED_SHARE / weights.shape[-1]


def score_batch_size(stack, shape):
    """Return how many images are scored at a time, by memory alone.

    The size does not depend on the data, so that scores of subsets are those of all.
    """
    largest = max(math.prod(sizes) for sizes in structure.shapes(stack, shape))
    return max(1, min(SCORE_IMAGES, SCORE_BYTES // (16 * largest)))

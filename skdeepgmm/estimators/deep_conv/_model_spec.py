"""What a deep mixture is made for: layers, image shape, standardization, floors."""

import math
from dataclasses import dataclass
from numbers import Integral

import numpy as np

from skdeepgmm._torch_backend import convert
from skdeepgmm._torch_backend.deep_conv import fitted
from skdeepgmm._torch_backend.deep_conv.network import compute_dtype
from skdeepgmm._torch_backend.standardization import Standardization
from skdeepgmm.estimators._image_shape import short_shape
from skdeepgmm.estimators.deep_conv import _architecture as architecture
from skdeepgmm.estimators.deep_conv._usage import usage
from skdeepgmm.layers import Mixture

#: Images that are scored at a time, less where their layers need this much memory.
SCORE_IMAGES, SCORE_BYTES = 256, 128 * 2**20
#: ``reg_covar=None``: share of the data's variance, for images and for vectors.
IMAGE_FLOOR, VECTOR_FLOOR = 0.2, 1e-3


@dataclass(frozen=True)
class ModelSpec:
    """Everything about a model but its parameters.

    Attributes
    ----------
    stack : list of layers
    shape : tuple of int
        (height, width, channels); (1, 1, n_features) for vectors.
    standardization : Standardization
        Of each channel, or each feature of vectors.
    floors : tuple of float
        Smallest variance of the first mixture, standardised, and of the others.
    vector : bool
        Whether features have units of their own; then computations are in float64.
    """

    stack: list
    shape: tuple
    standardization: Standardization
    floors: tuple
    vector: bool

    @classmethod
    def of(cls, estimator, stack, shape, standardization, vector, floors=None):
        """Return the specification with an estimator's settings, checked.

        ``floors`` replaces its ``reg_covar`` and ``reg_resp``.
        """
        if floors is None:
            default = VECTOR_FLOOR if vector else IMAGE_FLOOR
            floor = default if estimator.reg_covar is None else estimator.reg_covar
            floors = floor, estimator.reg_resp
        spec = cls(stack, shape, standardization, floors, vector)
        spec.check_layer(estimator.score_layer, "score_layer")
        spec.check_floors()
        return spec

    @property
    def dtype(self):
        """Type of the computations."""
        return compute_dtype(self.vector)

    @property
    def mixtures(self):
        """The mixtures among the layers."""
        return [layer for layer in self.stack if isinstance(layer, Mixture)]

    @property
    def batch_size(self):
        """Images that are scored at a time, by memory alone.

        The size does not depend on the data, so that scores of subsets are those of
        all.
        """
        shapes = architecture.shapes(self.stack, self.shape)
        largest = max(math.prod(sizes) for sizes in shapes)
        for layer, (height, width, n_inputs) in zip(self.stack, shapes, strict=False):
            if isinstance(layer, Mixture) and layer.has_factors:
                # Factor scores of all components, and factors of a chosen one.
                values = layer.rank * max(layer.n_components, n_inputs)
                largest = max(largest, height * width * values)
        return max(1, min(SCORE_IMAGES, SCORE_BYTES // (16 * largest)))

    @property
    def work(self):
        """Multiply-adds that one image costs, about."""
        shapes = architecture.shapes(self.stack, self.shape)
        return sum(
            math.prod(shape) * layer.n_components * (1 + (layer.rank or 0))
            for layer, shape in zip(self.stack, shapes, strict=False)
            if isinstance(layer, Mixture)
        )

    def check_floors(self):
        """Raise where a smallest variance leaves the type of the computations."""
        for name, floor in zip(("reg_covar", "reg_resp"), self.floors, strict=True):
            if not floor < convert.largest_value(self.dtype) ** 0.5:
                raise ValueError(
                    f"{name}={floor:g} is too large: variances overflow {self.dtype}. "
                    "It is a share of the data's variance; give a value below 1."
                )

    def check_layer(self, layer, name):
        """Raise unless ``layer`` is the index of a mixture."""
        count = len(self.mixtures)
        if not isinstance(layer, Integral) or not -count <= layer < count:
            raise ValueError(
                f"{name}={layer!r} names no Mixture layer: there are {count}. Use "
                f"{-count} to {count - 1}; -1 is the top."
            )

    def build(self, generator):
        """Return an untrained network."""
        return architecture.build(
            self.stack, self.shape, self.floors, generator, self.dtype
        )

    def restore(self, mixtures, device):
        """Return the network of fitted ``mixtures_``."""
        return architecture.from_attributes(
            *(self.stack, self.shape, mixtures, self.floors, self.standardization),
            *(device, self.dtype),
        )

    def log_volume(self):
        """Return what standardization adds to the first mixture's log-density."""
        place = self.stack.index(self.mixtures[0])
        n_features = architecture.shapes(self.stack, self.shape)[place][2]
        return self.standardization.log_volume(n_features)

    def attributes(self, network):
        """Return a network as fitted attributes."""
        mixtures = architecture.to_attributes(network, self.standardization)
        top = mixtures[-1]["weights"].reshape(-1)
        return {
            "layers_": self.stack,
            "image_shape_": None if self.vector else short_shape(self.shape),
            "shift_": convert.to_numpy(self.standardization.shift),
            "scale_": convert.to_numpy(self.standardization.scale),
            "mixtures_": mixtures,
            "weights_": top / top.sum(),
            "means_": self.to_rows(network.component_images()),
            "usage_": usage(mixtures),
        }

    def to_rows(self, images):
        """Return standardised images as rows of data."""
        return fitted.data_rows(images, self.standardization)


def fitted_floors(mixtures, scale):
    """Return the smallest variances of fitted mixtures, as in ``ModelSpec.floors``.

    What a fitted model says then depends on what was fitted, not on ``reg_covar``.
    """
    first, *others = map(fitted.noise_variances, mixtures)
    scale = np.tile(scale, first.shape[-1] // len(scale))
    above = [float(variances.min()) for variances in others]
    return float((first / scale**2).min()), min(above, default=0.0)


def check_start(estimator, X, spec, fresh):
    """Raise where there are too few samples, or the last fit cannot go on."""
    least = spec.stack[-1].n_components
    if fresh and X.shape[0] < least:
        raise ValueError(
            "Expected n_samples >= n_components of the top mixture, but got "
            f"n_components = {least}, n_samples = {X.shape[0]}. Decrease "
            "n_components."
        )
    if fresh:
        return
    shape = None if spec.vector else short_shape(spec.shape)
    if shape != estimator.image_shape_:
        raise ValueError(
            f"The last fit had image_shape={estimator.image_shape_}, now it is "
            f"{shape}. Call fit to start anew."
        )
    if spec.stack != estimator.layers_:
        raise ValueError(
            f"The last fit had the layers {estimator.layers_}, now they are "
            f"{spec.stack}. Call fit to start anew."
        )

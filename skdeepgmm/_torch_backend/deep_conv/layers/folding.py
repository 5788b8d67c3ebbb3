"""Patches of an image as channels, and their overlap-average as the way back."""

from dataclasses import dataclass

import torch
from torch import Tensor

Size = tuple[int, int]
Shape = tuple[int, int, int]


@dataclass(frozen=True)
class FoldingLayer:
    """Folding of images of one shape.

    Attributes
    ----------
    input_shape : tuple of int
        (height, width, channels).
    patch, stride : tuple of int
        Along height and width.
    """

    input_shape: Shape
    patch: Size
    stride: Size

    @property
    def output_shape(self) -> Shape:
        """Grid of patches, and the values of a patch in the order (row, col, c)."""
        height, width, channels = self.input_shape
        rows = 1 + (height - self.patch[0]) // self.stride[0]
        cols = 1 + (width - self.patch[1]) // self.stride[1]
        return rows, cols, self.patch[0] * self.patch[1] * channels

    @property
    def is_whole(self) -> bool:
        """Whether the only patch is the image."""
        return self.patch == self.input_shape[:2]

    def forward(self, x: Tensor) -> Tensor:
        """Return the patches (n, rows, cols, values) of (n, height, width, c)."""
        if self.is_whole:
            return x.reshape(len(x), *self.output_shape)
        views = x.unfold(1, self.patch[0], self.stride[0])
        views = views.unfold(2, self.patch[1], self.stride[1])
        return views.permute(0, 1, 2, 4, 5, 3).reshape(len(x), *self.output_shape)

    def inverse(self, patches: Tensor, precision: Tensor | None = None) -> Tensor:
        """Return the images whose pixels are the mean of all patches over them.

        ``precision``, shaped as the patches, weighs the mean: then it is the mode of
        the product of the Gaussians that the patches were drawn from.
        """
        if self.is_whole:
            return patches.reshape(len(patches), *self.input_shape)
        if precision is None:
            return self.scatter(patches) / self.overlap(patches)
        return self.scatter(patches * precision) / self.scatter(precision)

    def scatter(self, patches: Tensor) -> Tensor:
        """Return the sums over patches, (n, height, width, channels)."""
        rows, cols, _ = self.output_shape
        height, width, channels = self.input_shape
        out = patches.new_zeros(len(patches), height, width, channels)
        parts = patches.reshape(len(patches), rows, cols, *self.patch, channels)
        for i in range(self.patch[0]):
            for j in range(self.patch[1]):
                # One strided slice holds pixel (i, j) of every patch.
                down = slice(i, i + self.stride[0] * (rows - 1) + 1, self.stride[0])
                right = slice(j, j + self.stride[1] * (cols - 1) + 1, self.stride[1])
                out[:, down, right] += parts[:, :, :, i, j]
        return out

    def overlap(self, like: Tensor) -> Tensor:
        """Return how many patches cover a pixel, (1, height, width, channels)."""
        return self.scatter(torch.ones_like(like[:1]))

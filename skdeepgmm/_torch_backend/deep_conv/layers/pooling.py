"""The largest value of each cell, and its repetition as the way back."""

from dataclasses import dataclass

import torch
from torch import Tensor

from skdeepgmm._torch_backend.deep_conv.layers.folding import Shape, Size


@dataclass(frozen=True)
class PoolingLayer:
    """Max-pooling of images of one shape.

    Attributes
    ----------
    input_shape : tuple of int
        (height, width, channels).
    kernel, stride : tuple of int
        Along height and width. The last cell may reach beyond the border.
    """

    input_shape: Shape
    kernel: Size
    stride: Size

    @property
    def output_shape(self) -> Shape:
        """1 + ceil((size - kernel) / stride) cells along each side."""
        sizes = zip(self.input_shape[:2], self.kernel, self.stride, strict=True)
        rows, cols = (1 + -(-(size - cell) // step) for size, cell, step in sizes)
        return rows, cols, self.input_shape[2]

    def forward(self, x: Tensor) -> Tensor:
        """Return the maxima (n, rows, cols, c) of (n, height, width, c)."""
        pooled = torch.nn.functional.max_pool2d(
            x.permute(0, 3, 1, 2), self.kernel, self.stride, ceil_mode=True
        )
        return pooled.permute(0, 2, 3, 1)

    def inverse(self, cells: Tensor) -> Tensor:
        """Return images in which a cell has its value everywhere.

        Where cells overlap, the last one counts.
        """
        height, width, _ = self.input_shape
        rows, cols, _ = self.output_shape
        down = torch.arange(height, device=cells.device) // self.stride[0]
        right = torch.arange(width, device=cells.device) // self.stride[1]
        return cells[:, down.clamp_max(rows - 1)][:, :, right.clamp_max(cols - 1)]

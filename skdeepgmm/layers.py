"""Layers of a :class:`~skdeepgmm.DeepConvGMM`: plain values that describe its stack.

A stack is a list, from the image up; it ends with a :class:`Mixture` that sees the
whole image. :func:`preset` gives the stacks of the literature.
"""

from dataclasses import dataclass
from numbers import Integral

__all__ = ["Folding", "Mixture", "Pooling", "preset"]

#: Covariances of a mixture's components, without and with factors.
PLAIN, FACTORED = "diag", "low_rank"
#: Number of factors, if not given.
DEFAULT_RANK = 10
#: What a mixture gives to the layers above.
PLAIN_OUTPUT, FULL_OUTPUT = "responsibilities", "responsibilities+factors"


def _sizes(layer, name):
    """Return a parameter as (height, width)."""
    value = getattr(layer, name)
    sizes = (value, value) if isinstance(value, Integral) else value
    try:
        sizes = tuple(sizes)
    except TypeError:
        sizes = ()
    whole = all(isinstance(s, Integral) and not isinstance(s, bool) for s in sizes)
    if len(sizes) != 2 or not whole or min(sizes) < 1:
        raise ValueError(
            f"{name} of a {type(layer).__name__} layer must be a positive integer or a "
            f"pair of them, got {value!r}."
        )
    return tuple(map(int, sizes))


def _short(sizes):
    return str(sizes[0]) if sizes[0] == sizes[1] else str(sizes)


def _grid(input_shape):
    return f"{input_shape[0]} x {input_shape[1]}"


@dataclass(frozen=True)
class Folding:
    """Patches of an image as the channels of a smaller grid.

    Parameters
    ----------
    patch_size : int, tuple of int or None, default=None
        Height and width of a patch. None takes the whole grid as one patch.
    stride : int or tuple of int, default=1
        Distance of neighbouring patches. Patches must end at the border:
        ``size - patch_size`` is a multiple of it.

    See Also
    --------
    Pooling : Fewer positions instead of more channels.

    Examples
    --------
    >>> from skdeepgmm.layers import Folding
    >>> Folding(8, stride=2).output_shape((28, 28, 1))
    (11, 11, 64)
    >>> Folding().output_shape((11, 11, 49))
    (1, 1, 5929)
    >>> Folding().patch((11, 11, 49))
    (11, 11)
    """

    patch_size: int | tuple[int, int] | None = None
    stride: int | tuple[int, int] = 1

    def __post_init__(self):
        if self.patch_size is not None:
            object.__setattr__(self, "patch_size", _sizes(self, "patch_size"))
        object.__setattr__(self, "stride", _sizes(self, "stride"))

    def patch(self, input_shape):
        """Return height and width of a patch.

        Parameters
        ----------
        input_shape : tuple of int
            (height, width, channels) of the layer's input.

        Returns
        -------
        patch : tuple of int
            The patch size, or that of the whole grid.
        """
        return tuple(input_shape[:2]) if self.patch_size is None else self.patch_size

    def output_shape(self, input_shape):
        """Return the shape of what the layer makes of an input.

        Parameters
        ----------
        input_shape : tuple of int
            (height, width, channels).

        Returns
        -------
        output_shape : tuple of int
            (height, width, channels).

        Raises
        ------
        ValueError
            If patches do not fit the grid.
        """
        patch, grid = self.patch(input_shape), []
        for axis in range(2):
            rest = input_shape[axis] - patch[axis]
            if rest < 0:
                raise ValueError(
                    f"{self!r} does not fit a grid of {_grid(input_shape)}: its "
                    "patches are larger. Use a patch_size of at most "
                    f"{_grid(input_shape)}."
                )
            if rest % self.stride[axis]:
                raise ValueError(
                    f"{self!r} does not fit a grid of {_grid(input_shape)}: "
                    f"({input_shape[axis]} - {patch[axis]}) is no multiple of the "
                    f"stride {self.stride[axis]}, so some positions lie in no patch. "
                    "Change the stride or the patch_size."
                )
            grid.append(1 + rest // self.stride[axis])
        return (*grid, patch[0] * patch[1] * input_shape[2])

    def __repr__(self):
        size = "" if self.patch_size is None else _short(self.patch_size)
        stride = "" if self.stride == (1, 1) else f"stride={_short(self.stride)}"
        return f"Folding({', '.join(part for part in (size, stride) if part)})"


@dataclass(frozen=True)
class Pooling:
    """The largest value of each channel in cells of the grid.

    Parameters
    ----------
    kernel_size : int or tuple of int, default=2
        Height and width of a cell.
    stride : int, tuple of int or None, default=None
        Distance of neighbouring cells, at most ``kernel_size``; None takes
        ``kernel_size``. The last cell may be cut off by the border.

    See Also
    --------
    Folding : Keeps all values.

    Examples
    --------
    >>> from skdeepgmm.layers import Pooling
    >>> Pooling(2).output_shape((21, 21, 25))
    (11, 11, 25)
    """

    kernel_size: int | tuple[int, int] = 2
    stride: int | tuple[int, int] | None = None

    def __post_init__(self):
        object.__setattr__(self, "kernel_size", _sizes(self, "kernel_size"))
        if self.stride is None:
            object.__setattr__(self, "stride", self.kernel_size)
        object.__setattr__(self, "stride", _sizes(self, "stride"))
        if any(s > k for s, k in zip(self.stride, self.kernel_size, strict=True)):
            raise ValueError(
                f"stride={self.stride} of Pooling must not exceed kernel_size="
                f"{self.kernel_size}: positions between cells would be lost."
            )

    def output_shape(self, input_shape):
        """Return the shape of what the layer makes of an input.

        Parameters
        ----------
        input_shape : tuple of int
            (height, width, channels).

        Returns
        -------
        output_shape : tuple of int
            (height, width, channels).

        Raises
        ------
        ValueError
            If a cell is larger than the grid.
        """
        grid = []
        for axis in range(2):
            rest = input_shape[axis] - self.kernel_size[axis]
            if rest < 0:
                raise ValueError(
                    f"{self!r} does not fit a grid of {_grid(input_shape)}: its cells "
                    f"are larger. Use a kernel_size of at most {_grid(input_shape)}."
                )
            grid.append(1 + -(-rest // self.stride[axis]))
        return (*grid, input_shape[2])

    def __repr__(self):
        same = self.stride == self.kernel_size
        stride = "" if same else f", stride={_short(self.stride)}"
        return f"Pooling({_short(self.kernel_size)}{stride})"


@dataclass(frozen=True)
class Mixture:
    """A Gaussian mixture of the channels at every position.

    Its output are the responsibilities, one channel a component, and, if wanted, the
    posterior means of its factors.

    Parameters
    ----------
    n_components : int
        Number of components; at least 2 below the top.
    shared : bool, default=True
        Whether all positions share one mixture; False learns one a position.
    covariance_type : {'diag', 'low_rank'}, default='diag'
        'diag', or 'low_rank': ``rank`` factors, which move all channels together, and
        noise of every channel. At the top they make of each component a family of
        images instead of one.
    rank : int, default=None
        Number of factors of 'low_rank', at most the number of channels; None means 10.
    output : str, default='responsibilities'
        What the layers above see: 'responsibilities' or 'responsibilities+factors'.
        The second adds the posterior means of the factors of 'low_rank', one channel
        a factor: how a patch is shaped, beside which kind it is. On the way down the
        layers above then give both. Not for the top, and not before a Pooling.

    See Also
    --------
    Folding : Gives a mixture the patches of an image.

    Examples
    --------
    >>> from skdeepgmm.layers import Mixture
    >>> Mixture(49).output_shape((11, 11, 64))
    (11, 11, 49)
    >>> Mixture(36, covariance_type="low_rank")
    Mixture(36, covariance_type='low_rank', rank=10)
    >>> Mixture(49).has_factors, Mixture(49).passes_factors
    (False, False)
    >>> fine = Mixture(
    ...     49, covariance_type="low_rank", rank=4, output="responsibilities+factors"
    ... )
    >>> fine.output_shape((11, 11, 64))
    (11, 11, 53)
    """

    n_components: int
    shared: bool = True
    covariance_type: str = "diag"
    rank: int | None = None
    output: str = PLAIN_OUTPUT

    def __post_init__(self):
        count = self.n_components
        whole = isinstance(count, Integral) and not isinstance(count, bool)
        if not whole or count < 1:
            raise ValueError(
                "n_components of a Mixture layer must be a positive integer, got "
                f"{count!r}."
            )
        if not isinstance(self.shared, bool):
            raise ValueError(f"shared must be True or False, got {self.shared!r}.")
        self._check_covariance()
        self._check_output()

    def _check_covariance(self):
        """Raise unless covariance type and rank go together; set the default rank."""
        if self.covariance_type not in (PLAIN, FACTORED):
            raise ValueError(
                f"covariance_type of a Mixture layer must be {PLAIN!r} or "
                f"{FACTORED!r}, got {self.covariance_type!r}."
            )
        if self.rank is None and self.covariance_type == FACTORED:
            object.__setattr__(self, "rank", DEFAULT_RANK)
        if self.rank is None:
            return
        if self.covariance_type == PLAIN:
            raise ValueError(
                f"rank={self.rank!r} of a Mixture layer needs "
                f"covariance_type={FACTORED!r}; a diagonal covariance has no factors."
            )
        whole = isinstance(self.rank, Integral) and not isinstance(self.rank, bool)
        if not whole or self.rank < 1:
            raise ValueError(
                "rank of a Mixture layer must be a positive integer, got "
                f"{self.rank!r}."
            )

    def _check_output(self):
        """Raise unless the output is one that the covariance type has."""
        if self.output not in (PLAIN_OUTPUT, FULL_OUTPUT):
            raise ValueError(
                f"output of a Mixture layer must be {PLAIN_OUTPUT!r} or "
                f"{FULL_OUTPUT!r}, got {self.output!r}."
            )
        if self.passes_factors and not self.has_factors:
            raise ValueError(
                f"output={self.output!r} of a Mixture layer needs "
                f"covariance_type={FACTORED!r}; a diagonal covariance has no factors."
            )

    @property
    def has_factors(self):
        """Whether the components are low-rank."""
        return self.rank is not None

    @property
    def passes_factors(self):
        """Whether the layers above see the factors too."""
        return self.output == FULL_OUTPUT

    def output_shape(self, input_shape):
        """Return the shape of what the layer makes of an input.

        Parameters
        ----------
        input_shape : tuple of int
            (height, width, channels).

        Returns
        -------
        output_shape : tuple of int
            (height, width, n_components), with the factors as further channels where
            ``output`` has them.
        """
        n_factors = min(self.rank, input_shape[2]) if self.passes_factors else 0
        return (*input_shape[:2], int(self.n_components) + int(n_factors))

    def __repr__(self):
        shared = "" if self.shared else ", shared=False"
        kind = ""
        if self.has_factors:
            kind = f", covariance_type={self.covariance_type!r}, rank={self.rank}"
        if self.passes_factors:
            kind += f", output={self.output!r}"
        return f"Mixture({self.n_components}{shared}{kind})"


_SHAPED = Mixture(49, covariance_type=FACTORED, rank=8, output=FULL_OUTPUT)
_FAMILIES = Mixture(100, covariance_type=FACTORED, rank=10)

# The last Folding takes the whole grid, whatever the image's size.
_PRESETS = {
    "A": (Folding(), Mixture(25)),
    "B": (Folding(8, 2), Mixture(49), Folding(), Mixture(36)),
    "C": (Folding(8), Mixture(25), Pooling(2), Folding(), Mixture(36)),
    "D": (
        *(Folding(3), Mixture(25), Pooling(2)),
        *(Folding(4), Mixture(25), Pooling(2)),
        *(Folding(), Mixture(25)),
    ),
    "E": (
        *(Folding(3), Mixture(25), Folding(4, 2), Mixture(25)),
        *(Folding(), Mixture(25)),
    ),
    "F": (
        *(Folding(3), Mixture(25), Folding(4, 2), Mixture(25)),
        *(Folding(4, 2), Mixture(25), Folding(), Mixture(25)),
    ),
    "G": (
        *(Folding(3), Mixture(25), Pooling(2), Folding(3), Mixture(25), Pooling(2)),
        *(Folding(3), Mixture(25), Pooling(2), Folding(), Mixture(25)),
    ),
    "L": (Folding(8, 2), _SHAPED, Folding(), _FAMILIES),
}


def preset(name):
    """Return a stack of the literature, or the one for samples.

    Parameters
    ----------
    name : {'A', 'B', 'C', 'D', 'E', 'F', 'G', 'L'}
        'A' is a flat mixture, 'B' and 'C' have two mixtures, 'D' and 'E' three, 'F' and
        'G' four. 'L' is 'B' for samples: its patches have 8 factors, which are passed
        up, and its low-rank top has 100 components with 10 factors.

    Returns
    -------
    layers : list
        From the image up, made for 28 x 28 pixels; other sizes may fit too. The last
        Folding takes the whole grid that is left.

    References
    ----------
    .. [1] Gepperth & Pfülb (2021). "Image modeling with deep convolutional Gaussian
       mixture models". IJCNN, arXiv:2104.12686.

    Examples
    --------
    >>> from skdeepgmm.layers import preset
    >>> preset("B")
    [Folding(8, stride=2), Mixture(49), Folding(), Mixture(36)]
    >>> preset("L")[1].output
    'responsibilities+factors'
    """
    if not isinstance(name, str) or name not in _PRESETS:
        raise ValueError(
            f"layers must be 'auto', a preset {', '.join(sorted(_PRESETS))} or a list "
            f"of layers, got {name!r}."
        )
    return list(_PRESETS[name])


def _check_passed_factors(layers):
    """Raise where factors are passed up to no mixture, or through a pooling."""
    passing = None
    for layer in layers:
        if isinstance(layer, Pooling) and passing is not None:
            raise ValueError(
                f"{layer!r} takes the largest values, but {passing!r} below it passes "
                "factors, whose sign counts. Use a Folding with a larger stride "
                f"instead, or output={PLAIN_OUTPUT!r}."
            )
        if isinstance(layer, Mixture):
            passing = layer if layer.passes_factors else None
    if passing is not None:
        raise ValueError(
            f"{passing!r} is the top: no layer above sees its factors. Use "
            f"output={PLAIN_OUTPUT!r}; they are drawn all the same."
        )

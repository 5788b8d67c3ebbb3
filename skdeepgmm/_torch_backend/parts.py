"""Data in parts that lie elsewhere: in files, on a cluster, in other processes.

Where the parts are, and how their results come together, is the business of whoever
implements ``Parts``. Here is what one part does, and what a first pass over all of
them, the survey, tells.
"""

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass, replace
from functools import partial
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from skdeepgmm._torch_backend import convert
from skdeepgmm._torch_backend.data import ArraySource, balanced, default_batch_size
from skdeepgmm._torch_backend.device import one_thread, own_state
from skdeepgmm._torch_backend.moments import Moments
from skdeepgmm._torch_backend.ranks import Ranks
from skdeepgmm._torch_backend.source import QUARTILE_ROWS, Source
from skdeepgmm._torch_backend.standardization import Standardization

T = TypeVar("T")
Rows = NDArray[Any]
Weights = NDArray[np.float64] | None
#: Takes the rows of a part, their weights and the part's number.
OnRows = Callable[[Rows, Weights, int], T]

CPU = torch.device("cpu")
#: Of every part at least so many rows are looked at for quartiles.
LEAST_SPACED = 16


class Parts(Protocol):
    """Where the parts are."""

    def map_reduce(self, function: OnRows[T], merge: Callable[[T, T], T]) -> T:
        """Return the results of a function of all parts that are not empty, merged.

        In an order that the numbers of the parts alone determine.
        """


@dataclass(frozen=True)
class Survey:
    """What one pass tells of all parts.

    Attributes
    ----------
    rows, counted : dict of int to int
        Rows of each part that has some, and those of them with weight.
    missing : frozenset of int
        Parts with NaN.
    weight, heaviest : float
        Sum and maximum of the sample weights.
    moments : Moments
    spaced : Tensor of shape (n_rows, n_features)
        Evenly spaced rows of each part.
    """

    rows: dict[int, int]
    counted: dict[int, int]
    missing: frozenset[int]
    weight: float
    heaviest: float
    moments: Moments
    spaced: Tensor

    def merged(self, other: "Survey") -> "Survey":
        """Return the survey of both sets of parts."""
        return Survey(
            self.rows | other.rows,
            self.counted | other.counted,
            self.missing | other.missing,
            self.weight + other.weight,
            max(self.heaviest, other.heaviest),
            self.moments.plus(other.moments),
            torch.cat([self.spaced, other.spaced]),
        )

    @property
    def n_samples(self) -> int:
        return sum(self.rows.values())

    @property
    def n_counted(self) -> int:
        return sum(self.counted.values())


def survey_of(source: ArraySource, n_parts: int) -> Survey:
    """Return the survey of one part of ``n_parts``."""
    number = source.part
    missing = frozenset([number] if source.has_missing else [])
    weight = source.sample_weight
    spaced = max(LEAST_SPACED, QUARTILE_ROWS // n_parts)
    step = max(1, source.n_samples // spaced)
    return Survey(
        {number: source.n_samples},
        {number: source.n_counted},
        missing,
        source.total_weight(),
        1.0 if weight is None else float(weight.max()),
        source._all_moments(),
        convert.rows_to_tensor(source.X[::step], source.device, torch.float64),
    )


def survey_rows(n_parts: int, rows: Rows, weight: Weights, number: int) -> Survey:
    """Return the survey of one part from its rows."""
    with own_state(), one_thread():
        source = ArraySource(rows, CPU, _size(64, rows), _tensor(weight), part=number)
        return survey_of(source, n_parts)


@dataclass(frozen=True)
class Reading:
    """How a part is read.

    Attributes
    ----------
    row_bytes : int
        Working memory of a pass for one row.
    batch_size : int or None
        Rows a batch; None for what fits the caches.
    weight_factor : float
        Of the sample weights.
    first_rows, rows : dict of int to int
        Numbers of the parts' first rows in the data, and of their rows.
    missing : frozenset of int
        Parts with NaN.
    """

    row_bytes: int
    batch_size: int | None
    weight_factor: float
    first_rows: dict[int, int]
    rows: dict[int, int]
    missing: frozenset[int]
    standardization: Standardization | None = None

    def source(self, rows: Rows, weight: Weights, number: int) -> ArraySource:
        """Return a part as a source of its own."""
        if len(rows) != self.rows.get(number, 0):
            raise ValueError(
                f"Chunk {number} of X had {self.rows.get(number, 0)} rows at first, "
                f"now {len(rows)}; expected the same rows on every pass."
            )
        found = ArraySource(
            rows,
            CPU,
            self.batch_size or _size(self.row_bytes, rows),
            _tensor(weight, self.weight_factor),
            part=number,
            first_row=self.first_rows[number],
            keep=False,
            complete=number not in self.missing,
        )
        found.standardization = self.standardization
        return found


def on_part(
    function: Callable[[ArraySource], T],
    reading: Reading,
    rows: Rows,
    weight: Weights,
    number: int,
) -> T:
    """Return ``function`` of a part; where its rows are, in one thread."""
    with own_state(), one_thread():
        return function(reading.source(rows, weight, number))


class SurveyedSource(Source):
    """A source that knows what a survey tells; a subclass says where the parts are.

    Parameters
    ----------
    survey : Survey
    dtype : torch.dtype
    n_features : int
    weight_factor : float
        Of the sample weights.
    """

    device = CPU

    def __init__(
        self,
        survey: Survey,
        dtype: torch.dtype,
        n_features: int,
        weight_factor: float = 1.0,
    ) -> None:
        self.survey, self.dtype, self.n_features = survey, dtype, n_features
        self.n_samples = survey.n_samples
        self.weight_factor = weight_factor

    @property
    def has_missing(self) -> bool:
        return bool(self.survey.missing)

    @property
    def n_counted(self) -> int:
        return self.survey.n_counted

    def total_weight(self) -> float:
        return self.survey.weight * self.weight_factor

    def take_counted(self, index: Tensor) -> Tensor:
        starts = offsets(self.survey.counted)
        places, rows = self.reduced(partial(_counted_of_part, index, starts), _joined)
        return rows[:, places.argsort()]

    def _all_moments(self) -> Moments:
        return self.survey.moments

    def _spaced_rows(self) -> Tensor:
        return self.survey.spaced

    @abstractmethod
    def reduced(
        self, function: Callable[[ArraySource], T], merge: Callable[[T, T], T]
    ) -> T: ...


class PartedSource(SurveyedSource):
    """Parts that are read where they are, again in every pass."""

    def __init__(
        self,
        parts: Parts,
        survey: Survey,
        dtype: torch.dtype,
        n_features: int,
        row_bytes: int,
        batch_size: int | None = None,
        weight_factor: float = 1.0,
    ) -> None:
        super().__init__(survey, dtype, n_features, weight_factor)
        self.parts = parts
        self.reading = Reading(
            row_bytes,
            batch_size,
            weight_factor,
            offsets(survey.rows),
            survey.rows,
            survey.missing,
        )

    def _set_units(self, units: Standardization) -> Standardization:
        self.reading = replace(self.reading, standardization=units)
        return super()._set_units(units)

    def reduced(
        self, function: Callable[[ArraySource], T], merge: Callable[[T, T], T]
    ) -> T:
        return self.parts.map_reduce(partial(on_part, function, self.reading), merge)


class RankSource(SurveyedSource):
    """The rows of all ranks, of which this process has its own.

    Parameters
    ----------
    local : ArraySource
        The rows of this rank; its ``first_row`` is set here.
    ranks : Ranks
    survey : Survey
        Of all ranks.
    """

    def __init__(
        self,
        local: ArraySource,
        ranks: Ranks,
        survey: Survey,
        weight_factor: float = 1.0,
    ) -> None:
        super().__init__(survey, local.dtype, local.n_features, weight_factor)
        self.device = local.device
        local.part = ranks.rank
        local.first_row = offsets(survey.rows)[ranks.rank]
        self.local, self.ranks = local, ranks

    def _set_units(self, units: Standardization) -> Standardization:
        self.local._set_units(units)
        return super()._set_units(units)

    def _all_moments(self) -> Moments:
        return mapped(super()._all_moments(), self._here)

    def _spaced_rows(self) -> Tensor:
        return super()._spaced_rows().to(self.device)

    def reduced(
        self, function: Callable[[ArraySource], T], merge: Callable[[T, T], T]
    ) -> T:
        found = self.ranks.merged(lambda: function(self.local), merge)
        return mapped(found, self._here)

    def agreed(self, value: T) -> T:
        # The first rank's numbers in this one's classes, which may not travel.
        mine: list[Any] = []
        mapped(value, mine.append)
        theirs = iter(self.ranks.first(lambda: mine))
        return mapped(value, lambda _: self._here(next(theirs)))

    def _here(self, leaf: Any) -> Any:
        return leaf.to(self.device) if isinstance(leaf, Tensor) else leaf


def mapped(value: T, function: Callable[[Any], Any]) -> T:
    """Return tuples and dataclasses with a function of all that they hold."""
    found: Any
    if isinstance(value, tuple):
        found = tuple(mapped(part, function) for part in value)
    elif is_dataclass(value) and not isinstance(value, type):
        names = [field.name for field in fields(value)]
        parts = {name: mapped(getattr(value, name), function) for name in names}
        found = replace(value, **parts)
    else:
        found = function(value)
    result: T = found
    return result


def offsets(sizes: dict[int, int]) -> dict[int, int]:
    """Return where parts of these sizes begin, by their numbers."""
    numbers = sorted(sizes)
    starts = np.cumsum([0, *(sizes[number] for number in numbers)])
    return {n: int(start) for n, start in zip(numbers, starts, strict=False)}


def picked(
    index: NDArray[np.int64],
    starts: dict[int, int],
    rows: Rows,
    weight: Weights,
    number: int,
) -> tuple[NDArray[np.int64], Rows, Weights]:
    """Return the places in ``index`` of a part's rows, these rows and their weights."""
    mine = index - starts[number]
    places = np.flatnonzero((mine >= 0) & (mine < len(rows)))
    chosen = mine[places]
    return places, rows[chosen], None if weight is None else weight[chosen]


def joined_rows(
    one: tuple[NDArray[np.int64], Rows, Weights],
    other: tuple[NDArray[np.int64], Rows, Weights],
) -> tuple[NDArray[np.int64], Rows, Weights]:
    """Return two results of :func:`picked` as one."""
    weight = None
    if one[2] is not None and other[2] is not None:
        weight = np.concatenate([one[2], other[2]])
    places, rows = (np.concatenate([one[i], other[i]]) for i in range(2))
    return places, rows, weight


def _counted_of_part(
    index: Tensor, starts: dict[int, int], source: ArraySource
) -> tuple[Tensor, Tensor]:
    """Return the places in ``index`` of a part's rows with weight, and these rows."""
    mine = index - starts[source.part]
    places = ((mine >= 0) & (mine < source.n_counted)).nonzero()[:, 0]
    return places, source.take_counted(mine[places])


def _joined(
    one: tuple[Tensor, Tensor], other: tuple[Tensor, Tensor]
) -> tuple[Tensor, Tensor]:
    return torch.cat([one[0], other[0]]), torch.cat([one[1], other[1]], 1)


def _size(row_bytes: int, rows: Rows) -> int:
    return balanced(default_batch_size(row_bytes, CPU), len(rows))


def _tensor(weight: Weights, factor: float = 1.0) -> Tensor | None:
    return None if weight is None else convert.float64_tensor(weight, CPU) * factor

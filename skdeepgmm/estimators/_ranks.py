"""Fits of several processes together, each with rows of its own (torchrun)."""

from functools import cached_property

import numpy as np

from skdeepgmm._torch_backend import convert
from skdeepgmm._torch_backend.data import ArraySource, balanced, default_batch_size
from skdeepgmm._torch_backend.device import resolve_device
from skdeepgmm._torch_backend.parts import RankSource, Survey, survey_of
from skdeepgmm.estimators._checkpoint import comparable, digest
from skdeepgmm.estimators._collection import Collection, RowsCheck
from skdeepgmm.estimators._sklearn_compat import _check_sample_weight

#: Rows read at a time in the survey.
SURVEY_ROWS = 2**14


class Shards(Collection):
    """The rows of all ranks; this process has those of one.

    Parameters
    ----------
    X : ndarray, memmap, ChunkedArray or tensor of shape (n_rows, n_features)
        Validated rows of this rank.
    ranks : Ranks
    estimator : estimator
        Its parameters have to be the same everywhere.
    least : int
        The smallest number of rows of all ranks together.
    """

    def __init__(self, X, ranks, estimator, least):
        self.local, self.ranks = X, ranks
        self.place = resolve_device(estimator.device, X)
        dtype = np.dtype(str(convert.torch_dtype(X)).removeprefix("torch."))
        check_same(ranks, "the dtype of X", str(dtype))
        check_same(ranks, "the number of features", X.shape[1])
        check_same_parameters(ranks, estimator)
        super().__init__(X, ranks.size, RowsCheck(X.shape[1], dtype, True), least)

    def map_reduce(self, function, merge):
        rows = _TensorRows(self.local) if convert.is_tensor(self.local) else self.local
        return self.ranks.merged(
            lambda: function(rows, self.weighted_by, self.ranks.rank), merge
        )

    def weighted(self, sample_weight):
        check_same(
            self.ranks, "whether there is a sample_weight", sample_weight is not None
        )
        return super().weighted(sample_weight)

    def _aligned(self, sample_weight):
        if convert.is_tensor(sample_weight):
            sample_weight = convert.to_numpy(sample_weight)
        return self.ranks.gathered(
            lambda: _check_sample_weight(
                sample_weight,
                np.empty((self.local.shape[0], 0)),
                dtype=np.float64,
                ensure_non_negative=True,
                allow_all_zero_weights=True,
            )
        )[self.ranks.rank]

    def _array_source(self, size, factor=1.0):
        weight = self.weighted_by
        if weight is not None:
            weight = convert.float64_tensor(weight * factor, self.place)
        return ArraySource(self.local, self.place, size, weight, part=self.ranks.rank)

    @cached_property
    def survey(self):
        return self.ranks.merged(
            lambda: survey_of(self._array_source(SURVEY_ROWS), self.ranks.size),
            Survey.merged,
        )

    def source(self, row_bytes, batch_size=None, sample_weight=None):
        factor = 1.0 if sample_weight is None else sample_weight.factor
        most = default_batch_size(row_bytes, self.place)
        size = batch_size or balanced(most, self.local.shape[0])
        local = self._array_source(size, factor)
        return RankSource(local, self.ranks, self.survey, factor)

    def once(self, compute):
        return self.ranks.first(compute)

    def device(self, name):
        return self.place

    def callback_data(self, y):
        return super().callback_data(
            (lambda: np.full(self.local.shape[0], -1)) if y is None else y
        )

    @cached_property
    def _digests(self):
        mine = [
            None if part is None else digest(part)[:16]
            for part in (self.local, self.weighted_by)
        ]
        return [
            ", ".join(map(str, each))
            for each in zip(*self.ranks.gathered(lambda: mine), strict=True)
        ]


class _TensorRows:
    """A tensor whose rows come as arrays."""

    def __init__(self, tensor):
        self.tensor = tensor

    def __len__(self):
        return len(self.tensor)

    def __getitem__(self, index):
        return convert.to_numpy(self.tensor[index])


def check_same_parameters(ranks, estimator):
    """Raise unless the parameters are the same on all ranks."""
    for name, text in comparable(estimator).items():
        if name != "random_state":
            check_same(ranks, name, text)


def check_same(ranks, name, value):
    """Raise unless all ranks have the same value."""
    found = ranks.gathered(lambda: value)
    if any(other != found[0] for other in found):
        raise ValueError(
            f"All ranks have to agree on {name}, got "
            + ", ".join(f"{other} (rank {n})" for n, other in enumerate(found))
            + "."
        )

"""What every covariance type provides: all that the package asks of it.

The estimators, EM, stochastic gradients, missing values and the conversions never ask
for the name of a type; doc/developers/covariance_type.rst shows how to add one.

A covariance object holds the covariances of all components of a mixture and their
Cholesky-type factors, in float64. Two forms of the log-density exist:

* the *exact* form ``log_prob``: triangular products of x - mu_k, accurate for any
  input;
* the *natural* form of the exponential family,
  log(pi_k N(x; mu_k, Sigma_k)) = <natural_k, [1, x, features(x)]>, whose E-step and
  M-step are one matrix product each on the same feature matrix. It cancels when a
  component is tight or ill-conditioned beside the spread of the data; ``cancellation``
  measures by how much.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import ClassVar, Self

import torch
from torch import Tensor

from skdeepgmm._torch_backend.mixture.covariances.checks import check_shape
from skdeepgmm._torch_backend.mixture.covariances.pairs import Pairs
from skdeepgmm._torch_backend.mixture.covariances.sgd_factor import SGDFactor
from skdeepgmm._torch_backend.mixture.suffstats import Statistics

LOG_2PI = math.log(2.0 * math.pi)
#: Largest ``Covariance.cancellation`` for the natural form: the absolute error of a
#: log-density is about machine epsilon times this, 1e-3 nats and 1e-8 nats.
MAX_CANCELLATION = {torch.float32: 1e4, torch.float64: 1e8}
#: Maps responsibilities to the first and second moments about the means.
MaskedStatistics = Callable[[Tensor], tuple[Tensor, Tensor]]
#: Maps directions (n_components, n_features, width) to the product of every
#: component's scatter matrix, sum r (x - mu)(x - mu)^T, with its directions.
ScatterProduct = Callable[[Tensor], Tensor]
#: Writes second-moment features from a first one on.
FeatureWriter = Callable[[int, Tensor], None]
#: About so many features of a batch lie in the caches of a processor's core.
TILE_FEATURES = 512
#: Temporaries of shape (n_components, n_features, n_samples) are cut to this size.
CHUNK_BYTES = 8 * 2**20


@dataclass(frozen=True)
class Covariance(ABC):
    """Covariances of all components of a mixture.

    Attributes
    ----------
    values : Tensor
        The covariances, in scikit-learn's shape for the type ('low_rank': factors
        and noise variances side by side).
    """

    values: Tensor

    #: Value of the estimators' parameter ``covariance_type``.
    name: ClassVar[str]
    #: Whether all components share one covariance. ``values`` then have no axis of
    #: components, and masks of failures have shape (1,).
    shared: ClassVar[bool] = False
    #: Whether the standardization needs one scale common to all features.
    isotropic: ClassVar[bool] = False
    #: Whether scikit-learn's GaussianMixture has the type, under the same name.
    in_sklearn: ClassVar[bool] = False
    #: Latent factors of a sample and component; 0 for none.
    rank: ClassVar[int] = 0
    #: Log-densities and natural gradients for stochastic gradients.
    sgd_factor: ClassVar[type[SGDFactor]]
    #: Covariance class whose M-step gives the initial values; None: the class itself.
    #: ``initial_values`` then makes this class's from them.
    initial_class: ClassVar["type[Covariance] | None"] = None
    #: Names of all fitted attributes.
    attribute_names: ClassVar[tuple[str, ...]]
    #: Those from which ``from_stored`` makes the object again.
    stored: ClassVar[tuple[str, ...]]
    #: Those that a user gives as ``covariances``, without the underscore.
    supplied: ClassVar[tuple[str, ...]] = ("covariances",)

    @classmethod
    def sized(cls, n_features: int, rank: int) -> "type[Covariance]":
        """Return the class for so many features and the estimator's ``rank``."""
        return cls

    @classmethod
    def estimator_parameters(cls) -> dict[str, int]:
        """Return the constructor parameters of an estimator that the class fixes."""
        return {}

    # Shapes and counts -----------------------------------------------------------

    @classmethod
    @abstractmethod
    def values_shape(cls, n_components: int, n_features: int) -> tuple[int, ...]:
        """Return the shape of ``values``."""

    @classmethod
    @abstractmethod
    def second_shape(cls, n_components: int, n_features: int) -> tuple[int, ...]:
        """Return the shape of ``Statistics.second``."""

    @classmethod
    @abstractmethod
    def n_parameters(cls, n_components: int, n_features: int) -> int:
        """Return the number of free covariance parameters."""

    @classmethod
    @abstractmethod
    def n_moment_features(cls, n_features: int) -> int:
        """Return how many rows ``features`` has."""

    @classmethod
    def least_samples(cls, n_components: int, n_features: int) -> int:
        """Return how many samples determine a covariance, those of its mean included.

        Fewer leave it singular but for what is added to it.
        """
        return 0

    @classmethod
    def prior_samples(cls, n_features: int) -> float:
        """Return how many samples of the pooled covariance are added to a component's.

        For streams, whose first chunks are too small for their number of parameters.
        About half a sample for each parameter that a feature has; 0 for a shared
        covariance.
        """
        return 0.0

    # Construction ----------------------------------------------------------------

    @classmethod
    @abstractmethod
    def from_values(cls, values: Tensor) -> tuple[Self, Tensor]:
        """Return the object and a mask of the covariances that have no factor.

        The mask has shape (n_components,), or (1,) where the class is ``shared``.
        Factors are finite whatever the values.
        """

    @classmethod
    @abstractmethod
    def from_precisions(cls, precisions: Tensor) -> Self:
        """Return the object whose inverse covariances are ``precisions``."""

    @classmethod
    @abstractmethod
    def from_stored(cls, *attributes: Tensor) -> Self:
        """Return the object from the fitted attributes named by ``stored``."""

    @classmethod
    def from_supplied(cls, *covariances: Tensor) -> "Covariance":
        """Return the object from the arrays named by ``supplied``."""
        return cls.from_values(*covariances)[0]

    @classmethod
    def check_regular(cls, *covariances: Tensor) -> None:
        """Raise a ValueError if one of these is singular to working precision.

        Takes the arrays named by ``supplied``.
        """
        _, failed = cls.from_values(*covariances)
        if bool(failed.any()):
            which = ", ".join(map(str, failed.nonzero()[:, 0].tolist()))
            raise ValueError(
                f"Covariances (number {which}) are singular to working precision: "
                "their density is not defined. Add a small number to the variances, or "
                "drop features that are combinations of others."
            )

    @abstractmethod
    def attributes(self) -> dict[str, Tensor]:
        """Return the fitted attributes named by ``attribute_names``."""

    @abstractmethod
    def dense(self, n_components: int, n_features: int) -> Tensor:
        """Return the matrices (n_components, n_features, n_features)."""

    @classmethod
    @abstractmethod
    def estimate(cls, stats: Statistics, delta: Tensor, ridge: Tensor) -> Tensor:
        """Return the covariances of highest likelihood, plus a ridge.

        Parameters
        ----------
        stats : Statistics
        delta : Tensor of shape (n_components, n_features)
            New means minus ``stats.center``.
        ridge : Tensor of shape (n_features,)
            Added to the variances.
        """

    @classmethod
    @abstractmethod
    def floored(cls, values: Tensor, floor: Tensor) -> Tensor:
        """Return ``values`` with no variance, in any direction, below ``floor``."""

    @classmethod
    @abstractmethod
    def from_variances(cls, variances: Tensor, n_components: int) -> Tensor:
        """Return values with axis-parallel ``variances`` (n_features,) for all."""

    @classmethod
    def initial_values(
        cls, variances: Tensor, nk: Tensor, scatter_times: ScatterProduct
    ) -> Tensor:
        """Return initial values from the result of ``initial_class``.

        Parameters
        ----------
        variances : Tensor of shape (n_components, n_features)
            Of the components, by the M-step of ``initial_class``.
        nk : Tensor of shape (n_components,)
            Mass of the components.
        scatter_times : callable
            Costs one pass over the data.
        """
        raise NotImplementedError

    @classmethod
    def pooled(cls, values: Tensor, weights: Tensor) -> Tensor:
        """Return one component's covariance that stands for several.

        Parameters
        ----------
        values : Tensor
            ``values`` of the components.
        weights : Tensor of shape (n_components,)
            Their weights, summing to one.
        """
        mean: Tensor = torch.tensordot(weights, values, dims=1)
        return mean

    @abstractmethod
    def scaled(self, scale: Tensor) -> Self:
        """Return the covariances of scale * x."""

    # User-supplied parameters ----------------------------------------------------

    @classmethod
    @abstractmethod
    def check_positive(cls, values: Tensor, what: str) -> None:
        """Raise a ValueError unless the values are positive (definite).

        ``what`` is their name in the message. See ``checks``.
        """

    @classmethod
    def supplied_shapes(
        cls, n_components: int, n_features: int
    ) -> tuple[tuple[int, ...], ...]:
        """Return the shapes of the arrays named by ``supplied``."""
        return (cls.values_shape(n_components, n_features),)

    @classmethod
    def check_precisions(
        cls, precisions: Tensor, n_components: int, n_features: int
    ) -> None:
        """Raise a ValueError unless ``from_precisions`` accepts these."""
        shape = cls.values_shape(n_components, n_features)
        check_shape(precisions, shape, f"{cls.name} precision")
        cls.check_positive(precisions, f"{cls.name} precision")

    @classmethod
    def check_supplied(
        cls, covariances: tuple[Tensor, ...], n_components: int, n_features: int
    ) -> None:
        """Raise a ValueError unless ``from_supplied`` accepts these."""
        (values,), what = covariances, f"{cls.name} covariance"
        check_shape(values, cls.values_shape(n_components, n_features), what)
        cls.check_positive(values, what)

    # Stochastic gradients --------------------------------------------------------

    @abstractmethod
    def to_sgd_factor(self) -> Tensor:
        """Return the parameters that ``sgd_factor`` trains."""

    @classmethod
    @abstractmethod
    def from_sgd_factor(cls, factor: Tensor) -> Self:
        """Return the object with such parameters, float64."""

    @classmethod
    def initial_sgd_factor(
        cls, n_components: int, n_features: int, generator: torch.Generator
    ) -> Tensor:
        """Return the parameters of unit variances, on the CPU.

        ``generator`` is for types whose components must differ at first.
        """
        ones = torch.ones(n_features, dtype=torch.float64)
        covariance, _ = cls.from_values(cls.from_variances(ones, n_components))
        return covariance.to_sgd_factor()

    # Densities -------------------------------------------------------------------

    @abstractmethod
    def log_prob(self, x: Tensor, means: Tensor) -> Tensor:
        """Return log N(x; mu_k, Sigma_k), exact form.

        Parameters
        ----------
        x : Tensor of shape (n_features, n_samples)
        means : Tensor of shape (n_components, n_features)

        Returns
        -------
        Tensor of shape (n_components, n_samples)
        """

    @abstractmethod
    def log_normalizer(self, n_features: int) -> Tensor:
        """Return -1/2 log det(2 pi Sigma_k), (n_components,) or () where shared."""

    @abstractmethod
    def variances(self) -> Tensor:
        """Return marginal variances that broadcast to (n_components, n_features)."""

    @abstractmethod
    def precision_diagonal(self) -> Tensor:
        """Return the diagonals of the inverse covariances, shaped as ``variances``."""

    def cancellation(self, means: Tensor) -> float:
        """Return the largest expected sum of terms that the natural form cancels."""
        second = self.variances() + means.square()
        return float((self.precision_diagonal() * second).sum(1).max())

    def rounding(self, means: Tensor) -> float:
        """Return the error of the exact form, in units of the machine epsilon.

        Means and samples are rounded at their distance from the origin; whitened,
        that is added to differences of about one a feature.
        """
        offset = (self.precision_diagonal() * means.square()).sum(1)
        return float((means.shape[1] * offset.max()).sqrt())

    @abstractmethod
    def natural(self, means: Tensor, log_weights: Tensor) -> Tensor:
        """Return coefficients of [1, x, features(x)], one row a component."""

    @staticmethod
    @abstractmethod
    def features(x: Tensor, out: Tensor) -> None:
        """Write the second-moment features of ``x`` to ``out``."""

    @classmethod
    def tile_features(cls, n_features: int) -> int:
        """Return how many features are written at a time where they are many.

        0 where these are few, or products with them are not the whole: then all are
        written at once.
        """
        return 0

    @staticmethod
    def feature_writer(x: Tensor) -> FeatureWriter:
        """Return a function that writes a tile of the features.

        Of classes with ``tile_features``; it takes the number of the first one, a
        multiple of these, and where to write.
        """
        raise NotImplementedError

    def other_log_prob(
        self, x: Tensor, means: Tensor
    ) -> tuple[Tensor | None, Tensor | None]:
        """Return what the natural form leaves out.

        Returns
        -------
        log_prob : Tensor or None
            Added to the product; broadcasts to (n_components, n_samples).
        cache : Tensor or None
            What ``second_from_features`` reuses.
        """
        return None, None

    # Statistics ------------------------------------------------------------------

    def second_from_features(
        self,
        products: Tensor,
        x: Tensor,
        total: Tensor | None,
        resp: Tensor,
        cache: Tensor | None,
    ) -> Tensor:
        """Return ``Statistics.second`` from responsibilities @ features^T.

        Parameters
        ----------
        products : Tensor of shape (n_components, n_moment_features), float64
        x : Tensor of shape (n_features, n_samples)
        total : Tensor of shape (n_samples,) or None
            Every sample's summed responsibility; None for all one.
        resp : Tensor of shape (n_components, n_samples)
            Responsibilities times sample weights.
        cache : Tensor or None
            From ``other_log_prob`` of the same samples.
        """
        return products

    @abstractmethod
    def second_about(self, x: Tensor, resp: Tensor, center: Tensor) -> Tensor:
        """Return the second moments about ``center``, float64."""

    @classmethod
    @abstractmethod
    def recentered(
        cls, second: Tensor, first: Tensor, nk: Tensor, shift: Tensor
    ) -> Tensor:
        """Return ``Statistics.second`` about a centre moved by ``shift``.

        ``first`` and ``nk`` are the statistics about the old centre.
        """

    @abstractmethod
    def expected_second(self, nk: Tensor, ridge: Tensor) -> Tensor:
        """Return the second moments about the means that these covariances stand for.

        ``estimate`` of them gives the covariances back.

        Parameters
        ----------
        nk : Tensor of shape (n_components,)
            Mass of the components.
        ridge : Tensor of shape (n_features,)
            What ``estimate`` will add.
        """

    @classmethod
    def unobserved_second(cls, nk: Tensor) -> Tensor:
        """Return ``Statistics.second`` of samples of no features at all."""
        return nk.new_zeros(cls.second_shape(len(nk), 0))

    # Merging ---------------------------------------------------------------------

    @classmethod
    def matched(cls, values: Tensor, weights: Tensor, pairs: Pairs) -> Tensor:
        """Return the covariances of pairs of components, as one Gaussian each.

        Those with the moments of the pair, or the nearest that the type has. Where the
        class is ``shared``: the covariance of all after one pair has become one.

        Parameters
        ----------
        values : Tensor
            ``values`` of the mixture.
        weights : Tensor of shape (n_components,)
        pairs : Pairs
            One only, where the class is ``shared``.
        """
        zero, offsets = torch.zeros_like(pairs.diff[0]), torch.stack(pairs.offsets())
        if cls.shared:
            both, offset = pairs.weights[:, 0], offsets[:, 0]
            second = cls.from_values(values)[0].expected_second(weights, zero)
            second = cls.recentered(second, torch.zeros_like(offset), both, -offset)
            nk, center = weights, zero.expand(len(weights), len(zero))
        else:
            nk, center = pairs.mass, torch.zeros_like(pairs.diff)
            first, other = (
                cls.recentered(
                    cls.from_values(values[index])[0].expected_second(weight, zero),
                    center,
                    weight,
                    -offset,
                )
                for index, weight, offset in zip(
                    (pairs.first, pairs.second), pairs.weights, offsets, strict=True
                )
            )
            second = first + other
        total = nk.sum()
        stats = Statistics(torch.zeros_like(total), total, nk, center, second, center)
        return cls.estimate(stats, center, zero)

    @classmethod
    def merge_costs(
        cls, values: Tensor, own: Tensor, weights: Tensor, pairs: Pairs
    ) -> Tensor:
        """Return Runnalls' bounds of pairs, see ``merging``; (n_pairs,).

        ``own`` are the ``log_normalizers`` of ``values``.
        """
        n_features = pairs.diff.shape[1]
        if cls.shared:
            after = torch.cat(
                [
                    cls.log_normalizers(cls.matched(values, weights, pair), n_features)
                    for pair in pairs.split(1)
                ]
            )
            return weights.sum() * (own - after)
        after = cls.log_normalizers(cls.matched(values, weights, pairs), n_features)
        both = torch.stack([own[pairs.first], own[pairs.second]])
        return (pairs.weights * both).sum(0) - pairs.mass * after

    @classmethod
    def log_normalizers(cls, values: Tensor, n_features: int) -> Tensor:
        """Return ``log_normalizer`` of such values, NaN where singular; one axis."""
        covariance, failed = cls.from_values(values)
        found = covariance.log_normalizer(n_features).reshape(-1)
        return found.masked_fill(failed, torch.nan)

    @classmethod
    def pair_size(cls, n_features: int) -> int:
        """Return how many numbers the matched covariance of one pair has."""
        return math.prod(cls.values_shape(1, n_features))

    @classmethod
    def coarse(cls, values: Tensor) -> "tuple[type[Covariance], Tensor] | None":
        """Return a cheaper class and its values, to tell which pairs may be close."""
        return None

    def subset(self, index: Tensor) -> Self:
        """Return the covariances of some components."""
        if self.shared:
            return self
        return type(self)(*(value[index] for value in vars(self).values()))

    # Parts of the features -------------------------------------------------------

    @abstractmethod
    def marginal(self, kept: Tensor) -> Self:
        """Return the covariances of the features at the indices ``kept``."""

    @abstractmethod
    def regress(self, diff: Tensor, observed: Tensor, missing: Tensor) -> Tensor:
        """Return E[x_missing - mu_missing | x_observed] of every component.

        Parameters
        ----------
        diff : Tensor of shape (n_components, n_observed, n_samples)
            x_observed - mu_observed.
        observed, missing : Tensor of int64
            Feature indices.

        Returns
        -------
        Tensor of shape (n_components, n_missing, n_samples)
        """

    @abstractmethod
    def conditional(self, observed: Tensor, missing: Tensor) -> Self:
        """Return the covariances of x_missing given x_observed."""

    @abstractmethod
    def expand(
        self, stats: Statistics, observed: Tensor, missing: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Complete the statistics of observed features by their expectation.

        Parameters
        ----------
        stats : Statistics
            Of the observed features, about this mixture's means there.

        Returns
        -------
        first : Tensor of shape (n_components, n_features)
        second : Tensor
            Statistics of all features about the means.
        """

    @abstractmethod
    def masked(
        self, x: Tensor, mask: Tensor, means: Tensor
    ) -> tuple[Tensor, "MaskedStatistics"]:
        """Return log-densities of samples that miss different features.

        Parameters
        ----------
        x : Tensor of shape (n_features, n_samples)
            Samples with any finite number for missing entries.
        mask : Tensor of shape (n_features, n_samples)
            1 where observed, 0 where missing, in the dtype of ``x``.
        means : Tensor of shape (n_components, n_features)

        Returns
        -------
        log_prob : Tensor of shape (n_components, n_samples)
            Log-density of the observed entries.
        statistics : callable
            Maps responsibilities (n_components, n_samples) to the expected
            statistics (first, second) of all features about the means.
        """

    @classmethod
    def masked_bytes(cls, n_components: int, n_features: int) -> int:
        """Return the working memory of ``masked`` for one float64 sample."""
        return 8 * 4 * n_components * n_features

    # Sampling --------------------------------------------------------------------

    @abstractmethod
    def sample(
        self, component: int, shape: tuple[int, int], generator: torch.Generator
    ) -> Tensor:
        """Draw samples from N(0, Sigma_component), of ``shape`` (count, n_features)."""


def normal_like(
    tensor: Tensor, shape: tuple[int, int], generator: torch.Generator
) -> Tensor:
    """Return standard normal draws of the dtype and device of ``tensor``."""
    return torch.randn(
        shape, generator=generator, dtype=tensor.dtype, device=tensor.device
    )


def column_chunks(x: Tensor, n_components: int) -> Iterator[slice]:
    """Yield column ranges that keep (n_components, n_features, range) small."""
    n_features, n_samples = x.shape
    column_bytes = max(n_components * n_features, 1) * x.element_size()
    step = max(1, CHUNK_BYTES // column_bytes)
    for start in range(0, n_samples, step):
        yield slice(start, min(start + step, n_samples))


def squared_norms(
    x: Tensor, n_components: int, whiten: Callable[[Tensor], Tensor]
) -> Tensor:
    """Return sum_d whiten(x)_kd^2 for every component and sample, in chunks."""
    out = x.new_empty(n_components, x.shape[1])
    for columns in column_chunks(x, n_components):
        torch.sum(whiten(x[:, columns]).square_(), dim=1, out=out[:, columns])
    return out

"""One call of ``SGDGaussianMixture.fit`` or ``partial_fit``: units, start, run."""

import math

import numpy as np
import torch

from skdeepgmm._torch_backend import annealing, convert
from skdeepgmm._torch_backend.data import ArraySource
from skdeepgmm._torch_backend.mixture import sgd
from skdeepgmm._torch_backend.mixture.density import MixtureDensity
from skdeepgmm._torch_backend.standardization import Standardization
from skdeepgmm._torch_backend.training import (
    DivergenceError,
    TrainingConfig,
    batched,
    shuffled,
    train,
)
from skdeepgmm.estimators._verbose import VerboseReport
from skdeepgmm.estimators.mixture._validation import check_means
from skdeepgmm.exceptions import TrainingDivergedError

#: Variances stay above this share of the feature's variance, and above reg_covar.
RELATIVE_FLOOR = 1e-6
#: Standardised data are kept in memory while they need less than this.
CACHE_BYTES = 512 * 2**20
#: Rows read at a time for means and variances.
CHUNK_ROWS = 2**14
#: Default batch size: this share of the data, within bounds.
BATCH_SHARE, SMALLEST_BATCH, LARGEST_BATCH = 1 / 40, 16, 512


def default_batch_size(n_samples, n_features):
    """Return the batch size that ``batch_size=None`` means."""
    # Below n_features rows a step costs the same: its matrices are that large.
    size = max(int(n_samples * BATCH_SHARE), SMALLEST_BATCH, n_features)
    return min(size, LARGEST_BATCH, n_samples)


class Rows:
    """Rows of X in standardised units, by index.

    Parameters
    ----------
    X : ndarray, memmap or tensor of shape (n_samples, n_features)
    units : Standardization
    device : torch.device
    sample_weight : ndarray of shape (n_samples,) or None
        Weights, scaled here to mean one.
    """

    def __init__(self, X, units, device, sample_weight=None):
        self.X, self.units, self.device = X, units, device
        self.dtype = convert.torch_dtype(X)
        self.weight = None
        if sample_weight is not None:
            scaled = sample_weight / sample_weight.mean()
            self.weight = convert.float64_tensor(scaled, device).to(self.dtype)
        n_bytes = X.shape[0] * X.shape[1] * torch.finfo(self.dtype).bits // 8
        everything = torch.arange(X.shape[0])
        self.kept = self._read(everything) if n_bytes <= CACHE_BYTES else None

    def __call__(self, index):
        if self.kept is not None:
            return self.kept[index.to(self.device)]
        return self._read(index)

    def batch(self, index):
        """Return the rows and their weights (None for no weights)."""
        weight = self.weight
        return self(index), None if weight is None else weight[index.to(self.device)]

    def _read(self, index):
        where = index.to(self.X.device) if convert.is_tensor(self.X) else index.numpy()
        rows = convert.rows_to_tensor(self.X[where], self.device, self.dtype)
        return (rows - self.units.shift.to(rows)) / self.units.scale.to(rows)


class SGDFit:
    """The state that the runs of one fit share.

    Parameters
    ----------
    estimator : SGDGaussianMixture
        Gives the settings; its fitted attributes are read for a warm start and
        never written.
    X : ndarray or tensor of shape (n_samples, n_features)
        Validated data.
    data : dict
        What the callbacks get.
    units : Standardization, default=None
        Units in which to train; None measures them on X.
    sample_weight : ndarray of shape (n_samples,) or None
        Validated weights.
    """

    def __init__(self, estimator, X, data, units=None, sample_weight=None):
        self.estimator, self.X, self.data = estimator, X, data
        self.kind = estimator._covariance_class
        self.device = estimator._device(X)
        self.given = estimator.means_init
        if self.given is not None:
            self.given = check_means(self.given, estimator.n_components, X.shape[1])
        self.random_state = estimator._random_state()
        source = ArraySource(X, self.device, CHUNK_ROWS, self._weight(sample_weight))
        self.missing = source.patterns is not None
        if units is None:
            self.units = source.standardize(self.kind.isotropic)
        else:
            self.units = source.use_units(units)
        self.log_scale = source.mean_log_scale()
        self.rows = Rows(X, self.units, self.device, sample_weight)
        self.report = VerboseReport(estimator.verbose, 1, estimator.max_iter)
        self.batch_size = estimator.batch_size or default_batch_size(*X.shape)

    def __call__(self, index, n_init, fresh, tasks):
        """Train once; returns (model, TrainingState)."""
        estimator = self.estimator
        self.report.begin(index)
        self.draw = estimator._generator(self.random_state)
        if n_init == 1:
            return self._run(fresh, tasks)
        (model, state), asked_to_stop = estimator._initialization(
            tasks,
            estimator.max_iter,
            self.data,
            lambda task: self._run(fresh, task),
            lambda result: self.attributes(result[0]),
        )
        state.stopped |= asked_to_stop
        return model, state

    def _run(self, fresh, tasks):
        estimator = self.estimator
        training, held_out = self._split()
        n_batches = -(-len(training) // self.batch_size)
        model = self.model(self._plan(fresh, n_batches), self.start(fresh))

        def batches():
            for part in shuffled(len(training), self.batch_size, self.draw):
                yield self.rows.batch(training[part])

        def on_epoch(state):
            self.report.iteration(state.epoch, self.bound(state.history[-1]))
            return estimator._run_task(
                tasks, "epoch", self.data, lambda: self.attributes(model)
            )

        def score():
            if held_out is None or model.annealed:
                return None
            return self._log_likelihood(model, held_out)

        state = self._train(model, batches, estimator.max_iter, on_epoch, score)
        self._judge(state)
        self.report.end(self.bound(state.history[-1]), state.converged)
        return model, state

    def one_pass(self, model):
        """Train on all rows once; returns the TrainingState."""

        def batches():
            parts = shuffled(self.X.shape[0], self.batch_size, self.draw)
            return map(self.rows.batch, parts)

        return self._train(model, batches, 1)

    def _train(self, model, batches, epochs, *hooks):
        estimator = self.estimator
        config = TrainingConfig(epochs, estimator.tol, estimator.n_iter_no_change)
        try:
            return train(model, batched(model, batches), config, *hooks)
        except DivergenceError as error:
            raise TrainingDivergedError(str(error)) from error

    def _judge(self, state):
        """Call a run converged whose last epoch changed the likelihood by < tol."""
        bounds = [entry["log_likelihood"] for entry in state.history[-2:]]
        if len(bounds) == 2 and not state.stopped:
            state.converged |= abs(bounds[1] - bounds[0]) < self.estimator.tol

    def _plan(self, fresh, n_batches):
        estimator = self.estimator
        schedule = None
        # Coupling would pull given or fitted means together again.
        if fresh and self.given is None and estimator.annealing != "none":
            schedule = annealing.schedule(
                estimator.n_components, estimator.annealing_fraction
            )
        total = estimator.max_iter * n_batches
        return sgd.RunPlan(estimator.learning_rate, total, schedule, fresh)

    def _split(self):
        """Return the indices of training rows and held-out rows (or None)."""
        n_samples = self.X.shape[0]
        order = torch.randperm(n_samples, generator=self.draw)
        if not self.estimator.early_stopping:
            return order, None
        n_held_out = math.ceil(n_samples * self.estimator.validation_fraction)
        if n_samples - n_held_out < self.estimator.n_components:
            raise ValueError(
                f"validation_fraction={self.estimator.validation_fraction} leaves "
                f"{n_samples - n_held_out} of {n_samples} samples to train on, fewer "
                f"than n_components={self.estimator.n_components}. Lower it, or set "
                "early_stopping=False."
            )
        return order[n_held_out:], order[:n_held_out]

    def _log_likelihood(self, model, index):
        parts = index.split(sgd.SCORE_ROWS)
        total = sum(float(model.log_likelihood(self.rows(p))) * len(p) for p in parts)
        return total / len(index)

    def model(self, plan, start):
        """Return a trainable mixture."""
        estimator = self.estimator
        floor = estimator.reg_covar / self.units.scale.square()
        if estimator.reg_covar_relative:
            floor = floor * self.units.scale.square()
        config = sgd.SGDConfig(
            self.kind,
            plan,
            estimator.momentum,
            floor.clamp_min(RELATIVE_FLOOR).to(self.rows.dtype),
            annealing.OBJECTIVES.get(estimator.annealing, annealing.maximum),
            self.missing,
        )
        return sgd.SGDMixture(start, config, self.draw)

    def start(self, fresh):
        """Return the first parameters of a run."""
        if not fresh:
            return self.fitted()
        size, width = self.estimator.n_components, self.X.shape[1]
        logits = torch.full((size,), -math.log(size))
        means = self._means()
        factor = self.kind.initial_sgd_factor(size, width, self.draw)
        return self._parameters(logits, means, factor)

    def _means(self):
        """Return start means: given, near the mean of the data, or rows."""
        size, n_features = self.estimator.n_components, self.X.shape[1]
        if self.given is not None:
            means = convert.float64_tensor(self.given, self.device)
            return (means - self.units.shift) / self.units.scale
        if self.estimator.init_params == "random":
            return sgd.random_means(size, n_features, self.draw)
        chosen = torch.randperm(self.X.shape[0], generator=self.draw)[:size]
        return self.rows(chosen).nan_to_num(0.0)

    def fitted(self):
        """Return the fitted mixture in the units of this fit."""
        mixture = self.estimator._mixture(self.X).standardized(self.units)
        factor = mixture.covariance.to_sgd_factor()
        return self._parameters(mixture.weights.log(), mixture.means, factor)

    def _weight(self, sample_weight):
        if sample_weight is None:
            return None
        return convert.float64_tensor(sample_weight, self.device)

    def _parameters(self, *values):
        tensors = (value.to(self.device, self.rows.dtype) for value in values)
        return sgd.Parameters(*(tensor.contiguous() for tensor in tensors))

    def mixture(self, model):
        """Return a model's mixture in the units of the data."""
        now = model.parameters
        covariance = model.covariance(now.factor)
        weights = torch.softmax(now.logits.double(), 0)
        mixture = MixtureDensity(weights, now.means.double(), covariance)
        return mixture.unstandardized(self.units)

    def attributes(self, model):
        """Return a model's parameters as fitted attributes."""
        return self.mixture(model).to_attributes(self.rows.dtype)

    def bound(self, losses):
        """Return an epoch's log-likelihood in the units of the data."""
        return losses["log_likelihood"] - self.log_scale

    def history(self, state):
        """Return the losses per epoch as arrays, in the units of the data."""
        found = {}
        for name in state.history[-1]:
            values = np.array([entry.get(name, np.nan) for entry in state.history])
            sign = 1.0 if name == "loss" else -1.0
            found[name] = values + sign * self.log_scale
        return found


def merge_moments(old, X, sample_weight=None):
    """Return weight, mean and variance of every feature of a stream after X.

    Parameters
    ----------
    old : tuple of ndarray of shape (n_features,) or None
        The moments before.
    X : ndarray or tensor of shape (n_samples, n_features)
        NaN entries do not count.
    sample_weight : ndarray of shape (n_samples,) or None
    """
    X = np.asarray(convert.to_numpy(X) if convert.is_tensor(X) else X, dtype=np.float64)
    weight = np.ones(len(X)) if sample_weight is None else sample_weight
    weight = weight[:, None] * ~np.isnan(X)
    X = np.nan_to_num(X)
    mass = weight.sum(axis=0)
    safe = np.maximum(mass, np.finfo(np.float64).tiny)
    mean = (weight * X).sum(axis=0) / safe
    variance = (weight * (X - mean) ** 2).sum(axis=0) / safe
    if old is None:
        return mass, mean, variance
    total, delta = old[0] + mass, mean - old[1]
    share = mass / np.maximum(total, np.finfo(np.float64).tiny)
    spread = delta**2 * share * (1.0 - share)
    merged = old[2] + (variance - old[2]) * share + spread
    return total, old[1] + delta * share, merged


def stream_units(moments, kind, device):
    """Return the units of a stream with these moments."""
    variance = np.asarray(moments[2])
    if kind.isotropic:
        variance = np.full_like(variance, variance.mean())
    scale = np.sqrt(np.where(variance > 0.0, variance, 1.0))
    shift = convert.float64_tensor(moments[1], device)
    return Standardization(shift, convert.float64_tensor(scale, device))

"""One call of ``DeepConvGMM.fit`` or ``partial_fit``: units, start, run."""

import math

import numpy as np
import torch

from skdeepgmm._torch_backend import annealing
from skdeepgmm._torch_backend.deep_conv import network as dcgmm
from skdeepgmm._torch_backend.deep_conv.schedules import RunPlan, StreamPlan
from skdeepgmm._torch_backend.training import (
    DivergenceError,
    TrainingConfig,
    batched,
    shuffled,
    train,
)
from skdeepgmm.estimators._verbose import VerboseReport
from skdeepgmm.estimators.deep_conv._images import Images
from skdeepgmm.estimators.deep_conv._setup import score_batch_size
from skdeepgmm.exceptions import TrainingDivergedError

#: Share of the run for which each mixture waits for the one below, and the longest.
DELAY, LONGEST_DELAY = 0.1, 0.3
#: The same in a stream, in steps.
STREAM_DELAY = 60
#: Default batch: this share of the data, within bounds.
BATCH_SHARE, SMALLEST_BATCH, LARGEST_BATCH = 1 / 40, 16, 200


def default_batch_size(n_samples):
    """Return the batch size that ``batch_size=None`` means."""
    size = max(int(n_samples * BATCH_SHARE), SMALLEST_BATCH)
    return min(size, LARGEST_BATCH, n_samples)


class DeepFit:
    """What one fit needs beside the estimator's settings.

    Parameters
    ----------
    estimator : DeepConvGMM
        Gives the settings; its fitted attributes are read only where the fit goes on.
    X : ndarray or tensor of shape (n_samples, n_features)
        Validated rows.
    setup : Setup
        Layers, image shape, units and floors.
    data : dict
        What the callbacks get.
    sample_weight : ndarray of shape (n_samples,) or None
    """

    def __init__(self, estimator, X, setup, data, sample_weight=None):
        self.estimator, self.setup, self.data = estimator, setup, data
        self.device = estimator._device(X)
        self.images = Images(
            X, setup.shape, setup.units, self.device, setup.dtype, sample_weight
        )
        self.batch_size = estimator.batch_size or default_batch_size(len(self.images))
        self.report = VerboseReport(estimator.verbose, 1, estimator.max_iter)

    def run(self, fresh, draw, tasks):
        """Train for ``max_iter`` epochs; returns (learner, TrainingState)."""
        estimator = self.estimator
        self.draw = draw
        self.report.begin(0)
        training, held_out = self._split()
        n_batches = -(-len(training) // self.batch_size)
        plans = self._plans(fresh, estimator.max_iter * n_batches)
        learner = self.learner(plans, fresh)

        def batches():
            for part in shuffled(len(training), self.batch_size, draw):
                yield self.images.batch(training[part])

        def on_epoch(state):
            self.report.iteration(state.epoch, self.bound(state.history[-1]))
            return estimator._run_task(
                tasks, "epoch", self.data, lambda: self.attributes(learner)
            )

        def score():
            if held_out is None or learner.annealed:
                return None
            return self._score(learner, held_out)

        state = self._train(learner, batches, estimator.max_iter, on_epoch, score)
        self.report.end(self.bound(state.history[-1]), state.converged)
        return learner, state

    def one_pass(self, learner):
        """Train on all images once; returns the TrainingState."""
        draw, training = self.draw, self._counts().nonzero()[:, 0]

        def batches():
            for part in shuffled(len(training), self.batch_size, draw):
                yield self.images.batch(training[part])

        return self._train(learner, batches, 1)

    def _train(self, learner, batches, epochs, *hooks):
        estimator = self.estimator
        config = TrainingConfig(epochs, estimator.tol, estimator.n_iter_no_change)
        try:
            return train(learner, batched(learner, batches), config, *hooks)
        except DivergenceError as error:
            raise TrainingDivergedError(str(error)) from error

    def learner(self, plans, fresh):
        """Return a new network, or the fitted one, ready to learn."""
        if fresh:
            network = self.setup.build(self.draw)
            for mixture in network.mixtures:
                mixture.to(self.device)
        else:
            network = self.setup.restore(self.estimator.mixtures_, self.device)
        objective = annealing.OBJECTIVES.get(
            self.estimator.annealing, annealing.maximum
        )
        settled = [not fresh] * len(plans)
        return dcgmm.Learner(network, plans, self.draw, objective, settled)

    def _plans(self, fresh, total_steps):
        estimator, plans = self.estimator, []
        for number, layer in enumerate(self.setup.mixtures):
            schedule, start = None, 0.0
            if fresh:
                start = min(DELAY * number, LONGEST_DELAY)
            if fresh and estimator.annealing != "none":
                schedule = annealing.schedule(
                    layer.n_components, estimator.annealing_fraction
                )
            rate = estimator.learning_rate
            plans.append(RunPlan(rate, total_steps, start, schedule, fresh))
        return plans

    def stream_plans(self, opened, reopened):
        """Return the plans of a stream whose annealing began at step ``opened``."""
        rate, plans = self.estimator.learning_rate, []
        for number, layer in enumerate(self.setup.mixtures):
            start = opened if reopened else opened + number * STREAM_DELAY
            plans.append(StreamPlan(rate, layer.n_components, start, reopened))
        return plans

    def _split(self):
        """Return the indices of training images and held-out images (or None)."""
        estimator, n_samples = self.estimator, len(self.images)
        order = torch.randperm(n_samples, generator=self.draw)
        order = order[self._counts()[order]]
        if not estimator.early_stopping:
            return order, None
        n_samples = len(order)
        n_held_out = math.ceil(n_samples * estimator.validation_fraction)
        least = self.setup.stack[-1].n_components
        if n_samples - n_held_out < least:
            raise ValueError(
                f"validation_fraction={estimator.validation_fraction} leaves "
                f"{n_samples - n_held_out} of {n_samples} samples to train on, fewer "
                f"than the {least} components of the top mixture. Lower it, or set "
                "early_stopping=False."
            )
        return order[n_held_out:], order[:n_held_out]

    def _counts(self):
        """Tell which images count: those of weight zero may be anything."""
        weight = self.images.weight
        if weight is None:
            return torch.ones(len(self.images), dtype=torch.bool)
        return weight.cpu() > 0.0

    def _score(self, learner, index):
        """Return the mean score of held-out images, in units of the training."""
        size = score_batch_size(self.setup.stack, self.setup.shape)
        layer = self.estimator.score_layer
        parts = (
            learner.network.log_prob(self.images(p))[layer] for p in index.split(size)
        )
        return float(torch.cat(list(parts)).mean())

    def attributes(self, learner):
        """Return what a learner has reached as fitted attributes."""
        return self.setup.attributes(learner.network)

    def bound(self, losses):
        """Return the log-likelihood of the top mixture, in nats."""
        top = len(self.setup.mixtures) - 1
        return self.setup.in_data_units(
            top, losses.get(f"log_likelihood_{top}", np.nan)
        )

    def history(self, learner, state):
        """Return the losses per epoch as arrays, in the units of the data.

        NaN before a mixture learns; its first epoch is averaged from where it began.
        """
        found = {}
        for number in range(len(learner.plans)):
            for name, sign in (("loss", -1.0), ("log_likelihood", 1.0)):
                key = f"{name}_{number}"
                values = sign * _entries(state, key)
                found[key] = sign * self.setup.in_data_units(number, values)
        if "score" in state.history[-1]:
            number = range(len(learner.plans))[self.estimator.score_layer]
            score = _entries(state, "score")
            found["score"] = self.setup.in_data_units(number, score)
        return found


def _entries(state, name):
    """Return one value of every epoch, NaN where there was none."""
    return np.array([entry.get(name, np.nan) for entry in state.history])

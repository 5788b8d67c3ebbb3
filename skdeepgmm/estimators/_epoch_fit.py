"""A fit by epochs of stochastic steps: split, batches, reports, early stopping."""

import math
from functools import partial

import numpy as np

from skdeepgmm._torch_backend import checkpoint as trees
from skdeepgmm._torch_backend.rng import rank_generator
from skdeepgmm._torch_backend.training import (
    DivergenceError,
    TrainingConfig,
    TrainingState,
    after_annealing,
    restore,
    snapshot,
    train,
)
from skdeepgmm.estimators._checkpoint import random_state_tree, set_random_state
from skdeepgmm.estimators._interruption import Interruption
from skdeepgmm.estimators._verbose import VerboseReport
from skdeepgmm.exceptions import TrainingDivergedError

#: Default batch size: this share of the data, and at least so many samples.
BATCH_SHARE, SMALLEST_BATCH = 1 / 40, 16


def default_batch_size(n_samples, least, most):
    """Return the batch size that ``batch_size=None`` means.

    Parameters
    ----------
    n_samples : int
    least, most : int
        Bounds; data with fewer samples are one batch.
    """
    size = max(int(n_samples * BATCH_SHARE), SMALLEST_BATCH, least)
    return min(size, most, n_samples)


class EpochFit:
    """What the fits of models that are trained by stochastic steps share.

    A subclass sets ``rows`` before training and says how to make, score and read a
    model: :meth:`new_model`, :meth:`attributes`, :meth:`_held_out_score` and
    :meth:`_log_volume`.

    Parameters
    ----------
    estimator : estimator
        Gives the settings; its fitted attributes are read where the fit goes on from
        them and never written.
    data : dict
        What the callbacks get.
    n_components : int
        The smallest number of training samples.
    bound_name : str
        Name of the log-likelihood among the losses of an epoch.
    checkpoint : Checkpoint or None
        Of a fit; None for a chunk, which is learned as a whole or not at all.
    ranks : Ranks or None
        Processes that fit together, each on rows of its own.

    Attributes
    ----------
    interruption : Interruption
    random_state : RandomState
    rows : TrainingRows
    batch_size : int
    generator : torch.Generator
        Draws the initialization, the split and the batches; set before training.
    """

    def __init__(
        self, estimator, data, n_components, bound_name, checkpoint=None, ranks=None
    ):
        self.estimator, self.data = estimator, data
        self.n_components, self.bound_name = n_components, bound_name
        self.ranks = ranks
        prints = estimator.verbose if ranks is None or ranks.is_first else 0
        self.report = VerboseReport(prints, 1, estimator.max_iter)
        self.interruption = Interruption("epochs")
        # No rank can go on without the others.
        self.interruption.raises |= ranks is not None
        make = estimator._random_state
        self.random_state = make() if ranks is None else ranks.first(make)
        self.checkpoint, self._trees = checkpoint, []
        if checkpoint is not None and checkpoint.saved is not None:
            with checkpoint.reading():
                saved = checkpoint.saved
                set_random_state(self.random_state, saved["random_state"])
                self._trees = list(saved["restarts"])
        self._at_first = random_state_tree(self.random_state)

    def run(self, tasks, index=0):
        """Train for ``max_iter`` epochs; returns (model, TrainingState).

        Ctrl-C ends it with the last whole epoch. Of several trainings, this is the one
        with the number ``index``.
        """
        estimator = self.estimator
        self._set_draws()
        training, held_out = self._split()
        n_batches = self.rows.n_batches(training, self.batch_size)
        model = self.new_model(estimator.max_iter * n_batches)

        def on_epoch(state):
            self.report.iteration(len(state.history), self.bound(state.history[-1]))
            asked_to_stop = estimator._run_task(
                tasks, "epoch", self.data, lambda: self.attributes(model)
            )
            if self.ranks is not None:
                asked_to_stop = self.ranks.first(lambda: asked_to_stop)
            return asked_to_stop

        hooks = [on_epoch]
        if held_out is not None:
            score = self._held_out_score(model, held_out)
            hooks.append(after_annealing(model, score))
        state = TrainingState()
        self._resume(index, model, state)
        save = None
        if self.checkpoint is not None and self.checkpoint.is_on:
            save = partial(self._save_if_due, index, model)
        with self.interruption:
            self._train(
                model, training, estimator.max_iter, *hooks, state=state, save=save
            )
        if state.history:
            self._judge(state)
            self.report.end(self.bound(state.history[-1]), state.converged)
        return model, state

    def _set_draws(self):
        """Choose what draws the rows: on each rank its own generator.

        All else is drawn by one that is the same everywhere.
        """
        self.draws = self.generator
        if self.ranks is not None:
            self.draws = rank_generator(self.generator, self.ranks.rank)

    def one_pass(self, model):
        """Train on all samples once; returns the TrainingState."""
        self._set_draws()
        return self._train(model, self.rows.usable(), 1)

    def _train(self, model, index, epochs, *hooks, **progress):
        estimator = self.estimator
        config = TrainingConfig(
            epochs, estimator.tol, estimator.n_iter_no_change, whole_epochs=True
        )
        epoch = self.rows.epoch(model, index, self.batch_size, self.draws)
        try:
            return train(model, epoch, config, *hooks, **progress)
        except DivergenceError as error:
            raise TrainingDivergedError(str(error)) from error

    # Checkpoints -----------------------------------------------------------------

    def _resume(self, index, model, state):
        """Go on from what was saved of this training, if anything was."""
        if index < len(self._trees):
            with self.checkpoint.reading():
                found = trees.to_tensors(self._trees[index], self.device)
                self._resize(model, found["model"])
                restore(found, model, state, self._generators)

    @property
    def _generators(self):
        found = {"draws": self.draws}
        return found if self.ranks is None else {**found, "model": self.generator}

    def _resize(self, model, saved):
        """Give the model the size of a saved one, where training changes it."""

    def _save_if_due(self, index, model, state):
        """Save all trainings so far, the present one as it is now."""
        if self.checkpoint.is_due(state.epoch):
            self.save(index, model, state)

    def save(self, index, model, state):
        """Save all trainings so far, this one the last."""

        def tree():
            found = snapshot(model, state, self._generators)
            self._trees[index:] = [trees.to_arrays(found)]
            return {"random_state": self._at_first, "restarts": self._trees}

        self.checkpoint.save(tree)

    def _judge(self, state):
        """Tell of a finished run whether it has converged."""

    def _split(self):
        """Return the indices of training samples and held-out samples (or None)."""
        order = self.rows.permutation(self.draws)
        if not self.estimator.early_stopping:
            return order, None
        n_samples, fraction = len(order), self.estimator.validation_fraction
        n_held_out = math.ceil(n_samples * fraction)
        if n_samples - n_held_out < self.n_components:
            raise ValueError(
                f"validation_fraction={fraction} leaves {n_samples - n_held_out} of "
                f"{n_samples} samples to train on, fewer than {self.components_text}. "
                "Lower it, or set early_stopping=False."
            )
        return order[n_held_out:], order[:n_held_out]

    @property
    def components_text(self):
        """The components that need samples, for messages."""
        return f"n_components={self.n_components}"

    def bound(self, losses):
        """Return an epoch's log-likelihood in the units of the data."""
        name = self.bound_name
        return losses.get(name, np.nan) - self._log_volume(name)

    def history(self, state, earlier=None):
        """Return the losses per epoch as arrays, in the units of the data.

        Parameters
        ----------
        state : TrainingState
        earlier : dict of str to ndarray, default=None
            The history before, of a stream.
        """
        found = {}
        for name in self._loss_names(state.history[-1]):
            values = np.array([entry.get(name, np.nan) for entry in state.history])
            sign = 1.0 if name.startswith("loss") else -1.0
            found[name] = values + sign * self._log_volume(name)
        return found if earlier is None else joined(earlier, found)

    def _loss_names(self, losses):
        """Return what the history holds, given the losses of the last epoch."""
        return list(losses)


def joined(earlier, found):
    """Return histories one after the other, NaN where a part lacks a name."""
    sizes = [len(next(iter(part.values()), ())) for part in (earlier, found)]
    blanks = [np.full(size, np.nan) for size in sizes]
    return {
        name: np.concatenate([earlier.get(name, blanks[0]), found.get(name, blanks[1])])
        for name in {**earlier, **found}
    }


def set_history(estimator, history, bound_name, converged):
    """Set the fitted attributes that tell the course of a training."""
    bounds = history[bound_name].tolist()
    estimator.history_ = history
    estimator.lower_bounds_, estimator.lower_bound_ = bounds, bounds[-1]
    estimator.n_iter_ = len(bounds)
    estimator.converged_ = bool(converged)

"""One of the trainings of a fit of GAN-EM: how far it has come, and why it ends."""

import time

import numpy as np

from skdeepgmm._torch_backend import checkpoint as trees
from skdeepgmm._torch_backend import convert
from skdeepgmm._torch_backend.training import TrainingConfig, TrainingState, train

#: A run has collapsed that uses only one cluster and less than this share of the
#: others, after this share of the iterations.
COLLAPSE_SHARE, JUDGED_AT = 0.2, 0.4


class Restart:
    """One training: its networks and how far they have come.

    Parameters
    ----------
    fit : GANEMFit
    model : GANEM

    Attributes
    ----------
    state : TrainingState
    occupancies : list of ndarray of shape (n_clusters,)
        Shares of the clusters after every EM iteration.
    converged, collapsed : bool
    is_over : bool
        Whether it has collapsed, or converged late enough to end.
    """

    def __init__(self, fit, model):
        self.fit, self.estimator, self.config = fit, fit.estimator, fit.config
        self.model = model
        self.state = TrainingState()
        self.occupancies = []
        self.converged = self.collapsed = self.is_over = False

    @property
    def n_iter(self):
        """EM iterations done."""
        return self.state.epoch

    def advance(self, n_iter, tasks):
        """Train until ``n_iter`` iterations are done, or there is reason to stop."""

        def on_iteration(state):
            self.is_over = self.note(state)
            asked_to_stop = self.estimator._run_task(
                tasks,
                "iteration",
                self.fit.data,
                lambda: self.fit.attributes(self.model),
            )
            self.fit.asked_to_stop |= self.fit.first(lambda: asked_to_stop)
            return self.is_over or self.fit.asked_to_stop

        if self.is_over:
            return
        self._began, self._done_before = time.perf_counter(), self.n_iter
        try:
            with self.fit.interruption:
                config = TrainingConfig(n_iter)
                epoch = self.model.em_iteration
                train(
                    *(self.model, epoch, config, on_iteration),
                    state=self.state,
                    save=self.fit.save_if_due if self.fit.checkpoint.is_on else None,
                )
        finally:
            # Recorded steps hold memory of the device for as long as the model lives.
            self.model.recorder.forget()

    def to_tree(self):
        """Return all of it, for a checkpoint."""
        return {
            "seed": self.model.seed,
            "training": trees.to_arrays(self.model.snapshot(self.state)),
            "occupancies": np.array(self.occupancies),
            "flags": [self.converged, self.collapsed, self.is_over],
        }

    def resume(self, tree):
        """Go on where another one was, of a model with the same seed."""
        found = trees.to_tensors(tree["training"], self.model.device)
        self.model.restore(found, self.state)
        self.occupancies = list(tree["occupancies"])
        self.converged, self.collapsed, self.is_over = tree["flags"]

    def note(self, state):
        """Note one EM iteration; True says that the run is over."""
        self.occupancies.append(convert.to_numpy(self.model.occupancy.double()))
        self.collapsed = self._has_collapsed(state)
        self.converged = self._has_converged(state) and not self.collapsed
        if self.estimator.verbose:
            print(line(state, self._seconds_left()))
        return self.collapsed or (self.converged and self._may_end(state.epoch))

    def _seconds_left(self):
        """Return the most seconds that the fit will take from here."""
        elapsed = time.perf_counter() - self._began
        each = elapsed / (self.n_iter - self._done_before)
        return each * self.fit.n_iter_left

    def _may_end(self, n_iter):
        """Tell whether a converged run may end: vectors, halfway through the LR decay.

        With images a falling learning rate still brings something when hardly a sample
        changes its cluster any more.
        """
        halfway = 0.5 * (1.0 + self.config.recipe.constant_fraction)
        late = n_iter >= halfway * self.config.n_iter
        return late and not self.model.architecture.image

    def _has_collapsed(self, state):
        return is_collapsed(state, self.config, self.estimator.n_clusters)

    def _has_converged(self, state):
        patience = self.estimator.n_iter_no_change
        enough = state.epoch >= self.config.hold + patience
        return enough and self._most_changed(state) <= self.estimator.tol

    def _most_changed(self, state):
        """Return the largest share of changed samples in the last iterations."""
        recent = state.history[-self.estimator.n_iter_no_change :]
        return max(entry["changed"] for entry in recent)

    def unfinished_because(self):
        """Say why the run that has ended has not converged, and what to change."""
        tol, patience = self.estimator.tol, self.estimator.n_iter_no_change
        if self.collapsed:
            return (
                f"The run collapsed to few of {self.estimator.n_clusters} clusters, "
                "like those before it. Decrease n_clusters or lower learning_rate"
                f"{self.fit.other_init}."
            )
        if self.n_iter < self.config.hold + patience:
            return (
                f"A run of {self.n_iter} EM iterations is too short to tell whether it "
                f"has converged: that takes n_iter_no_change={patience} of them after "
                f"the first {self.config.hold}. Increase max_iter."
            )
        most = self._most_changed(self.state)
        return (
            f"{most:.2%} of the samples changed their cluster in one of the last "
            f"n_iter_no_change={patience} EM iterations, more than tol={tol}. Increase "
            "max_iter or tol."
        )


def is_collapsed(state, config, n_clusters):
    """Tell whether nearly all samples are in one cluster, late enough to say so.

    A trained E-net would say the same in every run: clusters may be that uneven.
    """
    if config.fixed or state.epoch < max(JUDGED_AT * config.n_iter, config.hold + 1):
        return False
    # One cluster alone has an effective number of exactly one.
    used, others = state.history[-1]["n_effective"] - 1.0, n_clusters - 1
    return others > 0 and used < COLLAPSE_SHARE * others


def line(state, seconds_left):
    """Return the report of the last EM iteration."""
    last = state.history[-1]
    losses = ", ".join(
        f"{name} {last[name]:.3f}"
        for name in ("discriminator", "generator", "classifier")
    )
    return (
        f"  Iteration {state.epoch}\t {losses}\t confidence {last['confidence']:.3f}"
        f"\t changed {last['changed']:.2%}\t clusters in use {last['n_effective']:.1f}"
        f"\t at most {seconds_left:.0f} s left"
    )

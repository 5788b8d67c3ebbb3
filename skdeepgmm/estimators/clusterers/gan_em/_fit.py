"""One call of ``GANEMClusterer.fit``: runs, restarts, choice of a run, attributes."""

import dataclasses
from itertools import islice

import numpy as np
import torch

from skdeepgmm._torch_backend import convert
from skdeepgmm._torch_backend.clusterers.gan_em.networks import Architecture
from skdeepgmm._torch_backend.clusterers.gan_em.trainer import GANEM, Data
from skdeepgmm._torch_backend.clusterers.kernel_density import Kernels
from skdeepgmm._torch_backend.clusterers.network_tools import (
    in_batches,
    random_affine,
    to_arrays,
)
from skdeepgmm._torch_backend.rng import new_generator
from skdeepgmm._torch_backend.training import TrainingConfig, endless_batches
from skdeepgmm.estimators._base import MAX_SEED
from skdeepgmm.estimators._warnings import warn_caller
from skdeepgmm.estimators.clusterers._base import NetworkUnits, restored
from skdeepgmm.estimators.clusterers._init_responsibilities import (
    first_responsibilities,
)
from skdeepgmm.estimators.clusterers._run import InterruptibleRun
from skdeepgmm.estimators.clusterers.gan_em._settings import (
    architecture_of,
    config_of,
    recipe_of,
    start_iterations,
    start_kind,
    starts_of,
)
from skdeepgmm.exceptions import DegenerateComponentWarning

#: A run has collapsed that uses only one cluster and less than this share of the
#: others, after this share of the iterations; it starts anew so often at most.
COLLAPSE_SHARE, JUDGED_AT, MOST_RESTARTS = 0.2, 0.4, 2
#: A cluster with less than this share of its even share is called empty.
EMPTY_SHARE = 0.1
#: Generated rows a cluster behind means and densities, and rows that set sigma.
KERNELS, SIGMA_ROWS = 300, 500
#: Rows on which runs are compared.
JUDGED_ROWS = 4096


class GANEMFit:
    """The state that the runs of one fit share.

    Parameters
    ----------
    estimator : GANEMClusterer
        Gives the settings; never written to.
    X : ndarray or tensor of shape (n_samples, n_features)
        Validated data.
    labels : ndarray of shape (n_samples,) or None
        Known clusters, -1 elsewhere.
    data : dict
        What the callbacks get.

    Attributes
    ----------
    last : Run or None
        The run that was trained last.
    """

    def __init__(self, estimator, X, labels, data):
        self.estimator, self.X, self.data = estimator, X, data
        self.random_state = estimator._random_state()
        recipe = recipe_of(estimator)
        shape = estimator.image_shape_
        self.architecture = architecture_of(estimator, shape, X.shape[1], recipe)
        self.config = config_of(estimator, self.architecture, recipe, X.shape[0])
        self.units = NetworkUnits.of(X, shape, self.architecture.output)
        self.device = estimator._device(X)
        self.rows = self.units.to_network(X, self.device)
        known = None if labels is None else convert.index_tensor(labels)
        self.labels = None if known is None else known.to(self.device)
        self.start = self._start(labels)
        # Of the noise behind means and densities, and of what runs are judged by: the
        # same for all runs.
        self.noise_seed = int(self.random_state.randint(MAX_SEED))
        self.n_init = starts_of(estimator, self.architecture.shape, self.config.n_iter)
        self.last = None

    def _start(self, labels):
        kind = start_kind(self.estimator, self.architecture.image)
        _, start = first_responsibilities(
            self.estimator, kind, self.X, self.units, labels, self.random_state
        )
        if start is None:
            return None
        return convert.float64_tensor(start, self.device).float()

    @property
    def other_start(self):
        """Advice on ``init``, for runs that start from equal responsibilities."""
        return "" if self.start is not None else " or set init='kmeans'"

    @property
    def n_tasks(self):
        """Most callback tasks right below the fit; each new start is one of them."""
        first = self.config.n_iter if self.n_init == 1 else self.n_init + 1
        return first + MOST_RESTARTS

    def __call__(self, tasks):
        """Train to the end, anew after a collapse; returns the Run.

        Ctrl-C between runs leaves the last one; before there is one, it raises.
        """
        try:
            return self._trained(tasks)
        except KeyboardInterrupt:
            if self.last is None or self.interrupted:
                raise
            self.last.training.interrupted = True
            return self.last

    def _trained(self, tasks):
        """Return the trained run: of the best start, or of the last after collapses."""
        run = Run(self) if self.n_init == 1 else self._best_start(tasks)
        for attempt in range(MOST_RESTARTS + 1):
            own_task = self.n_init > 1 or attempt > 0
            self._advance(run, self.config.n_iter, tasks, own_task)
            if self._is_ended or not run.collapsed or attempt == MOST_RESTARTS:
                break
            self._warn_collapse(run)
            run = Run(self)
        return run

    def _best_start(self, tasks):
        """Return the best of several short runs."""
        n_iter = start_iterations(
            self.estimator, self.architecture.shape, self.config.n_iter
        )
        runs = []
        for index in range(self.n_init):
            if self.estimator.verbose:
                print(f"Initialization {index}")
            runs.append(Run(self))
            self._advance(runs[-1], n_iter, tasks)
            if self._is_ended:
                break
        return max(runs, key=lambda run: self._rank(run, n_iter))

    def _rank(self, run, n_iter):
        """Return what starts are ordered by: quality, among those that are whole."""
        whole = run.is_over or run.n_iter >= n_iter
        return not run.collapsed, whole, self.quality(run.model)

    @property
    def interrupted(self):
        """Whether Ctrl-C has ended the fit."""
        return self.last is not None and self.last.interrupted

    def keeping(self):
        """Return a context in which the first Ctrl-C of the fit undoes nothing."""
        return self.last.training.keeping()

    def complete(self, function):
        """Return ``function()``, which the first Ctrl-C of the fit does not undo."""
        return self.last.training.complete(function)

    @property
    def asked_to_stop(self):
        """Whether a callback has ended the fit."""
        return self.last is not None and self.last.asked_to_stop

    @property
    def _is_ended(self):
        return self.interrupted or self.asked_to_stop

    def _advance(self, run, n_iter, tasks, own_task=True):
        """Train until the run has done ``n_iter`` iterations, unless all is over."""
        if self._is_ended or run.is_over:
            return
        self.last = run
        try:
            self._train(run, n_iter, tasks, own_task)
        finally:
            # Recorded steps hold memory of the device for as long as the run lives.
            run.model.recorder.forget()

    def _train(self, run, n_iter, tasks, own_task):
        if not own_task:
            run.advance(n_iter, tasks)
            return
        try:
            _, asked_to_stop = self.estimator._initialization(
                tasks,
                n_iter - run.n_iter,
                self.data,
                lambda task: run.advance(n_iter, task),
                lambda _: self.attributes(run.model),
            )
            run.asked_to_stop |= asked_to_stop
        except KeyboardInterrupt:
            run.training.interrupted = True

    def quality(self, model):
        """Return by what runs are compared: no label enters.

        The mutual information of rows and clusters in nats (clusters in equal use,
        rows assigned with certainty), minus log(n_clusters) times the share of rows
        whose cluster changes with a small change of the image.
        """
        draw = new_generator(self.noise_seed, self.device)
        rows = self._some_rows(JUDGED_ROWS, draw)
        proba = in_batches(model.probabilities, rows).double()
        share = proba.mean(0)
        information = _entropy(share) - _entropy(proba).mean()
        affine = self.config.affine
        if affine is None:
            return float(information)
        changed = random_affine(rows, draw, affine.shift, affine.rotation, affine.scale)
        other = in_batches(model.probabilities, changed).argmax(1)
        unstable = (other != proba.argmax(1)).double().mean()
        return float(information - np.log(len(share)) * unstable)

    def _some_rows(self, most, draw):
        """Return at most ``most`` rows in random order."""
        order = torch.randperm(len(self.rows), generator=draw, device=draw.device)
        return self.rows[order[:most].to(self.device)]

    def attributes(self, model):
        """Return the fitted attributes of a model, but for ``labels_``."""
        proba = in_batches(model.probabilities, self.rows)
        weights = convert.to_numpy(proba.double().mean(0))
        attributes = {
            "networks_": {
                "generator": to_arrays(model.generator),
                "discriminator": to_arrays(model.discriminator),
                "classifier": to_arrays(model.predictor),
            },
            "weights_": weights / weights.sum(),
            "_architecture": dataclasses.asdict(self.architecture),
            "_units": {"offset": self.units.offset, "scale": self.units.scale},
            "_noise_seed": self.noise_seed,
        }
        return attributes | self._density(attributes)

    def _density(self, attributes):
        """Return the generator's means and the deviation of its kernels."""
        kernels = generated_kernels(attributes, self.device)
        rows = self._some_rows(SIGMA_ROWS, new_generator(self.noise_seed)).flatten(1)
        centers = kernels.centers.reshape(
            len(attributes["weights_"]), -1, rows.shape[1]
        )
        means = self.units.from_network(self._as_images(centers.mean(1)))
        return {
            "means_": convert.to_numpy(means, convert.torch_dtype(self.X)),
            "sigma_": kernels.best_sigma(rows),
        }

    def _as_images(self, flat):
        return flat.reshape(len(flat), *self.architecture.shape)

    def _warn_collapse(self, run):
        warn_caller(
            f"A run collapsed to {run.occupancies[-1].max():.0%} of the rows in one "
            f"of {self.estimator.n_clusters} clusters and was started anew with other "
            f"weights. If this repeats, lower learning_rate{self.other_start}.",
            DegenerateComponentWarning,
        )


class Run:
    """One training: its networks and how far they have come.

    Parameters
    ----------
    fit : GANEMFit

    Attributes
    ----------
    model : GANEM
    occupancies : list of ndarray of shape (n_clusters,)
        Shares of the clusters after every EM iteration.
    converged, collapsed : bool
    is_over : bool
        Whether it has collapsed, or converged late enough to end.
    interrupted, asked_to_stop : bool
        Whether Ctrl-C or a callback has ended it.
    """

    def __init__(self, fit):
        self.fit, self.estimator, self.config = fit, fit.estimator, fit.config
        seed = int(fit.random_state.randint(MAX_SEED))
        data = Data(fit.rows, fit.start, fit.labels)
        self.model = GANEM(fit.architecture, fit.config, data, seed)
        batch_size = self.config.recipe.batch_size
        self.order = endless_batches(len(fit.rows), batch_size, self.model.host_draw)
        self.training = InterruptibleRun()
        self.occupancies = []
        self.converged = self.collapsed = False
        self.is_over = self.asked_to_stop = False

    @property
    def n_iter(self):
        return self.training.n_iter

    @property
    def history(self):
        return self.training.state.history if self.training.state else []

    @property
    def interrupted(self):
        return self.training.interrupted

    def advance(self, n_iter, tasks):
        """Train until ``n_iter`` iterations are done, or there is reason to stop."""
        n_steps = self.config.recipe.steps(len(self.fit.rows))

        def on_epoch(state):
            self.is_over = self.note(state)
            self.asked_to_stop = self.estimator._run_task(
                tasks,
                "iteration",
                self.fit.data,
                lambda: self.fit.attributes(self.model),
            )
            return self.is_over or self.asked_to_stop

        self.training(
            self.model,
            lambda: self.model.em_iteration(islice(self.order, n_steps)),
            TrainingConfig(n_iter),
            on_epoch,
        )

    def note(self, state):
        """Note one EM iteration; True says that the run is over."""
        self.occupancies.append(convert.to_numpy(self.model.occupancy, torch.float64))
        self.collapsed = is_collapsed(state, self.config, self.estimator.n_clusters)
        self.converged = self._is_converged(state) and not self.collapsed
        if self.estimator.verbose:
            print(line(state))
        return self.collapsed or (self.converged and self._may_end(state.epoch))

    def _may_end(self, n_iter):
        """Tell whether a converged run may end: on vectors, at half of the rates' fall.

        With images falling rates still bring something when hardly a row changes its
        cluster any more.
        """
        half_fallen = 0.5 * (1.0 + self.config.recipe.held)
        late = n_iter >= half_fallen * self.config.n_iter
        return late and not self.model.architecture.image

    def _is_converged(self, state):
        patience = self.estimator.n_iter_no_change
        enough = state.epoch >= self.config.hold + patience
        return enough and most_changed(state, self.estimator) <= self.estimator.tol

    def unfinished_because(self):
        """Say why the run that has ended has not converged, and what to change."""
        tol, patience = self.estimator.tol, self.estimator.n_iter_no_change
        if self.collapsed:
            return (
                f"The run collapsed to few of {self.estimator.n_clusters} clusters, "
                "like those before it. Decrease n_clusters or lower learning_rate"
                f"{self.fit.other_start}."
            )
        if self.n_iter < self.config.hold + patience:
            return (
                f"A run of {self.n_iter} EM iterations is too short to tell whether it "
                f"has converged: that takes n_iter_no_change={patience} of them after "
                f"the first {self.config.hold}. Increase max_iter."
            )
        most = most_changed(self.training.state, self.estimator)
        return (
            f"{most:.2%} of the rows changed their cluster in one of the last "
            f"n_iter_no_change={patience} EM iterations, more than tol={tol}. Increase "
            "max_iter or tol."
        )


def most_changed(state, estimator):
    """Return the largest share of changed rows in the iterations to be steady in."""
    recent = state.history[-estimator.n_iter_no_change :]
    return max(entry["changed"] for entry in recent)


def is_collapsed(state, config, n_clusters):
    """Tell whether nearly all rows are in one cluster, late enough to say so."""
    if state.epoch < max(JUDGED_AT * config.n_iter, config.hold + 1):
        return False
    # One cluster alone has an effective number of exactly one.
    used, others = state.history[-1]["n_effective"] - 1.0, n_clusters - 1
    return others > 0 and used < COLLAPSE_SHARE * others


def line(state):
    """Return the report of the last EM iteration."""
    last = state.history[-1]
    losses = ", ".join(
        f"{name} {last[name]:.3f}"
        for name in ("discriminator", "generator", "classifier")
    )
    return (
        f"  Iteration {state.epoch}\t {losses}\t confidence {last['confidence']:.3f}"
        f"\t changed {last['changed']:.2%}\t clusters in use {last['n_effective']:.1f}"
    )


def _entropy(probabilities):
    return -torch.special.xlogy(probabilities, probabilities).sum(-1)


def generated_kernels(attributes, device):
    """Return the kernels of the density of fitted attributes.

    Parameters
    ----------
    attributes : dict
        With ``networks_``, ``weights_``, ``_architecture`` and ``_noise_seed``.
    device : torch.device
    """
    generator = restored(Architecture, attributes, "generator", device)
    weights = convert.float64_tensor(attributes["weights_"], device)
    labels = torch.arange(len(weights), device="cpu").repeat_interleave(KERNELS)
    rows = generator.sample(labels, new_generator(attributes["_noise_seed"]))
    log_weights = (weights / KERNELS).log().repeat_interleave(KERNELS)
    return Kernels(rows.flatten(1).double(), log_weights)

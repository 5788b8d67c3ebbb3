"""One call of ``MinMaxEMClusterer.fit``: initialization, training, attributes."""

import dataclasses
import time
from functools import partial

import numpy as np

from skdeepgmm._torch_backend import checkpoint as trees
from skdeepgmm._torch_backend import convert
from skdeepgmm._torch_backend.clusterers.minmax_em.networks import (
    encoder_arrays,
    initial_classifier,
)
from skdeepgmm._torch_backend.clusterers.minmax_em.trainer import MinMaxEM
from skdeepgmm._torch_backend.training import TrainingConfig, TrainingState, train
from skdeepgmm.estimators._base import MAX_SEED
from skdeepgmm.estimators._checkpoint import random_state_tree, set_random_state
from skdeepgmm.estimators.clusterers._consistency import (
    from_tree,
    has_every_cluster,
    is_consistent,
    to_tree,
)
from skdeepgmm.estimators.clusterers._fit import ClustererFit
from skdeepgmm.estimators.clusterers.minmax_em._init import init_of
from skdeepgmm.estimators.clusterers.minmax_em._settings import (
    architecture_of,
    config_of,
    init_steps_of,
)

#: Seed of the encoders that are compared with other initializations: what they find
#: must not move the random numbers of the fit.
FOLD_SEED = 0


class MinMaxEMFit(ClustererFit):
    """The state of one fit; see :class:`ClustererFit` for the parameters.

    Attributes
    ----------
    config : MinMaxEMConfig
    init_method : {"labels", "kmeans", "tsne", "array"}
        Where the initial responsibilities come from.
    model : MinMaxEM
    state : TrainingState
    occupancies : list of ndarray of shape (n_clusters,)
        Share of each cluster after every EM iteration.
    has_encoder : bool
        Whether the encoder has been initialised.
    """

    Trainer = MinMaxEM

    def __init__(self, estimator, X, labels, data):
        consistent = is_consistent(estimator, X, labels)
        architecture = architecture_of(
            estimator, estimator.image_shape_, X.shape[1], consistent
        )
        super().__init__(estimator, X, labels, data, architecture)
        self.config = config_of(estimator, architecture, labels, X.shape[0], consistent)
        self.state = TrainingState()
        self.occupancies, self.has_encoder = [], False

    def initialize(self):
        """Find the initial responsibilities and build the networks."""
        if self.checkpoint.saved is not None:
            with self.checkpoint.reading():
                self._resume(self.checkpoint.saved)
            return
        seed = int(self.random_state.randint(MAX_SEED))
        self.init_method, self.init_resp = self.once(self._initial)
        self.learned = self._learned_from_images()
        self.model = self._main_trainer(seed)
        self._save()

    def _initial(self):
        """Return how the fit is initialised, and its initial responsibilities."""
        by_labels = self.config.fixed and has_every_cluster(self.estimator, self.labels)
        if by_labels and isinstance(self.estimator.init, str):
            return "labels", None
        return init_of(
            self.estimator,
            self.X,
            self.preprocessing,
            self.labels,
            self.random_state,
            self._learned,
        )

    def _learned_from_images(self):
        """Return an encoder that has learned from real images; None if none is to."""
        if not self.config.fixed:
            return None
        made = self.architecture
        found = self.learned_from_images(
            lambda seed: initial_classifier(made, seed, self.device), self.init_resp
        )
        resp = convert.float64_tensor(found.resp, self.device)
        weights = self.first(
            lambda: encoder_arrays(made, found.weights, self.rows, resp)
        )
        return dataclasses.replace(found, weights=weights)

    @property
    def report(self):
        """What training by consistency says of itself; None without."""
        return None if self.learned is None else self.learned.report

    def _main_trainer(self, seed):
        """Return the trainer of the networks and the mixture."""
        if self.learned is None:
            return self._trainer(self.init_resp, self.labels, seed)
        resp, weights = self.learned.resp, self.learned.weights
        return self._trainer(resp, self.labels, seed, weights)

    # Checkpoints -----------------------------------------------------------------

    def _save_if_due(self, state):
        if self.checkpoint.is_due(state.epoch):
            self._save()

    def _save(self):
        self.checkpoint.save(self._tree)

    def _tree(self):
        training = None
        if self.has_encoder:
            training = trees.to_arrays(self.model.snapshot(self.state))
        return {
            "seed": self.model.seed,
            "init_method": self.init_method,
            "init_resp": self.init_resp,
            "learned": to_tree(self.learned),
            "random_state": random_state_tree(self.random_state),
            "training": training,
            "occupancies": np.array(self.occupancies),
        }

    def _resume(self, saved):
        set_random_state(self.random_state, saved["random_state"])
        self.init_method, self.init_resp = saved["init_method"], saved["init_resp"]
        self.learned = from_tree(saved["learned"])
        self.model = self._main_trainer(saved["seed"])
        self.occupancies = list(saved["occupancies"])
        training = trees.to_tensors(saved["training"], self.device)
        if training is not None:
            self.model.restore(training, self.state)
            self.has_encoder = True

    # Training --------------------------------------------------------------------

    def _trainer(self, resp, labels, seed, weights=None):
        data = self._training_data(resp, labels, weights)
        return self.Trainer(self.architecture, self.config, data, seed)

    def _learned(self, labels, index):
        """Return the clusters of some samples by an encoder that knows these labels."""
        model = self._trainer(None, labels, FOLD_SEED)
        n_steps = self._init_steps("labels")
        index = convert.index_tensor(index)
        return convert.to_numpy(model.predict_by_init(n_steps, index))

    def _init_steps(self, method):
        """Return the steps of the encoder's initialization; 0 if it is trained."""
        if self.config.fixed:
            return 0
        shape = self.architecture.shape
        return init_steps_of(self.estimator, shape, method, self.labels)

    def train(self, tasks):
        """Initialise the encoder, then train; Ctrl-C ends either."""
        n_steps = self._init_steps(self.init_method)
        try:
            with self.interruption:
                self._init_encoder(n_steps)
                self._began = time.perf_counter()
                train(
                    self.model,
                    self.model.em_iteration,
                    TrainingConfig(self.config.n_iter),
                    partial(self._on_iteration, tasks),
                    state=self.state,
                    save=self._save_if_due if self.checkpoint.is_on else None,
                )
        finally:
            # Recorded steps hold memory of the device for as long as the model lives.
            self.model.recorder.forget()

    def _init_encoder(self, n_steps):
        if (n_steps or self.config.fixed) and not self.has_encoder:
            init_encoder = partial(self.model.init_encoder, n_steps)
            train(self.model, init_encoder, TrainingConfig(1))
        if not self.has_encoder:
            self.has_encoder = True
            self._save()

    def _on_iteration(self, tasks, state):
        """Note one EM iteration; True asks to stop."""
        resp = self.model.resp.mean(0)
        self.occupancies.append(convert.to_numpy(resp.double()))
        if self.estimator.verbose:
            each = (time.perf_counter() - self._began) / state.epoch
            seconds_left = each * (self.config.n_iter - state.epoch)
            print(line(state, self.occupancies[-1], seconds_left))
        asked_to_stop = self.estimator._run_task(
            tasks, "iteration", self.data, self.attributes
        )
        return self.first(lambda: asked_to_stop)

    @property
    def n_iter(self):
        """EM iterations done."""
        return self.state.epoch

    def attributes(self):
        """Return the fitted attributes, but for ``labels_``."""
        model = self.model
        common = self._network_attributes(
            model.weights.double(),
            encoder=model.average.module,
            generator=model.generator,
            discriminator=model.discriminator,
        )
        dtype = convert.torch_dtype(self.X)
        return common | {"means_": convert.to_numpy(model.means, dtype)}


def line(state, occupancy, seconds_left):
    """Return the report of the last EM iteration."""
    last = state.history[-1]
    losses = ", ".join(
        f"{name} {last[name]:.3f}"
        for name in ("energy", "consistency", "adversarial", "discriminator")
    )
    return (
        f"  Iteration {state.epoch}\t log-likelihood {last['log_likelihood']:.3f}\t "
        f"{losses}\t changed {last['changed']:.2%}\t smallest cluster "
        f"{occupancy.min():.1%}\t {seconds_left:.0f} s left"
    )

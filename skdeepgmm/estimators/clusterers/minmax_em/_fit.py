"""One call of ``MinMaxEMClusterer.fit``: start, training, fitted attributes."""

import dataclasses
import time
from itertools import islice

import numpy as np
import torch

from skdeepgmm._torch_backend import convert
from skdeepgmm._torch_backend.clusterers.minmax_em import latent
from skdeepgmm._torch_backend.clusterers.minmax_em.trainer import (
    NETWORKS,
    Data,
    MinMaxEM,
)
from skdeepgmm._torch_backend.clusterers.network_tools import in_batches, to_arrays
from skdeepgmm._torch_backend.training import TrainingConfig, endless_batches
from skdeepgmm.estimators._base import MAX_SEED
from skdeepgmm.estimators.clusterers._base import NetworkUnits
from skdeepgmm.estimators.clusterers._run import InterruptibleRun
from skdeepgmm.estimators.clusterers.minmax_em._init import start_of
from skdeepgmm.estimators.clusterers.minmax_em._settings import (
    architecture_of,
    batch_size_of,
    config_of,
    least_means,
    start_steps_of,
    steps_of,
)

#: Seed of the encoders that are compared with other starts: what they find must not
#: move the random numbers of the fit.
FOLD_SEED = 0


class MinMaxEMFit:
    """The state of one fit.

    Parameters
    ----------
    estimator : MinMaxEMClusterer
        Gives the settings; never written to.
    X : ndarray or tensor of shape (n_samples, n_features)
        Validated data.
    labels : ndarray of shape (n_samples,) or None
        Known clusters, -1 elsewhere.
    data : dict
        What the callbacks get.

    Attributes
    ----------
    model : MinMaxEM
    start_kind : {"labels", "kmeans", "tsne", "array"}
        Where the first memberships come from.
    run : InterruptibleRun
    occupancies : list of ndarray of shape (n_clusters,)
        Share of each cluster after every EM iteration.
    """

    def __init__(self, estimator, X, labels, data):
        self.estimator, self.X, self.labels, self.data = estimator, X, labels, data
        self.random_state = estimator._random_state()
        shape = estimator.image_shape_
        self.architecture = architecture_of(estimator, shape, X.shape[1])
        self.units = NetworkUnits.of(X, shape, self.architecture.output)
        self.pool = unlabelled_rows(labels, X.shape[0])
        self.n_steps = steps_of(estimator, len(self.pool))
        self.config = config_of(
            estimator, self.architecture, labels, X.shape[0], self.n_steps
        )
        seed = int(self.random_state.randint(MAX_SEED))
        self.model = MinMaxEM(self.architecture, self.config, self._tensors(), seed)
        self.run = InterruptibleRun()
        self.occupancies = []
        self.begun = time.perf_counter()

    def _tensors(self):
        """Return rows, means, first memberships and labels on the device."""
        device = self.estimator._device(self.X)
        rows = self.units.to_network(self.X, device)
        means = latent.component_means(
            self.estimator.n_clusters,
            self.architecture.latent_dim,
            self.estimator.separation,
        )
        data = Data(
            rows,
            means.to(device),
            labels=None if self.labels is None else _index(self.labels).to(device),
            least=_float32(least_means(self.estimator, self.labels), device),
        )
        self.start_kind, start = start_of(
            self.estimator,
            self.X,
            self.units,
            self.labels,
            self.random_state,
            lambda labels, index: self._learned(data, labels, index),
        )
        return dataclasses.replace(data, start=_float32(start, device))

    def _learned(self, data, labels, index):
        """Return the clusters of some rows by an encoder started on these labels."""
        seen = dataclasses.replace(data, labels=_index(labels).to(data.rows.device))
        model = MinMaxEM(self.architecture, self.config, seen, FOLD_SEED)
        for _ in range(self._start_steps("labels")):
            model.start_step()
        found = in_batches(model.encoder.eval(), data.rows[_index(index)])
        nearest = latent.log_joint(found, data.means, model.weights).argmax(1)
        return convert.to_numpy(nearest)

    def _start_steps(self, kind):
        shape = self.architecture.shape
        return start_steps_of(self.estimator, shape, kind, self.labels)

    def __call__(self, tasks):
        """Start the encoder, then train; an interrupted start is the end."""
        with self.run.keeping():
            self._run_start()
        self.run.state = None
        if not self.run.interrupted:
            with self.run.keeping():
                self._run_training(tasks)

    def _run_start(self):
        n_start = self._start_steps(self.start_kind)
        if n_start:
            self.run(
                self.model,
                lambda: self.model.init_encoder(n_start),
                TrainingConfig(1),
                lambda state: False,
            )

    def _run_training(self, tasks):
        self.run(
            self.model,
            self._epoch(),
            TrainingConfig(self.config.n_iter),
            lambda state: self._on_epoch(state, tasks),
        )
        # Recorded steps hold memory of the device for as long as the model lives.
        self.model.recorder.forget()

    def _epoch(self):
        """Return what does an EM iteration."""
        order = endless_batches(
            len(self.pool), batch_size_of(self.estimator), self.model.host_draw
        )
        pool = _index(self.pool)
        return lambda: self.model.em_iteration(
            pool[index] for index in islice(order, self.n_steps)
        )

    def _on_epoch(self, state, tasks):
        """Note one EM iteration; True asks to stop."""
        resp = self.model.resp.mean(0)
        self.occupancies.append(convert.to_numpy(resp, torch.float64))
        if self.estimator.verbose:
            left = self.config.n_iter - state.epoch
            each = (time.perf_counter() - self.begun) / state.epoch
            print(line(state, resp, each * left))
        return self.estimator._run_task(
            tasks, "iteration", self.data, lambda: self.attributes()
        )

    def attributes(self):
        """Return the fitted attributes, but for ``labels_``."""
        dtype = convert.torch_dtype(self.X)
        weights = convert.to_numpy(self.model.weights, torch.float64)
        networks = {name: getattr(self.model, name) for name in NETWORKS}
        networks["encoder"] = self.model.average.module
        return {
            "networks_": {name: to_arrays(net) for name, net in networks.items()},
            "weights_": (weights / weights.sum()),
            "means_": convert.to_numpy(self.model.means, dtype),
            "_architecture": dataclasses.asdict(self.architecture),
            "_units": {"offset": self.units.offset, "scale": self.units.scale},
        }


def _index(array):
    return convert.index_tensor(array)


def _float32(array, device):
    return None if array is None else convert.float64_tensor(array, device).float()


def unlabelled_rows(labels, n_samples):
    """Return the rows without a label; all, if every row has one."""
    if labels is None or (labels >= 0).all():
        return np.arange(n_samples)
    return np.flatnonzero(labels < 0)


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
        f"{float(occupancy.min()):.1%}\t {seconds_left:.0f} s left"
    )

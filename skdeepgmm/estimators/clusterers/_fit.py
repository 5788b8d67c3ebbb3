"""What fits of both deep clusterers share: measured data, labels, attributes."""

import dataclasses

import numpy as np

from skdeepgmm._torch_backend import convert
from skdeepgmm._torch_backend.clusterers.adversarial import TrainingData
from skdeepgmm._torch_backend.clusterers.preprocessing import measured
from skdeepgmm._torch_backend.clusterers.weights import to_arrays
from skdeepgmm._torch_backend.ranks import alone, world
from skdeepgmm.estimators._checkpoint import Checkpoint
from skdeepgmm.estimators._interruption import Interruption
from skdeepgmm.estimators._ranks import check_same, check_same_parameters
from skdeepgmm.estimators.clusterers._consistency import learned


class ClustererFit:
    """The state of one fit: measured here, then initialised, then trained.

    A subclass has ``initialize()``, ``train(tasks)`` and ``attributes(...)``.

    Parameters
    ----------
    estimator : DeepClusterer
        Gives the settings; never written to.
    X : ndarray or tensor of shape (n_samples, n_features)
        Validated data.
    labels : ndarray of shape (n_samples,) or None
        Known clusters, -1 elsewhere.
    data : dict
        What the callbacks get.
    architecture : Architecture

    Attributes
    ----------
    preprocessing : Preprocessing
    rows : tensor
        The samples as the networks see them, on the device.
    interruption : Interruption
    checkpoint : Checkpoint
    """

    def __init__(self, estimator, X, labels, data, architecture):
        self.estimator, self.X, self.labels, self.data = estimator, X, labels, data
        self.architecture, self.ranks = architecture, world()
        self.random_state = self.first(estimator._random_state)
        self.device = estimator._device(X)
        self.preprocessing = measured(X, estimator.image_shape_, architecture.output)
        self.rows = self.preprocessing.to_network(X, self.device)
        self.interruption = Interruption()
        # No rank can go on without the others.
        self.interruption.raises |= self.ranks is not None
        learned = {"X": X, "y": labels}
        self.checkpoint = Checkpoint(estimator, self.device, learned, ranks=self.ranks)

    def first(self, compute):
        """Return what ``compute`` gives, on the first rank of several."""
        return compute() if self.ranks is None else self.ranks.first(compute)

    def once(self, compute):
        """Return what ``compute`` gives, which may draw from ``random_state``.

        Of several ranks, the first one computes, alone.
        """
        if self.ranks is None:
            return compute()

        def here():
            with alone():
                return compute(), self.random_state.get_state()

        result, state = self.ranks.first(here)
        self.random_state.set_state(state)
        return result

    def _training_data(self, init_resp, labels, weights=None):
        """Return the samples with responsibilities, labels and weights, or None."""
        if init_resp is not None:
            init_resp = convert.float64_tensor(init_resp, self.device).float()
        if labels is not None:
            labels = convert.index_tensor(labels).to(self.device)
        return TrainingData(self.rows, init_resp, labels, weights)

    def learned_from_images(self, make, init_resp):
        """Return what a network of logits learns by consistency on real images.

        Parameters
        ----------
        make : callable
            ``make(seed)`` is the network, on the device.
        init_resp : ndarray of shape (n_samples, n_clusters) or None
        """
        return self.once(
            lambda: learned(
                self.estimator,
                make,
                self.rows,
                init_resp,
                self.labels,
                self.random_state,
            )
        )

    def _network_attributes(self, weights, **networks):
        """Return the fitted attributes that both clusterers have.

        Parameters
        ----------
        weights : tensor of shape (n_clusters,), float64
        **networks : Module
        """
        weights = convert.to_numpy(weights)
        return {
            "networks_": {name: to_arrays(net) for name, net in networks.items()},
            "weights_": weights / weights.sum(),
            "_architecture": dataclasses.asdict(self.architecture),
            "_standardization": self.preprocessing.to_arrays(),
        }


def of_all_ranks(estimator, X, labels):
    """Return the rows and labels of all processes that fit together."""
    ranks = world()
    if ranks is None:
        return X, labels
    check_same_parameters(ranks, estimator)
    check_same(ranks, "the number of features", X.shape[1])
    rows = convert.to_numpy(X) if convert.is_tensor(X) else np.asarray(X)
    parts = ranks.gathered(lambda: (rows, labels))
    rows = np.concatenate([rows for rows, _ in parts])
    return rows, None if labels is None else np.concatenate([y for _, y in parts])


def history_arrays(history):
    """Return the losses of every EM iteration as arrays by name."""
    names = dict.fromkeys(name for entry in history for name in entry)
    return {
        name: np.array([entry.get(name, np.nan) for entry in history]) for name in names
    }

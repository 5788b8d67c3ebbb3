"""What the two adversarial trainers share: random streams, optimisers, labels, states.

A trainer owns its networks, the order of its batches and two random generators; an EM
iteration is one epoch of the training loop.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from skdeepgmm._torch_backend.checkpoint import check_optimizer
from skdeepgmm._torch_backend.clusterers.augmentation import Augmentation
from skdeepgmm._torch_backend.clusterers.weights import WeightAverage
from skdeepgmm._torch_backend.cuda_graphs import Recorder, set_lr
from skdeepgmm._torch_backend.ranks import world
from skdeepgmm._torch_backend.rng import new_generator
from skdeepgmm._torch_backend.training import (
    EndlessBatches,
    TrainingState,
    restore,
    snapshot,
)


@dataclass(frozen=True)
class TrainingData:
    """Samples in the range of the networks, on the device.

    Attributes
    ----------
    rows : Tensor of shape (n, channels, height, width) or (n, features)
    init_resp : Tensor of shape (n, n_clusters) or None
        Initial responsibilities; what None means is the trainer's.
    labels : Tensor of shape (n,) or None
        Known clusters, -1 where unknown.
    weights : mapping of str to ndarray or None
        Of the network that gives responsibilities, if it is trained already.
    """

    rows: Tensor
    init_resp: Tensor | None = None
    labels: Tensor | None = None
    weights: Mapping[str, NDArray[Any]] | None = None


class AdversarialTrainer:
    """Base of the trainers; a subclass builds the networks and does EM iterations.

    A subclass names its networks in ``NETWORKS`` and, in ``TENSORS``, the tensors that
    its steps change; it sets each network as an attribute, ``average`` and
    ``optimizers``.

    Parameters
    ----------
    data : TrainingData
    n_clusters : int
    augmentation : Augmentation
    seed : int
        Of the private generators ``rng`` and, on the CPU, ``host_rng``.

    Attributes
    ----------
    seed : int
    step_scale : float
        Factor of all learning rates.
    iteration : int
        EM iterations done.
    ranks : Ranks or None
        Processes that make each batch together: all have all rows and the same
        weights, each its own part of a batch and its own noise.
    """

    NETWORKS: ClassVar[tuple[str, ...]]
    TENSORS: ClassVar[tuple[str, ...]]
    average: WeightAverage[Any]
    optimizers: dict[str, torch.optim.Optimizer]

    def __init__(
        self, data: TrainingData, n_clusters: int, augmentation: Augmentation, seed: int
    ) -> None:
        self.data, self.n_clusters = data, n_clusters
        self.augmentation, self.seed = augmentation, seed
        self.device = data.rows.device
        self.rng = new_generator(seed, self.device)
        # Of initial weights and batches: these are drawn on the CPU.
        self.host_rng = new_generator(seed)
        self.recorder = Recorder(self.rng)
        self.ranks = world()
        # What the ranks exchange cannot be recorded.
        self.recorder.enabled &= self.ranks is None
        self.step_scale = 1.0
        self.iteration = 0

    def _uniform_weights(self) -> Tensor:
        """Return equal cluster weights, (n_clusters,)."""
        n_clusters = self.n_clusters
        return torch.full(
            (n_clusters,), 1.0 / n_clusters, device=self.device, dtype=torch.float32
        )

    # Batches ---------------------------------------------------------------------

    def _set_batches(self, pool: Tensor, batch_size: int, n_steps: int) -> None:
        """Take ``n_steps`` batches of the rows ``pool`` in every EM iteration."""
        self._pool, self._n_steps = pool, n_steps
        self._order = EndlessBatches(len(pool), batch_size, self.host_rng)

    def _next_batches(self) -> Iterator[Tensor]:
        """Yield the batches of one EM iteration, row indices on the CPU."""
        batches = (self._pool[index] for index in islice(self._order, self._n_steps))
        return batches if self.ranks is None else map(self._share, batches)

    def _share(self, index: Tensor) -> Tensor:
        """Return this rank's part of a batch."""
        assert self.ranks is not None
        return index.roll(-self.ranks.rank)[:: self.ranks.size]

    def _part_ways(self) -> None:
        """Draw noise that is this rank's own from now on."""
        if self.ranks is not None:
            seed = self.seed + 1 + self.ranks.rank
            self.rng.manual_seed(seed)

    def _come_together(self, losses: dict[str, Tensor]) -> dict[str, Tensor]:
        """Average over the ranks what their batches have left: buffers and losses."""
        if self.ranks is None:
            return losses
        modules = [*self._networks().values(), self.average.module]
        buffers = (buffer for module in modules for buffer in module.buffers())
        self.ranks.average_([b for b in buffers if b.is_floating_point()])
        values = [torch.as_tensor(v).detach().clone() for v in losses.values()]
        self.ranks.average_(values)
        return dict(zip(losses, values, strict=True))

    # Optimisers ------------------------------------------------------------------

    def _set_lr(self, rates: Mapping[str, float]) -> None:
        """Set the learning rates of the networks, all scaled by ``step_scale``."""
        for name, optimizer in self.optimizers.items():
            set_lr(optimizer, rates[name] * self.step_scale)

    def _descend(self, loss: Tensor, *names: str) -> None:
        """Do a step of these networks' optimisers."""
        for name in names:
            self.optimizers[name].zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        if self.ranks is not None:
            networks = self._networks()
            weights = (w for name in names for w in networks[name].parameters())
            self.ranks.average_([w.grad for w in weights if w.grad is not None])
        for name in names:
            self.optimizers[name].step()

    # Data ------------------------------------------------------------------------

    def _augmented(self, rows: Tensor) -> Tensor:
        return self.augmentation(rows, self.rng)

    def _with_labels(self, resp: Tensor, index: Tensor | slice) -> Tensor:
        """Return ``resp`` of these rows, one-hot where the label is known."""
        if self.data.labels is None:
            return resp
        labels = self.data.labels[index]
        one_hot = F.one_hot(labels.clamp_min(0), self.n_clusters)
        return torch.where((labels >= 0)[:, None], one_hot.to(resp.dtype), resp)

    # State -----------------------------------------------------------------------

    def _networks(self) -> dict[str, nn.Module]:
        return {name: getattr(self, name) for name in self.NETWORKS}

    def state_dict(self) -> dict[str, Any]:
        """Return everything that a step changes, weights at the top level."""
        state: dict[str, Any] = {
            f"{name}.{key}": value
            for name, network in self._networks().items()
            for key, value in network.state_dict().items()
        }
        return state | {
            "average": self.average.state_dict(),
            "optimizers": {k: o.state_dict() for k, o in self.optimizers.items()},
            "iteration": self.iteration,
            **{name: getattr(self, name) for name in self.TENSORS},
        }

    def load_state_dict(self, state: Any) -> None:
        """Go back to a state."""
        for name, network in self._networks().items():
            weights = {
                key.removeprefix(f"{name}."): value
                for key, value in state.items()
                if key.startswith(f"{name}.")
            }
            network.load_state_dict(weights)
            self.optimizers[name].load_state_dict(state["optimizers"][name])
        self.average.load_state_dict(state["average"])
        self.iteration = state["iteration"]
        for name in self.TENSORS:
            setattr(self, name, state[name])
        self.recorder.forget()

    def snapshot(self, state: TrainingState) -> dict[str, Any]:
        """Return all that the training needs to go on elsewhere."""
        rest = {"rest": self._order.rest}
        return snapshot(self, state, self._generators()) | rest

    def restore(self, found: Any, state: TrainingState) -> None:
        """Go on where a trainer of the same data, settings and seed was."""
        for name, optimizer in self.optimizers.items():
            check_optimizer(found["model"]["optimizers"][name], optimizer)
        restore(found, self, state, self._generators())
        self._order.rest = found["rest"]

    def _generators(self) -> dict[str, torch.Generator]:
        return {"rng": self.rng, "host_rng": self.host_rng}


def stratified_labels(weights: Tensor, size: int, rng: torch.Generator) -> Tensor:
    """Return clusters in the shares of ``weights``, as even as ``size`` allows."""
    offset = torch.rand(1, generator=rng, device=weights.device, dtype=torch.float32)
    levels = (torch.arange(size, device=weights.device) + offset) / size
    edges = weights.cumsum(0)[:-1].contiguous()
    return torch.searchsorted(edges, levels, right=True)


def at_least_two(index: Tensor) -> Tensor:
    """Return the rows of a batch; a lone one twice, for batch normalisation."""
    return index.expand(2) if len(index) == 1 else index

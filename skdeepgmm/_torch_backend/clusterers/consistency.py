"""Learning from images without labels: an image and its changed copy are alike.

References: Sohn et al. (2020), "FixMatch: simplifying semi-supervised learning with
consistency and confidence", NeurIPS. Alignment: Berthelot et al. (2020), "ReMixMatch",
ICLR. Averaged teacher: Tarvainen and Valpola (2017), "Mean teachers", NeurIPS.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Generic

import torch
import torch.nn.functional as F
from torch import Tensor

from skdeepgmm._torch_backend.clusterers.image_changes import ImageChanges
from skdeepgmm._torch_backend.clusterers.networks import Dropout
from skdeepgmm._torch_backend.clusterers.weights import ModuleT, WeightAverage
from skdeepgmm._torch_backend.cuda_graphs import set_lr
from skdeepgmm._torch_backend.inference import in_batches
from skdeepgmm._torch_backend.rng import new_generator
from skdeepgmm._torch_backend.training import (
    EndlessBatches,
    Means,
    TrainingConfig,
    train,
)

#: Share of the steps that learn from the targets alone: no teacher is sure before.
ALONE = 0.1
#: Share of the steps after which initial responsibilities no longer count.
FADED_AT = 0.5
#: Decay a step of the mean probabilities that alignment divides by.
MEAN_DECAY = 0.99
#: Steps between two checks that losses are finite.
CHECKED = 50
#: Share of the labels that are held out, at most so many, until this share of the
#: steps; and steps of a network on labels alone as a share of those of the other.
HELD_OUT, MOST_HELD_OUT, JUDGED_AT, ALONE_STEPS = 0.2, 100, 0.7, 0.5


@dataclass(frozen=True)
class ConsistencyConfig:
    """Settings of the training.

    Attributes
    ----------
    weak, strong : ImageChanges
        Of the images that the teacher sees, and of those that are learned.
    n_steps : int
    threshold : float
        Least probability of a target that is learned.
    weight : float
        Of the images without target; 0 learns from the targets alone.
    n_unlabelled, n_labelled : int
        Images of a step.
    alignment : bool
        Whether the mean of the targets is aligned with the shares of the clusters.
    learning_rate : float
        At the beginning; it falls to zero by a cosine.
    weight_decay : float
        Of AdamW.
    ema_decay : float
        Decay a step of the averaged network: teacher and result.
    """

    weak: ImageChanges
    strong: ImageChanges
    n_steps: int = 2000
    threshold: float = 0.95
    weight: float = 1.0
    n_unlabelled: int = 192
    n_labelled: int = 64
    alignment: bool = True
    learning_rate: float = 1e-3
    weight_decay: float = 0.01
    ema_decay: float = 0.99


@dataclass(frozen=True)
class Targets:
    """What is known of some images.

    Attributes
    ----------
    index : Tensor of int64, shape (n_known,)
        Their rows.
    resp : Tensor of shape (n_known, n_clusters)
        Their responsibilities.
    shares : Tensor of shape (n_clusters,)
        Of the clusters among all images.
    certain : bool
        Whether they hold to the end; others fade, so that mistakes may be mended.
    """

    index: Tensor
    resp: Tensor
    shares: Tensor
    certain: bool = True

    def weight(self, progress: float) -> float:
        """Return how much they count after this share of the steps."""
        return 1.0 if self.certain else max(0.0, 1.0 - progress / FADED_AT)


def label_targets(labels: Tensor, n_clusters: int) -> Targets:
    """Return what labels say, -1 where unknown: every cluster has one more."""
    index = (labels >= 0).nonzero()[:, 0]
    resp = F.one_hot(labels[index], n_clusters).float()
    counts = resp.sum(0) + 1.0
    return Targets(index, resp, counts / counts.sum())


def initial_targets(resp: Tensor) -> Targets:
    """Return what initial responsibilities say of all images."""
    shares = resp.mean(0) + 1e-3
    index = torch.arange(len(resp), device=resp.device)
    return Targets(index, resp, shares / shares.sum(), certain=False)


class ConsistencyTrainer(Generic[ModuleT]):
    """Trains a network of logits on known targets and on its own sure predictions.

    A weakly changed image without label gives the target where the teacher's
    probability, aligned, is above the threshold, and its strongly changed copy has to
    match it.

    Parameters
    ----------
    network : nn.Module
        Images to logits.
    rows : Tensor of shape (n, channels, height, width)
    targets : Targets
    config : ConsistencyConfig
    seed : int

    Attributes
    ----------
    average : WeightAverage
        The teacher, and what the training results in.
    step : int
        Steps done.
    mean : Tensor of shape (n_clusters,)
        Running mean of the teacher's probabilities.
    """

    def __init__(
        self,
        network: ModuleT,
        rows: Tensor,
        targets: Targets,
        config: ConsistencyConfig,
        seed: int,
    ) -> None:
        self.network, self.rows, self.config = network, rows, config
        self.targets = targets
        self.rng = new_generator(seed, rows.device)
        self.average = WeightAverage(network, config.ema_decay)
        # After the copy: a random generator cannot be copied.
        for layer in network.modules():
            if isinstance(layer, Dropout):
                layer.rng = self.rng
        self.optimizer = torch.optim.AdamW(
            network.parameters(),
            config.learning_rate,
            weight_decay=config.weight_decay,
            fused=True,
        )
        order = new_generator(seed)
        self.batches = EndlessBatches(len(rows), config.n_unlabelled, order)
        self.mean = targets.shares.clone()
        self.step, self.step_scale, self.until = 0, 1.0, config.n_steps

    def fit(self, until: int | None = None) -> None:
        """Do steps until so many are done, by default all."""
        self.until = self.config.n_steps if until is None else until
        n_epochs = math.ceil((self.until - self.step) / CHECKED)
        train(self, self.epoch, TrainingConfig(n_epochs))

    def epoch(self) -> Mapping[str, Tensor]:
        """Do some steps and return their mean losses."""
        totals = Means()
        for _ in range(min(CHECKED, self.until - self.step)):
            for name, value in self.do_step().items():
                totals.add(name, value)
        return totals.values()

    def do_step(self) -> dict[str, Tensor]:
        """Do one step and return its losses."""
        config, progress = self.config, self.step / self.config.n_steps
        factor = 0.5 * (1.0 + math.cos(math.pi * progress)) * self.step_scale
        set_lr(self.optimizer, config.learning_rate * factor)
        images, wanted = self._known()
        sure, found, share = self._sure(progress)
        logits = self.network(torch.cat([images, sure]))
        known, guessed = logits[: len(images)], logits[len(images) :]
        losses = {"known": F.cross_entropy(known, wanted), "sure": share}
        losses["guessed"] = (
            F.cross_entropy(guessed, found, reduction="sum") / self.batches.size
        )
        self.optimizer.zero_grad()
        weight = self.targets.weight(progress)
        total = weight * losses["known"] + config.weight * losses["guessed"]
        total.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        self.average.update(self.network)
        self.step += 1
        return {name: value.detach() for name, value in losses.items()}

    def _known(self) -> tuple[Tensor, Tensor]:
        """Return strongly changed images of known targets, and these."""
        targets, size = self.targets, (self.config.n_labelled,)
        drawn = torch.randint(
            len(targets.index), size, generator=self.rng, device=self.rng.device
        )
        images = self.rows[targets.index[drawn]]
        return self.config.strong(images, self.rng), targets.resp[drawn]

    def _sure(self, progress: float) -> tuple[Tensor, Tensor, Tensor]:
        """Return strongly changed images of sure clusters, these, and their share.

        The others have no gradient and are left out.
        """
        config = self.config
        if not config.weight or progress < ALONE:
            nothing = torch.empty(0, dtype=torch.int64, device=self.rows.device)
            return self.rows[nothing], nothing, self.mean.new_zeros(())
        images = self.rows[next(self.batches).to(self.rows.device)]
        with torch.no_grad():
            logits = self.average.module(config.weak(images, self.rng))
            resp = self._aligned(torch.softmax(logits, 1))
        sure, found = resp.max(1)
        chosen = sure >= config.threshold
        images = config.strong(images[chosen], self.rng)
        return images, found[chosen], chosen.float().mean()

    def _aligned(self, resp: Tensor) -> Tensor:
        if not self.config.alignment:
            return resp
        self.mean.lerp_(resp.mean(0), 1.0 - MEAN_DECAY)
        resp = resp * (self.targets.shares / self.mean)
        return resp / resp.sum(1, keepdim=True)

    def responsibilities(self) -> Tensor:
        """Return P(cluster | x) of all rows by the averaged network."""
        found = in_batches(self.average.module, self.rows)
        return torch.softmax(found, 1)

    def is_wrong(self, index: Tensor, labels: Tensor) -> Tensor:
        """Return which of these rows are put elsewhere than their labels say."""
        return in_batches(self.average.module, self.rows[index]).argmax(1) != labels

    # State -----------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Return everything that a step changes, weights at the top level."""
        return {
            **self.network.state_dict(prefix="network."),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "mean": self.mean,
            "step": self.step,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go back to a state."""
        prefix = "network."
        weights = {k: v for k, v in state.items() if k.startswith(prefix)}
        weights = {k.removeprefix(prefix): v for k, v in weights.items()}
        self.network.load_state_dict(weights)
        self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.mean, self.step = state["mean"].clone(), state["step"]


# Held-out labels ------------------------------------------------------------------


def held_out_labels(labels: Tensor, rng: torch.Generator) -> Tensor:
    """Return rows with labels to hold out: a fifth of each cluster's, 100 in all."""
    order = torch.randperm(len(labels), generator=rng).to(labels.device)
    known = order[labels[order] >= 0]
    share = min(HELD_OUT, MOST_HELD_OUT / max(1, len(known)))
    chosen = []
    for cluster in torch.unique(labels[known]):
        rows = known[labels[known] == cluster]
        chosen.append(rows[: int(share * len(rows))])
    return torch.cat(chosen)


def learn_from_labels(
    make: Callable[[], ModuleT],
    rows: Tensor,
    labels: Tensor,
    n_clusters: int,
    config: ConsistencyConfig,
    seed: int,
) -> tuple[ConsistencyTrainer[ModuleT], dict[str, float]]:
    """Train a network on labels and on images without; on labels alone if better.

    Held-out labels tell: a network on labels alone is trained beside the other one,
    and takes its place where the other makes more mistakes by more than noise. In the
    last part of the training the held-out labels are learned as well.

    Returns
    -------
    trainer : ConsistencyTrainer
        All steps done.
    report : dict
        "weight" of the images without labels, and, if any labels were held out, their
        number and the mistakes of both networks.
    """
    everything = label_targets(labels, n_clusters)
    out = held_out_labels(labels, new_generator(seed))
    trainer = ConsistencyTrainer(make(), rows, everything, config, seed)
    if not len(out) or not config.weight:
        trainer.fit()
        return trainer, {"weight": config.weight}
    rest = labels.clone()
    rest[out] = -1
    trainer.targets = label_targets(rest, n_clusters)
    trainer.fit(round(JUDGED_AT * config.n_steps))
    alone_config = replace(config, weight=0.0, n_steps=alone_steps(config.n_steps))
    alone = ConsistencyTrainer(make(), rows, trainer.targets, alone_config, seed)
    alone.fit()
    wrong = [t.is_wrong(out, labels[out]) for t in (trainer, alone)]
    report = {
        "n_held_out": float(len(out)),
        "mistakes": float(wrong[0].sum()),
        "mistakes_alone": float(wrong[1].sum()),
    }
    if is_worse(*wrong):
        trainer = ConsistencyTrainer(make(), rows, everything, alone_config, seed)
    trainer.targets = everything
    trainer.fit()
    return trainer, {"weight": trainer.config.weight} | report


def alone_steps(n_steps: int) -> int:
    """Return the steps on labels alone: fewer, for there is less to learn."""
    return math.ceil(ALONE_STEPS * n_steps)


def is_worse(first: Tensor, second: Tensor) -> bool:
    """Tell whether the first is wrong more often by more than a standard error.

    Only samples count on which one of the two is right (McNemar's test).
    """
    more = int((first & ~second).sum()), int((second & ~first).sum())
    return more[0] - more[1] > math.sqrt(sum(more))

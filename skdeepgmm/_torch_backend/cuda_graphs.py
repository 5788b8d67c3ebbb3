"""Training steps recorded as CUDA graphs.

The kernels of small networks take a GPU less time than Python needs to launch them. A
recorded step is launched as a whole.
"""

import threading
from collections.abc import Callable, Hashable
from dataclasses import dataclass

import torch
from torch import Tensor

#: A step: takes tensors, returns tensors by name, and never waits for the device.
Step = Callable[..., dict[str, Tensor]]
#: Calls before a step is recorded: optimisers and libraries set themselves up in them.
WARM_UP = 3
#: One recording at a time: another thread's would spoil it.
RECORDING = threading.Lock()


class Recorder:
    """Runs steps, on a CUDA device by recording and replaying them.

    A step must read and write the same tensors in each call, but for its arguments:
    what it does once is what is repeated. After anything else has taken the place of
    one of them, :meth:`forget` all steps.

    Parameters
    ----------
    rng : torch.Generator
        What steps draw from, on their device.

    Attributes
    ----------
    enabled : bool
        Whether steps are recorded at all.
    """

    def __init__(self, rng: torch.Generator) -> None:
        self.rng = rng
        self.enabled = rng.device.type == "cuda"
        self._calls: dict[Hashable, int] = {}
        self._recorded: dict[Hashable, _Recorded] = {}

    def __call__(
        self, step: Step, *arguments: Tensor, variant: Hashable = None
    ) -> dict[str, Tensor]:
        """Return ``step(*arguments)``; ``variant`` names what else it depends on."""
        if not self.enabled:
            return step(*arguments)
        shapes = tuple(argument.shape for argument in arguments)
        key = step.__name__, variant, shapes
        self._calls[key] = self._calls.get(key, 0) + 1
        if self._calls[key] <= WARM_UP:
            return self._aside(step, arguments)
        if key not in self._recorded:
            self._recorded[key] = _record(step, arguments, self.rng)
        return self._recorded[key].replay(arguments)

    def _aside(self, step: Step, arguments: tuple[Tensor, ...]) -> dict[str, Tensor]:
        """Run a step on another stream, as recording will."""
        here = torch.cuda.current_stream(self.rng.device)
        aside = torch.cuda.Stream(self.rng.device)  # type: ignore[no-untyped-call]
        aside.wait_stream(here)
        try:
            with torch.cuda.stream(aside):
                made = step(*arguments)
        finally:
            # Also after Ctrl-C: what was launched still writes.
            here.wait_stream(aside)
        for value in made.values():
            value.record_stream(here)
        return made

    @property
    def recorded(self) -> int:
        """Number of recorded steps."""
        return len(self._recorded)

    def forget(self) -> None:
        """Forget all recorded steps."""
        self._calls.clear()
        self._recorded.clear()


@dataclass(frozen=True)
class _Recorded:
    """A recorded step, and where it reads its arguments and leaves its results."""

    graph: torch.cuda.CUDAGraph
    arguments: tuple[Tensor, ...]
    made: dict[str, Tensor]

    def replay(self, arguments: tuple[Tensor, ...]) -> dict[str, Tensor]:
        for mine, new in zip(self.arguments, arguments, strict=True):
            mine.copy_(new)
        self.graph.replay()
        # The next replay writes over them.
        return {name: value.clone() for name, value in self.made.items()}


def _record(
    step: Step, arguments: tuple[Tensor, ...], rng: torch.Generator
) -> _Recorded:
    mine = tuple(argument.clone() for argument in arguments)
    # On the device of the random generator, whichever is the current one.
    with RECORDING, torch.cuda.device(rng.device):
        graph = torch.cuda.CUDAGraph()
        graph.register_generator_state(rng)
        # Other threads may launch kernels meanwhile, but not on this stream: streams
        # come from pools, and nothing else takes them from that of high priority.
        stream = torch.cuda.Stream(  # type: ignore[no-untyped-call]
            rng.device, priority=-1
        )
        with torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"):
            made = step(*mine)
    return _Recorded(graph, mine, made)


def set_lr(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Set the learning rate, in place where it is a tensor that a step reads."""
    for group in optimizer.param_groups:
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(lr)
        else:
            group["lr"] = lr


def recordable(lr: float, device: torch.device) -> dict[str, object]:
    """Return the arguments of an optimizer whose steps can be recorded on ``device``.

    On a CUDA device its learning rate is a tensor.
    """
    if device.type != "cuda":
        return {"lr": lr}
    value = torch.tensor(lr, device=device, dtype=torch.float32)
    return {"lr": value, "capturable": True}

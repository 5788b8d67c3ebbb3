"""Time of a training step of the deep clusterers, on a CPU or a GPU.

Times one adversarial step with the E-step that belongs to it (GAN-EM), or one step of
all networks (MinMax+EM), on random 28 x 28 images: launched kernel by kernel, recorded
as a CUDA graph, and recorded with matrix products and convolutions in bfloat16.

    python benchmarks/deep_steps.py [--device cuda] [--steps 200]

The limit that steps are compared to is the rate of a large matrix product.
"""

import argparse
import contextlib
import time
from functools import partial
from pathlib import Path

import _harness
import _report
import torch
from torch.utils.flop_counter import FlopCounterMode

from skdeepgmm._torch_backend.clusterers.adversarial import TrainingData
from skdeepgmm._torch_backend.clusterers.augmentation import Affine, Augmentation
from skdeepgmm._torch_backend.clusterers.gan_em.networks import (
    Architecture as GANEMNetworks,
)
from skdeepgmm._torch_backend.clusterers.gan_em.recipes import Recipe
from skdeepgmm._torch_backend.clusterers.gan_em.trainer import GANEM, GANEMConfig
from skdeepgmm._torch_backend.clusterers.minmax_em.networks import (
    Architecture as MinMaxNetworks,
)
from skdeepgmm._torch_backend.clusterers.minmax_em.trainer import (
    MinMaxEM,
    MinMaxEMConfig,
)
from skdeepgmm.estimators.clusterers.gan_em._settings import GENERATED_CUTMIX

N_ROWS, N_CLUSTERS, SHAPE = 10_000, 10, (1, 28, 28)
#: (model, width, rows of a batch).
CASES = [
    ("GAN-EM", 0.25, 70),
    ("GAN-EM", 1.0, 70),
    ("GAN-EM", 1.0, 256),
    ("MinMax+EM", 1.0, 50),
    ("MinMax+EM", 2.0, 200),
]
#: Side of the matrix product that sets the limit, and its repetitions.
SIDE, PRODUCTS = {"cpu": 2048, "cuda": 8192}, 20


class GANEMSteps:
    """Steps of GAN-EM after the first EM iteration."""

    def __init__(self, width, size, device):
        networks = GANEMNetworks(SHAPE, N_CLUSTERS, 62, width=width)
        augmentation = Augmentation(Affine(2.5, 18.0, 0.15), GENERATED_CUTMIX)
        config = GANEMConfig(Recipe(batch_size=size), 100, augmentation=augmentation)
        self.model = GANEM(networks, config, TrainingData(rows(device)), seed=0)
        self.model.iteration = 1
        self.index = torch.arange(size)

    def __call__(self):
        made = self.model._m_step(self.index)
        step = self.model._classifier_step
        self.model._train_classifier(step, made["images"], made["labels"])


class MinMaxSteps:
    """Steps of MinMax+EM after the warm-up."""

    def __init__(self, width, size, device):
        networks = MinMaxNetworks(SHAPE, N_CLUSTERS, N_CLUSTERS, width=width)
        resp = torch.eye(N_CLUSTERS, device=device).repeat(N_ROWS // N_CLUSTERS, 1)
        data = TrainingData(rows(device), resp)
        self.model = MinMaxEM(networks, MinMaxEMConfig(10), data, seed=0)
        self.index = torch.arange(size, device=device)

    def __call__(self):
        self.model._m_step(self.index)


STEPS = {"GAN-EM": GANEMSteps, "MinMax+EM": MinMaxSteps}


def rows(device):
    """Return random images."""
    draw = torch.Generator().manual_seed(0)
    return torch.rand(N_ROWS, *SHAPE, generator=draw).to(device)


def seconds(step, n_steps, device):
    """Return the seconds of one call."""
    for _ in range(10):
        step()
    wait(device)
    start = time.perf_counter()
    for _ in range(n_steps):
        step()
    wait(device)
    return (time.perf_counter() - start) / n_steps


def wait(device):
    """Wait for all kernels."""
    if device.startswith("cuda"):
        torch.cuda.synchronize()


def operations(step):
    """Return the floating-point operations of matrix products and convolutions."""
    with FlopCounterMode(display=False) as counter:
        step()
    return counter.get_total_flops()


def limit(device, dtype):
    """Return the operations a second of a large matrix product."""
    side = SIDE[device.split(":")[0]]
    factors = torch.randn(2, side, side, device=device).to(dtype)
    taken = seconds(lambda: factors[0] @ factors[1], PRODUCTS, device)
    return 2 * side**3 / taken


def variants(device):
    """Return the contexts that steps are timed in, by name."""
    plain = contextlib.nullcontext
    if not device.startswith("cuda"):
        return {"launched": (False, plain)}
    return {
        "launched": (False, plain),
        "recorded": (True, plain),
        "recorded, bfloat16": (True, partial(torch.autocast, "cuda", torch.bfloat16)),
    }


def measure(case, device, n_steps):
    """Return one result for each variant."""
    name, width, size = case
    results = []
    for variant, (recorded, context) in variants(device).items():
        step = STEPS[name](width, size, device)
        step.model.recorder.enabled = False
        count = operations(step)
        step.model.recorder.enabled = recorded
        with context():
            taken = seconds(step, n_steps, device)
        results.append(
            {
                "model": name,
                "width": width,
                "batch": size,
                "variant": variant,
                "milliseconds": 1e3 * taken,
                "gflop": count / 1e9,
                "tflop_per_second": count / taken / 1e12,
            }
        )
        print(results[-1], flush=True)
    return results


def main():
    """Measure all cases and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--out", default=_harness.RESULTS, type=Path)
    args = parser.parse_args()
    results = [
        result for case in CASES for result in measure(case, args.device, args.steps)
    ]
    limits = {
        str(dtype).removeprefix("torch."): limit(args.device, dtype) / 1e12
        for dtype in (torch.float32, torch.bfloat16)
    }
    machine = _harness.machine(args.device)
    write(args, results, limits, machine)


def write(args, results, limits, machine):
    """Write the results as JSON and as a table."""
    columns = ["model", "width", "batch", "variant", "milliseconds", "gflop"]
    columns.append("tflop_per_second")
    lines = [
        "# Steps of the deep clusterers",
        _harness.machine_line(machine),
        "Large matrix product: "
        + ", ".join(f"{rate:.2f} TFLOP/s in {name}" for name, rate in limits.items())
        + ".",
        _report.table(columns, [[cell(r[c]) for c in columns] for r in results]),
    ]
    name = f"deep_steps_{args.device.split(':')[0]}"
    data = {"machine": machine, "limits": limits, "results": results}
    _harness.write_results(args.out, name, "\n\n".join(lines), data)


def cell(value):
    """Return how a value is printed."""
    return f"{value:.3g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    main()

"""Tiny fits of all iterative estimators, and what is equal if two fits are."""

import os
import signal
import sys
import warnings

import numpy as np

from skdeepgmm import (
    DeepConvGMM,
    GANEMClusterer,
    GaussianMixture,
    MinMaxEMClusterer,
    PatchGMMDenoiser,
    SGDGaussianMixture,
)

#: Names of callback tasks that are one iteration or epoch.
STEPS = ("iteration", "epoch")
TINY = {"width": 0.1, "random_state": 0}


def rows():
    rng = np.random.RandomState(0)
    return np.r_[rng.randn(40, 4) - 2, rng.randn(40, 4) + 2]


def pictures():
    return np.random.RandomState(0).rand(60, 16)


def em(**params):
    short = {"tol": 0.0, "max_iter": 5, "init_params": "random", "random_state": 0}
    return GaussianMixture(**({"n_components": 3} | short | params))


def sgd(**params):
    return SGDGaussianMixture(2, **({"max_iter": 5, "random_state": 0} | params))


def deep(**params):
    short = {"image_shape": (4, 4), "max_iter": 5, "random_state": 0}
    return DeepConvGMM(n_components=3, **(short | params))


def gan_em(**params):
    short = {"max_iter": 3, "recipe": {"gan_steps": 3}, "init": "uniform"}
    return GANEMClusterer(2, **(TINY | short | params))


def minmax_em(**params):
    short = {"max_iter": 3, "init_steps": 3, "init": "kmeans"}
    return MinMaxEMClusterer(2, **(TINY | short | params))


def denoiser(**params):
    short = {"patch_size": 3, "tol": 0.0, "max_iter": 5, "random_state": 0}
    return PatchGMMDenoiser(2, **(short | params))


#: Constructor, data and name of the iterations of each family.
FAMILIES = {
    "em": (em, rows),
    "sgd": (sgd, rows),
    "deep": (deep, pictures),
    "gan_em": (gan_em, rows),
    "minmax_em": (minmax_em, rows),
}


class At:
    """A callback that does something after so many iterations or epochs."""

    def __init__(self, number, action):
        self.number, self.action, self.count = number, action, 0

    def setup(self, estimator, context):
        pass

    def teardown(self, estimator, context):
        pass

    def on_fit_task_begin(self, estimator, context):
        pass

    def on_fit_task_end(self, estimator, context):
        if context.task_name not in STEPS:
            return False
        self.count += 1
        return self.action() if self.count == self.number else False


def fail():
    raise RuntimeError("cut off")


def stop():
    return True


def ctrl_c():
    raise KeyboardInterrupt


def kill():
    os.kill(os.getpid(), signal.SIGKILL)


def learned(estimator):
    """Return the fitted attributes."""
    return {
        name: value
        for name, value in vars(estimator).items()
        if name.endswith("_") or name == "_stream"
    }


def assert_same(first, second, where=""):
    """Two fitted values are equal, bit by bit."""
    assert type(first) is type(second), where
    if isinstance(first, dict):
        assert first.keys() == second.keys(), where
        for name in first:
            assert_same(first[name], second[name], f"{where}.{name}")
    elif isinstance(first, (list, tuple)):
        assert len(first) == len(second), where
        for index, pair in enumerate(zip(first, second, strict=True)):
            assert_same(*pair, f"{where}[{index}]")
    elif isinstance(first, np.ndarray):
        np.testing.assert_array_equal(first, second, err_msg=where)
    elif hasattr(first, "get_params"):
        assert_same(learned(first), learned(second), where)
    else:
        assert first == second or (first != first and second != second), where


def cut_off(folder, number=3):
    """Begin a fit of each family, killed after so many iterations; for a process.

    Each in a process of its own, forked before anything has computed: all pay once for
    the imports.
    """
    warnings.simplefilter("ignore")
    for name, (construct, data) in FAMILIES.items():
        child = os.fork()
        if not child:
            path = os.path.join(folder, name)
            model = construct(checkpoint_path=path, checkpoint_every=1)
            model.set_callbacks(At(min(number, model.max_iter - 1), kill)).fit(data())
            os._exit(1)
        _, status = os.waitpid(child, 0)
        print(name, os.WTERMSIG(status), flush=True)


if __name__ == "__main__":
    cut_off(sys.argv[1])

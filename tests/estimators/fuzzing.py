"""Random inputs and parameters for every estimator: :func:`attack` draws one.

What may come of them is in :mod:`tests.estimators.laws`; ``benchmarks/fuzz_inputs.py``
tries them by thousands.
"""

import warnings
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import scipy.sparse
import torch
from sklearn.neighbors import KernelDensity
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skdeepgmm import (
    ChunkedArray,
    DeepConvGMM,
    DensityOutlierDetector,
    GANEMClusterer,
    GaussianMixture,
    MinMaxEMClusterer,
    PatchGMMDenoiser,
    SGDGaussianMixture,
)

VECTORS = ((12, 3), (20, 2), (7, 1), (30, 5))
IMAGES = ((12, 16), (9, 64))
TINY = {"width": 0.05, "random_state": 0}
#: Constructor, parameters of quick fits, usual shapes of X and names of the weights.
SUBJECTS = {
    "GaussianMixture": (
        GaussianMixture,
        {"n_components": 2, "max_iter": 3, "init_params": "random", "random_state": 0},
        VECTORS,
    ),
    "SGDGaussianMixture": (
        SGDGaussianMixture,
        {"n_components": 2, "max_iter": 2, "random_state": 0},
        VECTORS,
    ),
    "DeepConvGMM": (
        DeepConvGMM,
        {"n_components": 2, "max_iter": 1, "random_state": 0},
        (*VECTORS, *IMAGES),
    ),
    "GANEMClusterer": (
        GANEMClusterer,
        {"n_clusters": 2, "max_iter": 1, "recipe": {"gan_steps": 1}, **TINY},
        (*VECTORS, *IMAGES),
    ),
    "MinMaxEMClusterer": (
        MinMaxEMClusterer,
        {"n_clusters": 2, "max_iter": 1, "init_steps": 1, **TINY},
        (*VECTORS, *IMAGES),
    ),
    "PatchGMMDenoiser": (
        PatchGMMDenoiser,
        {"n_components": 2, "patch_size": 2, "max_iter": 2, "random_state": 0},
        ((8, 8), (3, 8, 8), (6, 16), (2, 6, 7, 3)),
    ),
    "DensityOutlierDetector": (
        DensityOutlierDetector,
        {"estimator": GaussianMixture(2, max_iter=2, random_state=0)},
        VECTORS,
    ),
}
#: Values that no parameter is made for, and some that many are.
ODD = (
    *(None, True, False, 0, 1, 2, 3, -1, 0.5, 1.0, 0.05, 1e-12, 1e-300, 1e10, 1e300),
    *(np.inf, -np.inf, np.nan, "a", "", b"a", [], [1, 2], (1,), (0.1, 5.0, 0.1), {}),
    *({"a": 1}, np.float32(0.1), np.int64(2), np.array(0.5), np.zeros(3), 1j),
    *(np.full((2, 2), np.nan), object(), int, 10**30, -(10**30), "auto", "none"),
)
#: Parameters whose large values, or None, ask for long work, and get it.
LONG = {"max_iter", "n_init", "init_iter", "init_steps", "n_iter", "adapt_iter"}
#: Values of some parameters that are more to the point.
POINTED = {
    "covariance_type": ("full", "tied", "diag", "spherical", "low_rank", "FULL"),
    "init_params": ("kmeans", "k-means++", "random", "random_from_data"),
    "rank": (1, 2, 5, 100),
    "reg_covar": (0.0, 1e-20, 1e-3, 1.0, 1e30, 1e39, 1e150, 1e308),
    "tol": (0.0, 1e-300, 1e308),
    "batch_size": (1, 2, 7, 10**9),
    "weights_init": ([0.5, 0.5], [1.0, 0.0], [1e-300, 1.0], [0.9, 0.2], [np.nan, 1]),
    "means_init": (
        np.zeros((2, 3)),
        np.full((2, 3), 1e300),
        np.ones((2, 2)),
        [[1], [2]],
    ),
    "precisions_init": (
        *(np.stack([np.eye(3)] * 2), np.zeros((2, 3, 3)), 1e300 * np.ones((2, 3, 3))),
        *(np.stack([1e-300 * np.eye(3)] * 2), np.stack([1e300 * np.eye(3)] * 2)),
    ),
    "learning_rate": (1e-300, 1e-9, 1.0, 10.0, 1e4, 1e30, 1e38, 1e308),
    "momentum": (0.0, 0.99, 0.999999999),
    "annealing": ("max", "soft", "none"),
    "annealing_fraction": (1e-300, 1e-9, 0.999999999),
    "early_stopping": (True,),
    "validation_fraction": (1e-300, 0.99, 0.999999),
    "n_init": ("auto", 2),
    "image_shape": (
        (4, 4),
        (8, 8),
        (2, 2, 4),
        (1, 3),
        (3, 1, 1),
        (0, 4),
        (-4, -4),
        (4,),
    ),
    "layers": ((), [], ["a"], "small", [None], [[]]),
    "reg_resp": (1e-300, 1e10, 1e300),
    "score_layer": (-2, 5, 10**30),
    "semi_supervised": (True,),
    "recipe": (
        *("fast", {"losses": "a"}, {"gan_steps": 0}),
        *({"gan_steps": 1, "weight_clip": 1e-300}, {"gan_steps": 1, "init_std": 1e300}),
        *(
            {"gan_steps": 1, "generator_lr": 1e300},
            {"gan_steps": 1, "init_std": 1e-300},
        ),
        *({"gan_steps": 1, "classifier_lr": 1e30}, {"gan_steps": 1, "batch_size": 1}),
        *({"gan_steps": 1, "discriminator_norm": "batch"}, {"gan_steps": 1.5}),
        *({"gan_steps": 1, "ema_decay": 0.999999}, {"gan_steps": 1, "ema_decay": 1.0}),
    ),
    "networks": ("mnist", "svhn", "celeba", "small", "large"),
    "init": ("kmeans", "uniform", "tsne", "labels", np.full((12, 2), 0.5), np.eye(12)),
    "temperature": (1e-300, 1e-9, 1e9, 1e300),
    "affine": ((0.1, 10, 0.1), (1e300, 1, 1), (0, 0, 0), (np.nan, 0, 0), (0.1, 10)),
    "cutmix": (0.5, 1.0, 1e-300),
    "separation": (1e-3, 1e6, 0.0),
    "weight_prior": (1e-300, 1e300),
    "adversary": ("hinge", "binary", "wgan-gp", "printed"),
    "consistency_weight": (0.0, 1e30, 1e300),
    "adversarial_weight": (0.0, 1e30, 1e300),
    "device": ("cpu", "auto", "cuda", "cuda:99", "meta", "gpu", "mps"),
    "sigma": ("estimate", 0.0, 0.1, 1e-300, 1e300, 25),
    "prior": ("natural", GaussianMixture(2), StandardScaler()),
    "solver": ("gradient", "half_quadratic"),
    "patch_size": (1, 2, (2, 3), (1, 4), (2, 2, 2), 8, 9, 10**9, (0, 2), (2.0, 2)),
    "stride": (1, 2, 10**9),
    "search_stride": (1, 2, 10**6),
    "truncation": (0.0, 1e-300, 1e300),
    "n_scales": (1, 3, 10**6),
    "n_patches": (1, 10, 10**12),
    "data_range": (1.0, 255, 1e-300, 1e300),
    "contamination": (0.5, 1e-300, 0.1, 0.500001),
    "estimator": (
        *(KernelDensity(), KernelDensity(kernel="tophat"), StandardScaler()),
        make_pipeline(StandardScaler(), GaussianMixture(2, max_iter=2)),
        *(SGDGaussianMixture(2, max_iter=1), GaussianMixture, None),
    ),
    "checkpoint_path": ("", "/no/such/folder/file", "/", "a\0b", "/dev/null"),
    "random_state": (np.random.RandomState(0), np.random.default_rng(0), 2**32),
}


@dataclass
class Attack:
    """An estimator with some parameters changed, and its input."""

    name: str
    params: dict
    X: object
    fit_params: dict
    changes: dict = field(default_factory=dict)
    what: list = field(default_factory=list)

    def __str__(self):
        X = self.X
        shape, dtype = getattr(X, "shape", None), getattr(X, "dtype", None)
        return (
            f"{self.name}: {self.changes}, {type(X).__name__} {shape} {dtype}, "
            f"{', '.join(self.what)}; {self.fit_params}"
        )[:2000]


def attack(name, rng):
    """Return a random Attack on an estimator."""
    constructor, params, shapes = SUBJECTS[name]
    found = Attack(name, dict(params), None, {})
    kind = rng.integers(5)
    if kind < 3:  # one parameter, two, or none
        names = sorted(constructor().get_params(deep=False))
        for changed in rng.choice(names, rng.integers(1, 3), replace=False):
            found.changes[str(changed)] = odd_value(str(changed), rng)
    X = numbers(rng, shapes[rng.integers(len(shapes))])
    if name == "PatchGMMDenoiser":
        X = unit_range(X, rng)
    if kind > 1:
        for _ in range(rng.integers(1, 3)):
            X = spoil(X, rng, found.what)
    found.X = contained(X, rng, found.what) if kind > 1 else X
    if kind > 2 and rng.random() < 0.3:
        found.fit_params = odd_fit_params(name, np.shape(X), rng)
    return found


def odd_value(name, rng):
    """Return an odd value of a parameter, or a pointed one."""
    pointed = POINTED.get(name, ())
    general = ODD if name != "checkpoint_path" else (None, 1, object())
    values = pointed if pointed and rng.random() < 0.7 else general
    while True:
        value = values[rng.integers(len(values))]
        is_large = value is None or (isinstance(value, (int, float)) and value > 10)
        if not (name in LONG and is_large):
            return value


# Data ----------------------------------------------------------------------------


def numbers(rng, shape):
    """Return ordinary numbers: two groups."""
    return rng.normal(size=shape) + 4.0 * rng.integers(
        2, size=shape[:1] + (1,) * (len(shape) - 1)
    )


def spoil(X, rng, what):
    """Return the numbers with one thing changed; tells what."""
    change = SPOILERS[rng.integers(len(SPOILERS))]
    what.append(change.__name__)
    with np.errstate(all="ignore"):
        return change(X, rng)


def scale(X, rng):
    return X * 10.0 ** rng.uniform(-300, 300)


def scale_moderately(X, rng):
    return X * 10.0 ** rng.uniform(-20, 20)


def scale_features(X, rng):
    return X * 10.0 ** rng.uniform(-150, 150, size=X.shape[-1:])


def shift(X, rng):
    return X + 10.0 ** rng.uniform(-20, 300)


def unit_range(X, rng):
    spread = np.ptp(X) if X.size else 1.0
    return (X - X.min(initial=0.0)) / max(spread, 1e-300)


def constant(X, rng):
    return np.full_like(X, X.flat[0] if X.size else 0.0)


def constant_feature(X, rng):
    X = X.copy()
    X[..., :1] = 1.0
    return X


def duplicates(X, rng):
    return X[rng.integers(0, 2, size=len(X)) % max(len(X), 1)]


def collinear(X, rng):
    return np.broadcast_to(X[..., :1], X.shape) * np.arange(1.0, 1.0 + X.shape[-1])


def extreme_value(X, rng):
    X = X.copy()
    if X.size:
        X.flat[rng.integers(X.size)] = 10.0 ** rng.uniform(0, 308)
    return X


def missing(X, rng):
    return np.where(rng.random(X.shape) < rng.choice([0.05, 0.5, 0.95]), np.nan, X)


def missing_row(X, rng):
    X = X.copy()
    X[:1] = np.nan
    return X


def missing_feature(X, rng):
    X = X.copy()
    X[..., -1:] = np.nan
    return X


def infinite(X, rng):
    X = X.copy()
    if X.size:
        X.flat[rng.integers(X.size)] = rng.choice([np.inf, -np.inf])
    return X


def few(X, rng):
    return X[: rng.integers(0, 4)]


def narrow(X, rng):
    return X[..., : rng.integers(0, 2)]


def an_axis_less(X, rng):
    return X[0] if len(X) else X


def an_axis_more(X, rng):
    return X[None]


SPOILERS = (
    *(scale, scale_moderately, scale_features, shift, unit_range, constant),
    *(constant_feature, duplicates, collinear, extreme_value, missing, missing_row),
    *(missing_feature, infinite, few, narrow, an_axis_less, an_axis_more),
)


def contained(X, rng, what):
    """Return the numbers in a random type, layout and container."""
    if X.ndim == 0 or rng.random() < 0.3:
        return X
    change = CONTAINERS[rng.integers(len(CONTAINERS))]
    what.append(change.__name__)
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return change(X, rng)
        except (ValueError, OverflowError, TypeError, IndexError):  # no such container
            return X


def single(X, rng):
    return X.astype(np.float32)


def another_type(X, rng):
    names = ("f2", "i1", "u1", "i8", "?", "c16", "O", "U8", "S8", "M8[s]", ">f8", "g")
    return X.astype(rng.choice(names))


def fortran(X, rng):
    return np.asfortranarray(X)


def strided(X, rng):
    return np.repeat(X, 2, axis=0)[::-2]


def read_only(X, rng):
    X = X.copy()
    X.flags.writeable = False
    return X


def a_list(X, rng):
    return X.tolist()


def ragged(X, rng):
    rows = X.tolist()
    return [*rows[:-1], rows[-1][:-1]]


def strings(X, rng):
    return [["a"] * X.shape[-1]] * len(X)


def frame(X, rng):
    return pd.DataFrame(X)


def frame_of_everything(X, rng):
    return pd.DataFrame(X).astype(object).assign(text="a")


def tensor(X, rng):
    dtype = (torch.float64, torch.float32, torch.float16, torch.int64, torch.bfloat16)
    return torch.from_numpy(X.copy()).to(dtype[rng.integers(len(dtype))])


def masked(X, rng):
    return np.ma.masked_array(X, rng.random(X.shape) < 0.2)


def sparse(X, rng):
    return scipy.sparse.csr_matrix(X)


def chunks(X, rng):
    return ChunkedArray([X[: len(X) // 2], X[len(X) // 2 :]])


def nothing(X, rng):
    return None


def a_word(X, rng):
    return "X"


CONTAINERS = (
    *(single, single, another_type, another_type, fortran, strided, read_only),
    *(a_list, ragged, strings, frame, frame_of_everything, tensor, masked, sparse),
    *(chunks, nothing, a_word),
)


def odd_fit_params(name, shape, rng):
    """Return odd weights, or labels for the clusterers."""
    n = shape[0] if shape else 1
    if "Clusterer" in name:
        values = (*ODD, rng.integers(-1, 3, size=n), np.full(n, -1), np.full(n, 0.5))
        return {"y": values[rng.integers(len(values))]}
    if name == "PatchGMMDenoiser":
        return {}
    weights = rng.random(n)
    values = (
        *(weights, 1e300 * weights, 1e-300 * weights, -weights, np.zeros(n)),
        *(np.full(n, np.nan), np.full(n, np.inf), weights[:-1], weights[:, None]),
        *(weights.tolist(), (weights > 0.5) * 1, np.eye(1, n)[0], "a", None, 2.0),
        10.0 ** rng.uniform(-300, 300, size=n),
    )
    return {"sample_weight": values[rng.integers(len(values))]}

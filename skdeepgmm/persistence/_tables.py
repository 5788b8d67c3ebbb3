"""The fitted attributes of every class: what a file may hold.

One table a class. A new attribute goes here, with ``needed`` if predictions use it; a
renamed one goes here and, by its old name, into ``_older``. Sizes: K components or
clusters, D features, P pixels of a patch, C channels or classes, T iterations.
"""

import numpy as np

from skdeepgmm.persistence._specs import (
    Array,
    ByParameter,
    Factors,
    Fields,
    Flag,
    Integer,
    Layers,
    ListOf,
    Mapping,
    Maybe,
    Number,
    Shares,
    Spec,
    Strings,
    Tuple,
    needed,
)

#: Largest error of the sum of shares that NumPy's draws from them take.
EXACT = 1e-12
#: Largest value of a patch whose products are finite in float32.
LARGE = 1e12

_ANY_NUMBER = Number(finite=False)
_NAMES = {
    "n_features_in_": Integer(low=1, size="D"),
    "feature_names_in_": Strings(("D",)),
}
_PROGRESS = {
    "converged_": Flag(),
    "n_iter_": Integer(),
    "lower_bound_": _ANY_NUMBER,
    "lower_bounds_": ListOf(_ANY_NUMBER),
}
_HISTORY = Mapping(Array(("T",), finite=False))
_MOMENTS = Tuple(Array(("D",)), (3,))

#: Shapes of what is stored for all covariances, by ``covariance_type``.
_SHAPES = {
    "full": ("K", "D", "D"),
    "tied": ("D", "D"),
    "diag": ("K", "D"),
    "spherical": ("K",),
}
_MATRICES = ("full", "tied")


def _by_type(make):
    return ByParameter(
        "covariance_type", {name: make(name, shape) for name, shape in _SHAPES.items()}
    )


def _covariances(name, shape):
    # Of data with values near 1e20 they are infinite in float32; nothing computes so.
    return Array(shape, low=-np.inf if name in _MATRICES else 0.0, finite=False)


def _cholesky(name, shape):
    return Factors(shape) if name in _MATRICES else Array(shape, positive=True)


_FLAT = {
    "means_": needed(Array(("K", "D"))),
    **_NAMES,
    "n_features_in_": needed(_NAMES["n_features_in_"]),
    "weights_": needed(Shares(("K",))),
    "covariances_": needed(_by_type(_covariances)),
    "precisions_cholesky_": needed(_by_type(_cholesky)),
    "precisions_": needed(_by_type(lambda name, shape: Array(shape, finite=False))),
    "factors_": needed(
        ByParameter("covariance_type", {"low_rank": Array(("K", "D", "R"))})
    ),
    "noise_variance_": needed(
        ByParameter("covariance_type", {"low_rank": Array(("K", "D"), positive=True)})
    ),
    **_PROGRESS,
}
_VELOCITY = Fields(
    {
        "logits": Array(("K",)),
        "means": Array(("K", "D")),
        "factor": ByParameter(
            "covariance_type",
            {
                **{name: Array(shape) for name, shape in _SHAPES.items()},
                "low_rank": Array(("K", "D", "R+1")),
            },
        ),
    }
)
_CLUSTERER = {
    "n_features_in_": needed(Integer(low=1, size="D")),
    "feature_names_in_": Strings(("D",)),
    "image_shape_": needed(Maybe(Tuple(Integer(low=1), (3,)))),
    "weights_": needed(Shares(("K",), tol=EXACT)),
    "networks_": needed(Mapping(Mapping(Spec()))),
    "_architecture": needed(Mapping(Spec())),
    "_standardization": needed(
        Fields({"shift": Array(("U",)), "scale": Array(("U",), positive=True)})
    ),
    "labels_": Array(("N",), kinds="i", low=0.0),
    "history_": _HISTORY,
    "occupancies_": Array(("T", "K"), low=0.0),
    "n_iter_": Integer(),
}

ATTRIBUTES = {
    "GaussianMixture": {
        **_FLAT,
        "n_samples_seen_": Number(low=0.0),
        "n_batches_seen_": Integer(),
    },
    "SGDGaussianMixture": {
        **_FLAT,
        "history_": _HISTORY,
        "_stream": Fields(
            {"moments": _MOMENTS, "steps": Integer(high=2**31)},
            {"velocity": _VELOCITY},
        ),
    },
    "DeepConvGMM": {
        "means_": needed(Array(("K", "D"))),
        "n_features_in_": needed(_NAMES["n_features_in_"]),
        "feature_names_in_": _NAMES["feature_names_in_"],
        "weights_": needed(Shares(("K",))),
        "image_shape_": needed(Maybe(Tuple(Integer(low=1), (2, 3)))),
        "shift_": needed(Array(("U",))),
        "scale_": needed(Array(("U",), positive=True)),
        "layers_": needed(Layers()),
        "mixtures_": needed(
            ListOf(
                Fields(dict.fromkeys(("weights", "means", "covariances"), Spec())),
                "M",
            )
        ),
        "usage_": Array(("M",), low=0.0),
        "history_": _HISTORY,
        **_PROGRESS,
        "classes_": Strings(("C",), numbers=True),
        "class_counts_": Array(("K", "C"), low=0.0),
        "class_proba_": Array(("K", "C"), low=0.0),
        "_stream": Fields(
            {
                "moments": Maybe(_MOMENTS),
                "steps": Integer(high=2**31),
                "opened": Integer(low=-(2**31), high=2**31),
                "reopened": Flag(),
            },
            {"initialized": ListOf(Flag(), "M")},
        ),
    },
    "GANEMClusterer": {
        "means_": needed(Array(("K", "D"))),
        **_CLUSTERER,
        "sigma_": needed(Number(low=1e-6, high=1e12)),
        "_noise_seed": needed(Integer(high=np.iinfo(np.int32).max)),
        "quality_": _ANY_NUMBER,
        "converged_": Flag(),
    },
    "MinMaxEMClusterer": {
        "means_": needed(Array(("K", "L"))),
        **_CLUSTERER,
    },
    "PatchGMMDenoiser": {
        "means_": needed(Array(("K", "P"), low=-LARGE, high=LARGE)),
        "weights_": needed(Shares(("K",))),
        "covariances_": needed(Array(("K", "P", "P"), low=-(LARGE**2), high=LARGE**2)),
        "patch_shape_": needed(Tuple(Integer(low=1), (2,))),
        "mixture_": Spec(),
        "n_iter_": Integer(),
        **_NAMES,
    },
    "DensityOutlierDetector": {
        "estimator_": needed(Spec()),
        "offset_": needed(Number(finite=False)),
        "reference_": needed(Maybe(Array(("N", "D")))),
        **_NAMES,
    },
    "TrimmedMixtures": {
        "mixtures_": needed(ListOf(Spec(), "M")),
        **_NAMES,
        "n_features_in_": needed(Integer(low=1, size="D")),
    },
    "FrozenEstimator": {},
}

#: Largest parameters that predictions use, where a class sets no bound: what they ask
#: for in time and memory grows with them.
LARGEST_PARAMS = {
    "PatchGMMDenoiser": {
        "stride": 1024,
        "search_stride": 1024,
        "n_scales": 64,
        "n_iter": 10**6,
        "adapt_iter": 10**6,
    }
}

#: Attributes that a fit sets together: all of them or none.
TOGETHER = (
    ("converged_", "n_iter_", "lower_bound_", "lower_bounds_"),
    ("n_samples_seen_", "n_batches_seen_"),
    ("classes_", "class_counts_", "class_proba_"),
)

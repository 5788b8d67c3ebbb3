"""The fitted attributes of every class: what a file may hold.

One table a class. A new attribute goes here, with ``needed`` if predictions use it; a
renamed one goes here and, by its old name, into ``_older``. Sizes: K components or
clusters, D features, P pixels of a patch, C channels or classes, T iterations.
"""

import numpy as np

from skdeepgmm._torch_backend.mixture.covariances import COVARIANCES
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
    Text,
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

#: Sizes that tell the names of the axes of what covariance types store.
_K, _D, _R = 101, 103, 7
_AXES = {_K: "K", _D: "D", _R: "R", _R + 1: "R+1"}


def _axes(shape):
    return tuple(_AXES.get(size, size) for size in shape)


def _by_type(make):
    """Return what ``make`` says of every covariance type, chosen by its parameter."""
    classes = {name: cls.sized(_D, _R) for name, cls in COVARIANCES.items()}
    specs = {name: make(cls) for name, cls in classes.items()}
    known = {name: spec for name, spec in specs.items() if spec is not None}
    return ByParameter("covariance_type", known)


def _covariances(attribute):
    """Return the specs of an attribute, for the types that have it."""

    def make(cls):
        if attribute not in cls.attribute_names:
            return None
        supplied = dict(zip(cls.supplied, cls.supplied_shapes(_K, _D), strict=True))
        shape = supplied.get(attribute.rstrip("_"), cls.values_shape(_K, _D))
        return _KINDS[attribute](_axes(shape))

    return _by_type(make)


def _is_matrix(shape):
    return shape[-2:] == ("D", "D")


# Of data with values near 1e20 covariances are infinite in float32, and nothing
# computes with them.
_KINDS = {
    "covariances_": lambda shape: Array(
        shape, low=-np.inf if _is_matrix(shape) else 0.0, finite=False
    ),
    "precisions_cholesky_": lambda shape: (
        Factors(shape) if _is_matrix(shape) else Array(shape, positive=True)
    ),
    "precisions_": lambda shape: Array(shape, finite=False),
    "factors_": Array,
    "noise_variance_": lambda shape: Array(shape, positive=True),
}


_FLAT = {
    "means_": needed(Array(("K", "D"))),
    **_NAMES,
    "n_features_in_": needed(_NAMES["n_features_in_"]),
    "weights_": needed(Shares(("K",))),
    **{name: needed(_covariances(name)) for name in _KINDS},
    **_PROGRESS,
}
_VELOCITY = Fields(
    {
        "logits": Array(("K",)),
        "means": Array(("K", "D")),
        "factor": _by_type(lambda cls: Array(_axes(cls.values_shape(_K, _D)))),
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
    "consistency_": Maybe(Mapping(Number(low=0.0))),
    "n_iter_": Integer(),
    "classes_": Strings(("C",), numbers=True),
}

ATTRIBUTES = {
    "GaussianMixture": {
        **_FLAT,
        "n_samples_seen_": Number(low=0.0),
        "n_batches_seen_": Integer(),
        "truncation_gap_": Number(),
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
                Fields(
                    dict.fromkeys(("weights", "means"), Spec()),
                    dict.fromkeys(("covariances", "factors", "noise_variance"), Spec()),
                ),
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
    "MixtureImputer": {
        "estimator_": needed(Spec()),
        "missing_features_": needed(Array(("M",), kinds="i", low=0.0)),
        **_NAMES,
        "n_features_in_": needed(_NAMES["n_features_in_"]),
    },
    "GaussianMixtureIC": {
        "best_estimator_": needed(Spec()),
        "best_criterion_": needed(_ANY_NUMBER),
        "n_components_": needed(Integer(low=1)),
        "covariance_type_": needed(Text()),
        "results_": needed(
            Fields(
                {
                    "covariance_type": Strings(("N",)),
                    **dict.fromkeys(
                        ("bic", "aic", "icl", "log_likelihood"),
                        Array(("N",), finite=False),
                    ),
                    **dict.fromkeys(
                        ("n_components", "n_parameters", "n_iter", "rank"),
                        Array(("N",), kinds="i", low=0.0),
                    ),
                    "degenerate": Array(("N",), kinds="b"),
                }
            )
        ),
        "estimators_": needed(ListOf(Spec(), "N")),
        **_NAMES,
        "n_features_in_": needed(_NAMES["n_features_in_"]),
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

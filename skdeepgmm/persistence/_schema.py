"""Whether decoded values make an estimator that works: each by itself, then together.

The specs of single attributes are in ``_tables``; here is what a spec cannot say.
"""

import math

import numpy as np
from sklearn.frozen import FrozenEstimator
from sklearn.utils import check_scalar

from skdeepgmm.layers import Mixture, _check_passed_factors
from skdeepgmm.persistence._classes import is_registered
from skdeepgmm.persistence._networks import architecture, expected_weights
from skdeepgmm.persistence._specs import Array, Model, Shares, fail, kind_of
from skdeepgmm.persistence._tables import ATTRIBUTES, LARGEST_PARAMS, TOGETHER


def check_estimator(estimator, state, where):
    """Raise ValueError unless an estimator may have this state.

    Parameters
    ----------
    estimator : estimator
        With its parameters, without fitted attributes.
    state : dict of str to object
        The attributes that it is to have.
    where : str
        What to call it in errors.
    """
    name = type(estimator).__name__
    _check_params(estimator, where)
    _check_names(estimator, state, where)
    model = Model(estimator)
    for attribute, spec in ATTRIBUTES[name].items():
        spec = spec.resolve(estimator)
        if attribute in state and spec is not None:
            spec.check(state[attribute], f"{where}.{attribute}", model)
    if state and name in RULES:
        RULES[name](state, model, where)


def _check_params(estimator, where):
    """Check parameters by the class's own constraints."""
    name = type(estimator).__name__
    try:
        if name in PARAMS:
            PARAMS[name](estimator)
        else:
            estimator._validate_params()
    except (TypeError, ValueError) as error:
        raise ValueError(f"does not hold a model: {where}: {error}"[:400]) from error
    for param, largest in LARGEST_PARAMS.get(name, {}).items():
        value = getattr(estimator, param)
        if value is not None and value > largest:
            fail(f"{where}.{param}", f"at most {largest}", f"{value}"[:50])


def _check_names(estimator, state, where):
    """Raise unless all needed attributes are there, and none that is unknown."""
    name = type(estimator).__name__
    specs = {k: spec.resolve(estimator) for k, spec in ATTRIBUTES[name].items()}
    known = {k for k, spec in specs.items() if spec is not None}
    unknown = sorted(set(state) - known)
    if unknown:
        raise ValueError(
            f"does not hold a model: {where} has the attribute {unknown[0][:80]!r}, "
            f"which {estimator!r} does not have. A newer skdeepgmm may know it"[:300]
        )
    lost = [k for k in known if specs[k].is_needed and k not in state]
    for group in TOGETHER:
        if set(group) <= known and any(k in state for k in group):
            lost += [k for k in group if k not in state]
    if state and lost:
        raise ValueError(
            f"does not hold a model: {where} lacks {', '.join(sorted(set(lost)))}"
        )


# Parameters of classes without constraints ----------------------------------------


def _check_detector(estimator):
    check_scalar(
        estimator.contamination,
        "contamination",
        (float, int),
        min_val=0,
        max_val=0.5,
        include_boundaries="right",
    )
    if estimator.estimator is not None:
        _check_registered(estimator.estimator, "estimator")


def _check_imputer(estimator):
    if estimator.estimator is not None:
        _check_registered(estimator.estimator, "estimator")


def _check_frozen(estimator):
    _check_registered(estimator.estimator, "estimator")


def _check_registered(value, name):
    if not is_registered(type(value)):
        raise TypeError(f"{name} is {kind_of(value)}; expected an estimator")


PARAMS = {
    "DensityOutlierDetector": _check_detector,
    "MixtureImputer": _check_imputer,
    "FrozenEstimator": _check_frozen,
}


# What attributes mean together ----------------------------------------------------


def _is_fitted(estimator):
    if isinstance(estimator, FrozenEstimator):
        return _is_fitted(estimator.estimator)
    return is_registered(type(estimator)) and any(
        name in vars(estimator) for name in ATTRIBUTES[type(estimator).__name__]
    )


def _check_flat(state, model, where):
    _check_sizes(model, where)
    if "factors_" in state:
        _check_factors(state["factors_"], state["noise_variance_"], where)
    if "R+1" in model.sizes and model.sizes["R+1"] != model.sizes["R"] + 1:
        fail(
            f"{where}._stream", "factors and noise", f"of {model.sizes['R+1']} columns"
        )


def _check_sizes(model, where):
    """Raise if there are no components or features: no array has any then."""
    empty = [name for name in "KDPLRMCU" if model.sizes.get(name) == 0]
    if empty:
        fail(where, "at least one of each size", f"a model with {empty[0]}=0")


def _check_factors(factors, noise, where):
    """Raise unless I + A^T D^-1 A has a Cholesky factor."""
    for matrix, variances in zip(factors, noise, strict=True):
        matrix = matrix.astype(np.float64)
        with np.errstate(over="ignore", invalid="ignore"):
            inner = matrix.T @ (matrix / variances[:, None])
        try:
            fine = np.isfinite(inner).all()
            np.linalg.cholesky(np.eye(len(inner)) + (inner if fine else np.nan))
        except np.linalg.LinAlgError:
            fine = False
        if not fine:
            fail(f"{where}.factors_", "finite A^T D^-1 A", "too large for the noise")


def _check_deep(state, model, where):
    _check_sizes(model, where)
    given, n_features = state["image_shape_"], model.sizes["D"]
    shape = (1, 1, n_features) if given is None else (*given, 1)[:3]
    _check_image(shape, n_features, f"{where}.image_shape_")
    if model.sizes["U"] != shape[2]:
        fail(f"{where}.shift_", f"of length {shape[2]}", f"of {model.sizes['U']}")
    mixtures, number = state["mixtures_"], 0
    for layer in state["layers_"]:
        if isinstance(layer, Mixture):
            if number < len(mixtures):
                place = f"{where}.mixtures_[{number}]"
                _check_mixture(mixtures[number], layer, shape, model, place)
            number += 1
        shape = layer.output_shape(shape)
    if shape[:2] != (1, 1) or not isinstance(layer, Mixture):
        fail(f"{where}.layers_", "a Mixture of the whole image at the top", repr(layer))
    try:
        _check_passed_factors(state["layers_"])
    except ValueError as error:
        fail(f"{where}.layers_", "layers in an order that works", str(error))
    if number != len(mixtures) or model.sizes["K"] != shape[2]:
        found = f"{len(mixtures)} with {model.sizes['K']} components at the top"
        fail(f"{where}.mixtures_", f"{number} of {state['layers_']}"[:200], found)
    _check_floors(mixtures, state["scale_"], f"{where}.mixtures_")
    score_layer = model.estimator.score_layer
    if not -number <= score_layer < number:
        fail(f"{where}.score_layer", f"one of {number} mixtures", repr(score_layer))


def _check_floors(mixtures, scale, where):
    """Raise if the smallest variances of a mixture are beyond float32."""
    for number, arrays in enumerate(mixtures):
        low = "factors" in arrays
        variances = arrays["noise_variance" if low else "covariances"]
        variances = variances.astype(np.float64, copy=False)
        if number == 0:  # in the units of the data
            with np.errstate(over="ignore", under="ignore"):
                variances = (
                    variances / np.tile(scale, variances.shape[-1] // len(scale)) ** 2
                )
        if not variances.min() < np.finfo(np.float32).max:
            fail(f"{where}[{number}]", "variances of float32", f"{variances.min():g}")


def _check_image(shape, n_features, where):
    if math.prod(shape) != n_features:
        fail(where, f"of {n_features} values", f"{shape} of {math.prod(shape)}")


def _check_mixture(arrays, layer, shape, model, where):
    """Check the arrays of a Mixture layer whose input has ``shape``."""
    count, width = int(layer.n_components), shape[2]
    sites = () if layer.shared else (shape[0] * shape[1],)
    values = (*sites, count, width)
    specs = {"weights": Shares((*sites, count)), "means": Array(values)}
    if layer.has_factors:
        specs["factors"] = Array((*values, min(layer.rank, width)))
        specs["noise_variance"] = Array(values, positive=True)
    else:
        specs["covariances"] = Array(values, low=0.0)
    if set(arrays) != set(specs):
        fail(where, f"arrays {sorted(specs)}", f"{sorted(arrays)}"[:200])
    for name, spec in specs.items():
        spec.check(arrays[name], f"{where}[{name!r}]", model)
    if layer.has_factors:
        _check_deep_factors(arrays, values, where)


def _check_deep_factors(arrays, shape, where):
    """Check factors and noise of a low-rank layer, of all positions."""
    factors = arrays["factors"].reshape(-1, shape[-1], arrays["factors"].shape[-1])
    _check_factors(factors, arrays["noise_variance"].reshape(-1, shape[-1]), where)


def _check_clusterer(state, model, where):
    _check_sizes(model, where)
    name, settings = type(model.estimator).__name__, state["_architecture"]
    try:
        made = architecture(name, settings)
        weights = expected_weights(name, made)
    except ValueError as error:
        fail(f"{where}._architecture", "settings of networks", str(error))
    _check_networks(state["networks_"], weights, f"{where}.networks_")
    given, n_features = state["image_shape_"], state["n_features_in_"]
    if given is not None:
        _check_image(given, n_features, f"{where}.image_shape_")
    planes = None if given is None else (given[2], *given[:2])
    wanted = planes if planes is not None and made.image else (n_features,)
    if made.shape != wanted or (planes is not None and made.image != _is_image(planes)):
        fail(f"{where}._architecture['shape']", str(wanted), str(made.shape))
    if made.n_clusters != model.sizes["K"]:
        fail(f"{where}._architecture", f"K={model.sizes['K']}", f"{made.n_clusters}")
    if model.sizes.get("L", made_latent(made)) != made_latent(made):
        fail(f"{where}.means_", f"L={made_latent(made)}", f"{model.sizes['L']}")
    if model.sizes["U"] not in (1, n_features):
        fail(
            f"{where}._standardization",
            f"of length 1 or {n_features}",
            f"{model.sizes['U']}",
        )
    labels = state.get("labels_")
    if labels is not None and labels.max(initial=0) >= made.n_clusters:
        fail(f"{where}.labels_", f"below {made.n_clusters}", f"{labels.max()}")


def made_latent(made):
    """Return the latent dimensions of an architecture, None where it has none."""
    return getattr(made, "latent_dim", None)


def _is_image(planes):
    from skdeepgmm._torch_backend.clusterers.networks import is_image

    return is_image(planes)


def _check_networks(networks, expected, where):
    if set(networks) != set(expected):
        fail(where, f"networks {list(expected)}", f"{list(networks)}"[:200])
    for network, weights in expected.items():
        place, found = f"{where}[{network!r}]", networks[network]
        if set(found) != set(weights):
            odd = sorted(set(found) ^ set(weights))[0]
            fail(
                place, f"weights {list(weights)}"[:200], f"without or with {odd[:80]!r}"
            )
        for name, (shape, dtype) in weights.items():
            spec = Array(shape, kinds=dtype.kind)
            spec.check(found[name], f"{place}[{name!r}]", Model(None))


def _check_denoiser(state, model, where):
    _check_sizes(model, where)
    shape, n_pixels = state["patch_shape_"], model.sizes["P"]
    if math.prod(shape) != n_pixels or n_pixels < 2:
        fail(f"{where}.patch_shape_", f"of {n_pixels} pixels", str(shape))
    mixture = state.get("mixture_")
    if mixture is not None:
        name = type(mixture).__name__
        if name != "GaussianMixture" or not _is_fitted(mixture):
            fail(f"{where}.mixture_", "a fitted GaussianMixture", kind_of(mixture))
        wanted = (model.sizes["K"], n_pixels - 1)
        if mixture.means_.shape != wanted:
            found = str(mixture.means_.shape)
            fail(f"{where}.mixture_.means_", f"of shape {wanted}", found)


def _check_outliers(state, model, where):
    inner = state["estimator_"]
    if not _is_fitted(inner) or not hasattr(inner, "score_samples"):
        fail(f"{where}.estimator_", "a fitted density", kind_of(inner))
    theirs = getattr(inner, "n_features_in_", None)
    if "D" in model.sizes and theirs is not None and theirs != model.sizes["D"]:
        fail(f"{where}.estimator_", f"of D={model.sizes['D']} features", str(theirs))
    if state["offset_"] != state["offset_"]:
        fail(f"{where}.offset_", "a number", "NaN")


def _check_filled(state, model, where):
    inner, width = state["estimator_"], model.sizes["D"]
    if not _is_fitted(inner) or not hasattr(inner, "sample_conditional"):
        fail(f"{where}.estimator_", "a fitted mixture", kind_of(inner))
    if inner.n_features_in_ != width:
        found = str(inner.n_features_in_)
        fail(f"{where}.estimator_", f"of D={width} features", found)
    if state["missing_features_"].max(initial=0) >= width:
        fail(f"{where}.missing_features_", f"below {width}", "others")


def _check_trimmed(state, model, where):
    if not state["mixtures_"]:
        fail(f"{where}.mixtures_", "at least one mixture", "none")
    for number, inner in enumerate(state["mixtures_"]):
        place = f"{where}.mixtures_[{number}]"
        if type(inner).__name__ != "GaussianMixture" or not _is_fitted(inner):
            fail(place, "a fitted GaussianMixture", kind_of(inner))
        if inner.n_features_in_ != model.sizes.get("D", inner.n_features_in_):
            found = str(inner.n_features_in_)
            fail(place, f"of D={model.sizes['D']} features", found)


def _check_search(state, model, where):
    inner = {"best_estimator_": state["best_estimator_"]}
    for number, mixture in enumerate(state.get("estimators_", ())):
        inner[f"estimators_[{number}]"] = mixture
    for name, mixture in inner.items():
        if type(mixture).__name__ != "GaussianMixture" or not _is_fitted(mixture):
            fail(f"{where}.{name}", "a fitted GaussianMixture", kind_of(mixture))
        if mixture.n_features_in_ != model.sizes.get("D", mixture.n_features_in_):
            found = str(mixture.n_features_in_)
            fail(f"{where}.{name}", f"of D={model.sizes['D']} features", found)
    best = state["best_estimator_"]
    for name, wanted in (
        ("n_components_", len(best.means_)),
        ("covariance_type_", best.covariance_type),
    ):
        if state[name] != wanted:
            fail(f"{where}.{name}", f"{wanted}", f"{state[name]}"[:50])


RULES = {
    "GaussianMixtureIC": _check_search,
    "TrimmedMixtures": _check_trimmed,
    "GaussianMixture": _check_flat,
    "SGDGaussianMixture": _check_flat,
    "DeepConvGMM": _check_deep,
    "GANEMClusterer": _check_clusterer,
    "MinMaxEMClusterer": _check_clusterer,
    "PatchGMMDenoiser": _check_denoiser,
    "DensityOutlierDetector": _check_outliers,
    "MixtureImputer": _check_filled,
}

"""What files of older versions call otherwise, or hold in another form."""

#: Settings of the recipe of GAN-EM, and the learning rates of its generator, of which
#: the parameter ``learning_rate`` was a multiple.
_RECIPE = {
    "discriminator_rate": "discriminator_lr",
    "generator_rate": "generator_lr",
    "classifier_rate": "classifier_lr",
    "last_rate": "final_lr_fraction",
    "held": "constant_fraction",
    "std": "init_std",
    "average": "ema_decay",
    "averaged_from": "ema_teacher_from",
    "keeps_optimizers": "persistent_optimizers",
    "clip": "weight_clip",
    "classifier_batch": "classifier_batch_size",
}
_GENERATOR_LR = {"fast": 1e-3, "released": 6e-4, "paper": 2e-4}


def modernized(name, part, values, version):
    """Return parameters or attributes by today's names and in today's form.

    Parameters
    ----------
    name : str
        Of the estimator's class.
    part : {"params", "state"}
    values : dict
        Decoded, and not yet checked: what has an unexpected form stays as it is.
    version : int
        Of the file's format.
    """
    values = {
        key: value for key, value in values.items() if key not in _GONE.get(name, ())
    }
    made = values.get("_architecture")
    if name == "GANEMClusterer" and isinstance(made, dict):
        values["_architecture"] = {**made, "photo": made.get("photo", False)}
    if version > 1:
        return values
    changes = _CHANGES.get((name, part))
    return values if changes is None else changes(dict(values))


def _clusterer_state(state):
    units = state.get("_units")
    if isinstance(units, dict) and set(units) == {"offset", "scale"}:
        del state["_units"]
        state["_standardization"] = {"shift": units["offset"], "scale": units["scale"]}
    return state


def _gan_em_params(params):
    if "start_iter" in params:
        params["init_iter"] = params.pop("start_iter")
    recipe, rate = params.get("recipe"), params.get("learning_rate")
    if isinstance(recipe, dict):
        recipe = {_RECIPE.get(key, key): value for key, value in recipe.items()}
        params["recipe"] = recipe
        base = recipe.get("generator_lr", _GENERATOR_LR["fast"])
    else:
        base = _GENERATOR_LR.get(recipe) if isinstance(recipe, str) else None
    if isinstance(rate, float) and isinstance(base, float):
        params["learning_rate"] = rate * base
    return params


def _deep_conv_state(state):
    stream = state.get("_stream")
    if isinstance(stream, dict) and "settled" in stream:
        state["_stream"] = {**stream, "initialized": stream["settled"]}
        del state["_stream"]["settled"]
    return state


def _detector_state(state):
    return {"reference_": None, **state} if state else state


#: Parameters that there are no more.
_GONE = {"SGDGaussianMixture": {"warm_start"}, "DeepConvGMM": {"warm_start"}}

_CHANGES = {
    ("GANEMClusterer", "params"): _gan_em_params,
    ("GANEMClusterer", "state"): _clusterer_state,
    ("MinMaxEMClusterer", "state"): _clusterer_state,
    ("DeepConvGMM", "state"): _deep_conv_state,
    ("DensityOutlierDetector", "state"): _detector_state,
}

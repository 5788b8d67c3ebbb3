"""The table of attributes is that of fitted models; what does not fit is refused."""

import copy

import numpy as np
import pytest

from skdeepgmm import load, save
from skdeepgmm.persistence import _tables
from tests.persistence import models
from tests.persistence.forge import rewrite


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.safetensors"


def attributes(model):
    """Return the names of the fitted attributes of a model."""
    return vars(model).keys() - model.get_params(deep=False).keys()


@pytest.mark.parametrize("name", models.MAKERS)
def test_every_attribute_of_a_fitted_model_is_in_the_table(name):
    model = models.fitted(name)
    assert attributes(model) <= _tables.ATTRIBUTES[type(model).__name__].keys()


def test_every_attribute_in_the_table_is_one_of_a_fitted_model():
    seen = {}
    for name in models.MAKERS:
        model = models.fitted(name)
        seen.setdefault(type(model).__name__, set()).update(attributes(model))
    for name, table in _tables.ATTRIBUTES.items():
        # Names of features are those of every class; see also the golden files.
        assert table.keys() - seen.get(name, set()) <= {"feature_names_in_"}


@pytest.mark.parametrize("wrong", ["x", {"type": "tuple", "items": []}, -0.5])
@pytest.mark.parametrize("name", models.MAKERS)
def test_an_attribute_of_another_type_is_refused_by_name(name, wrong, path):
    model = models.fitted(name)
    save(model, path)
    original = path.read_bytes()
    for attribute in attributes(model):
        if isinstance(getattr(model, attribute), float) and wrong == -0.5:
            continue
        path.write_bytes(original)

        def change(estimator, entries, data, attribute=attribute):
            drop_tensors(estimator["state"][attribute], entries, data)
            estimator["state"][attribute] = wrong

        rewrite(path, change)
        with pytest.raises(ValueError, match=rf"{attribute}.*expected") as error:
            load(path)
        assert str(path) in str(error.value)


def drop_tensors(node, entries, data):
    """Remove the tensors that a node names, and their bytes."""
    if isinstance(node, list):
        for item in node:
            drop_tensors(item, entries, data)
    elif isinstance(node, dict):
        if "tensor" in node:
            start, stop = entries.pop(node["tensor"])["data_offsets"]
            del data[start:stop]
            for entry in entries.values():
                if entry["data_offsets"][0] >= stop:
                    entry["data_offsets"] = [
                        place - (stop - start) for place in entry["data_offsets"]
                    ]
        for item in node.values():
            drop_tensors(item, entries, data)


def refusal(path):
    """Return why a file is refused, None if it is not and the model works."""
    try:
        model = load(path, device="cpu")
    except ValueError as error:
        return str(error)
    models.ask(model)
    return None


@pytest.mark.parametrize("name", models.MAKERS)
def test_a_model_works_without_an_attribute_or_is_refused(name, path):
    model = models.fitted(name)
    save(model, path)
    original = path.read_bytes()
    for attribute in attributes(model):
        path.write_bytes(original)

        def change(estimator, entries, data, attribute=attribute):
            drop_tensors(estimator["state"].pop(attribute), entries, data)

        rewrite(path, change)
        why = refusal(path)
        assert why is None or f"lacks {attribute}" in why


WITHOUT_ARRAYS = {"detector", "frozen", "search", "trimmed"}


@pytest.mark.parametrize("name", sorted(models.MAKERS.keys() - WITHOUT_ARRAYS))
def test_arrays_in_each_others_place_are_refused_or_work(name, path):
    save(models.fitted(name), path)
    original = path.read_bytes()

    def swap(estimator, entries, data):
        state = estimator["state"]
        arrays = [k for k, v in state.items() if isinstance(v, dict) and "tensor" in v]
        first, second = (arrays[i % len(arrays)] for i in (number, number + 1))
        state[first], state[second] = state[second], state[first]

    for number in range(4):  # noqa: B007
        path.write_bytes(original)
        rewrite(path, swap)
        why = refusal(path)
        assert why is None or "expected" in why


NUMBERS = {
    "weights_": [-0.5, 1.5],
    "means_": [np.nan, 0.0],
    "precisions_cholesky_": [np.inf, 0.0],
}


@pytest.mark.parametrize("attribute", NUMBERS)
@pytest.mark.parametrize("name", ["flat_full", "flat_tied", "flat_diag"])
def test_impossible_numbers_are_refused(name, attribute, path):
    model = copy.deepcopy(models.fitted(name))
    getattr(model, attribute).flat[:2] = NUMBERS[attribute]
    save(model, path)
    with pytest.raises(ValueError, match=rf"GaussianMixture\.{attribute} is an array"):
        load(path)


@pytest.mark.parametrize(
    "name, change, message",
    [
        (
            "flat_full",
            {"covariance_type": "tied"},
            r"covariances_ .*\(D=3, D=3\)",
        ),
        ("flat_full", {"covariance_type": "low_rank"}, "'covariances_'"),
        ("flat_low_rank", {"covariance_type": "diag"}, "'factors_'"),
        ("flat_full", {"n_components": 0}, "'n_components' parameter"),
        ("flat_full", {"tol": -1.0}, "'tol' parameter"),
        ("deep_images", {"score_layer": 2}, "score_layer.*2 mixtures"),
        ("detector", {"contamination": 0.9}, "contamination == 0.9"),
        ("denoiser", {"search_stride": 2**31}, "search_stride .* at most 1024"),
    ],
)
def test_parameters_must_fit_the_class_and_the_fit(name, change, message, path):
    save(models.fitted(name), path)
    rewrite(path, lambda estimator, *_: estimator["params"].update(change))
    with pytest.raises(ValueError, match=message):
        load(path)


@pytest.mark.parametrize(
    "setting, value",
    [
        ("n_clusters", 10**9),
        ("noise_dim", 10**12),
        ("width", 1e300),
        ("width", "wide"),
        ("table", "x"),
        ("table", "celeba"),
        ("shape", {"type": "tuple", "items": [1, 2**30, 2**30]}),
        ("shape", {"type": "tuple", "items": []}),
        ("shape", 3),
        ("embedding_dim", 10**9),
    ],
)
def test_settings_of_other_networks_are_refused(setting, value, path):
    save(models.fitted("gan_em_images"), path)

    def change(estimator, entries, data):
        items = estimator["state"]["_architecture"]["items"]
        items[[key for key, _ in items].index(setting)][1] = value

    rewrite(path, change)
    with pytest.raises(ValueError, match=r"GANEMClusterer\.(_architecture|networks_)"):
        load(path)


def test_a_setting_of_another_type_is_refused(path):
    model = copy.deepcopy(models.fitted("minmax_em_images"))
    model._architecture["separation"] = "wide"
    save(model, path)
    with pytest.raises(ValueError, match="its separation is 'wide'"):
        load(path)


@pytest.mark.parametrize("name", ["gan_em", "minmax_em_images"])
def test_a_network_without_a_weight_is_refused(name, path):
    model = copy.deepcopy(models.fitted(name))
    weights = model.networks_["generator"]
    del weights[next(iter(weights))]
    save(model, path)
    with pytest.raises(ValueError, match=r"networks_\['generator'\].*without or with"):
        load(path)


def test_an_unfitted_density_in_a_fitted_detector_is_refused(path):
    model = copy.deepcopy(models.fitted("detector"))
    model.estimator_ = type(model.estimator_)()
    save(model, path)
    with pytest.raises(ValueError, match=r"estimator_ is .*expected a fitted density"):
        load(path)

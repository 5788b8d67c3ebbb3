"""Files that older versions wrote load and predict as they did then.

Version 1: no checksum, headers as the safetensors library writes them.
"""

import json
import struct
from pathlib import Path

import numpy as np
import pytest

from skdeepgmm import load, save
from skdeepgmm._torch_backend.clusterers.gan_em.recipes import RECIPES
from skdeepgmm.persistence._older import modernized

DATA = Path(__file__).with_name("data")
EXPECTED = json.loads((DATA / "v1_expected.json").read_text())


@pytest.mark.parametrize("name", EXPECTED)
def test_files_of_version_1(name, tmp_path):
    expected = EXPECTED[name]
    model = load(DATA / f"v1_{name}.safetensors", device="cpu")
    assert type(model).__name__ == expected["class"]
    X = np.array(expected["rows"], dtype=expected["dtype"])
    if hasattr(model, "feature_names_in_"):
        pd = pytest.importorskip("pandas")
        assert model.feature_names_in_.tolist() == ["a", "β"]
        X = pd.DataFrame(X, columns=["a", "β"])
    np.testing.assert_allclose(
        model.score_samples(X), expected["score_samples"], rtol=1e-5, atol=1e-5
    )
    save(model, tmp_path / "new")
    same = load(tmp_path / "new", device="cpu")
    np.testing.assert_array_equal(same.score_samples(X), model.score_samples(X))


def test_their_arrays_need_not_be_aligned(tmp_path):
    raw = (DATA / "v1_sgd_tied.safetensors").read_bytes()
    (size,) = struct.unpack("<Q", raw[:8])
    shifted = struct.pack("<Q", size + 1) + raw[8 : 8 + size] + b" " + raw[8 + size :]
    (tmp_path / "shifted").write_bytes(shifted)
    model = load(tmp_path / "shifted", device="cpu")
    original = load(DATA / "v1_sgd_tied.safetensors", device="cpu")
    assert model.means_.flags.aligned
    np.testing.assert_array_equal(model.means_, original.means_)


def test_parameters_of_version_1():
    """Multiples of the recipe's learning rates, and settings by their old names."""
    old = {
        "start_iter": 3,
        "learning_rate": 2.0,
        "recipe": {"held": 0.5, "generator_rate": 1e-4},
    }
    assert modernized("GANEMClusterer", "params", old, 1) == {
        "init_iter": 3,
        "learning_rate": 2e-4,
        "recipe": {"constant_fraction": 0.5, "generator_lr": 1e-4},
    }
    assert modernized("GANEMClusterer", "params", old, 2) == old
    for recipe, rates in RECIPES.items():
        found = modernized(
            "GANEMClusterer", "params", {"learning_rate": 3.0, "recipe": recipe}, 1
        )
        assert found["learning_rate"] == pytest.approx(3.0 * rates.generator_lr)

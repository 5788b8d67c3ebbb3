"""A few hundred damaged files of all classes; benchmarks/fuzz_files.py has more."""

import numpy as np
import pytest

from skdeepgmm import save
from tests.persistence import models, mutations

FINE = {"refused", "refuses input", "works", "same"}


@pytest.mark.parametrize("name", models.MAKERS)
def test_damage_is_refused_and_what_loads_works(name, tmp_path):
    path = tmp_path / "model.safetensors"
    save(models.fitted(name), path)
    raw = path.read_bytes()
    for number in range(16):
        rng = np.random.default_rng([number, len(raw)])
        damaged = mutations.blind(raw, rng)
        outcome, note = mutations.verdict(path, raw, damaged)
        assert outcome in {"refused", "same"}, (number, note)
        forged = mutations.skilled(raw, rng)
        outcome, note = mutations.verdict(path, raw, forged)
        assert outcome in FINE, (number, note)

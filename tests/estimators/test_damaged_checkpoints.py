"""Damaged and forged checkpoints; benchmarks/fuzz_checkpoints.py has more."""

import copy
from pathlib import Path

import numpy as np
import pytest

from skdeepgmm.estimators._checkpoint import read_tree
from tests.estimators import damaged_checkpoints as checkpoints
from tests.estimators.iterative import FAMILIES, At, fail, learned

FINE = ("refused", "refused later", "went on")
families = pytest.mark.parametrize("family", FAMILIES)
pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.filterwarnings("ignore::skdeepgmm.exceptions.CheckpointWarning"),
]


@families
def test_damaged_files_are_refused_and_the_one_before_is_used(family, tmp_path):
    path = checkpoints.written(family, tmp_path)
    files = [path.read_bytes(), Path(f"{path}.previous").read_bytes()]
    for number in range(15):
        rng = np.random.default_rng([1, number])
        outcome, note = checkpoints.damaged_verdict(family, path, files, rng)
        assert outcome in FINE, (number, note)


@families
def test_a_fit_goes_on_from_the_generation_before(family, tmp_path):
    construct, data = FAMILIES[family]
    path = checkpoints.written(family, tmp_path)
    path.write_bytes(path.read_bytes()[:-1])
    whole = learned(construct().fit(data()))
    checkpoints.goes_on_to_the_same_end(family, path, whole)


@families
def test_forged_files_are_refused_or_taken_at_their_word(family, tmp_path):
    path = checkpoints.written(family, tmp_path)
    tree = read_tree(path)
    for number in range(10):
        rng = np.random.default_rng([2, number])
        outcome, note = checkpoints.forged_verdict(family, path, tree, rng)
        assert outcome in FINE, (number, note)


def test_what_shows_in_the_training_is_refused_too(tmp_path):
    """Values that EM takes up without a look at them."""
    construct, data = FAMILIES["em"]
    path = checkpoints.written("em", tmp_path)
    tree = read_tree(path)
    for name, value in (("events", 3), ("lower_bounds", 7)):
        forged = copy.deepcopy(tree)
        forged["state"]["current"]["result"][name] = value
        checkpoints.write(forged, path)
        with pytest.raises(ValueError, match="does not fit this fit"):
            construct(checkpoint_path=path).fit(data())
        assert path.exists()


@pytest.mark.parametrize("family", ["gan_em", "minmax_em"])
@pytest.mark.parametrize("change", ["cut", "another type", "missing"])
def test_averages_of_an_optimizer_that_do_not_fit_are_refused(family, change, tmp_path):
    """torch's fused steps would read past their ends."""
    construct, data = FAMILIES[family]
    path = checkpoints.written(family, tmp_path)
    tree = read_tree(path)
    averages = next(
        node
        for node, key in checkpoints._places(tree["state"])
        if key == "exp_avg" and node["exp_avg"]["tensor"].ndim == 2
    )
    array = averages["exp_avg"]["tensor"]
    changed = {"cut": array[:-1].copy(), "another type": array.astype(float)}
    if change == "missing":
        del averages["exp_avg"]
    else:
        averages["exp_avg"]["tensor"] = changed[change]
    checkpoints.write(tree, path)
    with pytest.raises(ValueError, match="does not fit this fit"):
        construct(checkpoint_path=path).fit(data())


@families
def test_errors_of_callbacks_in_a_fit_that_goes_on_are_theirs(family, tmp_path):
    construct, data = FAMILIES[family]
    path = checkpoints.written(family, tmp_path)
    model = construct(checkpoint_path=path).set_callbacks(At(1, fail))
    with pytest.raises(RuntimeError, match="cut off"):
        model.fit(data())

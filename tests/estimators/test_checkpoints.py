"""Fits that are cut off go on where they were, from their checkpoints."""

import errno
import functools
import shutil
import signal
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from sklearn.exceptions import ConvergenceWarning

from skdeepgmm import GaussianMixture, load, save
from skdeepgmm.estimators import _checkpoint
from skdeepgmm.estimators.mixture._em_fit import EMFit
from skdeepgmm.exceptions import CheckpointWarning
from tests.estimators import iterative
from tests.estimators.iterative import (
    FAMILIES,
    At,
    assert_same,
    ctrl_c,
    deep,
    denoiser,
    em,
    fail,
    gan_em,
    learned,
    minmax_em,
    pictures,
    rows,
    sgd,
    stop,
)

pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.filterwarnings(
        "ignore::skdeepgmm.exceptions.DegenerateComponentWarning"
    ),
]
families = pytest.mark.parametrize("family", FAMILIES)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "fit.checkpoint"


@functools.cache
def whole(family):
    """Return what the whole fit learns."""
    construct, data = FAMILIES[family]
    return learned(construct().fit(data()))


def begin(construct, X, path, number=3, action=fail, **params):
    """Begin a fit that is cut off after so many iterations."""
    model = construct(checkpoint_path=path, **params)
    with pytest.raises(RuntimeError, match="cut off"):
        model.set_callbacks(At(number, action)).fit(X)


# Equal to the uninterrupted fit ----------------------------------------------------


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    """Folder with the checkpoints of fits that SIGKILL has ended."""
    folder = tmp_path_factory.mktemp("killed")
    command = [sys.executable, "-m", "tests.estimators.iterative", str(folder)]
    root = Path(iterative.__file__).parents[2]
    done = subprocess.run(
        command, cwd=root, capture_output=True, text=True, timeout=120, check=True
    )
    expected = [f"{name} {signal.SIGKILL.value}" for name in FAMILIES]
    assert done.stdout.splitlines() == expected
    return folder


@pytest.mark.skipif(sys.platform == "win32", reason="has neither fork nor SIGKILL")
@families
def test_a_killed_fit_goes_on_to_the_same_end(family, killed, tmp_path):
    construct, data = FAMILIES[family]
    assert (killed / family).exists()
    model = construct(checkpoint_path=killed / family, checkpoint_every=1)
    assert_same(learned(model.fit(data())), whole(family))
    assert not list(killed.glob(f"{family}*"))


VARIANTS = {
    "restarts of EM": (em, rows, {"n_init": 3}, 12),
    "missing entries": (em, rows, {"covariance_type": "diag"}, 3),
    "low rank": (em, rows, {"covariance_type": "low_rank", "rank": 2}, 4),
    "re-seeded": (em, rows, {"n_components": 9, "covariance_type": "tied"}, 3),
    "restarts of SGD": (sgd, rows, {"n_init": 2, "covariance_type": "tied"}, 7),
    "early stopping": (
        *(sgd, rows),
        {"early_stopping": True, "max_iter": 9, "n_iter_no_change": 2, "tol": 0.1},
        6,
    ),
    "deep early stopping": (deep, pictures, {"early_stopping": True}, 4),
    "restarts of GAN-EM": (gan_em, rows, {"n_init": 2, "init_iter": 1}, 3),
    "new optimisers": (
        *(gan_em, rows),
        {"recipe": {"gan_steps": 3, "persistent_optimizers": False, "ema_decay": 0.9}},
        2,
    ),
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_fit_that_raised_goes_on_to_the_same_end(variant, path):
    construct, data, params, number = VARIANTS[variant]
    X = data()
    if variant == "missing entries":
        X[::7, 1] = np.nan
    begin(construct, X, path, number, checkpoint_every=1, **params)
    assert path.exists()
    model = construct(checkpoint_path=path, checkpoint_every=1, **params).fit(X)
    assert_same(learned(model), learned(construct(**params).fit(X)))
    assert not list(path.parent.iterdir())


@pytest.mark.slow
@families
@pytest.mark.parametrize("number", [1, 2, 3, 4])
@pytest.mark.parametrize("every", [1, 2, 3])
def test_wherever_a_fit_is_cut_off(family, number, every, path):
    construct, data = FAMILIES[family]
    if number >= construct().max_iter:
        pytest.skip("the fit ends before")
    begin(construct, data(), path, number, checkpoint_every=every)
    model = construct(checkpoint_path=path, checkpoint_every=every).fit(data())
    assert_same(learned(model), whole(family))


@pytest.mark.parametrize("family", ["em", "sgd", "deep"])
def test_a_fit_may_be_cut_off_again_and_again(family, path):
    construct, data = FAMILIES[family]
    for _ in range(3):  # each goes two on, and keeps one of them
        begin(construct, data(), path, 2, checkpoint_every=1)
    model = construct(checkpoint_path=path, checkpoint_every=1).fit(data())
    assert_same(learned(model), whole(family))


def test_the_mixture_of_a_denoiser_goes_on_to_the_same_end(path, monkeypatch):
    X = list(np.random.RandomState(0).rand(2, 9, 9))
    save_if_due = EMFit._save_if_due

    def cut_off(self, result, guard, expectation):
        save_if_due(self, result, guard, expectation)
        if result.n_iter == 3:
            fail()

    with monkeypatch.context() as patch:
        patch.setattr(EMFit, "_save_if_due", cut_off)
        with pytest.raises(RuntimeError, match="cut off"):
            denoiser(checkpoint_path=path, checkpoint_every=1).fit(X)
    assert path.exists()
    model = denoiser(checkpoint_path=path).fit(X)
    assert_same(learned(model), learned(denoiser().fit(X)))
    assert model.mixture_.checkpoint_path is None


def test_a_random_state_of_the_users_ends_where_it_would_have(path):
    X, first, second = rows(), np.random.RandomState(3), np.random.RandomState(3)
    em(random_state=first, n_init=2).fit(X)
    params = {"n_init": 2, "checkpoint_every": 1}
    begin(em, X, path, 7, random_state=np.random.RandomState(3), **params)
    em(random_state=second, checkpoint_path=path, **params).fit(X)
    assert first.randint(2**31) == second.randint(2**31)


def test_without_a_seed_the_fit_goes_on_with_what_it_drew(path):
    begin(sgd, rows(), path, random_state=None)
    saved = _checkpoint.read_tree(path)["state"]["restarts"][0]["training"]
    model = sgd(random_state=None, checkpoint_path=path).fit(rows())
    _, (_, bounds) = saved["history"][0], saved["history"][1]["log_likelihood"]
    expected = np.array(bounds) - np.array(model.lower_bounds_[: len(bounds)])
    np.testing.assert_allclose(expected, expected[0])  # but for the units of the data


def test_a_warm_start_goes_on_as_well(path):
    X = rows()
    expected = em(warm_start=True).fit(X).fit(X)
    model = em(warm_start=True, checkpoint_path=path, checkpoint_every=1).fit(X)
    with pytest.raises(RuntimeError, match="cut off"):
        model.set_callbacks(At(3, fail)).fit(X)
    assert path.exists()
    model.set_callbacks().fit(X)
    assert_same(learned(model), learned(expected))


# Whose checkpoint ------------------------------------------------------------------


CHANGES = {
    "n_components": lambda: {"n_components": 4},
    "tol": lambda: {"tol": 0.5},
    "means_init": lambda: {"means_init": np.ones((3, 4))},
    "random_state": lambda: {"random_state": 1},
}


@pytest.mark.parametrize("name", CHANGES)
def test_other_parameters_are_refused_by_name(name, path):
    begin(em, rows(), path, checkpoint_every=1)
    before = path.read_bytes()
    model = em(checkpoint_path=path, **CHANGES[name]())
    with pytest.raises(ValueError, match=rf"another fit: {name} is "):
        model.fit(rows())
    assert path.read_bytes() == before
    assert not hasattr(model, "n_features_in_")


def test_other_data_are_refused_by_name(path):
    X = rows()
    begin(em, X, path, checkpoint_every=1)
    X[3, 2] = np.nextafter(X[3, 2], 9.0)
    with pytest.raises(ValueError, match=r"X is float64 \(80, 4\) \(SHA-256"):
        em(checkpoint_path=path).fit(X)
    with pytest.raises(ValueError, match="sample_weight is float64"):
        em(checkpoint_path=path).fit(rows(), sample_weight=np.ones(80))
    with pytest.raises(ValueError, match="fit: estimator is SGDGaussianMixture, in"):
        sgd(checkpoint_path=path).fit(rows())


def test_what_changes_no_result_may_change(path, capsys):
    begin(em, rows(), path, checkpoint_every=1)
    model = em(checkpoint_path=path, checkpoint_every=3, verbose=1).fit(rows())
    assert_same(learned(model), whole("em"))
    assert "Initialization" in capsys.readouterr().out


def test_layouts_of_the_same_values_are_the_same_data():
    X = np.random.RandomState(0).rand(50, 3)
    expected = _checkpoint.described(X)
    assert _checkpoint.described(np.asfortranarray(X)) == expected
    assert _checkpoint.described(X.astype(">f8")) == expected.replace("float64", ">f8")
    assert _checkpoint.described(X.astype(np.float32)) != expected


def test_a_fit_that_came_to_its_end_leaves_nothing(path):
    model = em(checkpoint_path=path, checkpoint_every=1).fit(rows())
    assert not list(path.parent.iterdir())
    other = rows() * 3.0
    assert_same(learned(model.fit(other)), learned(em().fit(other)))
    model.set_callbacks(At(2, stop)).fit(other)
    assert model.n_iter_ == 2
    assert not list(path.parent.iterdir())


@pytest.mark.parametrize("family", ["em", "deep", "gan_em"])
def test_after_ctrl_c_the_checkpoint_is_there(family, path):
    construct, data = FAMILIES[family]
    model = construct(checkpoint_path=path, checkpoint_every=1)
    model.set_callbacks(At(2, ctrl_c))
    with pytest.warns(ConvergenceWarning, match="interrupted after 2 of"):
        model.fit(data())
    assert path.exists()
    assert_same(learned(model.set_callbacks().fit(data())), whole(family))


# Faults ----------------------------------------------------------------------------


def flip(path):
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 1
    path.write_bytes(raw)
    return bytes(raw)


def test_a_damaged_checkpoint_is_kept_and_the_one_before_is_used(path):
    begin(em, rows(), path, checkpoint_every=1)
    raw = flip(path)
    model = em(checkpoint_path=path, checkpoint_every=1)
    with pytest.warns(CheckpointWarning, match=r"SHA-256.*goes on from the one before"):
        model.fit(rows())
    assert_same(learned(model), whole("em"))
    (left,) = path.parent.iterdir()
    assert left.read_bytes() == raw


def test_damaged_checkpoints_are_refused_and_left_alone(path):
    begin(em, rows(), path, checkpoint_every=1)
    previous = Path(f"{path}.previous")
    before = [flip(path), flip(previous)]
    model = em(checkpoint_path=path)
    with pytest.raises(ValueError, match=r"checkpoint_path=.*remove"):
        model.fit(rows())
    assert [path.read_bytes(), previous.read_bytes()] == before


def test_other_files_are_refused_and_left_alone(path):
    path.write_text("my notes")
    with pytest.raises(ValueError, match="is not a safetensors file"):
        em(checkpoint_path=path).fit(rows())
    assert path.read_text() == "my notes"
    save(em().fit(rows()), path)
    with pytest.raises(ValueError, match="is a saved model and no checkpoint"):
        em(checkpoint_path=path).fit(rows())
    assert load(path).n_iter_ == 5


@families
def test_a_crafted_checkpoint_is_refused(family, path):
    """Of the right fit and with the right checksum, but without one of its values."""
    construct, data = FAMILIES[family]
    begin(construct, data(), path, 2, checkpoint_every=1)
    tree = _checkpoint.read_tree(path)
    for name in tree["state"]:
        model = construct(checkpoint_path=path)
        checkpoint = _checkpoint.Checkpoint.__new__(_checkpoint.Checkpoint)
        state = {key: value for key, value in tree["state"].items() if key != name}
        vars(checkpoint).update(path=path, target=str(path), kept=None)
        checkpoint.previous, checkpoint.fingerprint = None, tree["fingerprint"]
        checkpoint.save(lambda state=state: state)
        with pytest.raises(ValueError, match=f"does not fit this fit: .*{name}"):
            model.fit(data())
        assert not hasattr(model, "n_features_in_")


def test_a_kill_between_the_two_renames_loses_nothing(path):
    begin(em, rows(), path, checkpoint_every=1)
    path.unlink()
    model = em(checkpoint_path=path, checkpoint_every=1).fit(rows())
    assert_same(learned(model), whole("em"))


def with_one_warning(model, X):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model.fit(X)
    found = [each for each in caught if each.category is CheckpointWarning]
    assert len(found) == 1
    assert found[0].filename == __file__
    return str(found[0].message)


@families
def test_a_full_disk_costs_the_checkpoint_and_not_the_fit(family, path, monkeypatch):
    def full(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(_checkpoint, "replace_file", full)
    construct, data = FAMILIES[family]
    model = construct(checkpoint_path=path, checkpoint_every=1)
    assert "No space left" in with_one_warning(model, data())
    assert_same(learned(model), whole(family))


def test_a_folder_that_goes_away_costs_the_checkpoint_and_not_the_fit(tmp_path):
    folder = tmp_path / "runs"
    folder.mkdir()
    model = em(checkpoint_path=folder / "fit", checkpoint_every=1)
    model.set_callbacks(At(3, lambda: shutil.rmtree(folder)))
    assert "No such file" in with_one_warning(model, rows())
    assert_same(learned(model), whole("em"))


def test_a_folder_that_is_missing_is_an_error_at_once(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"checkpoint_path=.*Make it first"):
        em(checkpoint_path=tmp_path / "no" / "fit").fit(rows())
    with pytest.raises(OSError, match="is a folder"):
        em(checkpoint_path=tmp_path).fit(rows())


def test_a_model_file_does_not_say_where_to_write(path, tmp_path):
    model = em(checkpoint_path=tmp_path / "fit", checkpoint_every=3).fit(rows())
    save(model, path)
    assert load(path).checkpoint_path is None
    assert load(path).checkpoint_every == 3
    assert isinstance(load(path), GaussianMixture)


def test_minmax_em_that_was_cut_off_while_the_encoder_began(path, monkeypatch):
    construct, data = minmax_em, rows
    trainer = construct()._Fit.Trainer
    with monkeypatch.context() as patch:
        patch.setattr(trainer, "init_encoder", lambda self, n_steps: fail())
        with pytest.raises(RuntimeError, match="cut off"):
            construct(checkpoint_path=path).fit(data())
    assert path.exists()
    model = construct(checkpoint_path=path).fit(data())
    assert_same(learned(model), whole("minmax_em"))


@pytest.mark.parametrize("path", ["", "/", "a\0b", "/dev/null"])
def test_paths_of_no_file_are_named(path):
    with pytest.raises((OSError, ValueError), match="checkpoint_path="):
        em(checkpoint_path=path).fit(rows())

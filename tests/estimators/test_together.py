"""Processes that torchrun has started fit one model together.

Two of them run the program ``together.py``; each has a part of the rows.
"""

import os
import pickle
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from skdeepgmm import DensityOutlierDetector, PatchGMMDenoiser
from skdeepgmm.estimators import _base
from skdeepgmm.metrics import clustering_accuracy
from tests.estimators import together

ROOT = Path(__file__).parents[2]
EXACT = ("diag", "low_rank", "stream")
SLOW = [name for name in together.CASES if name not in together.QUICK]
TIMEOUT = 20


def free_port():
    with socket.socket() as found:
        found.bind(("localhost", 0))
        return found.getsockname()[1]


@pytest.fixture(scope="module")
def quick(tmp_path_factory):
    """What the two ranks have found, in their order."""
    return found_by_ranks(tmp_path_factory.mktemp("quick"), "quick", [0, 0])


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """The same of the slow cases, after which a rank dies."""
    folder = tmp_path_factory.mktemp("thorough")
    results = found_by_ranks(folder, "thorough", [0, 3])
    results[0]["death"] = pickle.loads((folder / "0.death").read_bytes())
    return results


def found_by_ranks(folder, run, expected_codes):
    """Run two ranks of the program to their end; return their results."""
    # What torchrun sets.
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
        "MASTER_ADDR": "localhost",
        "MASTER_PORT": str(free_port()),
        "TORCHELASTIC_RUN_ID": "test",
        "WORLD_SIZE": "2",
        "LOCAL_WORLD_SIZE": "2",
        "OMP_NUM_THREADS": "1",
        "SKDEEPGMM_TIMEOUT": str(TIMEOUT),
    }
    program = [sys.executable, "-m", "tests.estimators.together", str(folder), run]
    ranks = [
        subprocess.Popen(
            program,
            cwd=ROOT,
            env=environment | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
        )
        for rank in range(2)
    ]
    try:
        codes = [rank.wait(timeout=240) for rank in ranks]
    finally:
        for rank in ranks:
            rank.kill()
    assert codes == expected_codes
    return [pickle.loads((folder / f"{n}.pickle").read_bytes()) for n in range(2)]


def assert_equal(first, second):
    """Compare fitted attributes."""
    names = [name for name in first if name.endswith("_") and name != "labels_"]
    assert "weights_" in names or "mixtures_" in names
    for name in names:
        np.testing.assert_equal(first[name], second[name])


def assert_that_of_one_process(model, name):
    """Compare what EM has learned with the fit of all rows by one process."""
    expected = vars(together.fitted(name, slice(0, None)))
    np.testing.assert_allclose(
        model["lower_bounds_"], expected["lower_bounds_"], rtol=0, atol=1e-9
    )
    for attribute in ("weights_", "means_", "noise_variance_", "covariances_"):
        if attribute in expected:
            # The restarts of a stream may be as good in another order.
            first, second = (
                np.sort(each[attribute], axis=0) for each in (model, expected)
            )
            np.testing.assert_allclose(first, second, rtol=0, atol=1e-6)
    assert model["n_samples_seen_"] == expected["n_samples_seen_"]


@pytest.mark.parametrize("name", together.QUICK)
def test_two_ranks_fit_the_model_of_one_process(quick, name):
    assert_equal(quick[0][name], quick[1][name])
    assert_that_of_one_process(quick[0][name], name)


@pytest.mark.slow
@pytest.mark.parametrize("name", SLOW)
def test_each_rank_has_the_same_model(found, name):
    assert_equal(found[0][name], found[1][name])


@pytest.mark.slow
@pytest.mark.parametrize("name", EXACT)
def test_em_is_that_of_one_process(found, name):
    assert_that_of_one_process(found[0][name], name)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["sgd", "sgd held out"])
def test_gradients_are_those_of_one_process(found, name):
    model, expected = found[0][name], vars(together.fitted(name, slice(0, None)))
    # Other batches.
    assert model["lower_bound_"] == pytest.approx(expected["lower_bound_"], abs=0.05)
    if name == "sgd":
        assert model["_stream"]["steps"] == expected["_stream"]["steps"]
    for i in (0, 2):
        np.testing.assert_allclose(
            model["_stream"]["moments"][i], expected["_stream"]["moments"][i]
        )


@pytest.mark.slow
@pytest.mark.parametrize("name", ["deep", "deep held out", "images"])
def test_a_deep_mixture_is_as_good_as_that_of_one_process(found, name):
    model = found[0][name]
    expected = vars(together.fitted(name, slice(0, None)))
    assert model["n_iter_"] == expected["n_iter_"]
    # Of the pixels: what mixtures higher up get depends on those below.
    bounds, theirs = (
        each["history_"]["log_likelihood_0"] for each in (model, expected)
    )
    assert bounds[-1] == pytest.approx(theirs[-1], abs=0.5)
    assert bounds[0] < bounds[2]
    for first, second in zip(model["mixtures_"], expected["mixtures_"], strict=True):
        assert {k: v.shape for k, v in first.items()} == {
            k: v.shape for k, v in second.items()
        }


@pytest.mark.slow
@pytest.mark.parametrize("name", ["gan em", "minmax em"])
def test_clusters_are_found_together(found, name):
    _, y = together.separate()
    labels = np.concatenate([rank[name]["labels_"] for rank in found])
    assert clustering_accuracy(y, labels) > 0.95
    networks = found[0][name]["networks_"]
    assert all(np.isfinite(w).all() for net in networks.values() for w in net.values())


def test_a_rank_that_fails_fails_the_others(quick):
    message, seconds = quick[0]["infinite"]
    assert message.startswith("RankError: Rank 1 of 2 has failed: ValueError: Input X")
    assert quick[1]["infinite"][0].startswith("ValueError: Input X contains infinity")
    assert seconds < TIMEOUT


def test_ranks_have_to_agree(quick):
    message = "ValueError: All ranks have to agree on n_components, got 2 (rank 0), 3"
    for rank in quick:
        assert rank["differing"][0].startswith(message)


@pytest.mark.slow
def test_a_rank_that_dies_fails_the_others(found):
    message, seconds = found[0]["death"]
    assert message.startswith("RankError: Rank 0 of 2 has lost another one")
    assert seconds < TIMEOUT + 10


@pytest.mark.slow
def test_a_job_that_was_cut_off_goes_on_from_its_checkpoint(found):
    assert found[0]["cut off"][0].startswith("Cut")
    assert "Rank 0 of 2 has failed: Cut" in found[1]["cut off"][0]
    for rank in found:
        assert rank["has checkpoint"]
        assert_equal(rank["resumed"], rank["whole"])
        assert rank["leftovers"] == []


@pytest.mark.slow
def test_a_program_of_torchrun_comes_to_its_end(tmp_path):
    program = (
        "import numpy as np, os\n"
        "from skdeepgmm import GaussianMixture\n"
        "rank = int(os.environ['RANK'])\n"
        "X = np.random.default_rng(rank).normal(size=(200, 2))\n"
        "gm = GaussianMixture(random_state=0).fit(X)\n"
        "np.save(f'{rank}.npy', gm.means_)\n"
    )
    assert torchrun(tmp_path, program) == 0
    first, second = (np.load(tmp_path / f"{rank}.npy") for rank in range(2))
    np.testing.assert_array_equal(first, second)


def torchrun(folder, program, *arguments):
    """Let torchrun start two processes of a program; return its exit status."""
    (folder / "program.py").write_text(program)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    return subprocess.run(
        [*command, "--nproc-per-node=2", "program.py", *arguments],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        timeout=120,
    ).returncode


JOB = """
import os, pickle, signal, sys
from tests.estimators import together

rank = int(os.environ["RANK"])
cut = (slice(together.CUT), slice(together.CUT, None))[rank]
X, _ = together.problem()
settings = {"max_iter": 6, "tol": 0.0, "random_state": 0}
if "whole" not in sys.argv:
    settings |= {"checkpoint_path": "fit", "checkpoint_every": 1}
model = together.GaussianMixture(together.K, **settings)
if "killed" in sys.argv:
    kill = lambda: os.kill(os.getpid(), signal.SIGKILL)
    model.set_callbacks(together.After(3, kill))
model.fit(X[cut])
with open(f"{rank}.{sys.argv[1]}", "wb") as file:
    pickle.dump([model.lower_bounds_, model.means_.tolist()], file)
"""


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_killed_job_goes_on_to_the_same_model(tmp_path):
    assert torchrun(tmp_path, JOB, "killed") != 0
    assert (tmp_path / "fit").exists()
    assert torchrun(tmp_path, JOB, "resumed") == 0
    assert not (tmp_path / "fit").exists()
    assert torchrun(tmp_path, JOB, "whole") == 0
    for rank in range(2):
        resumed, whole = (
            pickle.loads((tmp_path / f"{rank}.{name}").read_bytes())
            for name in ("resumed", "whole")
        )
        assert resumed == whole


def test_what_cannot_be_fitted_together_says_so(monkeypatch):
    class Two:
        rank, size, failed = 0, 2, True

        def gathered(self, compute):
            return [compute()] * 2

        def tell(self, error):
            pass

    monkeypatch.setattr(_base, "world", Two)
    for model in (PatchGMMDenoiser(), DensityOutlierDetector()):
        with pytest.raises(NotImplementedError, match="SKDEEPGMM_DISTRIBUTED=0"):
            model.fit(np.random.default_rng(0).random((2, 16, 16)))

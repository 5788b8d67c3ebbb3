"""Random inputs for every estimator; benchmarks/fuzz_inputs.py has more."""

import numpy as np
import pytest

from skdeepgmm import GaussianMixture
from tests.estimators import fuzzing, laws


@pytest.mark.slow
@pytest.mark.parametrize("name", fuzzing.SUBJECTS)
def test_results_are_lawful_or_the_input_is_refused(name):
    outcomes = []
    for number in range(100):
        rng = np.random.default_rng([12, number])
        outcome, note = laws.verdict(fuzzing.attack(name, rng))
        assert outcome in ("lawful", "refused"), (number, note)
        outcomes.append(outcome)
    assert outcomes.count("lawful") > 10


def spoilt(method, fault):
    """Return a mixture with a method that does something else."""
    return type("Spoilt", (GaussianMixture,), {method: fault})


def fail(error):
    def method(self, *args, **kwargs):
        raise error

    return method


@pytest.mark.parametrize(
    ("cls", "expected"),
    [
        (GaussianMixture, "lawful"),
        (spoilt("predict_proba", lambda self, X: np.ones((12, 2))), "unlawful"),
        (spoilt("score_samples", lambda self, X: np.full(12, np.nan)), "unlawful"),
        (spoilt("predict", lambda self, X: np.full(12, 2)), "unlawful"),
        (spoilt("sample", lambda self, n: (np.full((n, 3), np.inf),)), "unlawful"),
        (spoilt("predict", fail(RuntimeError("X"))), "another exception"),
        (spoilt("fit", fail(ValueError("tol is too small"))), "refused"),
        (spoilt("fit", fail(ValueError("something is wrong"))), "says too little"),
        (spoilt("fit", fail(ValueError("rank is too small"))), "says too little"),
        (spoilt("fit", fail(TypeError("tol: at::Tensor"))), "says too little"),
    ],
)
def test_what_is_wrong_is_found(cls, expected, monkeypatch, rng):
    _, params, shapes = fuzzing.SUBJECTS["GaussianMixture"]
    subject = (cls, params, shapes)
    monkeypatch.setitem(fuzzing.SUBJECTS, "GaussianMixture", subject)
    X = fuzzing.numbers(rng, (12, 3))
    found = fuzzing.Attack("GaussianMixture", params, X, {}, {"tol": 0.1})
    assert laws.verdict(found)[0] == expected


def test_a_fit_that_hangs_is_ended(monkeypatch, rng):
    def hang(self, X):
        while True:
            pass

    monkeypatch.setattr(laws, "HANGS_AFTER", 1)
    subject = (spoilt("fit", hang), {}, ())
    monkeypatch.setitem(fuzzing.SUBJECTS, "GaussianMixture", subject)
    found = fuzzing.Attack("GaussianMixture", {}, None, {})
    assert laws.verdict(found)[0] == "hung"

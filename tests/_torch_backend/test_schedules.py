"""Schedules of a run, as fractions of it, and the learning rate of a stream."""

import pytest

from skdeepgmm._torch_backend import annealing
from skdeepgmm._torch_backend.schedules import RunPlan, stream_lr


def test_the_learning_rate_falls_linearly_to_zero():
    plan = RunPlan(0.4, 100)
    assert [plan.lr(step) for step in (0, 50, 100, 150)] == [0.4, 0.2, 0.0, 0.0]


def test_a_part_of_a_run_begins_later_and_ends_with_it():
    plan = RunPlan(0.4, 100, begin=0.5)
    assert plan.lr(49) == 0.0
    assert plan.lr(50) == 0.4
    assert plan.lr(75) == pytest.approx(0.2)
    assert plan.progress(100) == 1.0


def test_annealing_is_a_fraction_of_the_part():
    schedule = annealing.schedule(9, 0.4)
    whole, half = RunPlan(0.4, 100, schedule), RunPlan(0.4, 100, schedule, begin=0.5)
    assert whole.radius(0) == half.radius(50) == schedule.start
    assert whole.radius(39) is not None
    assert whole.radius(40) is None
    assert half.radius(69) is not None
    assert half.radius(71) is None


def test_weights_are_equal_for_half_of_a_new_run():
    assert not RunPlan(0.4, 100).frees_weights(49)
    assert RunPlan(0.4, 100).frees_weights(50)
    assert RunPlan(0.4, 100, fresh=False).frees_weights(0)


def test_components_are_re_seeded_while_they_can_still_converge():
    plan = RunPlan(0.4, 100, annealing.schedule(9, 0.4))
    assert [step for step in range(100) if plan.may_reseed(step)] == list(range(40, 80))
    early = RunPlan(0.4, 100, last_reseed=0.3)
    assert [step for step in range(100) if early.may_reseed(step)] == [*range(11, 30)]


def test_the_rate_of_a_stream_falls_but_its_sum_is_infinite():
    assert stream_lr(0.1, 0, 100) == 0.1
    far, farther = stream_lr(0.1, 10**6, 100), stream_lr(0.1, 2 * 10**6, 100)
    assert farther / far == pytest.approx(2.0**-0.6, rel=1e-3)

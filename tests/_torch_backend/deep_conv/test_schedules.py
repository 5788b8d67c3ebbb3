"""When the layers of a deep mixture learn, and how fast."""

import pytest

from skdeepgmm._torch_backend.deep_conv.schedules import (
    StreamPlan,
    run_plans,
    stream_plans,
)


def test_streams_are_annealed_first_and_again_on_request():
    plan = StreamPlan(0.1, 9)
    assert plan.radius(0) > 1.0
    assert plan.radius(299) < 0.1
    assert plan.radius(300) is None
    assert plan.lr(300) == pytest.approx(0.1)
    assert plan.lr(3000) < 0.03
    again = StreamPlan(0.1, 9, opened=3000, reopened=True)
    assert plan.radius(0) > again.radius(3000) > 0.3
    assert again.lr(3000) == pytest.approx(0.1)


def test_layers_begin_one_after_the_other():
    plans = run_plans([5, 5, 5, 5, 5], 0.2, 100, 0.4)
    begins = [min(s for s in range(100) if plan.lr(s) > 0.0) for plan in plans]
    assert begins == [0, 10, 20, 30, 30]
    assert all(plan.radius(begin) for plan, begin in zip(plans, begins, strict=True))


def test_no_annealing_begins_with_the_log_likelihood():
    for plan in run_plans([5, 4], 0.2, 100, None):
        assert plan.radius(50) is None
        assert not plan.frees_weights(0)


def test_layers_are_looked_at_now_and_then():
    (plan,) = run_plans([5], 0.2, 400, 0.2)
    looks = [step for step in range(400) if plan.may_reseed(step)]
    assert looks == list(range(80, 340, 10))


def test_layers_of_a_stream_wait_unless_it_was_opened_again():
    first, second = stream_plans([5, 4], 0.2, 0, reopened=False)
    assert first.lr(0) == 0.2
    assert second.lr(59) == 0.0 < second.lr(60)
    assert all(plan.lr(7) == 0.2 for plan in stream_plans([5, 4], 0.2, 7, True))


@pytest.mark.parametrize("total_steps", [1, 2, 3, 4, 7])
def test_every_layer_learns_in_the_shortest_runs(total_steps):
    plans = run_plans([5, 5, 5, 5, 5], 0.2, total_steps, 0.4)
    assert plans[0].lr(0) == pytest.approx(0.2)
    for plan in plans:
        assert plan.lr(total_steps - 1) > 0.0

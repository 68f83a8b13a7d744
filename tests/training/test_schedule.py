"""The schedule: nothing dropped, nobody waits for ever, the work is even."""

from __future__ import annotations

from collections import Counter

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from rayflow.training.layout import Layout
from rayflow.training.schedule import Batching, epoch_plan

widths = st.lists(st.integers(1, 500), min_size=1, max_size=60)
batchings = st.builds(
    Batching,
    batch_size=st.integers(1, 20),
    world_size=st.integers(1, 5),
    micro_batch_tokens=st.integers(50, 1500),
    seed=st.integers(0, 2**31),
)


def layout_of(lengths, rows=1) -> Layout:
    width = np.array(lengths)
    return Layout(rows == 1, np.full_like(width, rows), width)


@given(widths, batchings, st.integers(0, 3))
@settings(max_examples=150, deadline=None)
def test_every_group_is_trained_on_exactly_once_an_epoch(lengths, batching, epoch):
    plan = epoch_plan(batching, layout_of(lengths), range(len(lengths)), epoch)
    seen = Counter(
        i for step in plan for worker in step.micro_steps for m in worker if m.weight for i in m.groups
    )
    assert seen == Counter(range(len(lengths)))
    assert len(plan) == batching.steps_per_epoch(len(lengths))
    for step in plan:
        assert set(step.groups) == {i for w in step.micro_steps for m in w for i in m.groups}


@given(widths, batchings)
@settings(max_examples=150, deadline=None)
def test_every_worker_has_the_same_number_of_micro_steps_and_none_is_empty(lengths, batching):
    for step in epoch_plan(batching, layout_of(lengths), range(len(lengths)), 0):
        assert len(step.micro_steps) == batching.world_size
        assert len({len(worker) for worker in step.micro_steps}) == 1
        assert all(m.groups for worker in step.micro_steps for m in worker)


@given(widths, batchings, st.integers(1, 8))
@settings(max_examples=150, deadline=None)
def test_a_micro_step_keeps_the_token_budget_unless_it_is_one_group(lengths, batching, rows):
    layout = layout_of(lengths, rows)
    for step in epoch_plan(batching, layout, range(len(lengths)), 0):
        for micro_step in (m for worker in step.micro_steps for m in worker):
            fits = layout.padded_tokens(micro_step.groups) <= batching.micro_batch_tokens
            assert fits or len(micro_step.groups) == 1


@given(widths, batchings)
@settings(max_examples=150, deadline=None)
def test_workers_differ_by_at_most_one_group_of_tokens(lengths, batching):
    for step in epoch_plan(batching, layout_of(lengths), range(len(lengths)), 0):
        loads = [sum(lengths[i] for m in w if m.weight for i in m.groups) for w in step.micro_steps]
        assert max(loads) - min(loads) <= max(lengths[i] for i in step.groups)


def test_the_batches_do_not_depend_on_the_number_of_workers():
    layout, members = layout_of(range(10, 60)), range(50)
    one, four = (epoch_plan(Batching(8, w, 200, seed=3), layout, members, 1) for w in (1, 4))
    assert [step.groups for step in one] == [step.groups for step in four]


def test_each_epoch_has_its_own_order():
    layout = layout_of([10] * 30)
    first, second = (epoch_plan(Batching(8, 1, 200, seed=3), layout, range(30), e) for e in (0, 1))
    assert [s.groups for s in first] != [s.groups for s in second]


def test_a_worker_without_a_group_repeats_one_with_weight_zero():
    (step,) = epoch_plan(Batching(8, 3, 200, seed=0), layout_of([10, 30]), range(2), 0)
    idle = [m for worker in step.micro_steps for m in worker if not m.weight]
    assert [m.groups for m in idle] == [(0,)]  # the shortest

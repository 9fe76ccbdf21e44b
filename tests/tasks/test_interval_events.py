"""A fit warns of intervals of survival without an event, from which nothing can be learned."""

import numpy as np
import pytest

from dmml.tasks import Survival
from dmml.tasks.interval_events import describe_empty_intervals


def test_every_interval_without_an_event_is_named():
    time, event = np.array([5.0, 15, 15, 25, 40]), np.array([1.0, 0, 0, 1, 0])
    assert describe_empty_intervals(time, event, [20.0], "events") == ""
    text = describe_empty_intervals(time, event, [10.0, 20.0, 30.0], "all")
    assert "in 2 of the 4 intervals of survival (days 10 to 20, from 30)" in text
    assert text.endswith("set edges_from: events in the task, or lower n_intervals")
    assert describe_empty_intervals(time, event, [10.0, 20.0], "events").endswith("learned; lower n_intervals")


def test_an_event_on_an_edge_belongs_to_the_interval_that_it_opens():
    assert "(days 0 to 10)" in describe_empty_intervals(np.array([10.0]), np.ones(1), [10.0], "all")
    assert "(days from 10)" in describe_empty_intervals(np.array([9.0]), np.ones(1), [10.0], "all")


@pytest.mark.parametrize("edges_from", ["all", "events"])
def test_quartiles_of_all_times_warn_where_those_of_event_times_need_not(edges_from):
    """The earliest quarter of the patients is censored."""
    time = np.arange(1.0, 41)
    outcome = {"time": [*time, np.nan], "event": [*(time > 12), 1.0]}
    task = Survival(edges_from=edges_from)
    assert task.fit_warning == ""
    task.fit(outcome)
    assert ("1 of the 4 intervals" in task.fit_warning) == (edges_from == "all")
    stated = Survival(edges=task.edges)  # as a student's from its teacher, whose fit has warned
    stated.fit(outcome)
    assert stated.fit_warning == ""

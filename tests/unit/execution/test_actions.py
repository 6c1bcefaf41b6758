"""The methods that perform a row's and a shard's actions."""

from typing import Any

import pytest

from askmill.worker.execution.actions import ActionExecutor
from askmill.worker.execution.shard_actions import ShardActions
from askmill.worker.lifecycle.decision import Action
from askmill.worker.lifecycle.shard_events import ShardAction


@pytest.mark.parametrize(
    ("performer", "action", "by_runner"),
    [
        (ActionExecutor, Action, {"Finish", "PauseBatch", "ReleaseRow"}),
        (ShardActions, ShardAction, {"EndShard", "ReleaseShard"}),
    ],
)
def test_each_action_has_a_method(performer: Any, action: type, by_runner: set[str]) -> None:
    """Those that the runner carries out itself have none: an action without either would crash its row."""
    names = {kind.__name__ for kind in action.__subclasses__()}
    assert {kind.__name__ for kind in performer._METHODS} == names - by_runner

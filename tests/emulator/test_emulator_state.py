"""The emulator's memory: what was committed is there after a restart, whatever the journal's end looks like."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from askmill.emulator.simulation.journal import StateError, Store, Table


def opened(folder: Path | None) -> tuple[Store, Table[Any]]:
    store = Store(folder)
    table = store.table("row", dict, lambda row: str(row["parent"]))
    store.open()
    return store, table


names = st.sampled_from(["a", "b", "c", "d"])
changes = st.lists(
    st.one_of(
        st.tuples(st.just("put"), names, st.sampled_from(["p", "q"]), st.integers(0, 2**53)),
        st.tuples(st.just("drop"), names),
        st.tuples(st.just("count"), st.integers(1, 5)),
        st.tuples(st.just("restart")),
    ),
    max_size=30,
)


@settings(max_examples=60, deadline=None)
@given(changes)
def test_a_restart_changes_nothing(tmp_path_factory: pytest.TempPathFactory, history: list[Any]) -> None:
    """Rows, their order under each parent and the counters are the same after any number of restarts."""
    folder = tmp_path_factory.mktemp("state")
    store, table = opened(folder)
    parents: dict[str, str] = {}
    for change in history:
        match change:
            case ("put", name, parent, value):
                parents.setdefault(name, parent)
                table.put(name, {"parent": parents[name], "value": value})
            case ("drop", name):
                parents.pop(name, None)
                table.drop(name)
            case ("count", n):
                store.add_to_counter("n", n)
            case _:
                store.commit()
                before = [table.children("p"), table.children("q"), dict(store.counters)]
                store.close()
                store, table = opened(folder)
                assert [table.children("p"), table.children("q"), dict(store.counters)] == before
    store.close()


@given(st.integers(1, 40))
@settings(max_examples=20, deadline=None)
def test_a_torn_last_line_costs_only_itself(tmp_path_factory: pytest.TempPathFactory, cut: int) -> None:
    """A journal cut in its last line opens with everything before, and can be written on."""
    folder = tmp_path_factory.mktemp("state")
    store, table = opened(folder)
    table.put("a", {"parent": "p", "value": 1})
    store.commit()
    table.put("b", {"parent": "p", "value": "x" * 50})
    store.commit()
    store.close()
    journal = folder / "journal"
    journal.write_bytes(journal.read_bytes()[:-cut])
    store, table = opened(folder)
    assert list(table.rows) == ["a"]
    table.put("c", {"parent": "p", "value": 3})
    store.commit()
    store.close()
    store, table = opened(folder)
    assert list(table.rows) == ["a", "c"]
    store.close()


def test_what_was_not_committed_is_not_promised(tmp_path: Path) -> None:
    """A change reaches the folder with the request that made it, not before."""
    store, table = opened(tmp_path)
    table.put("a", {"parent": "p"})
    store.close()
    store, table = opened(tmp_path)
    assert table.rows == {}
    store.close()


def test_two_emulators_cannot_share_a_folder(tmp_path: Path) -> None:
    """The second is refused before it can spoil the first one's journal."""
    store, _ = opened(tmp_path)
    with pytest.raises(StateError, match="in use"):
        opened(tmp_path)
    store.close()
    opened(tmp_path)[0].close()


def test_contents_of_files_survive(tmp_path: Path) -> None:
    """Bytes come back as they were, from the folder or from memory."""
    store, _ = opened(tmp_path)
    store.write_content("file-1", b"\r\n\x00")
    store.close()
    store, _ = opened(tmp_path)
    assert store.read_content("file-1") == b"\r\n\x00"
    store.close()
    memory, _ = opened(None)
    memory.write_content("file-1", b"x")
    assert memory.read_content("file-1") == b"x"

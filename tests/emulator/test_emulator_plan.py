"""A run's plan: the statuses it shows, whatever its outcome, its times and who interferes."""

from hypothesis import given
from hypothesis import strategies as st

from askmill.emulator.simulation.directives import Outcome
from askmill.emulator.simulation.plan import ACTIVE, TERMINAL, Plan, build_plan

CREATED = 1_800_000_000.0
NEXT = {
    "queued": {"in_progress", "cancelling", "expired"},
    "in_progress": {
        "requires_action",
        "completed",
        "failed",
        "incomplete",
        "expired",
        "cancelled",
        "cancelling",
    },
    "requires_action": {"queued", "cancelling", "expired"},
    "cancelling": {"cancelled"},
}
ENDS = ("completed", "failed", "expired", "cancelled", "incomplete", "requires_action", "stuck")

outcomes = st.sampled_from([Outcome(name) for name in ENDS])
seconds = st.floats(0, 2000, allow_nan=False)
plans = st.builds(build_plan, outcomes, st.just(CREATED), seconds, st.floats(0.5, 1000))


def statuses(plan: Plan) -> list[str]:
    return [status for _, status in plan.marks]


@given(plans)
def test_a_plan_walks_only_the_documented_transitions(plan: Plan) -> None:
    """Each status of a plan may follow the one before it in OpenAI's state machine."""
    for before, after in zip(statuses(plan), statuses(plan)[1:], strict=False):
        assert after in NEXT[before]


@given(plans)
def test_every_plan_ends_by_its_expiry(plan: Plan) -> None:
    """Left alone, every run is terminal at `expires_at` and never changes again."""
    assert plan.status(plan.expires_at) in TERMINAL
    assert plan.status(plan.expires_at + 1e9) == plan.status(plan.expires_at)
    assert (plan.ends_at() or 0) <= plan.expires_at
    assert plan.ends_at() is not None


@given(plans, seconds, seconds)
def test_time_only_goes_forward(plan: Plan, one_s: float, other_s: float) -> None:
    """A later look never shows an earlier status."""
    order = statuses(plan)
    early, late = sorted((CREATED + one_s, CREATED + other_s))
    assert order.index(plan.status(early)) <= order.index(plan.status(late))


@given(plans, seconds)
def test_a_cancelled_run_ends_cancelled_at_once(plan: Plan, after_s: float) -> None:
    """Cancelling an active run shows `cancelling`, then `cancelled`, whatever had been planned."""
    now = CREATED + after_s
    if plan.status(now) not in ACTIVE:
        return
    cancelled = plan.cancelled(now)
    assert cancelled.status(now) == "cancelling"
    assert cancelled.status(now + 1) == "cancelled"
    assert cancelled.over(now + 1)
    assert [m for m in cancelled.marks if m[0] < now] == [m for m in plan.marks if m[0] < now]


@given(seconds, seconds, st.floats(0.5, 4000))
def test_outputs_set_a_waiting_run_going_again(run_s: float, wait_s: float, expires_s: float) -> None:
    """Given its outputs a run is queued again and completes, unless `expires_at` comes first."""
    plan = build_plan(Outcome("requires_action"), CREATED, run_s, expires_s)
    now = CREATED + run_s + wait_s
    if plan.status(now) != "requires_action":
        assert plan.status(now) in {"expired", "queued", "in_progress"}
        return
    resumed = plan.resumed(now, 3.0)
    assert resumed.status(now) == "queued"
    ended = "completed" if now + 3.0 < plan.expires_at else "expired"
    assert statuses(resumed)[-1] == ended


def test_an_unknown_status_is_shown_for_ever() -> None:
    """`unknown(STATUS)` never ends by itself, so that a client's own deadline is what is tested."""
    plan = build_plan(Outcome("unknown", "dreaming"), CREATED, 1.0, 600.0)
    assert plan.status(CREATED + 1e9) == "dreaming"
    assert plan.ends_at() is None
    assert plan.cancelled(CREATED + 5).status(CREATED + 6) == "cancelled"


def test_a_stuck_run_works_until_it_expires() -> None:
    """`stuck` is in progress to its last second and then expired."""
    plan = build_plan(Outcome("stuck"), CREATED, 1.0, 600.0)
    assert plan.status(CREATED + 599) == "in_progress"
    assert plan.status(CREATED + 600) == "expired"


def test_a_run_directed_to_expire_has_its_expiry_there() -> None:
    """A client never sees `expired` before the `expires_at` that the run shows."""
    plan = build_plan(Outcome("expired"), CREATED, 2.0, 600.0)
    assert plan.expires_at == CREATED + 2
    assert plan.status(CREATED + 2) == "expired"


def test_work_goes_to_the_end_or_to_the_next_functions() -> None:
    """What the hint of when to look again is a tenth of; a round of functions is work by itself."""
    waiting = build_plan(Outcome("requires_action", calls=(("f", "{}"),)), CREATED, 2.0, 600.0)
    assert waiting.last_work_span() == (CREATED, CREATED + 2)
    again = waiting.resumed(CREATED + 100, 3.0, "requires_action")
    assert again.last_work_span() == (CREATED + 100, CREATED + 103)
    assert again.status(CREATED + 104) == "requires_action"
    assert again.resumed(CREATED + 110, 4.0).last_work_span() == (CREATED + 110, CREATED + 114)
    assert build_plan(Outcome("unknown", "odd"), CREATED, 1.0, 600.0).last_work_span() == (
        CREATED,
        CREATED + 600,
    )

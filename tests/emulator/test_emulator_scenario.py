"""Scenario files and the faults they order."""

from collections import Counter

import pytest

from askmill.emulator.server.fault_injection import Faults
from askmill.emulator.simulation.scenario import Http, Scenario, ScenarioError, read_scenario

FULL = """
[latency]
median_s = 30
sigma = 0.5
[outcomes]
completed = 0.8
expired = 0.05
"failed(server_error)" = 0.1
[http]
rate_429 = 0.1
retry_after_s = 2
drop_after = 0.05
late_s = 1.5
only = ["POST /threads/*/runs"]
[run]
expires_s = 60
[account]
error = "insufficient_quota"
"""


def test_a_whole_scenario_is_read() -> None:
    """Every table and key of the file arrives."""
    scenario = read_scenario(FULL)
    assert (scenario.latency.median_s, scenario.latency.sigma) == (30, 0.5)
    assert [(share, o.name, o.arg) for share, o in scenario.outcomes][2] == (0.1, "failed", "server_error")
    assert scenario.http == Http(
        rate_429=0.1, retry_after_s=2, drop_after=0.05, late_s=1.5, only=("POST /threads/*/runs",)
    )
    assert scenario.run.expires_s == 60
    assert scenario.account.error == "insufficient_quota"


def test_an_empty_scenario_is_the_default() -> None:
    """Nothing said, nothing goes wrong."""
    assert read_scenario("") == Scenario()


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("[http]\nrate_42 = 1", "http.rate_42"),
        ("[weather]\nrain = 1", "weather"),
        ("http = 1", "http"),
        ("[http]\nrate_429 = 1.5", "http.rate_429"),
        ("[http]\nrate_429 = 0.6\nrate_500 = 0.6", "rate_500"),
        ("[http]\nslow_s = -1", "http.slow_s"),
        ("[http]\nslow_s = true", "http.slow_s"),
        ('[http]\nonly = "POST /threads"', "http.only"),
        ("[latency]\nmedian = 1", "latency.median"),
        ("[outcomes]\ncompleted = 2", "outcomes.completed"),
        ("[outcomes]\nexplode = 0.1", "explode"),
        ('[account]\nerror = "broke"', "broke"),
        ('[account]\nname = "x"', "account.name"),
        ("[http", "TOML"),
    ],
)
def test_a_fault_in_a_scenario_names_its_key(text: str, named: str) -> None:
    """An unknown key or a bad value is refused by name."""
    with pytest.raises(ScenarioError, match=named.replace(".", r"\.")):
        read_scenario(text)


def drawn(http: Http, seed: int, n: int = 4000) -> list[str]:
    faults = Faults(http, seed)
    words = []
    for _ in range(n):
        fault = faults.draw("POST", "/threads/thread_1/runs")
        words.append(str(fault.refusal.status) if fault.refusal else fault.drop or "none")
    return words


def test_faults_come_in_their_shares() -> None:
    """Each kind of fault meets about its share of the requests."""
    counts = Counter(
        drawn(Http(rate_429=0.2, rate_500=0.1, rate_503=0.05, drop_before=0.1, drop_after=0.15), 1)
    )
    for word, share in {
        "429": 0.2,
        "500": 0.1,
        "503": 0.05,
        "before": 0.1,
        "after": 0.15,
        "none": 0.4,
    }.items():
        assert abs(counts[word] / 4000 - share) < 0.03


def test_the_same_seed_plays_the_same_faults() -> None:
    """A failure seen once can be played again."""
    http = Http(rate_429=0.3, drop_after=0.3)
    assert drawn(http, 7, 200) == drawn(http, 7, 200)
    assert drawn(http, 7, 200) != drawn(http, 8, 200)


def test_faults_may_be_kept_to_some_requests() -> None:
    """`only` leaves all other requests alone."""
    faults = Faults(Http(drop_before=1.0, only=("POST /threads/*/runs", "POST /responses")), 0)
    assert faults.draw("POST", "/threads/thread_1/runs").drop == "before"
    assert faults.draw("POST", "/responses").drop == "before"
    assert faults.draw("GET", "/threads/thread_1/runs").drop == ""
    assert faults.draw("POST", "/threads").drop == ""


def test_lateness_alone_drops_every_request() -> None:
    """`late_s` without a share loses the reply of every request; with one, of that share."""
    assert set(drawn(Http(late_s=1), 0, 50)) == {"after"}
    assert set(drawn(Http(late_s=1, drop_after=0.5), 0, 50)) == {"after", "none"}


def test_the_servers_clock_may_be_behind() -> None:
    """A number of either sign; it is how tests play a server whose clock is wrong."""
    assert read_scenario("[clock]\noffset_s = -1020").clock.offset_s == -1020
    for bad in ("true", '"1"', "nan", "inf"):
        with pytest.raises(ScenarioError, match=r"clock\.offset_s must be a number"):
            read_scenario(f"[clock]\noffset_s = {bad}")

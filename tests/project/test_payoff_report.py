"""What `benchmarks/payoff_report.py` says of the result file of `benchmarks/payoff.py`: intervals by hand, sentences
that say no more than the intervals, and pages that hold what it prints."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
import payoff_report
import payoff_results
import payoff_statistics
from payoff_results import LIMIT, comparisons, to_equal_loss
from payoff_statistics import closure, interpolated, paired, student, welch
from payoff_verdict import for_docs, for_readme, judged

from support.payoff_cases import made_up

ROOT = Path(__file__).parents[2]
VERDICTS = "lower, resolved|higher, resolved|not resolved"
SAID = re.compile(rf"([+\N{{MINUS SIGN}}]\d\.\d{{4}}) ± (\d\.\d{{4}}) against [^()±]*? \(({VERDICTS})\)")


def too_much(text: str) -> list[str]:
    """The comparisons in a text whose words do not follow from their interval."""
    wrong = []
    for match in SAID.finditer(text):
        mean, half = float(match[1].replace("\N{MINUS SIGN}", "-")), float(match[2])
        allowed = "not resolved" if abs(mean) <= half else "lower, resolved" if mean < 0 else "higher, resolved"
        wrong += [match[0]] if match[3] != allowed else []
    return wrong


def test_student_is_that_of_the_tables() -> None:
    for freedom, expected in ((1, 12.7062), (2, 4.3027), (7, 2.3646), (15, 2.1314), (30, 2.0423), (1000, 1.9623)):
        assert student(freedom) == pytest.approx(expected, abs=1e-4)
    assert student(7, 0.99) == pytest.approx(3.4995, abs=1e-4)
    assert student(4) > student(4.5) > student(5)


def test_differences_are_those_worked_out_by_hand() -> None:
    first, second = {0: 1.0, 1: 2.0, 2: 3.0, 9: 5.0}, {0: 1.1, 1: 2.3, 2: 3.2}
    found = paired(first, second)  # -0.1, -0.3, -0.2: mean -0.2, deviation 0.1
    assert found and (found.count, found.lower, found.resolved) == (3, 3, False)
    assert found.mean == pytest.approx(-0.2) and found.half == pytest.approx(4.3027 * 0.1 / 3**0.5, abs=1e-4)
    # variances 1 and 4, three and five values: error sqrt(1/3 + 4/5), freedom (17/15)^2 / (1/18 + 4/25) = 5.958
    apart = welch({0: 1.0, 1: 2.0, 2: 3.0}, dict(enumerate([6.0, 6.0, 8.0, 10.0, 10.0])))
    assert apart and apart.mean == pytest.approx(-6.0)
    assert apart.half == pytest.approx(2.4508 * (1 / 3 + 4 / 5) ** 0.5, abs=2e-3) and apart.resolved
    assert paired({0: 1.0}, second) is None and welch({0: 1.0}, second) is None


def test_gap_closure_is_a_share_of_the_gap_and_breaks_even_at_equal_flops() -> None:
    def arm(mean: float) -> dict[int, float]:
        return {seed: mean + 0.01 * seed for seed in range(4)}

    found = closure(small=arm(2.0), grown=arm(1.7), scratch=arm(1.5), equal_flops=arm(1.7))
    assert found and found.value == pytest.approx(0.6) and found.break_even == pytest.approx(0.6)
    assert found.margin.mean == pytest.approx(0) and found.margin.half == pytest.approx(0, abs=1e-9)
    noisy = closure(arm(2.0), {0: 1.6, 1: 1.7, 2: 1.8, 3: 1.7}, arm(1.5), arm(1.7))
    assert noisy and noisy.margin.half > 0.1
    assert closure(arm(2.0), {0: 1.0}, arm(1.5), arm(1.7)) is None


def test_flops_to_equal_loss_lie_between_the_points() -> None:
    points = [(4.0, 1.0), (1.0, 2.0), (16.0, 0.5)]
    assert interpolated(points, 1.5) == pytest.approx(2.0)
    assert interpolated(points, 0.75) == pytest.approx(8.0)
    assert interpolated(points, 0.4) is None and interpolated(points, 3.0) is None


def both_references(grown: list[float], scratch: list[float], small: list[float]) -> list[dict[str, Any]]:
    return made_up("scratch", scratch) + made_up("small", small) + made_up("grown", grown)


SPREAD = [1.00, 1.01, 0.99, 1.02, 0.98, 1.00, 1.01, 0.99]
FAR = [loss + 0.1 for loss in SPREAD]


@pytest.mark.parametrize(
    ("shift", "said", "kind"),
    [
        (-0.05, "lower, resolved", "shown"),
        (-0.001, "not resolved", "open"),
        (0.05, "higher, resolved", "ruled out"),
    ],
)
def test_resolved_is_said_only_where_the_interval_excludes_0(
    shift: float, said: str, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    records = both_references([loss + shift for loss in SPREAD], SPREAD, FAR)
    every = comparisons(records)
    (_, _, gain), *_ = judged(every)
    assert gain.better == "scratch" and gain.of_more_than_the_limit == kind
    text = for_docs(every) + for_readme(every)
    assert f"against scratch ({said})" in text and too_much(text) == []
    assert ("is shown by 1" in text, "is shown by 0" in text) == (kind == "shown", kind != "shown")
    if said == "not resolved":  # a report that took every difference for one is found out
        monkeypatch.setattr(payoff_statistics.Difference, "resolved", True)
        assert too_much(for_readme(comparisons(records)))


def test_the_better_reference_is_the_lower_one_and_beating_it_needs_both() -> None:
    (_, _, gain), *_ = judged(comparisons(both_references(SPREAD, FAR, [loss - 0.05 for loss in SPREAD])))
    assert gain.better == "small" and not gain.beats_both and gain.scratch.resolved
    (_, _, gain), *_ = judged(comparisons(both_references(SPREAD, FAR, [loss + 0.002 for loss in SPREAD])))
    assert gain.beats_both and gain.better == "small" and gain.of_more_than_the_limit == "ruled out"
    assert abs(gain.over_better.mean) < LIMIT
    alone = made_up("grown", SPREAD) + made_up("scratch", SPREAD)
    assert judged(comparisons(alone)) == []  # one reference is none
    deeper = made_up("small", FAR, axis="depth", large="24x4")
    assert len(judged(comparisons(alone + deeper))) == 1  # that of another axis is one, if it is as large
    assert judged(comparisons(alone + [record | {"horizon": 4.0} for record in deeper])) == []


def test_tables_hold_every_arm_once_with_what_was_made_up() -> None:
    records = both_references(SPREAD, FAR, FAR)
    records += made_up("grown", FAR, recipe="noise:2") + made_up("scratch", SPREAD, sweep="scratch", lr=0.1)
    records += made_up("small at equal tokens", FAR, grown_at=0.5) + made_up("trunk", FAR, axis="")
    later = made_up("scratch", [0.9] * 8, horizon=4.0, flops=4 * 10**9)
    every = comparisons(records + later)
    table = payoff_report.main_tables(every)
    assert table.count("large from scratch | 1 |") == 1 and table.count("grown at 50 %, noise:1 | 1") == 1
    assert f"{fmean(SPREAD):.4f} (sd 0.0131)" in table
    assert "| noise:2 | noise:1 |" in payoff_report.recipe_table(every)
    assert "**+0.1000 ± 0.0000**" in payoff_report.recipe_table(every)
    assert "0.1" in payoff_report.rate_table(records)
    needed = to_equal_loss(every, "scratch", every[0].grown[0])  # half of the way from 1.1 to 0.9
    assert needed == pytest.approx(2 * 10**9)


def test_a_file_that_is_not_whole_gives_tables_and_says_what_is_missing() -> None:
    header, records = payoff_results.read(payoff_report.RESULTS)
    assert header is not None
    for count in (0, 1, len(records) // 3, len(records)):
        text = payoff_report.docs_section(header, records[:count])
        assert "were not run" in text or count == len(records)
        assert too_much(text) == []


def test_the_pages_say_what_the_result_file_does() -> None:
    header, records = payoff_results.read(payoff_report.RESULTS)
    assert header is not None
    for name, section in (("docs/payoff.md", payoff_report.docs_section), ("README.md", payoff_report.readme_section)):
        page = (ROOT / name).read_text(encoding="utf-8")
        wanted = payoff_report.between_marks(page, section(header, records))
        assert page == wanted, "run `python benchmarks/payoff_report.py --write`, which writes both pages"
        assert too_much(page) == []
    assert SAID.search((ROOT / "README.md").read_text(encoding="utf-8"))
    assert payoff_report.RESULTS.stat().st_size < 2 * 10**6

"""The tables and sentences of docs/payoff.md and README.md, from the result file of `payoff.py`.

python benchmarks/payoff_report.py [FILE]           print them
python benchmarks/payoff_report.py [FILE] --write   put them into the two pages and draw docs/payoff.svg"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean, stdev

from payoff_results import MINUS, Comparison, Record, Row, comparisons, read, to_equal_loss
from payoff_statistics import Difference, paired
from payoff_verdict import capital, for_docs, for_readme, missing_jobs, small_is_there

ROOT = Path(__file__).parents[1]
RESULTS = Path(__file__).parent / "payoff.jsonl"
BEGIN, END = "<!-- payoff: python benchmarks/payoff_report.py --write -->", "<!-- end of payoff -->"


def signed(difference: Difference | None) -> str:
    """Bold where the interval excludes 0."""
    if difference is None:
        return ""
    text = f"{difference.mean:+.4f} ± {difference.half:.4f}".replace("-", MINUS)
    return f"**{text}**" if difference.resolved else text


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [f"| {' | '.join(header)} |", f"|{'|'.join(['---'] + ['---:'] * (len(header) - 1))}|"]
    return "\n".join(lines + [f"| {' | '.join(row)} |" for row in rows])


def same_pair(every: Sequence[Comparison]) -> list[list[Comparison]]:
    """Comparisons of one pair of sizes and schedule, the horizons in order."""
    found: dict[tuple[str, ...], list[Comparison]] = defaultdict(list)
    for comparison in every:
        found[comparison.title, comparison.schedule].append(comparison)
    return [pair for pair in found.values() if any(comparison.grown for comparison in pair)]


def main_tables(every: Sequence[Comparison]) -> str:
    """One for each pair of sizes and schedule: all arms at equal FLOPs, both references."""
    parts = []
    for pair in same_pair(every):
        schedule = "" if pair[0].schedule == "wsd" else ", cosine schedule"
        header = ["arm", "horizon", "rate", "seeds", "tokens", "FLOPs", "loss", "minus scratch", "minus small"]
        rows = []
        for comparison in pair:
            for arm in ("scratch", "small", "middle"):
                rows += [_reference(comparison, row) for row in comparison.references(arm)]
            rows += [_grown(comparison, row) for row in comparison.grown]
        parts.append(f"### {capital(pair[0].title)}{schedule}\n\n{table(header, rows)}")
    return "\n\n".join(parts)


def _cells(comparison: Comparison, row: Row) -> list[str]:
    rate = f"{row.mean('lr'):.3g}"
    size = f"{row.loss:.4f}" + (f" (sd {stdev(row.losses.values()):.4f})" if len(row.runs) > 1 else "")
    figures = [f"{row.mean('tokens') / 1e6:.2f} M", f"{row.mean('flops'):.3e}", size]
    return [str(row.name), f"{comparison.horizon:g}", rate, str(len(row.runs)), *figures]


def _reference(comparison: Comparison, row: Row) -> list[str]:
    return [*_cells(comparison, row), "", ""]


def _grown(comparison: Comparison, row: Row) -> list[str]:
    gain = comparison.gain(row)
    return [*_cells(comparison, row), signed(gain and gain.scratch), signed(gain and gain.small)]


def recipe_table(every: Sequence[Comparison]) -> str:
    """Arms of one trunk, against the first recipe, seed by seed."""
    rows = []
    for comparison in every:
        groups: dict[float | None, list[Row]] = defaultdict(list)
        for row in comparison.grown:
            groups[row.name.grown_at].append(row)
        for group in groups.values():
            base = next((row for row in group if row.name.wide_factor == 1 and row.name.recipe in DEFAULTS), None)
            for row in group:
                if base is None or row is base or not (difference := paired(row.losses, base.losses)):
                    continue
                rate = f", rate x{row.name.wide_factor:g} after" if row.name.wide_factor != 1 else ""
                where = f"{comparison.title}, horizon {comparison.horizon:g}, {100 * (row.name.grown_at or 0):.0f} %"
                jump = f"{row.mean('jump'):+.4f}".replace("-", MINUS)
                better = f"{difference.lower} of {difference.count}"
                rows.append([row.name.recipe + rate, base.name.recipe, where, jump, signed(difference), better])
    return table(["recipe", "against", "where", "jump of the loss", "difference", "lower in"], rows) if rows else ""


DEFAULTS = ("noise:1", "exact layers", "noise:1, exact layers")
"""The recipe of each axis that the others are compared with."""


def closure_table(every: Sequence[Comparison]) -> str:
    rows = []
    for comparison in every:
        for row in comparison.grown:
            if found := comparison.closure(row):
                small, scratch = (
                    comparison.equal_tokens[arm, row.name.grown_at or 0.0] for arm in ("small", "scratch")
                )
                losses = [f"{one.loss:.4f}" for one in (small, scratch, row)]
                where = f"{comparison.title}, horizon {comparison.horizon:g}"
                figures = [f"{found.value:.3f}", f"{found.break_even:.3f}", signed(found.margin)]
                rows.append([where, str(row.name), *losses, *figures])
    header = ["where", "arm", "small, equal tokens", "scratch, equal tokens", "grown", "η", "η*", f"η {MINUS} η*"]
    return table(header, rows) if rows else ""


def equal_loss_table(every: Sequence[Comparison]) -> str:
    """What the references take to reach the loss of a grown arm, as multiples of what that takes."""
    rows = []
    for pair in same_pair(every):
        for comparison in pair:
            for row in comparison.grown:
                cells = []
                for arm in ("scratch", "small"):
                    for key in ("flops", "cpu_seconds"):
                        needed = to_equal_loss(pair, arm, row, key)
                        cells.append("" if needed is None else f"{needed / row.mean(key):.2f}")
                if any(cells):
                    rows.append([comparison.title, str(row.name), f"{comparison.horizon:g}", *cells])
    header = ["where", "arm", "horizon", "scratch, FLOPs", "scratch, seconds", "small, FLOPs", "small, seconds"]
    return table(header, rows) if rows else ""


def there_table(every: Sequence[Comparison]) -> str:
    """Growth's own recipes, where the small phase is not paid."""
    header = ["where", "arm", "FLOPs of the large phase, of those from scratch to the same mean loss"]
    rows = small_is_there(every)
    return table(header, rows) if rows else ""


def rate_table(records: Sequence[Record]) -> str:
    """Every sweep: mean loss on the half that chooses, at each rate; the lowest is bold."""
    sweeps: dict[str, dict[float, list[float]]] = defaultdict(lambda: defaultdict(list))
    for record in records:
        if record.get("sweep"):
            sweeps[record["sweep"]][record["lr"]].append(record["choose"])
    rates = sorted({rate for losses in sweeps.values() for rate in losses})
    rows = []
    for name, losses in sweeps.items():
        means = {rate: fmean(values) for rate, values in losses.items()}
        best = min(means, key=means.__getitem__)
        cells = [f"{means[rate]:.4f}" if rate in means else "" for rate in rates]
        rows.append(
            [name, *(f"**{cell}**" if rate == best else cell for rate, cell in zip(rates, cells, strict=True))]
        )
    return table(["learning rate", *(f"{rate:g}" for rate in rates)], rows) if rows else ""


def setting_text(header: Record, records: Sequence[Record]) -> str:
    setting, versions = header["setting"], header["versions"]
    texts = ", ".join(f"`{name}` {digest[:12]}" for name, digest in header["texts"].items())
    runs = [record for record in records if record["arm"] != "trunk"]
    seconds = {(record["job"], record["seed"], record["lr"], record["wide_factor"]): record for record in runs}
    return (
        f"Measured on a {header['machine']} with growth {versions['growth']}, torch {versions['torch']}, transformers "
        f"{versions['transformers']}: {len(seconds)} runs. Horizon 1 is {setting['steps']} steps of the size "
        f"{setting['unit']} (width x layers). {header['trained_bytes'] / 1e6:.2f} MB are trained on; "
        f"{header['held_out_windows']['choose']} windows choose rates and {header['held_out_windows']['report']} are "
        f"reported. SHA-256 of the texts: {texts}."
    )


def docs_section(header: Record, records: Sequence[Record]) -> str:
    """All that stands in docs/payoff.md between the two marks."""
    every = comparisons(records)
    parts = ["## What came out", for_docs(every), missing_jobs(header, records), setting_text(header, records)]
    parts += ["## Every arm at equal FLOPs", main_tables(every)]
    for title, text in (
        ("## Recipes, off one trunk", recipe_table(every)),
        ("## Gap closure at equal tokens", closure_table(every)),
        ("## If the small model is there already", there_table(every)),
        ("## FLOPs and seconds to equal loss", equal_loss_table(every)),
        ("## Learning rates", rate_table(records)),
    ):
        parts += [title, text] if text else []
    return "\n\n".join(part for part in parts if part)


def readme_section(header: Record, records: Sequence[Record]) -> str:
    return for_readme(comparisons(records))


def between_marks(page: str, text: str) -> str:
    start, end = page.index(BEGIN) + len(BEGIN), page.index(END)
    return f"{page[:start]}\n{text}\n{page[end:]}"


def write(header: Record, records: Sequence[Record], root: Path = ROOT) -> None:
    for name, section in (("docs/payoff.md", docs_section), ("README.md", readme_section)):
        page = root / name
        page.write_text(between_marks(page.read_text(encoding="utf-8"), section(header, records)), encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path, nargs="?", default=RESULTS)
    parser.add_argument("--write", action="store_true")
    args = parser.parse_args()
    header, records = read(args.file)
    if header is None:
        raise SystemExit(f"{args.file} has no results. Run benchmarks/payoff.py first.")
    if args.write:
        from payoff_figure import draw

        write(header, records)
        draw(records, ROOT / "docs" / "payoff.svg")
    else:
        print(docs_section(header, records))


if __name__ == "__main__":
    main()

"""The demo's report: what was found, a map of all scores, and a chart of each incident."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from engine.demo.verdict import EPISODE, MAX_OTHERS, Finding, Results, Verdict
from engine.report import BandChart, Part, ScoreMap, Span, Table, write_report

FINDING_COLUMNS = ("incident", "began", "CPUs", "first above 1", "delay", "peak", "verdict", "what happened")


def clock(time_ms: int) -> str:
    """Day and time of day in UTC."""
    return datetime.fromtimestamp(time_ms / 1000, UTC).strftime("%a %H:%M")


def finding_cells(finding: Finding) -> tuple[str, ...]:
    """A finding as text, one for each of `FINDING_COLUMNS`."""
    incident, first_ms = finding.incident, finding.first_ms
    return (
        incident.kind,
        clock(finding.start_ms),
        f"{finding.n_cpus} of {len(incident.cpus)}",
        clock(first_ms) if first_ms is not None else "never",
        f"{(first_ms - finding.start_ms) // 60_000} min" if first_ms is not None else "-",
        f"{finding.peak:.1f}" if first_ms is not None else "-",
        "✓ found" if finding.is_found else "✗ missed",
        incident.text,
    )


def outcome(verdict: Verdict) -> str:
    """The verdict in one sentence."""
    n_found = sum(f.is_found for f in verdict.findings)
    return (
        f"{n_found} of {len(verdict.findings)} incidents found; {len(verdict.others)} other episodes of {EPISODE} or "
        f"more consecutive points above 1 (at most {MAX_OTHERS} are allowed)."
    )


def write_demo_report(path: Path, results: Results, verdict: Verdict, setting: str) -> None:
    """Write the page; `setting` says in a sentence what was run on what.

    Raises
    ------
    StartError : plotly is not installed.
    """
    spans = [Span(f.start_ms, f.end_ms, f.incident.kind) for f in verdict.findings]
    # Rows of one mode side by side: what happens to all CPUs is a block.
    order = sorted(range(len(results.keys)), key=lambda row: (results.keys[row][1], int(results.keys[row][0])))
    findings = Table(
        "Incidents",
        f"Found means: at least half of an incident's CPUs have {EPISODE} or more consecutive points above 1. "
        "Times are UTC.",
        FINDING_COLUMNS,
        [finding_cells(f) for f in verdict.findings],
    )
    scores = ScoreMap(
        "Anomaly scores of all series",
        "One row for each mode and CPU. From 1 on, where it turns orange, a point is anomalous; dotted frames are the "
        "incidents.",
        [f"{results.keys[row][1]} {results.keys[row][0]}" for row in order],
        results.times_ms,
        results.columns["anomaly_score"][order],
        spans,
    )
    charts = [_chart(results, f, spans) for f in verdict.findings]
    parts: list[Part] = [findings, scores, *charts]
    if verdict.others:
        parts.append(_others(results, verdict))
    lead = f"{outcome(verdict)} {setting}"
    write_report(path, "CPU time of one machine: expected and seen", lead, parts, is_good=verdict.is_good)


def _chart(results: Results, finding: Finding, spans: list[Span]) -> BandChart:
    cpu, mode = results.keys[finding.row]
    row = {name: column[finding.row] for name, column in results.columns.items()}
    seen = f"first above 1 at {clock(finding.first_ms)}" if finding.first_ms is not None else "not seen"
    return BandChart(
        f"{_capital(finding.incident.kind)}: {mode} of CPU {cpu}",
        f"{_capital(finding.incident.text)} from {clock(finding.start_ms)} to {clock(finding.end_ms)}; {seen}, "
        f"peak score {finding.peak:.1f}. Seconds per second, with the band that was expected.",
        results.times_ms,
        row["y"],
        row["yhat"],
        row["yhat_lower"],
        row["yhat_upper"],
        row["anomaly_score"],
        spans,
    )


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _others(results: Results, verdict: Verdict) -> Table:
    rows = [
        (
            " ".join(results.keys[e.row]),
            clock(int(results.times_ms[e.start])),
            f"{e.stop - e.start} min",
            f"{e.peak:.2f}",
        )
        for e in verdict.others
    ]
    text = f"Outside the incidents: {EPISODE} or more consecutive points above 1."
    return Table("Other episodes", text, ("cpu, mode", "began", "length", "peak score"), rows)

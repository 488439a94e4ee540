"""Reports as one HTML file that loads nothing: tables, values inside their bands, maps of scores."""

from __future__ import annotations

import base64
import hashlib
import html
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from engine.errors import StartError
from engine.frame import F64, I64

# A map is as wide as a screen: more columns cannot be told apart.
_MAP_COLUMNS = 360
_DIGITS = 5


@dataclass(frozen=True, slots=True)
class Span:
    """A time that a chart shades, both ends inside."""

    start_ms: int
    end_ms: int
    text: str


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of text under column names; `text` says what they are."""

    title: str
    text: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True, slots=True, eq=False)
class BandChart:
    """One series inside its band, its score below; arrays are (T,), NaN is a gap.

    `text` says in words what the chart shows, for those who do not see it.
    """

    title: str
    text: str
    times_ms: I64
    y: F64
    yhat: F64
    lower: F64
    upper: F64
    score: F64
    spans: Sequence[Span] = ()


@dataclass(frozen=True, slots=True, eq=False)
class ScoreMap:
    """Scores of many series, (S, T): a row for each, as colour."""

    title: str
    text: str
    names: Sequence[str]
    times_ms: I64
    scores: F64
    spans: Sequence[Span] = ()


Part = Table | BandChart | ScoreMap


def plotly_script() -> str:
    """The text of plotly.js.

    Raises
    ------
    StartError : it is not installed.
    """
    try:
        from plotly.offline import get_plotlyjs
    except ImportError as err:
        raise StartError("reports need plotly, which is not installed: pip install 'engine[ui]'") from err
    return str(get_plotlyjs())


def write_report(path: Path, title: str, lead: str, parts: Sequence[Part], *, is_good: bool | None = None) -> None:
    """Write a report, replacing the file at once.

    Parameters
    ----------
    lead : one or two sentences that say the outcome; `is_good` marks it as passed, failed or neither.

    Raises
    ------
    StartError : plotly is not installed.
    """
    charts = [part for part in parts if not isinstance(part, Table)]
    numbers = {id(chart): k for k, chart in enumerate(charts)}
    body = "\n".join(_table(p) if isinstance(p, Table) else _figure(p, numbers[id(p)]) for p in parts)
    data = orjson.dumps([_map_data(c) if isinstance(c, ScoreMap) else _band_data(c) for c in charts]).decode()
    scripts = [plotly_script(), _SCRIPT] if charts else []
    page = _PAGE.format(
        title=html.escape(title),
        # Only the scripts of this file may run, and nothing may be loaded.
        hashes=" ".join(_script_hash(script) for script in scripts) or "'none'",
        style=_STYLE,
        lead=html.escape(lead),
        mark={True: "good", False: "bad", None: ""}[is_good],
        body=body,
        data=data.replace("<", "\\u003c"),
        scripts="\n".join(f"<script>{script}</script>" for script in scripts),
    )
    part_path = path.with_name(path.name + ".part")
    part_path.write_text(page, encoding="utf-8")
    os.replace(part_path, path)


def _script_hash(script: str) -> str:
    # Browsers hash a script's text after line ends are normalised.
    normal = script.replace("\r\n", "\n").replace("\r", "\n").encode()
    return f"'sha256-{base64.b64encode(hashlib.sha256(normal).digest()).decode()}'"


def _table(table: Table) -> str:
    head = "".join(f'<th scope="col">{html.escape(name)}</th>' for name in table.columns)
    rows = "\n".join("<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in table.rows)
    return (
        f"<section><h2>{html.escape(table.title)}</h2><p>{html.escape(table.text)}</p>"
        f'<div class="wide"><table><caption class="hidden">{html.escape(table.title)}</caption>'
        f"<thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div></section>"
    )


def _figure(chart: BandChart | ScoreMap, number: int) -> str:
    title, text = html.escape(chart.title), html.escape(chart.text)
    height = 90 + 9 * len(chart.names) if isinstance(chart, ScoreMap) else 380
    return (
        f'<section><h2>{title}</h2><figure><div class="chart" id="chart{number}" role="img" '
        f'aria-label="{title}: {text}" style="height:{height}px"></div>'
        f"<figcaption>{text}</figcaption></figure></section>"
    )


def _rounded(values: F64) -> list[float | None]:
    """Values with a few significant digits, None where they are not finite."""
    with np.errstate(divide="ignore", invalid="ignore"):
        scale = 10.0 ** (_DIGITS - 1 - np.floor(np.log10(np.abs(values))))
        rounded = np.where(np.isfinite(scale), np.round(values * scale) / scale, values)
    return [value if np.isfinite(value) else None for value in rounded.tolist()]


def _spans(spans: Sequence[Span]) -> list[dict[str, Any]]:
    return [{"start": span.start_ms, "end": span.end_ms, "text": span.text} for span in spans]


def _band_data(chart: BandChart) -> dict[str, Any]:
    columns = {name: _rounded(getattr(chart, name)) for name in ("y", "yhat", "lower", "upper", "score")}
    return {"kind": "band", "t": chart.times_ms.tolist(), **columns, "spans": _spans(chart.spans)}


def _map_data(chart: ScoreMap) -> dict[str, Any]:
    """The map with its columns joined to at most `_MAP_COLUMNS`: the largest score of each."""
    n_steps = chart.times_ms.size
    width = max(1, -(-n_steps // _MAP_COLUMNS))
    starts = np.arange(0, n_steps, width)
    scores = np.where(np.isfinite(chart.scores), chart.scores, -np.inf)
    cells = np.maximum.reduceat(scores, starts, axis=1) if n_steps else scores
    return {
        "kind": "map",
        "names": list(chart.names),
        "t": chart.times_ms[starts].tolist(),
        "z": [_rounded(row) for row in cells],
        "spans": _spans(chart.spans),
    }


_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; img-src data: blob:">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<main>
<h1>{title}</h1>
<p class="lead {mark}">{lead}</p>
<noscript><p>The charts need JavaScript; the tables do not.</p></noscript>
{body}
</main>
<script type="application/json" id="data">{data}</script>
{scripts}
</body>
</html>
"""

_STYLE = """
:root { color-scheme: light dark; --back: #fbfbfc; --card: #fff; --text: #1b2430; --soft: #5b6676; --line: #dfe3e8;
  --y: #1f5fbf; --band: rgba(31, 95, 191, .16); --hot: #c8372d; --span: rgba(214, 138, 0, .17); --good: #14804a; }
@media (prefers-color-scheme: dark) { :root { --back: #12161c; --card: #1a2029; --text: #e4e8ee; --soft: #9aa5b4;
  --line: #313a46; --y: #7db0ff; --band: rgba(125, 176, 255, .2); --hot: #ff7a6b; --span: rgba(255, 184, 64, .17);
  --good: #4cc38a; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--back); color: var(--text);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", sans-serif; }
main { max-width: 1120px; margin: 0 auto; padding: 2rem 1.25rem 4rem; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0 0 1rem; }
h2 { font-size: 1.1rem; margin: 0 0 .35rem; }
section { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 1.1rem 1.25rem;
  margin: 1.1rem 0; }
section > p, figcaption { color: var(--soft); margin: 0 0 .6rem; font-size: .93rem; }
figure { margin: 0; } figcaption { margin: .3rem 0 0; }
.lead { font-size: 1.08rem; border-left: 4px solid var(--line); padding-left: .8rem; }
.lead.good { border-color: var(--good); } .lead.bad { border-color: var(--hot); }
.wide { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; font-size: .93rem; }
th, td { text-align: left; padding: .38rem .7rem .38rem 0; border-bottom: 1px solid var(--line); vertical-align: top; }
th { color: var(--soft); font-weight: 600; } tr:last-child td { border-bottom: 0; }
.hidden { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); }
.chart { width: 100%; }
@media print { section { break-inside: avoid; } }
"""

_SCRIPT = """
(() => {
  const charts = JSON.parse(document.getElementById("data").textContent);
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const options = { displaylogo: false, responsive: true,
    modeBarButtons: [["toImage", "zoom2d", "pan2d", "resetScale2d"]] };
  const band = (c, colour) => {
    const hot = c.score.map((s, i) => (s > 1 ? i : -1)).filter((i) => i >= 0);
    const edge = { line: { width: 0 }, hoverinfo: "skip" };
    const line = (name, y, more) => ({ name, x: c.t, y, mode: "lines", ...more });
    return {
      traces: [
        line("yhat_lower", c.lower, { ...edge, showlegend: false }),
        line("expected band", c.upper, { ...edge, fill: "tonexty", fillcolor: colour("band") }),
        line("yhat", c.yhat, { line: { width: 1, dash: "dot", color: colour("soft") } }),
        line("y", c.y, { line: { width: 1.4, color: colour("y") } }),
        { name: "score above 1", x: hot.map((i) => c.t[i]), y: hot.map((i) => c.y[i]), mode: "markers",
          marker: { size: 4, color: colour("hot") }, hoverinfo: "skip" },
        line("anomaly_score", c.score, { yaxis: "y2", line: { width: 1.2, color: colour("hot") }, showlegend: false }),
      ],
      layout: {
        yaxis: { domain: [0.36, 1], title: { text: "y" } },
        yaxis2: { domain: [0, 0.26], title: { text: "score" }, rangemode: "tozero", anchor: "x" },
        xaxis: { anchor: "y2" },
        hovermode: "x unified",
      },
      shapes: [{ type: "line", xref: "paper", x0: 0, x1: 1, yref: "y2", y0: 1, y1: 1,
        line: { width: 1, dash: "dash", color: colour("soft") } }],
    };
  };
  const map = (c, colour) => ({
    traces: [{ type: "heatmap", x: c.t, y: c.names, z: c.z, zmin: 0, zmax: 4, hoverongaps: false,
      colorscale: [[0, colour("card")], [0.249, colour("band")], [0.25, "#f2b84b"], [0.6, "#dd6b20"], [1, "#b0212b"]],
      colorbar: { title: { text: "score" }, thickness: 12, outlinewidth: 0, tickvals: [0, 1, 2, 3, 4],
        ticktext: ["0", "1", "2", "3", "4+"] },
      hovertemplate: "%{y}<br>%{x|%a %H:%M}<br>score %{z:.2f}<extra></extra>" }],
    layout: { yaxis: { autorange: "reversed", tickfont: { size: 9 }, automargin: true, dtick: 1 } },
    shapes: [],
  });
  const draw = () => {
    const style = getComputedStyle(document.documentElement);
    const colour = (name) => style.getPropertyValue("--" + name).trim();
    charts.forEach((c, k) => {
      const { traces, layout, shapes } = (c.kind === "map" ? map : band)(c, colour);
      const rows = { gridcolor: colour("line"), zeroline: false };
      const spans = c.spans.map((s) => ({ type: "rect", xref: "x", yref: "paper", x0: s.start, x1: s.end, y0: 0, y1: 1,
        fillcolor: c.kind === "map" ? "rgba(0,0,0,0)" : colour("span"), layer: c.kind === "map" ? "above" : "below",
        line: { width: c.kind === "map" ? 1 : 0, dash: "dot", color: colour("text") } }));
      const notes = c.spans.map((s) => ({ x: (s.start + s.end) / 2, xref: "x", y: 1, yref: "paper", yanchor: "bottom",
        text: s.text, showarrow: false, font: { size: 11, color: colour("soft") } }));
      Plotly.react("chart" + k, traces, {
        ...layout, shapes: [...spans, ...shapes], annotations: notes, margin: { l: 55, r: 12, t: 26, b: 44 },
        modebar: { bgcolor: "rgba(0,0,0,0)", color: colour("soft"), activecolor: colour("text") },
        paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", font: { color: colour("text"), size: 12 },
        legend: { orientation: "h", x: 0, y: 1.16, font: { size: 11 } }, uirevision: "same",
        xaxis: { type: "date", ...rows, ...layout.xaxis }, yaxis: { ...rows, ...layout.yaxis },
        ...(layout.yaxis2 ? { yaxis2: { ...rows, ...layout.yaxis2 } } : {}),
      }, options);
    });
  };
  dark.addEventListener("change", draw);
  draw();
})();
"""

"""Reports: one file that loads nothing, with its data intact."""

from __future__ import annotations

import json
import math
import re
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.errors import StartError
from engine.report import BandChart, ScoreMap, Span, Table, write_report

TIMES = 1_700_000_040_000 + 60_000 * np.arange(4, dtype=np.int64)


class Page(HTMLParser):
    """Tags with their attributes, and texts by the tag they are in."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[tuple[str, str]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.texts.append((self.tags[-1][0] if self.tags else "", data))

    def data(self) -> list[dict[str, Any]]:
        ids = [attrs.get("id") for tag, attrs in self.tags]
        assert ids.count("data") == 1
        script = next(text for tag, text in self.texts if tag == "script" and text.startswith("[{"))
        found: list[dict[str, Any]] = json.loads(script)
        return found


def band(**more: Any) -> BandChart:
    columns = {
        "y": np.array([1.0, math.nan, 3.0, 123456.789]),
        "yhat": np.full(4, 2.0),
        "lower": np.full(4, -1e-9),
        "upper": np.array([math.inf, 3, 3, 3]),
        "score": np.array([0.0, math.nan, 1.0, 1e6]),
    }
    return BandChart(**({"title": "t", "text": "about y", "times_ms": TIMES, **columns} | more))


def write(path: Path, *parts: Any, title: str = "Title", lead: str = "lead") -> Page:
    write_report(path, title, lead, parts)
    return Page(path.read_text(encoding="utf-8"))


def test_the_page_loads_nothing(tmp_path: Path) -> None:
    page = write(tmp_path / "r.html", band(), Table("a", "b", ["c"], [["d"]]))
    assert {tag for tag, _ in page.tags}.isdisjoint({"link", "img", "iframe", "object", "embed", "base", "form"})
    for _, attrs in page.tags:
        assert not {"src", "href", "srcset", "data-src"} & set(attrs)
    style = "".join(text for tag, text in page.texts if tag == "style")
    assert not re.search(r"url\(|@import", style)
    policies = [a["content"] for tag, a in page.tags if a.get("http-equiv") == "Content-Security-Policy"]
    assert policies[0] is not None
    assert policies[0].startswith("default-src 'none'; script-src 'sha256-")
    assert "http" not in policies[0]


def test_missing_values_are_gaps_and_numbers_keep_their_leading_digits(tmp_path: Path) -> None:
    (chart,) = write(tmp_path / "r.html", band()).data()
    assert chart["t"] == TIMES.tolist()
    assert chart["y"] == [1.0, None, 3.0, 123460.0]
    assert chart["lower"] == pytest.approx([-1e-9] * 4)
    assert chart["upper"] == [None, 3, 3, 3]
    assert chart["score"] == [0.0, None, 1.0, 1e6]


def test_a_map_keeps_the_largest_score_of_joined_columns(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    scores = rng.uniform(0, 1, (3, 1000))
    scores[1] = math.nan
    scores[2, 777] = 9.0
    times = TIMES[0] + 60_000 * np.arange(1000, dtype=np.int64)
    spans = [Span(int(times[3]), int(times[5]), "x")]
    (found,) = write(tmp_path / "r.html", ScoreMap("t", "x", ["a", "b", "c"], times, scores, spans)).data()
    assert max(found["z"][2]) == 9.0
    assert found["t"][found["z"][2].index(9.0)] <= times[777] < found["t"][found["z"][2].index(9.0) + 1]
    assert set(found["z"][1]) == {None}
    assert max(found["z"][0]) == pytest.approx(scores[0].max(), rel=1e-4)
    assert found["spans"] == [{"start": times[3], "end": times[5], "text": "x"}]


def test_texts_cannot_become_markup(tmp_path: Path) -> None:
    evil = '</script><script>alert(1)</script><img src="x">'
    spans = [Span(0, 1, evil)]
    chart = band(title=evil, text=evil, spans=spans)
    page = write(tmp_path / "r.html", chart, Table(evil, evil, [evil], [[evil]]), title=evil, lead=evil)
    assert "img" not in {tag for tag, _ in page.tags}
    assert sum(tag == "script" for tag, _ in page.tags) == 3
    assert page.data()[0]["spans"][0]["text"] == evil


def test_charts_say_in_words_what_they_show(tmp_path: Path) -> None:
    page = write(tmp_path / "r.html", band(), Table("Findings", "b", ["c"], [["d"]]))
    labels = [a["aria-label"] for tag, a in page.tags if a.get("role") == "img"]
    assert labels == ["t: about y"]
    assert ("html", "lang") in {(tag, name) for tag, attrs in page.tags for name in attrs}
    assert ("caption", "Findings") in page.texts
    assert {"scope": "col"} in [a for tag, a in page.tags if tag == "th"]


def test_a_missing_plotly_is_told_with_the_command_that_brings_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "plotly.offline", None)
    with pytest.raises(StartError, match=r"pip install 'engine\[ui\]'"):
        write_report(tmp_path / "r.html", "t", "l", [band()])

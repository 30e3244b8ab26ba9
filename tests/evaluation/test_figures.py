"""Figures: what they say in words, that every kind draws, and that the same report gives the same bytes."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import pytest

from evaluation import figures
from evaluation.emotions import EMOTIONS, PALETTE
from evaluation.rendering import page

SVG = "{http://www.w3.org/2000/svg}"


def estimate(value: float | None, half: float = 0.05, n: int = 100) -> dict[str, Any]:
    interval = None if value is None else [value - half, value + half]
    return {"value": value, "n": n, "interval": interval, "se": None, "reason": None if value else "no_data"}


EXAMPLES: dict[str, dict[str, Any]] = {
    "bars": {
        "panels": [
            {
                "title": name,
                "categories": ["Alpha", "Beta"],
                "series": [
                    {"title": "exact", "values": [estimate(0.4), estimate(None)]},
                    {"title": "coarse", "values": [estimate(0.6), estimate(0.7)]},
                ],
                "baselines": [{"title": "human, exact", "value": estimate(0.5)}],
            }
            for name in ("ReDial", "INSPIRED")
        ],
        "y_title": "alignment, %",
        "percent": True,
    },
    "stacked": {
        "panels": [{"title": "ReDial", "categories": ["Alpha"], "shares": [dict.fromkeys(EMOTIONS, 1 / 7)]}],
    },
    "heatmap": {
        "panels": [
            {
                "title": "Alpha",
                "rows": list(EMOTIONS),
                "columns": list(EMOTIONS),
                "values": [[None] * 7] + [[1 / 7] * 7] * 6,
                "counts": [[0] * 7] + [[3] * 7] * 6,
            }
        ],
        "row_title": "user",
        "column_title": "response",
    },
    "scatter": {
        "panels": [
            {
                "title": "ReDial",
                "points": [
                    {"label": "Alpha", "x": estimate(0.5), "y": estimate(0.3)},
                    {"label": "Beta", "x": estimate(None), "y": estimate(0.3)},
                ],
            }
        ],
        "x_title": "range",
        "y_title": "macro-F1",
    },
    "forest": {"rows": [{"label": "all", "estimate": estimate(0.2)}, {"label": "joy", "estimate": estimate(None)}]},
    "reliability": {"panels": [{"title": "", "points": [{"confidence": 0.8, "accuracy": estimate(0.7), "n": 20}]}]},
}


def figure(kind: str, **more: Any) -> dict[str, Any]:
    return {
        "id": f"a-{kind}",
        "kind": kind,
        "title": f"A {kind}",
        "alt": "What it shows, <in words>.",
        "data": EXAMPLES[kind],
        **more,
    }


@pytest.fixture(scope="module")
def drawn() -> dict[str, dict[str, bytes]]:
    return {kind: figures.render(figure(kind)) for kind in EXAMPLES}


def test_every_kind_has_an_example_here() -> None:
    assert set(EXAMPLES) == set(figures.KINDS)


@pytest.mark.parametrize("kind", EXAMPLES)
def test_every_kind_is_written_in_three_formats(drawn: dict[str, dict[str, bytes]], kind: str) -> None:
    assert drawn[kind]["pdf"].startswith(b"%PDF")
    assert drawn[kind]["png"].startswith(b"\x89PNG")
    assert ElementTree.fromstring(drawn[kind]["svg"]).tag == f"{SVG}svg"


@pytest.mark.parametrize("kind", EXAMPLES)
def test_an_svg_carries_its_title_and_description(drawn: dict[str, dict[str, bytes]], kind: str) -> None:
    root = ElementTree.fromstring(drawn[kind]["svg"])
    assert root.findtext(f"{SVG}title") == f"A {kind}"
    assert root.findtext(f"{SVG}desc") == "What it shows, <in words>."
    assert root.get("role") == "img"
    names = {element.get("id") for element in root.iter()}
    assert set(str(root.get("aria-labelledby")).split()) <= names


def test_pdf_and_png_carry_the_words_too(drawn: dict[str, dict[str, bytes]]) -> None:
    assert b"What it shows" in drawn["bars"]["pdf"]
    assert b"What it shows" in drawn["bars"]["png"]


def test_the_same_figure_gives_the_same_bytes() -> None:
    first, second = (figures.render(figure("bars")) for _ in range(2))
    assert first == second


@pytest.mark.parametrize("kind", EXAMPLES)
def test_a_figure_on_a_page_has_no_style_that_a_strict_policy_would_drop(
    drawn: dict[str, dict[str, bytes]], kind: str
) -> None:
    markup = page.inline_svg(drawn[kind]["svg"].decode(), "figure-x")
    root = ElementTree.fromstring(markup)
    assert all(element.get("style") is None for element in root.iter())
    assert not list(root.iter(f"{SVG}style"))
    assert not list(root.iter(f"{SVG}script"))
    assert root.get("width") is None
    assert "currentColor" in markup
    assert figures.INK not in markup


@pytest.mark.parametrize("kind", EXAMPLES)
def test_every_reference_inside_a_figure_on_a_page_finds_its_target(
    drawn: dict[str, dict[str, bytes]], kind: str
) -> None:
    markup = page.inline_svg(drawn[kind]["svg"].decode(), "figure-x")
    names = set(re.findall(r'\bid="([^"]+)"', markup))
    wanted = set(re.findall(r'url\(#([^)]+)\)|href="#([^"]+)"', markup))
    assert {one or other for one, other in wanted} <= names
    assert all(name.startswith("figure-x-") for name in names)
    labelled = re.search(r'aria-labelledby="([^"]+)"', markup)
    assert labelled
    assert set(labelled[1].split()) <= names


def test_an_undefined_value_is_written_as_undefined_and_drawn_as_no_bar(drawn: dict[str, dict[str, bytes]]) -> None:
    assert drawn["bars"]["svg"].count(b">undefined<") == 2


def test_the_emotions_have_their_own_colours_in_every_figure(drawn: dict[str, dict[str, bytes]]) -> None:
    svg = drawn["stacked"]["svg"].decode()
    assert all(colour in svg for colour in PALETTE.values())


def test_nothing_to_draw_is_said_in_words() -> None:
    empty: dict[str, Any] = {
        "bars": {"panels": []},
        "stacked": {"panels": []},
        "heatmap": {"panels": []},
        "scatter": {"panels": []},
        "forest": {"rows": []},
        "reliability": {"panels": []},
    }
    for kind, data in empty.items():
        svg = figures.render({"id": "x", "kind": kind, "data": data, "alt": ""}, ["svg"])["svg"]
        assert re.search(rb">[A-Z][a-z ]+\.<", svg), kind


def test_a_kind_that_does_not_exist_is_refused_naming_those_that_do() -> None:
    with pytest.raises(ValueError, match="bars, stacked, heatmap"):
        figures.render({"id": "x", "kind": "pie", "data": {}})


def test_hostile_names_are_drawn_as_text(tmp_path: Path) -> None:
    hostile = "</text><script>alert(1)</script>$\\input{x}$"
    data = {"panels": [{"title": hostile, "categories": [hostile], "series": [{"title": hostile, "values": [0.5]}]}]}
    one = {"id": "../../etc/passwd", "kind": "bars", "title": hostile, "alt": hostile, "data": data}
    svgs = figures.write_figures({"sections": [{"figures": [one]}]}, tmp_path / "figures")
    root = ElementTree.fromstring(svgs["../../etc/passwd"])
    assert not list(root.iter(f"{SVG}script"))
    assert [path.name for path in sorted((tmp_path / "figures").iterdir())] == [
        "etc-passwd.pdf",
        "etc-passwd.png",
        "etc-passwd.svg",
    ]
    assert not list(tmp_path.parent.glob("etc*"))


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("kind", ["forest", "scatter", "stacked"])
def test_a_name_of_any_length_leaves_the_plot_its_room(kind: str) -> None:
    name = "a system with a name that goes on and on, " * 4 + "(ab)"
    cell = estimate(0.5)
    data: dict[str, Any] = {
        "forest": {"rows": [{"label": name, "estimate": cell, "group": "system"}] * 3, "x_title": "share", "zero": 0},
        "stacked": {"panels": [{"title": "a", "categories": [name], "shares": [[1 / 7] * 7]}] * 2},
        "scatter": {"panels": [{"title": name, "points": [{"label": name, "x": cell, "y": cell}]}]},
    }[kind]
    canvas = getattr(figures, kind)(data)
    canvas.draw_without_rendering()
    words = [text.get_text() for text in canvas.findobj(lambda one: hasattr(one, "get_text"))]
    assert any(word.endswith("(ab)") and "…" in word for word in words)

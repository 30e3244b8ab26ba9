"""The figures of a report, as SVG, PDF and PNG. Nothing is computed here: a figure draws what the report holds.

Drawn in one ink and the emotions' own colours, on white; a page turns the ink into its text colour. Every figure says
in words what it shows (title and description inside the SVG, metadata in PDF and PNG), and colour is never the only
sign: bars differ in fill and hatching, cells carry their numbers.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any, Final, cast

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import PatchCollection
from matplotlib.colors import LinearSegmentedColormap, to_hex
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from evaluation.emotions import EMOTIONS, PALETTE
from evaluation.rendering.cells import file_name

INK: Final = "#1b1f24"
PAPER: Final = "#ffffff"
ON_LIGHT: Final = "#20252c"
ON_DARK: Final = "#fdfdfd"
SERIES: Final = ("#4a6fb5", "#a9bcdf", "#177b58", "#bd8833", "#8c56ef", "#949494")
HATCHES: Final = ("", "////", "", "....", "", "xxxx")
MARKS: Final = ("o", "s", "D", "^", "v", "P", "X", "*", "<", ">", "h", "p")
HEAT: Final = LinearSegmentedColormap.from_list("heat", ["#f3f6fb", "#9db4dc", "#3f63ab", "#1d3266"])
LONGEST_NAME: Final = 36
FORMATS: Final = ("svg", "pdf", "png")
SETTINGS: Final[Mapping[str, Any]] = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 9.0,
    "axes.titlesize": 10.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "text.color": INK,
    "text.parse_math": False,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.labelsize": 8.5,
    "ytick.labelsize": 8.5,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "hatch.linewidth": 0.7,
    "hatch.color": PAPER,
    "svg.fonttype": "none",
    # Identifiers inside the SVG come from this salt: the same report gives the same bytes.
    "svg.hashsalt": "attune",
    "pdf.fonttype": 42,
    "figure.facecolor": PAPER,
    "axes.facecolor": "none",
}

Data = Mapping[str, Any]


def write_figures(report: Mapping[str, Any], folder: Path) -> dict[str, str]:
    """Draw every figure of a report into `folder` in all `FORMATS`; give the SVG texts by figure identifier."""
    folder.mkdir(parents=True, exist_ok=True)
    drawn: dict[str, str] = {}
    for section in report["sections"]:
        for figure in section["figures"]:
            identifier = str(figure["id"])
            name = file_name(identifier)
            for kind, content in render(figure).items():
                (folder / f"{name}.{kind}").write_bytes(content)
                if kind == "svg":
                    drawn[identifier] = content.decode("utf-8")
    return drawn


def render(figure: Mapping[str, Any], formats: Sequence[str] = FORMATS) -> dict[str, bytes]:
    """Draw one figure; give its bytes by format.

    Raises
    ------
    ValueError
        For a kind of figure that does not exist.
    """
    kind = str(figure["kind"])
    if kind not in KINDS:
        raise ValueError(f"There is no figure of kind {kind!r}; the kinds are: {', '.join(KINDS)}.")
    with mpl.rc_context(cast(Any, dict(SETTINGS))):
        canvas = KINDS[kind](figure["data"])
        FigureCanvasAgg(canvas)
        # Laid out once: solving the layout costs more than drawing, and three files need the same one.
        canvas.draw_without_rendering()
        canvas.set_layout_engine("none")
        return {form: _saved(canvas, figure, form) for form in formats}


def _saved(canvas: Figure, figure: Mapping[str, Any], form: str) -> bytes:
    title, words = str(figure.get("title") or figure["id"]), str(figure.get("alt") or "")
    by_format: dict[str, dict[str, Any]] = {
        "svg": {"Date": None, "Creator": None},
        "pdf": {"Title": title, "Subject": words, "CreationDate": None, "Producer": None, "Creator": None},
        "png": {"Title": title, "Description": words, "Software": None},
    }
    stream = io.BytesIO()
    canvas.savefig(stream, format=form, dpi=150 if form == "png" else 100, metadata=by_format[form], facecolor=PAPER)
    content = stream.getvalue()
    return _described(content.decode("utf-8"), title, words).encode("utf-8") if form == "svg" else content


def _described(svg: str, title: str, words: str) -> str:
    """Give the SVG its title and description, and name them to a screen reader."""
    text = f'<title id="title">{escape(title)}</title><desc id="description">{escape(words)}</desc>'
    svg = re.sub(r"<!-- .*? -->\n?", "", svg, flags=re.DOTALL)
    return re.sub(
        r"<svg\b([^>]*)>",
        lambda match: f'<svg role="img" aria-labelledby="title description"{match[1]}>{text}',
        svg,
        count=1,
    )


# --- what the drawings share -----------------------------------------------------------------------------------------


def value_of(cell: Any) -> float:
    """Give the number of a cell that is an estimate, a number or nothing (NaN)."""
    if isinstance(cell, Mapping):
        cell = cell.get("value")
    return float("nan") if cell is None else float(cell)


def interval_of(cell: Any) -> tuple[float, float] | None:
    """Give the interval of an estimate, if it has one."""
    bounds = cell.get("interval") if isinstance(cell, Mapping) else None
    return None if bounds is None else (float(bounds[0]), float(bounds[1]))


def _whiskers(axes: Axes, places: Sequence[float], cells: Sequence[Any], *, across: bool = False) -> None:
    for place, cell in zip(places, cells, strict=True):
        bounds = interval_of(cell)
        if bounds is None or not np.isfinite(value_of(cell)):
            continue
        if across:
            axes.plot(bounds, [place, place], color=INK, linewidth=1.1, solid_capstyle="butt", zorder=4)
        else:
            axes.plot([place, place], bounds, color=INK, linewidth=1.1, solid_capstyle="butt", zorder=4)


def _undefined(axes: Axes, places: Sequence[float], cells: Sequence[Any]) -> None:
    for place, cell in zip(places, cells, strict=True):
        if not np.isfinite(value_of(cell)):
            axes.text(
                place,
                0.01,
                "undefined",
                rotation=90,
                fontsize=6.5,
                ha="center",
                va="bottom",
                transform=axes.get_xaxis_transform(),
                alpha=0.75,
            )


def _fitting(name: object) -> str:
    """Shorten a name in the middle, so that the plot keeps its room; tables have it whole."""
    text = str(name)
    return text if len(text) <= LONGEST_NAME else f"{text[: LONGEST_NAME - 11]}…{text[-10:]}"


def _names(axes: Axes, names: Sequence[str]) -> None:
    slanted = len(names) > 4 or any(len(name) > 12 for name in names)
    axes.set_xticks(
        range(len(names)),
        [_fitting(name) for name in names],
        rotation=40 if slanted else 0,
        ha="right" if slanted else "center",
        rotation_mode="anchor" if slanted else None,
    )
    axes.tick_params(axis="x", length=0)


def _grid(axes: Axes, axis: str = "y") -> None:
    axes.grid(axis=axis, color=INK, alpha=0.13, linewidth=0.7)  # type: ignore[arg-type]


def _panels(count: int, width: float, height: float, *, columns: int = 2) -> tuple[Figure, list[Axes]]:
    columns = max(1, min(columns, count))
    rows = -(-count // columns) if count else 1
    canvas = Figure(figsize=(width, height * rows), layout="constrained")
    grid = canvas.subplots(rows, columns, squeeze=False)
    axes = list(grid.ravel())
    for spare in axes[count:]:
        spare.set_visible(False)
    return canvas, axes[:count]


def _empty(words: str = "There is nothing to draw.") -> Figure:
    canvas = Figure(figsize=(7, 1.2))
    canvas.text(0.5, 0.5, words, ha="center", va="center")
    return canvas


def _legend(canvas: Figure, axes: Axes, columns: int = 6) -> None:
    handles, labels = axes.get_legend_handles_labels()
    if handles:
        canvas.legend(handles, labels, loc="outside lower center", ncols=min(columns, len(labels)))


# --- kinds -----------------------------------------------------------------------------------------------------------


def bars(data: Data) -> Figure:
    """Draw grouped bars with intervals, one panel a data set.

    Data: `panels` of {title, categories, series: [{title, color?, values: cells}], baselines?: [{title, value}]};
    `y_title`, `limits`, `percent`.
    """
    panels = data["panels"]
    if not panels:
        return _empty()
    crowd = max(len(panel["categories"]) * max(1, len(panel["series"])) for panel in panels)
    columns = 1 if crowd > 42 else 2
    canvas, grid = _panels(
        len(panels), min(15.0, max(8.6, 0.24 * crowd * min(columns, len(panels)) + 2.2)), 3.5, columns=columns
    )
    scale = 100.0 if data.get("percent") else 1.0
    for axes, panel in zip(grid, panels, strict=True):
        series = panel["series"]
        width = 0.8 / max(1, len(series))
        for number, one in enumerate(series):
            cells = [_scaled(cell, scale) for cell in one["values"]]
            places = [k - 0.4 + width * (number + 0.5) for k in range(len(cells))]
            colour = one.get("color") or SERIES[number % len(SERIES)]
            axes.bar(
                places,
                np.nan_to_num([value_of(cell) for cell in cells]),
                width * 0.92,
                color=colour,
                hatch=HATCHES[number % len(HATCHES)] or None,
                label=_fitting(one["title"]),
                zorder=2,
            )
            _whiskers(axes, places, cells)
            _undefined(axes, places, cells)
        for number, line in enumerate(panel.get("baselines", ())):
            level = value_of(_scaled(line["value"], scale))
            if np.isfinite(level):
                axes.axhline(
                    level,
                    color=INK,
                    linewidth=1.1,
                    linestyle=((0, (5, 3)), (0, (1, 2)))[number % 2],
                    label=_fitting(line["title"]),
                    zorder=3,
                )
        axes.set_title(_fitting(panel["title"]))
        _names(axes, panel["categories"])
        _grid(axes)
        if data.get("limits"):
            axes.set_ylim(data["limits"][0] * scale, data["limits"][1] * scale)
        else:
            axes.set_ylim(bottom=0)
    for axes in grid[:: max(1, columns if len(panels) > 1 else 1)]:
        axes.set_ylabel(data.get("y_title", ""))
    _legend(canvas, grid[0])
    return canvas


def _scaled(cell: Any, scale: float) -> Any:
    if scale == 1.0 or cell is None:
        return cell
    if not isinstance(cell, Mapping):
        return float(cell) * scale
    bounds = cell.get("interval")
    value = cell.get("value")
    return {
        "value": None if value is None else float(value) * scale,
        "interval": None if bounds is None else [float(bound) * scale for bound in bounds],
    }


def stacked(data: Data) -> Figure:
    """Draw label distributions as stacked bars in the emotions' colours.

    Data: `panels` of {title, categories, shares: one mapping emotion -> share a category, or rows of seven}.
    """
    panels = data["panels"]
    if not panels:
        return _empty()
    height = 0.9 + 0.29 * max(len(panel["categories"]) for panel in panels)
    canvas, grid = _panels(len(panels), 10.6 if len(panels) > 1 else 7.4, height)
    for axes, panel in zip(grid, panels, strict=True):
        names = panel["categories"]
        left = np.zeros(len(names))
        for number, emotion in enumerate(EMOTIONS):
            widths = np.nan_to_num([_share(shares, emotion, number) for shares in panel["shares"]])
            axes.barh(
                range(len(names)),
                widths,
                left=left,
                height=0.74,
                color=PALETTE[emotion],
                label=emotion,
                edgecolor=PAPER,
                linewidth=0.5,
            )
            for row, (start, width) in enumerate(zip(left, widths, strict=True)):
                if width >= 0.07:
                    axes.text(
                        start + width / 2,
                        row,
                        f"{100 * width:.0f}",
                        ha="center",
                        va="center",
                        fontsize=7,
                        color=ON_DARK,
                        in_layout=False,
                    )
            left += widths
        axes.set_yticks(range(len(names)), [_fitting(name) for name in names])
        axes.tick_params(axis="y", length=0)
        axes.invert_yaxis()
        axes.set_xlim(0, 1)
        axes.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0", "25", "50", "75", "100 %"])
        axes.set_title(_fitting(panel["title"]))
        axes.spines["left"].set_visible(False)
    _legend(canvas, grid[0], columns=7)
    return canvas


def _share(shares: Any, emotion: str, number: int) -> float:
    return value_of(shares.get(emotion) if isinstance(shares, Mapping) else shares[number])


def heatmap(data: Data) -> Figure:
    """Draw confusion matrices, one panel a system; each cell shows its share, the row its count.

    Data: `panels` of {title, rows, columns, values (shares, rows x columns), counts?}; `row_title`, `column_title`.
    """
    panels = data["panels"]
    if not panels:
        return _empty()
    columns = min(3, len(panels))
    canvas, grid = _panels(len(panels), 3.55 * columns + 0.5, 3.35, columns=columns)
    for number, (axes, panel) in enumerate(zip(grid, panels, strict=True)):
        values = np.array([[value_of(cell) for cell in row] for row in panel["values"]], dtype=float)
        _cells(axes, values)
        rows, heads = list(panel["rows"]), list(panel["columns"])
        counts = panel.get("counts")
        if counts is not None:
            totals = [int(sum(value_of(cell) for cell in row)) for row in counts]
            rows = [f"{name} ({total})" for name, total in zip(rows, totals, strict=True)]
        axes.set_yticks(np.arange(len(rows)) + 0.5, rows, fontsize=7.2)
        axes.set_xticks(
            np.arange(len(heads)) + 0.5, heads, rotation=45, ha="right", rotation_mode="anchor", fontsize=7.2
        )
        axes.tick_params(length=0, pad=2)
        axes.set_xlim(0, len(heads))
        axes.set_ylim(len(rows), 0)
        axes.set_aspect("equal")
        for spine in axes.spines.values():
            spine.set_visible(False)
        axes.set_title(_fitting(panel["title"]), fontsize=9)
        if number % columns == 0:
            axes.set_ylabel(data.get("row_title", ""))
        if number >= len(panels) - columns:
            axes.set_xlabel(data.get("column_title", ""))
    return canvas


def _cells(axes: Axes, values: np.ndarray[Any, Any]) -> None:
    boxes, colours = [], []
    for row, column in np.ndindex(*values.shape):
        value = values[row, column]
        box = Rectangle((column + 0.03, row + 0.03), 0.94, 0.94)
        if not np.isfinite(value):
            axes.add_patch(
                Rectangle(box.get_xy(), 0.94, 0.94, fill=False, edgecolor="#9aa3ad", linewidth=0, hatch="xxx")
            )
            continue
        boxes.append(box)
        colours.append(to_hex(HEAT(float(value))))
        if row == column:
            axes.add_patch(Rectangle(box.get_xy(), 0.94, 0.94, fill=False, edgecolor=INK, linewidth=0.9, zorder=3))
        if value >= 0.005:
            axes.text(
                column + 0.5,
                row + 0.52,
                f"{100 * value:.0f}",
                ha="center",
                va="center",
                fontsize=6.8,
                color=ON_DARK if value > 0.45 else ON_LIGHT,
                # Inside the axes whatever their size: measuring hundreds of them would be most of the work.
                in_layout=False,
            )
    axes.add_collection(PatchCollection(boxes, facecolors=colours, edgecolors="none", zorder=2))


def scatter(data: Data) -> Figure:
    """Draw points with intervals on both axes, one mark a system.

    Data: `points` of {label, x: cell, y: cell, group?}; or `panels` of {title, points}; `x_title`, `y_title`.
    """
    panels = data.get("panels") or [{"title": data.get("title", ""), "points": data.get("points", [])}]
    if not any(panel["points"] for panel in panels):
        return _empty()
    canvas, grid = _panels(len(panels), 9.6 if len(panels) > 1 else 5.6, 3.9)
    for axes, panel in zip(grid, panels, strict=True):
        for number, point in enumerate(panel["points"]):
            x, y = value_of(point["x"]), value_of(point["y"])
            if not (np.isfinite(x) and np.isfinite(y)):
                continue
            human = bool(point.get("reference"))
            colour = INK if human else SERIES[number % 5]
            for across, cell, place in ((True, point["x"], y), (False, point["y"], x)):
                bounds = interval_of(cell)
                if bounds is not None:
                    ends = (bounds, [place, place]) if across else ([place, place], bounds)
                    axes.plot(*ends, color=colour, alpha=0.45, linewidth=1)
            axes.plot(x, y, MARKS[number % len(MARKS)], color=colour, markersize=5.5, zorder=4)
            axes.annotate(_fitting(point["label"]), (x, y), xytext=(5, 4), textcoords="offset points", fontsize=7.5)
        axes.set_title(_fitting(panel["title"]))
        axes.set_xlabel(data.get("x_title", ""))
        axes.set_ylabel(data.get("y_title", ""))
        axes.margins(0.14)
        _grid(axes, "both")
    return canvas


def forest(data: Data) -> Figure:
    """Draw estimates with intervals, one row each, around a line of no difference.

    Data: `rows` of {label, estimate, group?, note?}; `x_title`, `zero`.
    """
    rows = [row for row in data["rows"] if np.isfinite(value_of(row["estimate"]))]
    if not rows:
        return _empty("Nothing could be estimated.")
    canvas = Figure(figsize=(8.2, 0.9 + 0.27 * len(rows)), layout="constrained")
    axes = canvas.subplots()
    # The same group has the same mark in every figure, whichever comes first: systems before the human reference.
    groups = sorted(
        {str(row.get("group") or "") for row in rows} | {"system"}, key=lambda name: (name != "system", name)
    )
    for place, row in enumerate(rows):
        estimate = row["estimate"]
        number = groups.index(str(row.get("group") or ""))
        colour = SERIES[(number * 2) % len(SERIES)]
        bounds = interval_of(estimate)
        if bounds:
            axes.plot(bounds, [place, place], color=colour, linewidth=1.6, solid_capstyle="butt")
        axes.plot(value_of(estimate), place, MARKS[number % len(MARKS)], color=colour, markersize=5)
    axes.axvline(float(data.get("zero", 0.0)), color=INK, linewidth=0.9, linestyle=(0, (4, 3)))
    axes.set_yticks(range(len(rows)), [_fitting(row["label"]) for row in rows])
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_xlabel(data.get("x_title", ""))
    axes.spines["left"].set_visible(False)
    _grid(axes, "x")
    return canvas


def reliability(data: Data) -> Figure:
    """Draw confidence against accuracy: on the diagonal the classifier means what it says.

    Data: `points` of {confidence, accuracy: cell, n}; or `panels` of {title, points}.
    """
    panels = data.get("panels") or [{"title": "", "points": data.get("points", [])}]
    if not any(panel["points"] for panel in panels):
        return _empty("No text has both a prediction and a verified label.")
    canvas, grid = _panels(len(panels), 4.2 * min(2, len(panels)) + 0.6, 4.0)
    for axes, panel in zip(grid, panels, strict=True):
        axes.plot([0, 1], [0, 1], color=INK, linewidth=0.9, linestyle=(0, (4, 3)))
        places = [value_of(point["confidence"]) for point in panel["points"]]
        cells = [point["accuracy"] for point in panel["points"]]
        sizes = [float(point.get("n") or 1) for point in panel["points"]]
        _whiskers(axes, places, cells)
        axes.scatter(
            places,
            [value_of(cell) for cell in cells],
            s=12 + 90 * np.array(sizes) / max(sizes),
            color=SERIES[0],
            zorder=4,
        )
        axes.set_title(_fitting(panel["title"]))
        axes.set_xlim(0, 1.02)
        axes.set_ylim(0, 1.02)
        axes.set_aspect("equal")
        axes.set_xlabel(data.get("x_title", "confidence of the classifier"))
        axes.set_ylabel(data.get("y_title", "share verified as right"))
        _grid(axes, "both")
    return canvas


KINDS: Final[Mapping[str, Callable[[Data], Figure]]] = {
    "bars": bars,
    "stacked": stacked,
    "heatmap": heatmap,
    "scatter": scatter,
    "forest": forest,
    "reliability": reliability,
}
"""What can be drawn, by the name a report's figure gives as its `kind`."""

"""A figure without pyplot: no display, no global state, the same bytes for the same picture.

pyplot keeps every figure alive and belongs to one thread; figures made here belong to whoever draws them.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any, Final, Literal

from pytest_tradeperf.pipeline.errors import DataError, MissingExtraError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

DOTS_PER_INCH: Final = 100
LONGEST_TITLE: Final = 80
UP, DOWN, LINE, MUTED = "#1b7837", "#b2182b", "#2166ac", "#737373"


def new_figure(width_px: int, height_px: int) -> Any:
    """Return an empty matplotlib figure with an Agg canvas.

    Raises
    ------
    MissingExtraError
        matplotlib is not installed.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtraError("charts need matplotlib: pip install 'pytest-tradeperf[charts]'") from error
    figure = Figure(figsize=(width_px / DOTS_PER_INCH, height_px / DOTS_PER_INCH), dpi=DOTS_PER_INCH)
    FigureCanvasAgg(figure)
    return figure


def to_png(figure: Any) -> bytes:
    """Return the figure as PNG, without the metadata that would differ from version to version."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def set_title(axes: Any, title: str) -> None:
    """Write a title as it is: no formula in it, no letter that the font lacks."""
    # its height is given: to find one, matplotlib would lay out every tick of the figure once more
    axes.set_title(drawable(title), fontsize=11, loc="left", y=1.0, parse_math=False)


def set_legend(axes: Any) -> None:
    """Name the lines above the plot at its right end, where they hide no price."""
    legend = axes.legend(
        loc="lower right", bbox_to_anchor=(1.0, 0.99), ncols=4, fontsize=8, frameon=False, borderaxespad=0.0
    )
    for text in legend.get_texts():
        text.set_parse_math(False)


def drawable(text: str) -> str:
    """Return text that the default font can draw, others as question marks, and not too much of it."""
    from matplotlib.font_manager import findfont, get_font

    font = get_font(findfont("DejaVu Sans"))
    letters = [
        letter if letter.isprintable() and font.get_char_index(ord(letter)) else "?"
        for letter in text[: LONGEST_TITLE + 1]
    ]
    return "".join(letters) if len(letters) <= LONGEST_TITLE else "".join(letters[: LONGEST_TITLE - 1]) + "…"


def label_dates(axes: Any, timestamps: NDArray[np.datetime64], n_labels: int = 6) -> None:
    """Label places on an axis of bar numbers with their dates: days without bars take no room."""
    import numpy as np

    places = np.unique(np.linspace(0, timestamps.size - 1, min(n_labels, timestamps.size)).astype(int))
    span = timestamps[-1] - timestamps[0]
    unit: Literal["D", "m"] = "D" if span > np.timedelta64(5, "D") else "m"
    labels = [
        text.replace("T", " ") for text in np.datetime_as_string(timestamps[places], unit=unit).tolist()
    ]
    axes.set_xticks(places, labels, fontsize=8)
    axes.get_xticklabels()[-1].set_horizontalalignment(
        "right"
    )  # centred, the last one would leave the picture
    axes.set_xlim(-1, timestamps.size)


def checked_series(
    name: str, timestamps: Any, **columns: Any
) -> tuple[NDArray[np.datetime64], dict[str, NDArray[np.float64]]]:
    """Return times and columns as arrays of one length, infinite values as NaN, or say what is wrong.

    The first column must have something to draw.
    """
    import numpy as np

    try:
        times = np.asarray(timestamps, dtype="datetime64[ns]")
        arrays = {column: np.asarray(values, dtype=np.float64) for column, values in columns.items()}
    except (TypeError, ValueError) as error:
        raise DataError(f"chart of {name!r} cannot read its data: {error}; give times and numbers") from error
    if times.ndim != 1 or times.size == 0 or np.isnat(times).any():
        raise DataError(
            f"chart of {name!r} has {times.size} times of shape {times.shape}: expected at least one bar"
        )
    for column, values in arrays.items():
        if values.shape != times.shape:
            found = f"{times.size} times and {column} of shape {values.shape}"
            raise DataError(f"chart of {name!r} has {found}: give one value a bar")
    finite = {column: np.where(np.isfinite(values), values, np.nan) for column, values in arrays.items()}
    main = next(iter(finite))
    if np.isnan(finite[main]).all():
        raise DataError(f"chart of {name!r} has no finite value in {main}: nothing to draw")
    return times, finite

"""What a sweep answers: one row a combination."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from pytest_tradeperf.pipeline.backtest.metrics import METRIC_NAMES
from pytest_tradeperf.pipeline.errors import SettingError

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True, eq=False)
class SweepResult:
    """Metrics of every combination, in the order of the grid (the last parameter varies fastest).

    Attributes
    ----------
    parameters
        Parameter names.
    rows
        The values of each combination.
    table
        float64 ndarray of shape (n_rows, n_metrics), columns as in ``METRIC_NAMES``; NaN where not done or
        failed.
    errors
        Message by row number, for combinations that failed.
    done
        Boolean ndarray of shape (n_rows,); not all True after an interruption.
    engine, note
        The engine used, and why not a faster one.
    """

    parameters: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]
    table: NDArray[np.float64]
    errors: dict[int, str]
    done: NDArray[np.bool_]
    engine: str
    note: str = ""

    @property
    def is_complete(self) -> bool:
        """Whether every combination was run."""
        return bool(self.done.all())

    def metric(self, name: str) -> NDArray[np.float64]:
        """Return one metric of every combination, float64 ndarray of shape (n_rows,).

        Raises
        ------
        SettingError
            There is no such metric.
        """
        if name not in METRIC_NAMES:
            raise SettingError(f"metric {name!r} does not exist: expected one of {', '.join(METRIC_NAMES)}")
        return self.table[:, METRIC_NAMES.index(name)]

    def best(self, metric: str = "sharpe", *, smallest: bool = False) -> dict[str, Any]:
        """Return the parameters of the first combination with the largest (or smallest) value.

        Raises
        ------
        SettingError
            No combination has a value.
        """
        values = self.metric(metric) * (-1.0 if smallest else 1.0)
        known = np.where(np.isnan(values), -np.inf, values)
        if not known.size or known.max() == -np.inf:
            raise SettingError(f"no combination has a {metric}: see result.errors, or give a wider grid")
        return dict(zip(self.parameters, self.rows[int(known.argmax())], strict=True))

    def heat_map(self, metric: str) -> tuple[list[Any], list[Any], NDArray[np.float64]]:
        """Return values of the first two parameters and each pair's best metric, (n_first, n_second).

        Raises
        ------
        SettingError
            The sweep has fewer than two parameters.
        """
        if len(self.parameters) < 2:  # noqa: PLR2004 - a map has two sides
            raise SettingError(f"a heat map needs two parameters, the sweep has {self.parameters}")
        sides = [list(dict.fromkeys(row[side] for row in self.rows)) for side in (0, 1)]
        places = [{value: place for place, value in enumerate(side)} for side in sides]
        grid = np.full((len(sides[0]), len(sides[1])), np.nan)
        for row, value in zip(self.rows, self.metric(metric).tolist(), strict=True):
            cell = places[0][row[0]], places[1][row[1]]
            grid[cell] = np.fmax(grid[cell], value)
        return sides[0], sides[1], grid

    def to_frame(self) -> pd.DataFrame:
        """Return one row a combination: parameters, metrics and error, as a pandas DataFrame."""
        import pandas as pd

        frame = pd.DataFrame(list(self.rows), columns=list(self.parameters))
        metrics = pd.DataFrame(self.table, columns=list(METRIC_NAMES))
        errors = pd.Series(
            [self.errors.get(row, "") for row in range(len(self.rows))], name="error", dtype=object
        )
        return pd.concat([frame, metrics, errors], axis=1)

    @property
    def digest(self) -> str:
        """SHA-256 over parameters, metrics and errors: the same for every engine and executor."""
        state = hashlib.sha256(repr((self.parameters, self.rows, sorted(self.errors.items()))).encode())
        state.update(np.ascontiguousarray(self.table).tobytes())
        return state.hexdigest()

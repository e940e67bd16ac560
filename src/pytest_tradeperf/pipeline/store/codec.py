"""Records to rows and back, and to lines of JSON for the outbox."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from pytest_tradeperf.pipeline.errors import DataError
from pytest_tradeperf.pipeline.store.records import Decision, Execution, Record, Signal

if TYPE_CHECKING:
    import sqlalchemy as sa
    from numpy.typing import NDArray

KINDS: Final[Mapping[str, type[Decision | Signal]]] = {
    "decision": Decision,
    "execution": Decision,
    "signal": Signal,
}
DECISION_FIELDS: Final = tuple(part.name for part in fields(Decision))
SIGNAL_FIELDS: Final = tuple(part.name for part in fields(Signal))
TIMES: Final = frozenset({"as_of", "created_at", "closed_at", "outcome_at"})
# int8 from -127 to 127: symmetric, so that the sign of a feature never costs precision.
INT8_STEPS: Final = 127.0
# Made once: making an encoder costs more than most records take to encode.
ENCODER: Final = json.JSONEncoder(allow_nan=False)


def quantised(vectors: NDArray[np.float32]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Return int8 rows and what one step is worth in each, so that ``rows * steps`` is near the vectors.

    Parameters
    ----------
    vectors
        float32 ndarray of shape (n, n_features).

    Returns
    -------
    rows : int8 ndarray of shape (n, n_features)
    steps : float32 ndarray of shape (n,)
        Largest magnitude of the row / 127; the error of a feature is at most half a step. 0 for a row of
        zeros.
    """
    steps = np.abs(vectors).max(axis=1, initial=0.0).astype(np.float32) / np.float32(INT8_STEPS)
    divisor = np.where(steps > 0, steps, np.float32(1.0))
    rows = np.clip(np.rint(vectors / divisor[:, None]), -INT8_STEPS, INT8_STEPS).astype(np.int8)
    return rows, steps


def decision_row(record: Decision) -> dict[str, Any]:
    """Return the columns of a decision."""
    row = {name: getattr(record, name) for name in DECISION_FIELDS}
    row["degraded"] = list(record.degraded)
    row["details"] = dict(record.details)
    return row


def signal_row(record: Signal, *, as_int8: bool) -> dict[str, Any]:
    """Return the columns of a signal, its vector packed as float32 or int8."""
    row = {name: getattr(record, name) for name in SIGNAL_FIELDS}
    row["details"] = dict(record.details)
    vector = np.asarray(record.vector, dtype="<f4")
    if as_int8:
        rows, steps = quantised(vector[None, :])
        row["vector"], row["vector_step"] = rows.tobytes(), float(steps[0])
    else:
        row["vector"], row["vector_step"] = vector.tobytes(), None
    return row


def unpacked(vector: bytes, step: float | None) -> NDArray[np.float32]:
    """Return a stored vector as a float32 ndarray of shape (n_features,)."""
    if step is None:
        return np.frombuffer(vector, dtype="<f4")
    return np.frombuffer(vector, dtype=np.int8) * np.float32(step)


def decision_of(row: sa.Row[Any]) -> Decision:
    """Return the decision that a row holds."""
    values = row._mapping  # noqa: SLF001 - SQLAlchemy's public name for the row as a mapping
    return Decision(**{name: values[name] for name in DECISION_FIELDS})


def signal_of(row: sa.Row[Any]) -> Signal:
    """Return the signal that a row holds; its vector as precise as it was stored."""
    stored = row._mapping  # noqa: SLF001
    values = {name: stored[name] for name in SIGNAL_FIELDS}
    values["vector"] = unpacked(stored["vector"], stored["vector_step"]).tolist()
    return Signal(**values)


def to_line(record: Record) -> str:
    """Return a record as one line of JSON, vector in full precision.

    Raises
    ------
    DataError
        `details` holds something that JSON cannot.
    """
    kind, plain = type(record).__name__.lower(), record.decision if isinstance(record, Execution) else record
    values = {part.name: getattr(plain, part.name) for part in fields(plain)}
    for name in TIMES & values.keys():
        values[name] = values[name] and values[name].isoformat()
    return json.dumps({"kind": kind} | values, default=_plain, allow_nan=False)


def from_line(line: str) -> Record:
    """Return the record that :func:`to_line` wrote.

    Raises
    ------
    ValueError, TypeError, KeyError, DataError
        The line is not one of its lines.
    """
    values = json.loads(line)
    kind = values.pop("kind")
    for name in TIMES & values.keys():
        values[name] = values[name] and datetime.fromisoformat(values[name])
    record = KINDS[kind](**values)
    return Execution(decision=record) if kind == "execution" and isinstance(record, Decision) else record


def details_text(value: object) -> str:
    """Return JSON for a JSON column; NaN and infinity are refused because PostgreSQL refuses them."""
    try:
        return ENCODER.encode(value)
    except (TypeError, ValueError, RecursionError) as error:
        message = (
            f"details cannot be stored as JSON: {error}; use text, finite numbers, lists and string keys"
        )
        raise DataError(message) from error


def _plain(value: object) -> object:
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"{value!r} of {type(value).__name__} is not JSON")

"""Every error this package raises on purpose.

::

    TradeperfError
    ├── UnitError            a quantity that cannot be read ("30 parsecs")
    ├── MarkerError          a perf marker with a wrong argument
    ├── MeasureError         the fixture used in a way that cannot be measured
    ├── BaselineError        a baseline file that cannot be read or written
    ├── SettingsError        options that contradict each other or have a bad value
    ├── RevisionError        git cannot give the code that was asked for
    ├── WorkerError          a measuring process died, hung or spoke nonsense
    └── UnavailableError     an instrument that this machine does not have

A message names the bad value, says what was expected, and ends with the next step.
"""


class TradeperfError(Exception):
    """Base of the tree; catch it to catch them all."""


class UnitError(TradeperfError, ValueError):
    """A duration, size, rate or percentage that cannot be read."""


class MarkerError(TradeperfError, ValueError):
    """A perf marker with an unknown argument or a value out of range."""


class MeasureError(TradeperfError, RuntimeError):
    """A measuring fixture was used in a way that gives no meaningful number."""


class BaselineError(TradeperfError):
    """A baseline file or folder that cannot be read or written; nothing stored was lost."""


class SettingsError(TradeperfError, ValueError):
    """Command line or ini options that contradict each other or have a bad value."""


class RevisionError(TradeperfError):
    """Git cannot give the code that was asked for."""


class WorkerError(TradeperfError):
    """A measuring process died, hung past its deadline or answered nonsense."""


class UnavailableError(TradeperfError):
    """An instrument this machine does not have; the message says which and why."""

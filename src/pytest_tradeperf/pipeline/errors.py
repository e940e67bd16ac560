"""Every error the pipeline raises on purpose.

::

    PipelineError
    ├── DataError            market data that cannot be used (unsorted, high below low, unreadable file)
    ├── SettingError         an argument out of range (cash 0, infinite fees, window 0)
    ├── StrategyError        a strategy that raised, or answered with the wrong shape or values
    ├── EngineError          an engine that does not exist, or that does not support what was asked
    ├── StoreError           a cache or database that cannot be read or written
    └── MissingExtraError    an optional dependency that is not installed

A message names the bad value, says what was expected, and ends with the next step.
"""


class PipelineError(Exception):
    """Base of the tree; catch it to catch them all."""


class DataError(PipelineError, ValueError):
    """Market data that cannot be used; the message names the symbol and the first bad bar."""


class SettingError(PipelineError, ValueError):
    """An argument whose value is out of range or contradicts another one."""


class StrategyError(PipelineError):
    """A strategy that raised, or whose answer has the wrong shape, type or values."""


class EngineError(PipelineError):
    """An engine that is unknown, or that refuses by name what it does not support."""


class StoreError(PipelineError):
    """A cache or database that cannot be read or written; nothing stored was lost."""


class MissingExtraError(PipelineError, ImportError):
    """An optional dependency that is not installed; the message names the extra."""

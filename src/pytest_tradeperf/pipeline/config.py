"""The pipeline's one configuration: defaults for everything, then a file, the environment, the command line.

Importing this module loads nothing heavy. What a setting means to a part is that part's business
(see ``wiring``); here it only has a name, a kind, bounds and an origin.
"""

import difflib
import math
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import Field, dataclass, field, fields
from pathlib import Path
from typing import Any, Final

from pytest_tradeperf.pipeline.errors import SettingError
from pytest_tradeperf.pipeline.masking import STARS, without_secrets

PREFIX: Final = "TRADEPERF_"
DEFAULT_FILE: Final = "tradeperf.toml"
_DURATION: Final = re.compile(r"(\d+(?:\.\d*)?|\.\d+)\s*(ms|s|sec|min|h)?")
_SECONDS: Final = {"ms": 0.001, "s": 1.0, "sec": 1.0, "min": 60.0, "h": 3600.0}
_TICKER: Final = re.compile(r"\^?[A-Z0-9]{1,10}(?:[.=-][A-Z0-9]{1,6}){0,2}")
_YES: Final = {
    "1": True,
    "true": True,
    "yes": True,
    "on": True,
    "0": False,
    "false": False,
    "no": False,
    "off": False,
}
MOST_TICKERS: Final = 1000
_FEEDS_SHARE: Final = 0.4
"""Of a cycle with a language model: as much is left for its answers, which take longer than a feed's."""


def _setting(
    default: Any, kind: str, text: str, *, low: float = 0, high: float = math.inf, choices: Sequence[str] = ()
) -> Any:
    return field(
        default=default,
        metadata={"kind": kind, "help": text, "low": low, "high": high, "choices": tuple(choices)},
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class PipelineConfig:
    """Every setting of a cycle and a morning report; building one checks it."""

    tickers: tuple[str, ...] = _setting(
        ("AAPL", "FB", "GOOG", "IBM", "MSFT"), "tickers", "what to look at, separated by commas"
    )
    source: str = _setting(
        "world",
        "choice",
        "where feeds come from: loopback world, live hosts, or none",
        choices=("world", "live", "off"),
    )
    market: str = _setting(
        "auto",
        "choice",
        "where bars come from; auto: bundled, then the loopback world, or the network when live",
        choices=("auto", "bundled", "network"),
    )
    world_seed: int = _setting(0, "count", "seed of the loopback world")
    world_scale: float = _setting(
        0.0, "number", "the loopback world's latencies times this: 0 at once, 1 lifelike", high=100
    )
    sec_user_agent: str = _setting("", "text", "name and mail address the SEC requires of live requests")
    feeds_timeout: float = _setting(10.0, "seconds", "for all feeds together", low=0.001, high=3600)
    llm_url: str = _setting(
        "",
        "text",
        "OpenAI-compatible endpoint up to /v1; empty: rules; 'world': loopback; 'local': a small model here",
    )
    llm_model: str = _setting("default", "text", "model name the endpoint knows")
    llm_api_key: str = _setting("", "secret", "sent as bearer token, shown nowhere")
    llm_workers: int = _setting(16, "count", "calls at once", low=1, high=1000)
    llm_cache_ttl: float = _setting(300.0, "seconds", "how long an answer is reused; 0: never", high=1e9)
    llm_timeout: float = _setting(20.0, "seconds", "for one call", low=0.001, high=3600)
    llm_batch: int = _setting(5, "count", "tickers that share one call for a vote; 1: none", low=1, high=100)
    llm_streaming: bool = _setting(True, "flag", "ask for streamed answers")
    llm_cassette: str = _setting("", "text", "file to record answers to or replay them from; empty: none")
    llm_cassette_mode: str = _setting(
        "replay", "choice", "what to do with the cassette", choices=("replay", "record", "extend", "pass")
    )
    llm_max_tokens: int = _setting(1_000_000, "count", "token budget of one run; beyond it nothing is sent")
    llm_max_usd: float = _setting(10.0, "number", "money budget of one run, US dollars")
    llm_price_prompt: float = _setting(0.0, "number", "US dollars a million prompt tokens", high=1e6)
    llm_price_completion: float = _setting(0.0, "number", "US dollars a million completion tokens", high=1e6)
    debate_arm: str = _setting(
        "debate", "choice", "how contested tickers are decided", choices=("debate", "vote")
    )
    debate_seconds: float = _setting(25.0, "seconds", "for one ticker", low=0.001, high=28)
    debate_turns: int = _setting(2, "count", "turns of bull and bear at most", low=1, high=10)
    debate_reason: int = _setting(200, "count", "longest reason of a speaker, in characters", high=200)
    debate_low: float = _setting(0.45, "number", "contested from this probability on", high=0.5)
    debate_high: float = _setting(0.55, "number", "contested up to this probability", low=0.5, high=1)
    debate_masked: bool = _setting(False, "flag", "hide tickers and dates from the model")
    debate_stand_in: bool = _setting(
        False, "flag", "let rules vote for analysts whose model failed (recorded), instead of abstaining"
    )
    cycle_seconds: float = _setting(30.0, "seconds", "for one cycle, all stages", low=0.001, high=86_400)
    chart_workers: int = _setting(2, "count", "charts drawn at once", low=1, high=64)
    chart_cache_ttl: float = _setting(600.0, "seconds", "how long a chart is reused; 0: never", high=1e9)
    chart_keep_days: float = _setting(7.0, "number", "older chart files are removed", high=10_000)
    charts: bool = _setting(True, "flag", "draw charts")
    max_alerts: int = _setting(10, "count", "alerts of one cycle, strongest first")
    equity: float = _setting(
        100_000.0, "number", "account size that positions are sized for, US dollars", low=1
    )
    output: str = _setting("tradeperf-output", "text", "folder for charts, reports and the store")
    store: str = _setting(
        "", "text", "database URL; empty: SQLite in the output folder; 'off': nothing is stored"
    )

    def __post_init__(self) -> None:
        for setting in fields(self):
            value = _read(setting, getattr(self, setting.name), f"the setting {setting.name}")
            object.__setattr__(self, setting.name, value)
        if self.source == "off" and self.llm_url == "world":
            raise SettingError("llm_url 'world' needs source 'world': with source 'off' no world runs")

    def __repr__(self) -> str:
        shown = (
            f"{setting.name}={_shown(getattr(self, setting.name))!r}"
            for setting in fields(self)
            if setting.metadata["kind"] != "secret"
        )
        return f"PipelineConfig({', '.join(shown)})"

    @property
    def feeds_seconds(self) -> float:
        """Seconds for the feeds of one cycle: a language model needs what is left to read them."""
        share = _FEEDS_SHARE if self.llm_url else 1.0
        return min(self.feeds_timeout, share * self.cycle_seconds)


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolved:
    """A configuration and where each setting came from."""

    config: PipelineConfig
    origins: Mapping[str, str]

    def as_toml(self) -> str:
        """Return every setting with its origin, as a file that ``--config`` reads; secrets are hidden."""
        lines = []
        for setting in fields(PipelineConfig):
            value = getattr(self.config, setting.name)
            kind, origin = setting.metadata["kind"], self.origins[setting.name]
            text = _toml(STARS if kind == "secret" and value else _shown(value))
            line = f"{setting.name} = {text}"
            if kind == "secret" and value:
                line = f"# {line}"  # a file made from this must not set the key to stars
            lines.append(f"{line}  # {origin}: {setting.metadata['help']}")
        return "\n".join(lines)


def resolve(
    *,
    environment: Mapping[str, str],
    options: Mapping[str, object] | None = None,
    file: Path | str | None = None,
    folder: Path | None = None,
) -> Resolved:
    """Return the configuration that ``options``, the environment, a file and the defaults make together.

    Parameters
    ----------
    environment
        Variables; ``TRADEPERF_LLM_WORKERS`` sets ``llm_workers``, and so on.
    options
        From the command line, by setting name; None values are left out.
    file
        TOML, settings at top level or under ``[pipeline]``. Default: what ``TRADEPERF_CONFIG`` names,
        else ``tradeperf.toml`` in ``folder`` (the current one), if there is one.

    Raises
    ------
    SettingError
        An unknown name, an unreadable file, or a value that cannot be used; the message says where it
        was set and what is expected.
    """
    named = file or environment.get(f"{PREFIX}CONFIG") or None
    path = Path(named) if named else (folder or Path()) / DEFAULT_FILE
    values: dict[str, object] = {}
    origins = {setting.name: "default" for setting in fields(PipelineConfig)}
    by_name = {setting.name: setting for setting in fields(PipelineConfig)}

    def take(name: str, raw: object, place: str, origin: str) -> None:
        if name not in by_name:
            near = difflib.get_close_matches(name, by_name, 1)
            hint = f"; did you mean {near[0]!r}?" if near else "; --show-config lists all"
            raise SettingError(f"{place} is no setting{hint}")
        values[name], origins[name] = _read(by_name[name], raw, place), origin

    if named or path.is_file():
        for name, raw in _table(path).items():
            take(name, raw, f"{name!r} in {path}", f"file {path.name}")
    for name in by_name:
        variable = PREFIX + name.upper()
        if environment.get(variable):
            take(name, environment[variable], variable, variable)
    for name, raw in (options or {}).items():
        if raw is not None:
            take(name, raw, f"--{name.replace('_', '-')}", "command line")
    return Resolved(config=PipelineConfig(**values), origins=origins)  # type: ignore[arg-type]  # read above


def parse_tickers(text: str | Sequence[str]) -> tuple[str, ...]:
    """Return tickers in upper case, each once, in the order given.

    Raises
    ------
    SettingError
        Nothing but ASCII letters and digits with ``.``, ``-``, ``=`` or a leading ``^`` is a ticker; path
        characters, control characters and other scripts are refused.

    Examples
    --------
    >>> parse_tickers("aapl, BRK.B,AAPL")
    ('AAPL', 'BRK.B')
    """
    parts = re.split(r"[,\s]+", text) if isinstance(text, str) else text
    tickers: dict[str, None] = {}
    for part in parts:
        if not isinstance(part, str):
            raise SettingError(f"{part!r:.60} is not a ticker; expected text like AAPL")
        # upper() only after the check for ASCII: 'ß'.upper() is 'SS', somebody else's ticker
        if part and not (part.isascii() and _TICKER.fullmatch(part.upper())):
            raise SettingError(
                f"{part!r:.60} is not a ticker; expected letters and digits like AAPL, BRK.B or ^SPX"
            )
        if part:
            tickers[part.upper()] = None
    if not tickers:
        raise SettingError("no tickers were given; expected a list like AAPL,MSFT")
    if len(tickers) > MOST_TICKERS:
        raise SettingError(f"{len(tickers)} tickers are more than {MOST_TICKERS}: split the list")
    return tuple(tickers)


def _table(path: Path) -> Mapping[str, object]:
    try:
        found = tomllib.loads(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
        raise SettingError(f"cannot read the configuration {str(path)!r}: {error}") from error
    section = found.get("pipeline", found)
    if not isinstance(section, dict):
        raise SettingError(f"'pipeline' in {path} must be a table, not {section!r:.60}")
    return section


def _read(setting: "Field[Any]", raw: object, place: str) -> object:
    """Return ``raw`` as a value of this setting, or raise SettingError naming ``place``."""
    spec = setting.metadata
    kind = spec["kind"]
    try:
        if kind == "tickers":
            return parse_tickers(raw)  # type: ignore[arg-type]  # refuses what is neither text nor a list
        if kind == "secret":
            return _secret(raw)
        if kind in ("text", "choice"):
            return _text(raw, spec["choices"])
        if kind == "flag":
            return _flag(raw)
        return _number(raw, kind, spec["low"], spec["high"])
    except SettingError as error:
        raise SettingError(f"{place}: {error}") from None
    except TypeError as error:
        raise SettingError(f"{place} is {raw!r:.60}, expected {kind}") from error


def _text(raw: object, choices: Sequence[str]) -> str:
    if not isinstance(raw, str) or not raw.isprintable():
        raise SettingError(f"expected one line of text, not {_shown(raw)!r:.60}")
    if choices and raw not in choices:
        raise SettingError(f"expected one of {', '.join(choices)}, not {raw!r:.60}")
    return raw


def _secret(raw: object) -> str:
    """Return a key without the white space that files end with; no error shows any of it."""
    if not isinstance(raw, str):
        raise SettingError(f"expected one line of text, not {type(raw).__name__} (not shown: it is secret)")
    text = raw.strip()
    for place, character in enumerate(text, 1):
        if not character.isprintable():
            raise SettingError(
                f"expected one line of text (not shown: it is secret); character {place} of {len(text)} is"
                f" U+{ord(character):04X}: check how it was pasted"
            )
    return text


def _flag(raw: object) -> bool:
    if isinstance(raw, bool):
        return raw
    if isinstance(raw, str) and raw.strip().lower() in _YES:
        return _YES[raw.strip().lower()]
    raise SettingError(f"expected true or false, not {raw!r:.60}")


def _number(raw: object, kind: str, low: float, high: float) -> float | int:
    wanted = {"count": "a whole number", "seconds": "seconds like 30, '30s' or '5min'"}.get(kind, "a number")
    bounds = f"at least {low:g}" if math.isinf(high) else f"in [{low:g}, {high:g}]"
    value: float | None = None
    if isinstance(raw, str):
        found = _DURATION.fullmatch(raw.strip().replace("_", ""))
        if found and (kind == "seconds" or not found[2]):
            value = float(found[1]) * _SECONDS[found[2] or "s"]
    elif isinstance(raw, (int, float)) and not isinstance(raw, bool):
        value = float(raw)
    if (
        value is None
        or not (low <= value <= high and math.isfinite(value))
        or (kind == "count" and value % 1)
    ):
        raise SettingError(f"expected {wanted} {bounds}, not {raw!r:.60}")
    return int(value) if kind == "count" else value


def _shown(value: object) -> object:
    """Return a URL without its secrets; everything else as it is."""
    return without_secrets(value) if isinstance(value, str) else value


def _toml(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, tuple):
        return f"[{', '.join(_toml(item) for item in value)}]"
    if isinstance(value, str):
        escaped = value.replace("\\", "\\\\").replace('"', '\\"')
        return f'"{escaped}"'
    return repr(value)

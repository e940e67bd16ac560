"""Who speaks: four analysts with different evidence, two advocates, a judge. One line of task each."""

from dataclasses import dataclass
from typing import Final

from pytest_tradeperf.pipeline.debate.evidence import Evidence


@dataclass(frozen=True, slots=True, kw_only=True)
class Analyst:
    """One voter. It sees ``facts`` (and headlines if ``reads_news``) and counts ``weight`` times."""

    name: str
    task: str
    facts: tuple[str, ...]
    reads_news: bool = False
    weight: float = 1.0

    def __post_init__(self) -> None:
        if not self.weight > 0:
            raise ValueError(f"the weight of analyst {self.name!r} must be above 0, not {self.weight!r}")

    def view(self, evidence: Evidence) -> dict[str, object]:
        """Return the part of the evidence this analyst is told; {} where there is nothing to say."""
        facts = {name: evidence.facts[name] for name in self.facts if name in evidence.facts}
        view: dict[str, object] = {"facts": facts} if facts else {}
        if self.reads_news and evidence.headlines:
            view["headlines"] = list(evidence.headlines)
        return view


ANALYSTS: Final = (
    Analyst(
        name="trend",
        task="Judge momentum: trends persist until they break.",
        facts=("return_20", "return_60", "sma_gap", "sma_cross"),
    ),
    Analyst(
        name="reversion",
        task="Judge stretch: extremes tend to come back.",
        facts=("rsi_14", "band_position", "return_5"),
    ),
    Analyst(
        name="volatility",
        task="Judge risk: rising volatility and deep drawdowns weigh on prices.",
        facts=("volatility_20", "volatility_ratio", "atr_share", "drawdown_60"),
    ),
    Analyst(
        name="sentiment",
        task="Judge news, messages and option flow.",
        facts=("sentiment", "put_call", "filings"),
        reads_news=True,
    ),
)
"""The default panel."""

SIDES: Final = {
    "bull": "Argue for a rise as strongly as the data honestly allows; answer the bear's last point.",
    "bear": "Argue for a fall as strongly as the data honestly allows; answer the bull's last point.",
}
JUDGE_TASK: Final = "Weigh the votes and both sides on their evidence, not on who spoke first or longer."

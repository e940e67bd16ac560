"""The whole desk from a configuration, over real sockets to the loopback world."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime
from pathlib import Path

import httpx2
import pytest
from click.testing import CliRunner

from pytest_tradeperf.pipeline import commands
from pytest_tradeperf.pipeline.config import PipelineConfig
from pytest_tradeperf.pipeline.cycle import Cycle, summary_lines
from pytest_tradeperf.pipeline.errors import SettingError
from pytest_tradeperf.pipeline.llm.client import OpenAiModel
from pytest_tradeperf.pipeline.llm.errors import LlmError
from pytest_tradeperf.pipeline.marketdata import load_bars
from pytest_tradeperf.pipeline.research import Mood, Silence
from pytest_tradeperf.pipeline.store import SignalStore
from pytest_tradeperf.pipeline.wiring import debate_settings, ledger, opened
from pytest_tradeperf.pipeline.world.settings import WorldSettings
from pytest_tradeperf.pipeline.world.transport import WorldTransport


def invoke(command, *arguments, **environment):
    return CliRunner().invoke(command, [str(a) for a in arguments], env=environment)


def cycle_of(config, **more):
    async def main():
        async with opened(config) as parts:
            return await Cycle(parts, config.tickers, batch=config.llm_batch, **more).run()

    return asyncio.run(main())


def open_files():
    """Return how many files and sockets are open, without the fonts that matplotlib keeps for each thread."""
    links = Path("/proc/self/fd")
    return sum(link.readlink().suffix != ".ttf" for link in links.iterdir() if link.exists())


def test_by_default_everything_runs_offline_and_nothing_is_degraded(tmp_path):
    files, threads = open_files(), threading.active_count()
    result = cycle_of(PipelineConfig(output=str(tmp_path)))
    assert result.degraded == ()
    assert result.stored == len(result.outcomes) == 5
    assert {o.researched.evidence.as_of for o in result.outcomes} == {"2013-03-01"}
    assert all(o.researched.mood is not Mood.UNKNOWN for o in result.outcomes)
    assert all("put_call" in o.researched.evidence.facts for o in result.outcomes)
    assert set(result.feeds) == {"sec", "news", "stocktwits", "cboe"}
    assert open_files() == files
    assert threading.active_count() == threads


def test_the_same_again_stores_nothing_new_and_decides_the_same(tmp_path):
    config = PipelineConfig(output=str(tmp_path), world_seed=5)
    first, second = cycle_of(config), cycle_of(config)
    assert [o.decision.record for o in first.outcomes] == [o.decision.record for o in second.outcomes]
    assert (first.stored, second.stored) == (5, 0)


def test_a_cycle_whose_store_is_damaged_leaves_its_decisions_in_the_outbox(tmp_path):
    file = tmp_path / "decisions.db"
    file.write_bytes(b"not the bytes you are looking for" * 100)
    config = PipelineConfig(output=str(tmp_path), charts=False)
    result = cycle_of(config)
    assert result.stored == 0
    assert any("5 records are kept in" in line for line in result.degraded)
    file.unlink()
    with SignalStore(f"sqlite:///{file}") as store:
        assert store.flush_outbox() == 5
    assert cycle_of(config).stored == 0  # the same decisions again


def test_the_loopback_model_is_asked_over_http_and_the_ledger_holds_its_usage(tmp_path):
    config = PipelineConfig(
        output=str(tmp_path), store="off", source="world", llm_url="world", tickers=("IBM", "AAPL")
    )

    async def main():
        async with opened(config) as parts:
            assert isinstance(parts.panel._service.model, OpenAiModel)
            return await Cycle(parts, config.tickers, batch=4).run()

    result = asyncio.run(main())
    assert not [line for line in result.degraded if "vote" in line]
    assert 0 < result.first_token_seconds < 5
    assert "first token " in "\n".join(summary_lines(result))
    assert result.ledger.total_tokens == sum(
        o.decision.prompt_tokens + o.decision.completion_tokens for o in result.outcomes
    )
    assert result.stored == 0


def test_without_feeds_the_sentiment_analyst_abstains(tmp_path):
    result = cycle_of(PipelineConfig(source="off", store="off", output=str(tmp_path)))
    assert "feeds: off" in result.degraded
    assert "IBM vote/sentiment: no_evidence" in result.degraded


def test_tickers_beyond_the_bundled_ones_come_from_the_worlds_market(tmp_path):
    config = PipelineConfig(tickers=("IBM", "TSLA", "NVDA"), store="off", charts=False, output=str(tmp_path))
    result = cycle_of(config)
    assert result.degraded == ()
    assert {o.researched.evidence.as_of for o in result.outcomes} == {"2013-03-01"}
    assert all(o.researched.evidence.facts["volatility_20"] > 0 for o in result.outcomes)
    assert result.outcomes[0].researched.price == load_bars("IBM").close[-1]


def test_a_market_named_network_is_asked_for_everything_and_needs_one(tmp_path):
    config = PipelineConfig(
        tickers=("IBM",), market="network", store="off", charts=False, output=str(tmp_path)
    )
    assert cycle_of(config).outcomes[0].researched.price != load_bars("IBM").close[-1]
    with pytest.raises(SettingError, match="needs source"):
        cycle_of(PipelineConfig(market="network", source="off", store="off", output=str(tmp_path)))


def test_a_recorded_cycle_replays_without_its_model(tmp_path):
    settings = {
        "store": "off",
        "charts": False,
        "output": str(tmp_path),
        "llm_cassette": str(tmp_path / "tape"),
    }
    first = cycle_of(PipelineConfig(llm_url="world", llm_cassette_mode="record", **settings))
    again = cycle_of(PipelineConfig(llm_url="", **settings))
    assert [o.decision.record for o in again.outcomes] == [o.decision.record for o in first.outcomes]
    with pytest.raises(LlmError, match="cannot read the cassette"):
        cycle_of(PipelineConfig(**settings | {"llm_cassette": str(tmp_path / "none")}))


def test_live_without_feeds_is_as_of_now():
    now = datetime(2031, 5, 6, 7, 8, tzinfo=UTC)

    async def main():
        config = PipelineConfig(source="live", store="off")
        async with opened(config, now=lambda: now) as parts:
            return parts.as_of, isinstance(parts.feeds, Silence)

    assert asyncio.run(main()) == (now, False)


class Listening(httpx2.AsyncBaseTransport):
    """A world that notes which addresses it is asked at."""

    def __init__(self):
        self.world = WorldTransport(WorldSettings(now=LIVE_AT))
        self.urls = []

    async def handle_async_request(self, request):
        self.urls.append(str(request.url))
        if request.url.path.startswith("/v8/"):  # the market's host has nothing else, the world's has
            request.url = request.url.copy_with(path=f"/market{request.url.path}")
        return await self.world.handle_async_request(request)


LIVE_AT = datetime(2026, 3, 4, 15, 30, tzinfo=UTC)


def heard_live(environment, **more):
    """Return what feeds of a live run say about IBM, and where they have asked."""
    listening = Listening()

    async def main():
        config = PipelineConfig(source="live", store="off", charts=False, **more)
        async with opened(
            config, transport=lambda _: listening, now=lambda: LIVE_AT, environment=environment
        ) as parts:
            return await parts.feeds.hear(["IBM"], as_of=LIVE_AT, seconds=20)

    return asyncio.run(main()), listening.urls


def test_live_feeds_are_where_which_and_kept_as_the_environment_says(tmp_path):
    folder = tmp_path / "kept"
    environment = {
        "TRADEPERF_FEEDS": "news,cboe",
        "TRADEPERF_NEWS_URL": "http://mine.example/news",
        "TRADEPERF_CBOE_URL": "http://other.example/cboe",
        "TRADEPERF_FEEDS_CACHE": str(folder),
        "TRADEPERF_FEEDS_TIMEOUT": "5min",  # the configuration's, which reads it
    }
    heard, urls = heard_live(environment)
    assert heard.degraded == ()
    assert set(heard.statistics) == {"news", "cboe"}
    assert {url.split("/")[2] for url in urls} == {"mine.example", "other.example"}
    assert {file.name.split("-")[0] for file in folder.glob("*.sqlite")} == {"news", "cboe"}
    assert heard_live(environment)[1] == []  # the next run is answered from the folder


def test_the_configurations_contact_goes_before_that_of_the_environment():
    environment = {
        "TRADEPERF_FEEDS": "sec",
        "TRADEPERF_SEC_URL": "http://mine.example/sec",
        "TRADEPERF_SEC_USER_AGENT": "no contact",
    }
    refused, _ = heard_live(environment)
    assert refused.degraded[0].startswith("sec: not asked")
    heard, urls = heard_live(environment, sec_user_agent="Jane Doe jane@example.com")
    assert heard.degraded == ()
    assert {url.split("/")[2] for url in urls} == {"mine.example"}


def test_a_feed_that_does_not_exist_is_refused_before_anything_is_asked():
    with pytest.raises(SettingError, match="unknown source 'twitter'"):
        heard_live({"TRADEPERF_FEEDS": "twitter"})


def test_a_live_market_is_cut_by_the_clock_it_is_given():
    """At half past ten in New York the world has a row of that day, which is no bar yet."""
    listening = Listening()

    async def main():
        config = PipelineConfig(source="live", store="off", charts=False)
        async with opened(
            config, transport=lambda _: listening, now=lambda: LIVE_AT, environment={}
        ) as parts:
            return await parts.market.load(["T001"], seconds=20)

    bars = asyncio.run(main()).bars["T001"]
    assert str(bars.timestamps[-1])[:10] == "2026-03-03"


def test_settings_reach_the_parts_they_are_for():
    config = PipelineConfig(
        debate_arm="vote", debate_low=0.3, debate_high=0.8, debate_turns=4, debate_masked=True, debate_stand_in=True,
        debate_seconds=9, debate_reason=60, llm_max_tokens=5, llm_max_usd=2, llm_price_prompt=3, llm_price_completion=4,
    )  # fmt: skip
    settings, book = debate_settings(config), ledger(config)
    assert (settings.arm, settings.ambiguous_low, settings.ambiguous_high) == ("vote", 0.3, 0.8)
    assert (settings.max_turns, settings.is_masked, settings.may_stand_in) == (4, True, True)
    assert (settings.deadline_seconds, settings.reason_characters) == (9, 60)
    assert (book.remaining_tokens, book.remaining_cost_usd) == (5, 2)
    assert (book.prices.prompt, book.prices.completion) == (3, 4)


@pytest.mark.parametrize("bad", [{"llm_url": "ftp://x"}, {"llm_url": "http://h/v1", "llm_api_key": "a b"}])
def test_what_a_part_refuses_is_a_setting_error(bad, tmp_path):
    with pytest.raises(SettingError, match="llm_url"):
        cycle_of(PipelineConfig(source="off", store="off", output=str(tmp_path), **bad))


@pytest.mark.parametrize("command", [commands.cycle, commands.morning])
def test_a_command_runs_offline_shows_progress_and_writes(command, tmp_path):
    done = invoke(command, "--output", tmp_path / "out", "--tickers", "ibm,msft", "--set", "charts=no")
    assert done.exit_code == 0, done.output
    assert "2 of 2 tickers" in done.stdout
    assert "(2 of 2)" in done.stderr
    names = {p.name for p in (tmp_path / "out").iterdir()}
    assert "decisions.db" in names
    assert names >= ({"cycle.json"} if command is commands.cycle else {"morning.md", "morning.html"})
    quiet = invoke(command, "--output", tmp_path / "out", "--tickers", "IBM", "--quiet")
    assert quiet.stderr == ""


def test_json_goes_to_standard_output_alone(tmp_path):
    done = invoke(commands.cycle, "--output", tmp_path, "--tickers", "IBM", "--format", "json")
    assert [d["ticker"] for d in json.loads(done.stdout)["decisions"]] == ["IBM"]


def test_show_config_prints_every_setting_with_its_origin_and_does_nothing(tmp_path):
    done = invoke(
        commands.cycle, "--show-config", "--output", tmp_path / "out", "--set", "max-alerts=3",
        TRADEPERF_LLM_WORKERS="5", TRADEPERF_LLM_API_KEY="sk-secret",
    )  # fmt: skip
    assert done.exit_code == 0
    assert "llm_workers = 5  # TRADEPERF_LLM_WORKERS" in done.stdout
    assert "max_alerts = 3  # command line" in done.stdout
    assert "sk-secret" not in done.stdout
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("command", [commands.cycle, commands.morning])
@pytest.mark.parametrize(
    ("arguments", "environment", "message"),
    [
        (["--tickers", "../../etc"], {}, "not a ticker"),
        (["--set", "llm_workers"], {}, "has no '='"),
        (["--set", "llm_workers=0"], {}, "expected a whole number in [1, 1000], not '0'"),
        (["--set", "zebra=0"], {}, "is no setting"),
        (["--source", "mars"], {}, "expected one of world, live, off"),
        (["--config", "none.toml"], {}, "cannot read the configuration"),
        ([], {"TRADEPERF_CYCLE_SECONDS": "soon"}, "TRADEPERF_CYCLE_SECONDS"),
        (["--llm-url", "nonsense"], {}, "base_url must be like"),
        (["--set", "store=nonsense"], {}, "store"),
    ],
)
def test_wrong_input_is_one_clear_line(command, arguments, environment, message, tmp_path):
    done = invoke(command, "--output", tmp_path, *arguments, **environment)
    assert done.exit_code in (1, 2)
    error = done.stderr.strip().splitlines()[-1]
    assert error.startswith("Error: ")
    assert message in error
    assert "Traceback" not in done.output


@pytest.mark.parametrize(
    ("arguments", "environment"),
    [
        (["--set", "llm_api_key:sk-VERYSECRET"], {}),
        ([], {"TRADEPERF_LLM_API_KEY": "sk-VERY\u200bSECRET"}),
        ([], {"TRADEPERF_LLM_API_KEY": "sk-VERY SECRET", "TRADEPERF_LLM_URL": "http://127.0.0.1:1/v1"}),
        (["--llm-url", "ftp://bob:VERYSECRET@host/v1"], {}),
        (["--set", "store=mysql://db?user=bob&password=VERYSECRET"], {}),
    ],
)
def test_no_error_shows_a_secret(arguments, environment, tmp_path):
    done = invoke(commands.cycle, "--output", tmp_path, *arguments, **environment)
    assert done.exit_code in (1, 2)
    assert "Error: " in done.stderr
    assert "VERY" not in done.output
    assert "SECRET" not in done.output


def test_an_output_that_is_a_file_is_said(tmp_path):
    (tmp_path / "file").write_text("")
    done = invoke(commands.morning, "--output", tmp_path / "file", "--set", "store=off", "--tickers", "IBM")
    assert done.exit_code == 1
    assert "cannot write the report" in done.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_cycle_with_what_was_reached(number, tmp_path):
    interrupted(number, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_cycle_within_a_second(number, tmp_path):
    """The quickest of three counts: another process may have held the machine in the others."""
    assert min(interrupted(number, tmp_path / str(turn)) for turn in range(3)) < 1.0


def interrupted(number: signal.Signals, folder: Path) -> float:
    """Interrupt a cycle at work and return the seconds until it has said what it reached."""
    code = "from pytest_tradeperf.pipeline.commands import cycle; cycle()"
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(sys.path),
        "TRADEPERF_LLM_URL": "world",
        "TRADEPERF_WORLD_SCALE": "0.1",
        "TRADEPERF_LLM_BATCH": "1",
        "TRADEPERF_LLM_WORKERS": "4",
    }
    with subprocess.Popen(
        [sys.executable, "-c", code, "--output", str(folder)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as running:
        for line in running.stderr:
            if "(1 of 5)" in line:
                break
        start = time.monotonic()
        running.send_signal(number)
        first = running.stdout.readline()  # what follows is the interpreter's own tidying
        seconds = time.monotonic() - start
        running.communicate(timeout=30)
    assert running.returncode == commands.INTERRUPTED
    assert first.startswith("interrupted: ")
    saved = json.loads((folder / "cycle.json").read_text())
    assert saved["ended"] == "interrupted"
    assert saved["stored"] == len(saved["decisions"]) >= 1
    return seconds


def test_importing_the_commands_loads_only_click():
    code = (
        "import sys; import pytest_tradeperf.pipeline.commands; "
        "print([m for m in ('numpy', 'asyncio', 'pydantic', 'httpx2', 'sqlalchemy', 'rich') if m in sys.modules])"
    )
    environment = {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment
    )
    assert done.stdout.strip() == "[]"

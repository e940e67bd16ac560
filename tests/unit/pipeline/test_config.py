import math
import subprocess
import sys
import tomllib
from dataclasses import fields

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_tradeperf.pipeline.config import PREFIX, PipelineConfig, parse_tickers, resolve
from pytest_tradeperf.pipeline.errors import SettingError

NAMED = {
    "TRADEPERF_LLM_WORKERS": ("llm_workers", "3", 3),
    "TRADEPERF_LLM_CACHE_TTL": ("llm_cache_ttl", "5min", 300.0),
    "TRADEPERF_LLM_TIMEOUT": ("llm_timeout", "250 ms", 0.25),
    "TRADEPERF_CHART_WORKERS": ("chart_workers", "4", 4),
    "TRADEPERF_CHART_CACHE_TTL": ("chart_cache_ttl", "0", 0.0),
    "TRADEPERF_MAX_ALERTS": ("max_alerts", "0", 0),
    "TRADEPERF_CYCLE_SECONDS": ("cycle_seconds", "5s", 5.0),
    "TRADEPERF_FEEDS_TIMEOUT": ("feeds_timeout", "1.5", 1.5),
}


@pytest.mark.parametrize("variable", NAMED)
def test_the_named_variables_set_their_settings(variable, tmp_path):
    name, text, value = NAMED[variable]
    resolved = resolve(environment={variable: text}, folder=tmp_path)
    assert getattr(resolved.config, name) == value
    assert resolved.origins[name] == variable


SAMPLES = {
    "tickers": ("ibm,msft", ("IBM", "MSFT")),
    "source": ("live", "live"),
    "market": ("network", "network"),
    "llm_cassette_mode": ("record", "record"),
    "debate_arm": ("vote", "vote"),
    "debate_low": ("0.3", 0.3),
    "debate_high": ("0.7", 0.7),
    "debate_seconds": ("20", 20.0),
    "debate_turns": ("1", 1),
    "debate_reason": ("40", 40),
}


@pytest.mark.parametrize("setting", fields(PipelineConfig), ids=lambda f: f.name)
def test_every_setting_can_come_from_file_environment_and_command_line(setting, tmp_path):
    kind = setting.metadata["kind"]
    generic = {"text": ("abc", "abc"), "secret": ("k1", "k1"), "flag": ("no", False), "count": ("7", 7)}
    text, value = SAMPLES.get(setting.name) or generic.get(kind) or ("12", 12.0)
    if setting.name in ("debate_masked", "debate_stand_in"):
        text, value = "yes", True
    path = tmp_path / "some.toml"
    path.write_text(f'[pipeline]\n{setting.name} = "{text}"\n')
    ways = [
        resolve(environment={}, file=path),
        resolve(environment={PREFIX + setting.name.upper(): text}, folder=tmp_path),
        resolve(environment={}, options={setting.name: text}, folder=tmp_path),
    ]
    assert [getattr(way.config, setting.name) for way in ways] == [value] * 3
    assert [way.origins[setting.name] for way in ways] == [
        "file some.toml",
        PREFIX + setting.name.upper(),
        "command line",
    ]


def test_command_line_beats_environment_beats_file_beats_default(tmp_path):
    (tmp_path / "tradeperf.toml").write_text("llm_workers = 2\nmax_alerts = 2\nchart_workers = 2\n")
    environment = {"TRADEPERF_LLM_WORKERS": "3", "TRADEPERF_MAX_ALERTS": "3"}
    config = resolve(
        environment=environment, options={"llm_workers": 4, "store": None}, folder=tmp_path
    ).config
    assert (config.llm_workers, config.max_alerts, config.chart_workers) == (4, 3, 2)
    assert config.store == PipelineConfig().store


def test_the_file_can_be_named_by_the_environment(tmp_path):
    (tmp_path / "x.toml").write_text("max_alerts = 1\n")
    assert resolve(environment={"TRADEPERF_CONFIG": str(tmp_path / "x.toml")}).config.max_alerts == 1


def test_what_is_shown_can_be_read_back_and_hides_secrets(tmp_path):
    options = {
        "llm_api_key": "sk-very-secret",
        "store": "postgresql://me:pa55@host/db",
        "output": 'we "quote" \\ things',
        "max_alerts": 3,
    }
    shown = resolve(environment={}, options=options, folder=tmp_path).as_toml()
    assert "sk-very-secret" not in shown
    assert "pa55" not in shown
    assert "max_alerts = 3  # command line" in shown
    assert "llm_workers = 16  # default" in shown
    back = tomllib.loads(shown)
    assert set(back) == {f.name for f in fields(PipelineConfig)} - {"llm_api_key"}
    (tmp_path / "back.toml").write_text(shown)
    assert resolve(environment={}, file=tmp_path / "back.toml").config.output == 'we "quote" \\ things'


def test_a_key_is_not_in_the_repr():
    assert "sk-1" not in repr(PipelineConfig(llm_api_key="sk-1"))
    assert "store='postgresql://me:***@db/x'" in repr(PipelineConfig(store="postgresql://me:pa55@db/x"))


@pytest.mark.parametrize("ending", ["\n", "\r\n", " "])
def test_a_key_from_a_file_loses_its_line_end(ending):
    assert resolve(environment={"TRADEPERF_LLM_API_KEY": f"sk-1{ending}"}).config.llm_api_key == "sk-1"


@pytest.mark.parametrize("raw", ["sk-VERY\nSECRET", "sk-VERY\u200bSECRET", ["sk-VERYSECRET"]])
def test_a_key_that_cannot_be_used_is_not_shown(raw, tmp_path):
    with pytest.raises(SettingError, match="llm-api-key: expected one line of text") as caught:
        resolve(environment={}, options={"llm_api_key": raw}, folder=tmp_path)
    assert "VERY" not in str(caught.value)
    assert "SECRET" not in str(caught.value)


def test_the_place_of_an_invisible_character_in_a_key_is_told(tmp_path):
    with pytest.raises(SettingError, match=r"character 3 of 4 is U\+200B"):
        resolve(environment={}, options={"llm_api_key": "sk\u200b1"}, folder=tmp_path)


@pytest.mark.parametrize(
    "store", ["postgresql://bob:s3cr/et@db/x", "postgresql://db/x?user=bob&password=s3cr/et"]
)
def test_a_password_anywhere_in_an_address_is_hidden(store, tmp_path):
    shown = resolve(environment={}, options={"store": store}, folder=tmp_path).as_toml()
    assert "s3cr" not in shown
    assert "bob" in shown
    with pytest.raises(SettingError, match="expected one line of text") as caught:
        resolve(environment={}, options={"store": f"{store}\n"}, folder=tmp_path)
    assert "s3cr" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"llm_worker": 3}, "--llm-worker is no setting; did you mean 'llm_workers'?"),
        ({"zebra": 3}, "--show-config lists all"),
        ({"llm_workers": 0}, "--llm-workers: expected a whole number in \\[1, 1000\\], not 0"),
        ({"llm_workers": "many"}, "not 'many'"),
        ({"llm_workers": 1.5}, "whole number"),
        ({"llm_workers": True}, "whole number"),
        ({"llm_workers": "3s"}, "whole number"),
        ({"llm_timeout": "5 parsecs"}, "seconds like 30, '30s' or '5min'"),
        ({"llm_timeout": math.nan}, "not nan"),
        ({"llm_timeout": -1}, "not -1"),
        ({"equity": math.inf}, "at least 1, not inf"),
        ({"debate_seconds": 30}, "in \\[0.001, 28\\]"),
        ({"source": "mars"}, "expected one of world, live, off, not 'mars'"),
        ({"charts": "maybe"}, "expected true or false"),
        ({"output": "a\nb"}, "one line of text"),
        ({"llm_model": 5}, "one line of text, not 5"),
        ({"tickers": "../etc/passwd"}, "not a ticker"),
        ({"tickers": 7}, "expected tickers"),
        ({"source": "off", "llm_url": "world"}, "no world runs"),
    ],
)
def test_bad_values_are_named_with_what_is_expected(options, message, tmp_path):
    with pytest.raises(SettingError, match=message):
        resolve(environment={}, options=options, folder=tmp_path)


def test_building_one_checks_it_too():
    with pytest.raises(SettingError, match="the setting max_alerts"):
        PipelineConfig(max_alerts=-1)


@pytest.mark.parametrize(
    "content", [b"max_alerts = ", b"\xff\xfe", b"pipeline = 3", b"a = " + b"[" * 5000, b"unknown = 1"]
)
def test_a_bad_file_is_one_clear_error(content, tmp_path):
    (tmp_path / "bad.toml").write_bytes(content)
    with pytest.raises(SettingError, match=r"bad\.toml"):
        resolve(environment={}, file=tmp_path / "bad.toml")


def test_a_file_that_was_asked_for_must_be_there(tmp_path):
    with pytest.raises(SettingError, match="cannot read"):
        resolve(environment={}, file=tmp_path / "none.toml")
    assert resolve(environment={}, folder=tmp_path).config == PipelineConfig()


@pytest.mark.parametrize(
    "text",
    [
        "../x",
        "a/b",
        "C:\\x",
        "\u0410APL",
        "ß",
        "A\x00B",
        "A;B",
        "$(x)",
        "..",
        "-",
        "TOOLONGTICKERNAME",
        "\u202e",
        "",
        " , ",
    ],
)
def test_what_is_no_ticker_is_refused(text):
    with pytest.raises(SettingError, match="ticker"):
        parse_tickers(text)


def test_tickers_are_upper_case_and_once_each():
    assert parse_tickers(" aapl brk.b,AAPL\n^spx ") == ("AAPL", "BRK.B", "^SPX")
    assert parse_tickers(["ibm"]) == ("IBM",)
    with pytest.raises(SettingError, match="more than 1000"):
        parse_tickers([f"T{n}" for n in range(1001)])


@settings(deadline=None)  # a busy machine is no finding
@given(st.text(max_size=30))
def test_any_text_is_tickers_or_one_error(text):
    try:
        tickers = parse_tickers(text)
    except SettingError:
        return
    assert all(t.isascii() and "/" not in t for t in tickers)


def test_importing_it_loads_nothing_heavy():
    code = (
        "import sys; import pytest_tradeperf.pipeline.config; "
        "print([m for m in ('numpy', 'pydantic', 'httpx2', 'asyncio', 'pandas', 'sqlalchemy') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONPATH": ":".join(sys.path)},
    )
    assert done.stdout.strip() == "[]"


def test_a_language_model_leaves_the_feeds_two_fifths_of_a_short_cycle():
    assert PipelineConfig(cycle_seconds=5).feeds_seconds == 5
    assert PipelineConfig(cycle_seconds=5, llm_url="world").feeds_seconds == 2
    assert PipelineConfig(cycle_seconds=5, llm_url="world", feeds_timeout=1).feeds_seconds == 1
    assert PipelineConfig(llm_url="world").feeds_seconds == 10

import asyncio
import json
import math

import pytest

from pytest_tradeperf.pipeline import virtual_time
from pytest_tradeperf.pipeline.llm.cassette import Cassette, Mode
from pytest_tradeperf.pipeline.llm.errors import (
    CassetteError,
    LlmError,
    TimeoutExceededError,
    UnreachableError,
)


def echo(request):
    return f"{request.label}: {request.messages[0].content}"


def record(path, model, requests, mode=Mode.RECORD):
    async def main():
        async with Cassette(path, mode=mode, inner=model) as cassette:
            return await asyncio.gather(*(cassette.complete(r) for r in requests), return_exceptions=True)

    return virtual_time.run(main())


def replay(path, requests, speed=math.inf):
    async def main():
        async with Cassette(path, speed=speed) as cassette:
            got = await asyncio.gather(*(cassette.complete(r) for r in requests), return_exceptions=True)
            return got, asyncio.get_running_loop().time()

    return virtual_time.run(main())


def test_a_replay_gives_the_recorded_answers_without_the_model(tmp_path, scripted, ask):
    requests = [ask("one", label="a"), ask("two", label="b")]
    recorded = record(tmp_path / "tape.jsonl", scripted(echo, 2.0), requests)
    got, seconds = replay(tmp_path / "tape.jsonl", requests)
    assert got == recorded
    assert [c.text for c in got] == ["a: one", "b: two"]
    assert seconds == 0


@pytest.mark.parametrize(("speed", "expected"), [(1, 2.0), (10, 0.2), (math.inf, 0.0)])
def test_recorded_waiting_is_replayed_on_the_loops_clock(tmp_path, scripted, ask, speed, expected):
    record(tmp_path / "tape", scripted(echo, 2.0), [ask(label="a")])
    assert replay(tmp_path / "tape", [ask(label="a")], speed)[1] == pytest.approx(expected)


def test_the_tape_is_the_same_in_any_completion_order(tmp_path, scripted, ask):
    requests = [ask(name, label=name) for name in "cab"]
    model = scripted(echo, 1.0)
    for name, order in (("x", requests), ("y", requests[::-1])):
        record(tmp_path / name, model, order)
    assert (tmp_path / "x").read_bytes() == (tmp_path / "y").read_bytes()


def test_failures_are_recorded_and_fail_again(tmp_path, scripted, ask):
    record(tmp_path / "tape", scripted(lambda _: TimeoutExceededError("late"), 3.0), [ask()])
    (error,), seconds = replay(tmp_path / "tape", [ask()], speed=1)
    assert (type(error), str(error), seconds) == (TimeoutExceededError, "late", 3.0)


@pytest.mark.parametrize("was_sent", [True, False])
def test_a_replayed_failure_costs_what_the_recorded_one_did(tmp_path, scripted, ask, was_sent):
    model = scripted(lambda _: UnreachableError("refused", was_sent=was_sent))
    record(tmp_path / "tape", model, [ask()])
    (error,), _ = replay(tmp_path / "tape", [ask()])
    assert error.was_sent is was_sent


def test_repeated_calls_replay_in_their_order_and_the_last_answers_the_rest(tmp_path, scripted, ask):
    answers = iter(["first", "second"])

    async def main():
        async with Cassette(tmp_path / "t", mode=Mode.RECORD, inner=scripted(lambda _: next(answers))) as c:
            return [(await c.complete(ask())).text for _ in range(2)]

    virtual_time.run(main())
    got, _ = replay(tmp_path / "t", [ask()] * 3)
    assert [c.text for c in got] == ["first", "second", "second"]


def test_the_label_keeps_equal_words_of_different_callers_apart(tmp_path, scripted, ask):
    requests = [ask("same", label="bull"), ask("same", label="bear")]
    record(tmp_path / "t", scripted(echo), requests)
    assert [c.text for c in replay(tmp_path / "t", requests[::-1])[0]] == ["bear: same", "bull: same"]


def test_an_unknown_request_names_itself_and_the_cure(tmp_path, scripted, ask):
    record(tmp_path / "t", scripted(echo), [ask()])
    (error,), _ = replay(tmp_path / "t", [ask("other", label="judge")])
    assert isinstance(error, CassetteError)
    assert "judge#" in str(error)
    assert "extend" in str(error)


def test_extending_asks_only_for_what_is_not_there(tmp_path, scripted, ask):
    record(tmp_path / "t", scripted(echo), [ask("old")])
    model = scripted(echo)
    record(tmp_path / "t", model, [ask("old"), ask("new")], Mode.EXTEND)
    assert [r.messages[0].content for r in model.asked] == ["new"]
    assert len(replay(tmp_path / "t", [ask("old"), ask("new")])[0]) == 2


def test_passing_through_keeps_nothing(tmp_path, scripted, ask):
    record(tmp_path / "t", scripted(echo), [ask()], Mode.PASS)
    assert list(tmp_path.iterdir()) == []


def test_a_recording_ended_by_an_error_keeps_what_was_said(tmp_path, scripted, ask):
    async def main():
        async with Cassette(tmp_path / "t", mode=Mode.RECORD, inner=scripted(echo)) as cassette:
            await cassette.complete(ask())
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        virtual_time.run(main())
    assert replay(tmp_path / "t", [ask()])[0][0].text == ": hi"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\xff\xfe", "cannot read the cassette"),
        (b'{"cassette": 99}\n', "format 99"),
        (b'{"cassette": 1}\n{"key": "a"', "line 2 is no recording"),
        (b'{"cassette": 1}\n{"key": "a"}', "line 2"),
        (b'{"cassette": 1}\n{"key": "a", "wall_seconds": -1}', "line 2"),
        (b'{"cassette": 1}\n' + b"[" * 100_000, "line 2"),
        (b"[]", "line 1"),
    ],
)
def test_a_broken_tape_is_named_with_its_line(tmp_path, content, message):
    (tmp_path / "tape").write_bytes(content)
    with pytest.raises(CassetteError, match=message):
        Cassette(tmp_path / "tape")


def test_a_missing_tape_and_impossible_settings_are_refused(tmp_path, scripted):
    with pytest.raises(CassetteError, match="cannot read"):
        Cassette(tmp_path / "none")
    with pytest.raises(ValueError, match="pass inner="):
        Cassette(tmp_path / "none", mode=Mode.RECORD)
    with pytest.raises(ValueError, match="speed must be above zero"):
        Cassette(tmp_path / "none", mode=Mode.PASS, inner=scripted(echo), speed=0)


def test_a_kind_from_a_newer_version_is_still_a_failure(tmp_path, scripted, ask):
    record(tmp_path / "t", scripted(lambda _: LlmError("odd")), [ask()])
    text = (tmp_path / "t").read_text().replace('"error": "error"', '"error": "moonphase"')
    (tmp_path / "t").write_text(text)
    (error,), _ = replay(tmp_path / "t", [ask()])
    assert type(error) is LlmError


def test_a_tape_that_cannot_be_written_leaves_the_old_one(tmp_path, scripted, ask, monkeypatch):
    record(tmp_path / "t", scripted(echo), [ask()])
    before = (tmp_path / "t").read_bytes()
    monkeypatch.setattr(json, "dumps", lambda *_, **__: "{}")
    monkeypatch.setattr("pathlib.Path.replace", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(CassetteError, match=r"cannot write .* disk full"):
        record(tmp_path / "t", scripted(echo), [ask("more")])
    assert [p.name for p in tmp_path.iterdir()] == ["t"]
    assert (tmp_path / "t").read_bytes() == before

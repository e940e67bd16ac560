from __future__ import annotations

import json
import random
from datetime import UTC, datetime
from typing import Any

import pytest

from pytest_tradeperf.pipeline.world.core import WorldCore
from pytest_tradeperf.pipeline.world.llm import count_tokens
from pytest_tradeperf.pipeline.world.messages import Reply, WorldRequest
from pytest_tradeperf.pipeline.world.settings import WorldSettings, parse_faults
from pytest_tradeperf.pipeline.world.synth import fitting

NOW = datetime(2026, 3, 2, 15, 30, tzinfo=UTC)
SCHEMA: dict[str, Any] = {
    "type": "object",
    "$defs": {"side": {"enum": ["bull", "bear"]}},
    "properties": {
        "probability": {"type": "number"},
        "side": {"$ref": "#/$defs/side"},
        "reasons": {
            "type": "array",
            "items": {"type": "string", "maxLength": 20},
            "minItems": 2,
            "maxItems": 3,
        },
        "stop": {"anyOf": [{"type": "integer", "minimum": 3, "maximum": 7}, {"type": "null"}]},
    },
    "required": ["probability", "side", "reasons"],
}


def chat(settings: WorldSettings | None = None, /, key: str | None = None, **said: Any) -> Reply:
    value = {"model": "m", "messages": [{"role": "user", "content": "Is AAPL a buy?"}], **said}
    headers = {"authorization": f"Bearer {key}"} if key else {}
    request = WorldRequest(
        method="POST",
        service="llm",
        path="/v1/chat/completions",
        headers=headers,
        body=json.dumps(value).encode(),
    )
    return WorldCore(settings or WorldSettings(now=NOW)).plan(request, 0.0).reply


def with_schema(schema: dict[str, Any]) -> dict[str, Any]:
    return {"response_format": {"type": "json_schema", "json_schema": {"name": "vote", "schema": schema}}}


@pytest.mark.parametrize("seed", range(20))
def test_the_answer_fits_the_schema(seed: int) -> None:
    reply = chat(WorldSettings(seed=seed, now=NOW), **with_schema(SCHEMA))
    answer = json.loads(json.loads(reply.body)["choices"][0]["message"]["content"])
    assert set(answer) == {"probability", "side", "reasons", "stop"}
    assert 0 <= answer["probability"] <= 1
    assert answer["side"] in ("bull", "bear")
    assert 2 <= len(answer["reasons"]) <= 3
    assert all(len(reason) <= 20 for reason in answer["reasons"])
    assert answer["stop"] in range(3, 8)


def test_a_schema_that_refers_to_itself_ends() -> None:
    schema = {"$defs": {"node": {"properties": {"next": {"$ref": "#/$defs/node"}}}}, "$ref": "#/$defs/node"}
    assert len(json.dumps(fitting(schema, random.Random(1)))) < 1000


def test_the_same_question_has_the_same_answer_and_another_seed_another() -> None:
    answers = [json.loads(chat(WorldSettings(seed=seed, now=NOW)).body)["choices"] for seed in (1, 1, 2)]
    assert answers[0] == answers[1] != answers[2]


def test_the_stream_carries_the_same_text_and_usage_as_the_whole_answer() -> None:
    whole = json.loads(chat().body)
    reply = chat(stream=True, stream_options={"include_usage": True})
    lines = b"".join(reply.pieces).decode().split("\n\n")
    assert lines[-2:] == ["data: [DONE]", ""]
    chunks = [json.loads(line.removeprefix("data: ")) for line in lines[:-2]]
    text = "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks if chunk["choices"])
    assert text == whole["choices"][0]["message"]["content"]
    assert chunks[-1]["usage"] == whole["usage"]


def test_usage_adds_up_and_max_tokens_cuts() -> None:
    answer = json.loads(chat(max_tokens=5).body)
    assert answer["choices"][0]["finish_reason"] == "length"
    assert count_tokens(answer["choices"][0]["message"]["content"]) == 5
    # "Is AAPL a buy?" is 5 tokens, and 4 more are counted a message.
    assert answer["usage"] == {"prompt_tokens": 9, "completion_tokens": 5, "total_tokens": 14}


def test_n_answers_differ() -> None:
    texts = {choice["message"]["content"] for choice in json.loads(chat(n=3).body)["choices"]}
    assert len(texts) == 3


@pytest.mark.parametrize(("key", "status"), [("right", 200), ("wrong-secret", 401), (None, 401)])
def test_a_wrong_key_is_refused_and_not_repeated(key: str | None, status: int) -> None:
    reply = chat(WorldSettings(api_key="right", now=NOW), key=key)
    assert reply.status == status
    assert b"wrong-secret" not in reply.body


@pytest.mark.parametrize(
    ("said", "status"),
    [
        ({"messages": []}, 400),
        ({"messages": "hello"}, 400),
        ({"model": ""}, 400),
        ({"model": "unknown"}, 404),
    ],
)
def test_a_malformed_question_is_an_error_in_the_api_s_shape(said: dict[str, Any], status: int) -> None:
    reply = chat(WorldSettings(models=("m",), now=NOW), **said)
    assert reply.status == status
    assert json.loads(reply.body)["error"]["message"]


def test_the_schema_fault_keeps_the_envelope_and_breaks_the_content() -> None:
    reply = chat(WorldSettings(faults=parse_faults("llm=schema"), now=NOW), **with_schema(SCHEMA))
    content = json.loads(reply.body)["choices"][0]["message"]["content"]
    assert "probability" not in json.loads(content)

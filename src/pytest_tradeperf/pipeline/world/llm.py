"""An OpenAI-compatible language model service: chat completions, JSON schema, streaming, usage, errors."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pytest_tradeperf.pipeline.world.draws import generator
from pytest_tradeperf.pipeline.world.messages import Reply, Scene, WorldRequest
from pytest_tradeperf.pipeline.world.settings import FaultKind, WorldSettings
from pytest_tradeperf.pipeline.world.synth import fitting, sentence

_TOKEN = re.compile(r"\w+|[^\w\s]")
# What OpenAI's own counting recipe adds a message for its role and separators.
_TOKENS_A_MESSAGE = 4
_PIECES = 12


def count_tokens(text: str) -> int:
    """Return the number of words and punctuation marks, the world's own measure of a token.

    >>> count_tokens("Buy now, or not?")
    6
    """
    return len(_TOKEN.findall(text))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Ask:
    model: str
    messages: list[dict[str, Any]]
    schema: Mapping[str, Any] | None
    wants_json: bool
    max_tokens: int | None
    choices: int
    stream: bool
    include_usage: bool


def llm(request: WorldRequest, scene: Scene, settings: WorldSettings, fault: FaultKind | None) -> Reply:
    """Answer ``/v1/models`` and ``/v1/chat/completions``; a repeated request has the same answer."""
    given = request.headers.get("authorization", "").removeprefix("Bearer ").strip()
    if settings.api_key is not None and given != settings.api_key:
        # The key is not repeated, not even in part: what is logged of an answer must not hold a secret.
        return _error(401, "Incorrect API key provided.", "invalid_request_error", "invalid_api_key")
    path = request.path.removeprefix("/v1")
    if path == "/models" and request.method == "GET":
        rows = [
            {"id": name, "object": "model", "owned_by": "world"} for name in settings.models or ("world-1",)
        ]
        return Reply.of_json({"object": "list", "data": rows})
    if path != "/chat/completions" or request.method != "POST":
        return _error(
            404, f"Unknown request URL: {request.method} {request.path}.", "invalid_request_error", None
        )
    asked = _read(request.body, settings)
    if isinstance(asked, Reply):
        return asked
    contents = [_answer(asked, scene, settings, index, fault) for index in range(asked.choices)]
    return _completion(asked, contents, scene, request)


def _read(body: bytes, settings: WorldSettings) -> _Ask | Reply:
    try:
        said = json.loads(body)
    except (ValueError, RecursionError):
        return _error(400, "We could not parse the JSON body of your request.", "invalid_request_error", None)
    messages = said.get("messages") if isinstance(said, dict) else None
    if not isinstance(messages, list) or not messages or not all(isinstance(one, dict) for one in messages):
        return _error(400, "Missing required parameter: 'messages'.", "invalid_request_error", None)
    model = said.get("model")
    if not isinstance(model, str) or not model:
        return _error(400, "you must provide a model parameter", "invalid_request_error", None)
    if settings.models and model not in settings.models:
        return _error(404, f"The model `{model}` does not exist.", "invalid_request_error", "model_not_found")
    shape = said.get("response_format")
    shape = shape if isinstance(shape, dict) else {}
    described = shape.get("json_schema")
    schema = described.get("schema") if isinstance(described, dict) else None
    limit = said.get("max_completion_tokens", said.get("max_tokens"))
    options = said.get("stream_options")
    return _Ask(
        model=model,
        messages=messages,
        schema=schema if isinstance(schema, dict) else None,
        wants_json=shape.get("type") in ("json_schema", "json_object"),
        max_tokens=limit if isinstance(limit, int) and limit > 0 else None,
        choices=min(said["n"], 8) if isinstance(said.get("n"), int) and said["n"] > 0 else 1,
        stream=bool(said.get("stream")),
        include_usage=isinstance(options, dict) and bool(options.get("include_usage")),
    )


def _answer(asked: _Ask, scene: Scene, settings: WorldSettings, index: int, fault: FaultKind | None) -> str:
    if fault is FaultKind.SCHEMA:
        return '{"unexpected": ["a shape nobody asked for"]}'
    if fault is FaultKind.EMPTY:
        return ""
    if scene.hostile_text:
        return scene.hostile_text
    prompt = json.dumps(asked.messages, sort_keys=True, ensure_ascii=False)
    rng = generator(settings.seed, "llm", asked.model, prompt, index)
    if asked.schema is not None:
        return json.dumps(fitting(asked.schema, rng), ensure_ascii=False)
    if asked.wants_json:
        action = rng.choice(("buy", "sell", "hold"))
        return json.dumps({"action": action, "confidence": round(rng.random(), 3), "reason": sentence(rng)})
    return " ".join(sentence(rng) for _ in range(3))


def _completion(asked: _Ask, contents: list[str], scene: Scene, request: WorldRequest) -> Reply:
    finishes = []
    for place, text in enumerate(contents):
        cut = asked.max_tokens is not None and count_tokens(text) > asked.max_tokens
        finishes.append("length" if cut else "stop")
        if cut:
            ends = [found.end() for found in _TOKEN.finditer(text)]
            contents[place] = text[: ends[asked.max_tokens - 1]] if asked.max_tokens else text
    prompt_tokens = sum(count_tokens(_text_of(one)) + _TOKENS_A_MESSAGE for one in asked.messages)
    completion_tokens = sum(map(count_tokens, contents))
    usage = {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
        "total_tokens": prompt_tokens + completion_tokens,
    }
    serial = f"{generator(scene.seed, request.body).getrandbits(64):016x}"
    frame = {"id": f"chatcmpl-{serial}", "created": int(scene.now.timestamp()), "model": asked.model}
    if asked.stream:
        return _stream(asked, contents, finishes, usage, frame)
    choices = [
        {
            "index": index,
            "message": {"role": "assistant", "content": text},
            "finish_reason": finish,
            "logprobs": None,
        }
        for index, (text, finish) in enumerate(zip(contents, finishes, strict=True))
    ]
    return Reply.of_json({**frame, "object": "chat.completion", "choices": choices, "usage": usage})


def _stream(
    asked: _Ask, contents: list[str], finishes: list[str], usage: dict[str, int], frame: dict[str, Any]
) -> Reply:
    def event(choices: list[dict[str, Any]], **extra: Any) -> bytes:
        value = {**frame, "object": "chat.completion.chunk", "choices": choices, **extra}
        return f"data: {json.dumps(value, ensure_ascii=False)}\n\n".encode("utf-8", "surrogatepass")

    pieces = []
    for index, (text, finish) in enumerate(zip(contents, finishes, strict=True)):
        pieces.append(
            event([{"index": index, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}])
        )
        size = max(1, -(-len(text) // _PIECES))
        for start in range(0, len(text), size):
            delta = {"content": text[start : start + size]}
            pieces.append(event([{"index": index, "delta": delta, "finish_reason": None}]))
        pieces.append(event([{"index": index, "delta": {}, "finish_reason": finish}]))
    if asked.include_usage:
        pieces.append(event([], usage=usage))
    pieces.append(b"data: [DONE]\n\n")
    return Reply(content_type="text/event-stream", pieces=tuple(pieces))


def _text_of(message: Mapping[str, Any]) -> str:
    content = message.get("content")
    if isinstance(content, list):
        return " ".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
    return str(content or "")


def _error(status: int, message: str, kind: str, code: str | None) -> Reply:
    return Reply.of_json(
        {"error": {"message": message, "type": kind, "param": None, "code": code}}, status=status
    )

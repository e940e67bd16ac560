"""A value that fits a JSON schema, drawn from a seed: what a well-behaved model would have answered."""

import random
from collections.abc import Mapping
from typing import Any

_DEPTH = 12
_WORDS = (
    "margins",
    "demand",
    "guidance",
    "valuation",
    "momentum",
    "volume",
    "rates",
    "inventory",
    "pricing",
    "cash flow",
    "is improving",
    "is weakening",
    "looks stretched",
    "supports the case",
    "argues for caution",
    "remains mixed",
)
_SHARES = ("probability", "confidence", "conviction", "score", "weight", "likelihood")


def sentence(rng: random.Random, words: int = 8) -> str:
    """Return a short made-up remark."""
    return " ".join(rng.choice(_WORDS) for _ in range(words)).capitalize() + "."


def fitting(schema: Mapping[str, Any], rng: random.Random) -> Any:
    """Return a value valid under the part of JSON Schema that structured outputs use.

    Understood: ``type`` (also a list), ``enum``, ``const``, ``properties``, ``required``, ``items``,
    ``minItems``, ``maxItems``, ``minimum``, ``maximum`` and their exclusive forms, ``minLength``,
    ``maxLength``, ``anyOf``, ``oneOf``, ``allOf`` and local ``$ref``. Numbers without bounds whose name
    says share (``probability``, ``confidence`` ...) lie in [0, 1]. Optional properties are always given.
    """
    return _value(schema, rng, schema, "", _DEPTH)


def _value(schema: Any, rng: random.Random, root: Mapping[str, Any], name: str, depth: int) -> Any:
    if not isinstance(schema, Mapping) or depth == 0:
        return None
    same = _same_as(schema, root)
    if same is not None:
        return _value(same, rng, root, name, depth - 1)
    if "const" in schema or schema.get("enum"):
        return schema["const"] if "const" in schema else rng.choice(list(schema["enum"]))
    kind = schema.get("type", "object" if "properties" in schema else "string")
    if isinstance(kind, list):
        kind = next((one for one in kind if one != "null"), "null")
    if kind == "object":
        properties = schema.get("properties", {})
        return {key: _value(part, rng, root, key, depth - 1) for key, part in properties.items()}
    if kind == "array":
        least = int(schema.get("minItems", 1))
        count = rng.randint(least, max(least, min(int(schema.get("maxItems", 3)), least + 2)))
        return [_value(schema.get("items", {}), rng, root, name, depth - 1) for _ in range(count)]
    return _scalar(kind, schema, rng, name)


def _same_as(schema: Mapping[str, Any], root: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return the schema that a reference, a union (its first real member) or ``allOf`` stands for."""
    if "$ref" in schema:
        return _resolve(str(schema["$ref"]), root)
    for union in ("anyOf", "oneOf"):
        if schema.get(union):
            members: list[Mapping[str, Any]] = schema[union]
            return next((part for part in members if part.get("type") != "null"), members[0])
    if schema.get("allOf"):
        merged: dict[str, Any] = {}
        for part in schema["allOf"]:
            merged |= _resolve(str(part["$ref"]), root) if "$ref" in part else part
        return merged
    return None


def _resolve(reference: str, root: Mapping[str, Any]) -> Mapping[str, Any]:
    found: Any = root
    for part in reference.removeprefix("#/").split("/"):
        found = (
            found.get(part.replace("~1", "/").replace("~0", "~"), {}) if isinstance(found, Mapping) else {}
        )
    return found if isinstance(found, Mapping) else {}


def _scalar(kind: str, schema: Mapping[str, Any], rng: random.Random, name: str) -> Any:
    if kind in ("number", "integer"):
        whole = kind == "integer"
        nudge = 1 if whole else 1e-6
        low = schema.get("minimum", schema.get("exclusiveMinimum", -nudge) + nudge)
        top = 1.0 if name.lower() in _SHARES or name.lower().startswith(_SHARES) else 100.0
        high = schema.get("maximum", schema.get("exclusiveMaximum", max(top, low) + nudge) - nudge)
        return rng.randint(int(low), int(high)) if whole else round(rng.uniform(low, high), 3)
    if kind == "boolean":
        return rng.choice((True, False))
    if kind == "null":
        return None
    text = sentence(rng)
    least, most = int(schema.get("minLength", 0)), int(schema.get("maxLength", len(text) + 1_000))
    while len(text) < least:
        text += " " + sentence(rng)
    return text[:most]

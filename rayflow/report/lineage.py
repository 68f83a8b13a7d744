"""A row's lineage, as a person reads it in a terminal."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

MAX_TEXT = 300


def lineage_lines(found: dict[str, Any]) -> list[str]:
    """The result of `pipeline.lineage.trace` or `refresh.lineage.trace_row`, as lines of text."""
    prompt = found["prompt"]
    text = prompt["prompt"] or "\n".join(f"{m['role']}: {m['content']}" for m in prompt["messages"] or ())
    lines = [f"{found['id']}  {_place(found)}", "", "prompt"]
    lines += _indented(text)
    pair = found["pair"]
    for index, candidate in found["candidates"].items():
        lines += ["", _title(int(index), pair), *_candidate(candidate)]
    if pair:
        lines += ["", "pair"]
        lines += [f"  {key:<18}{_value(value)}" for key, value in pair.items() if value is not None]
    lines += _held_out(found.get("held_out") or {})
    for name, stage in found["stages"].items():
        lines += ["", f"{name}  {stage['fingerprint']}{_when(stage)}"]
        lines += [f"  {key:<30}{value}" for key, value in _leaves(stage["made_from"])]
    return lines


def _held_out(sides: dict[str, Any]) -> list[str]:
    """The responses of both sides, and the verdicts on the prompt."""
    lines = []
    for side in ("policy", "baseline"):
        for index, response in sides.get(side, {}).items():
            lines += ["", f"{side}, response {index}", *_candidate(response)]
    for name, numbers in sides.get("verdicts", {}).items():
        lines += ["", f"{name} of this prompt"]
        lines += [f"  {key:<18}{_value(value)}" for key, value in numbers.items()]
    return lines


def _place(found: dict[str, Any]) -> str:
    if "run" in found:
        return f"in run {found['run']['name']} (rayflow {found['run']['version']})"
    table = found["table"]
    return f"in version {table['version']} of table {table['name']}, computed by {table['attempt']}"


def _title(index: int, pair: dict[str, Any] | None) -> str:
    role = {pair["chosen"]: ", chosen", pair["rejected"]: ", rejected"}.get(index, "") if pair else ""
    return f"candidate {index}{role}"


def _candidate(candidate: dict[str, Any]) -> list[str]:
    values = [
        f"  {key:<18}{_value(value)}"
        for key, value in candidate.items()
        if key != "response" and (value is not None or key == "accepted_as")
    ]
    return _indented(candidate.get("response", "")) + values


def _indented(text: str) -> list[str]:
    """Text without the control signs that could steer a terminal, cut where it is long."""
    clean = "".join(sign if sign.isprintable() or sign == "\n" else "�" for sign in text)
    cut = clean if len(clean) <= MAX_TEXT else f"{clean[:MAX_TEXT]} [{len(clean) - MAX_TEXT:,} more signs]"
    return [f"  | {line}" for line in cut.splitlines() or [""]]


def _value(value: Any) -> str:
    if value is None:
        return "not accepted"
    if isinstance(value, list):
        return ", ".join(map(_value, value))
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _when(stage: dict[str, Any]) -> str:
    if stage["finished"] is None:
        return ""
    moment = datetime.fromtimestamp(stage["finished"], tz=UTC)
    return f"  shard {stage['shard']}, {moment:%Y-%m-%d %H:%M:%S} UTC"


def _leaves(value: Any, path: str = "") -> list[tuple[str, str]]:
    """One (dotted key, value) for each setting; what is empty says nothing."""
    if isinstance(value, dict):
        return [leaf for key, item in value.items() for leaf in _leaves(item, f"{path}.{key}".lstrip("."))]
    if isinstance(value, list):
        return [(path, ", ".join(map(str, value)))] if value else []
    return [] if value is None or value == "" else [(path, str(value))]

"""How the named pre-tokenizers of GGUF files cut text into words, as steps of a tokenizer.json."""

from __future__ import annotations

from typing import Any

BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}%s| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def _split(digits: str) -> dict[str, Any]:
    pattern = {"type": "Split", "pattern": {"Regex": _WORDS % digits}, "behavior": "Isolated", "invert": False}
    return {"type": "Sequence", "pretokenizers": [pattern, {**BYTE_LEVEL, "use_regex": False}]}


_ONE_DIGIT = {"type": "Sequence", "pretokenizers": [{"type": "Digits", "individual_digits": True}, BYTE_LEVEL]}
CUTS: dict[str, dict[str, Any]] = {
    "gpt-2": {"pre_tokenizer": BYTE_LEVEL},
    "default": {"pre_tokenizer": BYTE_LEVEL},
    "smollm": {"pre_tokenizer": _ONE_DIGIT},
    "starcoder": {"pre_tokenizer": _ONE_DIGIT},
    "llama-bpe": {"pre_tokenizer": _split("{1,3}"), "ignore_merges": True},
    "qwen2": {"pre_tokenizer": _split(""), "normalizer": {"type": "NFC"}},
}
"""How each named way of cutting text into words is written in a tokenizer.json."""


def name_of_cuts(tree: dict[str, Any]) -> str | None:
    """The name that llama.cpp knows the steps of a tokenizer.json by, before its BPE; None where it knows none."""
    wanted = _steps(tree)
    return next((name for name, steps in CUTS.items() if _steps(steps) == wanted), None)


def _steps(tree: dict[str, Any]) -> tuple[Any, Any, bool]:
    merges = tree.get("model", tree).get("ignore_merges", False)
    return _plain(tree.get("normalizer")), _plain(tree["pre_tokenizer"]), bool(merges)


def _plain(step: Any) -> Any:
    """Without what changes no id, and a sequence of one as that one."""
    if isinstance(step, list):
        return [_plain(inner) for inner in step]
    if not isinstance(step, dict):
        return step
    inner = step.get("pretokenizers", step.get("normalizers"))
    if step.get("type") == "Sequence" and isinstance(inner, list) and len(inner) == 1:
        return _plain(inner[0])
    return {key: _plain(value) for key, value in step.items() if key != "trim_offsets"}

"""The tokenizer inside a GGUF file: made into a tokenizer.json or a SentencePiece model, whichever it was."""

from __future__ import annotations

import importlib
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from selfevo_jax.errors import ModelError
from selfevo_jax.text.gguf_cuts import BYTE_LEVEL, CUTS
from selfevo_jax.text.gguf_header import CONTROL, NORMAL, UNKNOWN, UNUSED, USER_DEFINED, read_gguf_fields
from selfevo_jax.text.hf_backend import HuggingFaceTokenizer
from selfevo_jax.text.sentencepiece_backend import SentencePieceTokenizer
from selfevo_jax.text.tokenizer import BaseTokenizer


def gguf_tokenizer(path: Path) -> BaseTokenizer:
    """Reads the tokenizer of a GGUF file (models `gpt2`, `llama` and `t5`), its special tokens and its chat template.

    Raises ModelError: the file is malformed, or its tokenizer is of another kind.
    """
    fields = read_gguf_fields(path)

    def get(key: str, default: Any = None) -> Any:
        return fields.get(f"tokenizer.{key}", default)

    kind, tokens = get("ggml.model"), get("ggml.tokens")
    if tokens is None or kind not in ("gpt2", "llama", "t5"):
        raise ModelError(
            f"{path}: found the tokenizer '{kind}', expected gpt2, llama or t5; name a tokenizer.json instead"
        )
    types = get("ggml.token_type") or [NORMAL] * len(tokens)

    def text(key: str) -> str | None:
        id = get(f"ggml.{key}_token_id")
        if id is None:
            return None
        if not 0 <= id < len(tokens):
            raise ModelError(
                f"{path}: metadata 'tokenizer.ggml.{key}_token_id' is {id}, expected an id of the {len(tokens)} "
                "tokens; convert the model to GGUF again"
            )
        return str(tokens[id])

    config = {"bos_token": text("bos"), "eos_token": text("eos"), "pad_token": text("padding")}
    # llama.cpp's own defaults
    config["add_bos_token"] = get("ggml.add_bos_token", kind == "llama" or get("ggml.pre") == "llama-bpe")
    ends = tuple(int(i) for key in ("eot", "eom") if (i := get(f"ggml.{key}_token_id")) is not None)
    template = get("chat_template")
    if not isinstance(template, str | None):
        raise ModelError(f"{path}: metadata 'tokenizer.chat_template' is no text; convert the model to GGUF again")
    shared: dict[str, Any] = {"chat_template": template, "eos_ids": ends, "name": str(path)}
    if kind in ("llama", "t5"):
        scores = get("ggml.scores") or [0.0] * len(tokens)
        model = _sentencepiece_model(tokens, scores, types, bool(get("ggml.add_space_prefix", True)), get)
        return SentencePieceTokenizer(model, config, **shared)
    pre = get("ggml.pre", "default")
    if len(set(tokens)) < len(tokens):
        ((doubled, _),) = Counter(tokens).most_common(1)
        raise ModelError(f"{path}: the token {str(doubled)!r} is there more than once; convert the model to GGUF again")
    if pre not in CUTS:
        known = ", ".join(sorted(CUTS))
        raise ModelError(f"{path}: pre-tokenizer '{pre}' is not known (known: {known}); name a tokenizer.json instead")
    content = _tokenizer_json(tokens, get("ggml.merges") or [], types, CUTS[pre])
    return HuggingFaceTokenizer(content, config, **shared)


def _tokenizer_json(tokens: list[str], merges: list[str], types: list[int], pre: dict[str, Any]) -> bytes:
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    added = [
        {"id": id, "content": token, **flags, "special": type == CONTROL}
        for id, (token, type) in enumerate(zip(tokens, types, strict=True))
        if type in (CONTROL, USER_DEFINED)
    ]
    tree = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added,
        "normalizer": pre.get("normalizer"),
        "pre_tokenizer": pre["pre_tokenizer"],
        "post_processor": None,
        "decoder": BYTE_LEVEL,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": pre.get("ignore_merges", False),
            # names of rows that only pad the model ("[PAD151935]") are no text
            "vocab": {token: id for id, (token, type) in enumerate(zip(tokens, types, strict=True)) if type != UNUSED},
            "merges": [merge.split(" ", 1) for merge in merges],
        },
    }
    return json.dumps(tree, ensure_ascii=False).encode("utf-8")


def _sentencepiece_model(
    tokens: list[str], scores: list[float], types: list[int], prefix: bool, get: Callable[..., Any]
) -> bytes:
    schema: Any = importlib.import_module("sentencepiece.sentencepiece_model_pb2")
    model = schema.ModelProto()
    for token, score, type in zip(tokens, scores, types, strict=True):
        model.pieces.add(piece=token, score=float(score), type=int(type))
    unigram = get("ggml.model") == "t5"
    model.trainer_spec.model_type = schema.TrainerSpec.UNIGRAM if unigram else schema.TrainerSpec.BPE
    model.trainer_spec.byte_fallback = any(token == "<0x0A>" for token in tokens)
    model.trainer_spec.vocab_size = len(tokens)
    model.trainer_spec.unk_id = next((i for i, type in enumerate(types) if type == UNKNOWN), 0)
    model.normalizer_spec.name = "identity"
    model.normalizer_spec.add_dummy_prefix = prefix
    model.normalizer_spec.remove_extra_whitespaces = bool(unigram and get("ggml.remove_extra_whitespaces"))
    if unigram:  # whole numbers from -128 in files of before
        model.normalizer_spec.precompiled_charsmap = bytes(n & 255 for n in get("ggml.precompiled_charsmap") or ())
    return bytes(model.SerializeToString())

"""The way out to GGUF: a tokenizer as metadata that llama.cpp reads with the same ids, or a refusal.

llama.cpp has three kinds that our readers know: `llama`, a SentencePiece BPE that keeps text as it is; `t5`, a unigram
model; and `gpt2`, a byte-level BPE behind one of the named ways of cutting text into words.

It cuts user-defined pieces out of a text first, and puts the leading space before what is behind them too, which
SentencePiece does not: in a unigram model they are written as plain pieces that nothing is more probable than, which is
what they are; a BPE with them is refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from selfevo_jax.errors import ModelError
from selfevo_jax.text.gguf_cuts import name_of_cuts
from selfevo_jax.text.gguf_header import BYTE, CONTROL, NORMAL, UNUSED, USER_DEFINED
from selfevo_jax.text.tokenizer import BaseTokenizer

_UNIGRAM, _BPE, _CHAR = 1, 2, 4
_ENDS = ("eos", "eot", "eom")
_OTHER = "export without --gguf, to a Hugging Face folder"


def gguf_fields(tokenizer: BaseTokenizer, size: int, stop_ids: Sequence[int] = ()) -> dict[str, Any]:
    """Key -> value of a tokenizer's metadata.

    Args:
      tokenizer: of any kind.
      size: rows of the model; those past the tokenizer get names that stand for no text.
      stop_ids: further ids that end a text as it was trained.

    Raises ModelError for a tokenizer that has no counterpart there.
    """
    ends = list(dict.fromkeys((*tokenizer.eos_ids, *stop_ids)))
    if not 1 <= len(ends) <= len(_ENDS):
        raise ModelError(f"{tokenizer.name}: {len(ends)} ids end texts, a GGUF file names 1 to {len(_ENDS)}; {_OTHER}")
    fields = tokenizer.gguf_vocabulary()
    tokens, kinds = fields["ggml.tokens"], fields["ggml.token_type"]
    for id in range(len(tokens), size):
        tokens.append(f"[PAD{id}]")
        kinds.append(UNUSED)
    if "ggml.scores" in fields:
        fields["ggml.scores"] += [0.0] * (size - len(fields["ggml.scores"]))
    named = {"bos": tokenizer.bos_id, **dict(zip(_ENDS, ends, strict=False))}
    if tokenizer.pad_id in tokenizer.controls.values():
        named["padding"] = tokenizer.pad_id
    fields |= {f"ggml.{key}_token_id": id for key, id in named.items() if id is not None}
    fields["ggml.add_bos_token"] = tokenizer.add_bos
    fields["ggml.add_eos_token"] = False
    if tokenizer.chat_template is not None:
        fields["chat_template"] = tokenizer.chat_template
    return {f"tokenizer.{key}": value for key, value in fields.items()}


def sentencepiece_vocabulary(proto: Any, added: list[dict[str, Any]], name: str) -> dict[str, Any]:
    """The vocabulary of a SentencePiece model; `added` are its added tokens, as in a tokenizer.json."""
    spec, kind = proto.normalizer_spec, proto.trainer_spec.model_type
    tokens, kinds = [piece.piece for piece in proto.pieces], [int(piece.type) for piece in proto.pieces]
    scores = [piece.score for piece in proto.pieces]
    fields: dict[str, Any] = {
        "ggml.model": "llama",
        "ggml.add_space_prefix": bool(spec.add_dummy_prefix),
        "ggml.unknown_token_id": proto.trainer_spec.unk_id,
    }
    if kind in (_UNIGRAM, _CHAR) and BYTE not in kinds:
        scores = [0.0 if of == USER_DEFINED else score for score, of in zip(scores, kinds, strict=True)]
        kinds = [NORMAL if of == USER_DEFINED else of for of in kinds]
        fields |= {"ggml.model": "t5", "ggml.remove_extra_whitespaces": bool(spec.remove_extra_whitespaces)}
        if spec.precompiled_charsmap:
            fields["ggml.precompiled_charsmap"] = bytes(spec.precompiled_charsmap)
    elif kind != _BPE or spec.precompiled_charsmap or spec.remove_extra_whitespaces or USER_DEFINED in kinds:
        what = "normalizes text or has user-defined pieces" if kind == _BPE else "is no BPE and has bytes as pieces"
        raise ModelError(f"{name}: a SentencePiece model that {what} has no counterpart in a GGUF file; {_OTHER}")
    for token in added:
        _put(tokens, kinds, token)
    scores += [0.0] * (len(tokens) - len(scores))
    return fields | {"ggml.tokens": tokens, "ggml.token_type": kinds, "ggml.scores": scores}


def byte_level_vocabulary(tree: dict[str, Any], name: str) -> dict[str, Any]:
    """The vocabulary of a tokenizer.json with a byte-level BPE."""
    model = tree["model"]
    levels = model.get("type") == "BPE" and (tree.get("decoder") or {}).get("type") == "ByteLevel"
    cuts = name_of_cuts(tree) if levels and tree.get("pre_tokenizer") else None
    if cuts is None:
        what = "cuts text into words in a way" if levels else "is of a kind"
        raise ModelError(f"{name}: this tokenizer {what} that has no name in GGUF files; {_OTHER}")
    tokens: list[str] = []
    kinds: list[int] = []
    for text, id in sorted(model["vocab"].items(), key=lambda entry: entry[1]):
        _put(tokens, kinds, {"id": id, "content": text}, NORMAL)
    for token in tree.get("added_tokens") or []:
        _put(tokens, kinds, token)
    pairs = [merge.split(" ", 1) if isinstance(merge, str) else merge for merge in model["merges"]]
    return {
        "ggml.model": "gpt2",
        "ggml.pre": cuts,
        "ggml.tokens": tokens,
        "ggml.token_type": kinds,
        "ggml.merges": [f"{left} {right}" for left, right in pairs],
    }


def _put(tokens: list[str], kinds: list[int], token: dict[str, Any], kind: int | None = None) -> None:
    """Puts a token in its place; gaps before it stand for no text."""
    for id in range(len(tokens), token["id"] + 1):
        tokens.append(f"[PAD{id}]")
        kinds.append(UNUSED)
    tokens[token["id"]] = token["content"]
    kinds[token["id"]] = kind or (CONTROL if token.get("special") else USER_DEFINED)

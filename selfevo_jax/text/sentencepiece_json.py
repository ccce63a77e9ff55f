"""A SentencePiece model written as a tokenizer.json with the same ids.

Each step of the library has its counterpart in the `tokenizers` package: the normalizer's table (Precompiled), extra
spaces, the escaped space, the leading space, user-defined pieces that are cut out first, and the model. Merges of a BPE
model are ranked by the score of the piece that they make, as the library takes them.
"""

from __future__ import annotations

import base64
import re
import unicodedata
from collections.abc import Iterable
from typing import Any

from tokenizers import normalizers

from selfevo_jax.errors import ModelError

_SPACE = "\u2581"
_NORMAL, _UNKNOWN, _USER_DEFINED, _UNUSED, _BYTE = 1, 2, 4, 5, 6
_UNIGRAM, _BPE, _CHAR = 1, 2, 4
_USER_DEFINED_SCORE = -0.1
"""What the library gives a user-defined piece of a unigram model (next to nothing below the best)."""


def sentencepiece_json(
    proto: Any, added: list[dict[str, Any]], *, every_run: bool, more: Any, name: str
) -> dict[str, Any]:
    """The tree of a tokenizer.json.

    Args:
      proto: the model; pieces that are no text of their own have the type CONTROL.
      added: entries of the added tokens.
      every_run: whether text behind an added token begins with the leading space too.
      more: the processor of a text that goes on from an earlier one.
      name: of the tokenizer, for messages.

    Raises ModelError for what has no counterpart: words as pieces, unused pieces, spaces that are not escaped.
    """
    spec, trainer, pieces = proto.normalizer_spec, proto.trainer_spec, list(proto.pieces)
    unused = [piece.piece for piece in pieces if piece.type == _UNUSED]
    if trainer.model_type not in (_UNIGRAM, _BPE, _CHAR) or unused or not spec.escape_whitespaces:
        what = f"the unused piece {unused[0]!r}" if unused else "a model of whole words or of spaces as they are"
        raise ModelError(f"{name}: has {what}, which a tokenizer.json cannot hold; this tokenizer cannot be exported")
    defined = [piece.piece for piece in pieces if piece.type == _USER_DEFINED]
    unigram = trainer.model_type == _UNIGRAM
    cuts = _cuts_of_names(pieces, more) if unigram or defined else []
    before: list[dict[str, Any]] = []
    if spec.add_dummy_prefix:
        # A blank as its own "replacement" is put before every text, also before one that begins with the escaped space.
        before += [_metaspace(" ", "always" if every_run else "first"), _metaspace(_SPACE, "never")]
    if defined and not unigram:
        before.append(_split("|".join(map(re.escape, sorted(defined, key=len, reverse=True))), "Isolated"))
    if cuts:
        before.append(_split("|".join(cuts), "MergedWithPrevious"))
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added,
        "normalizer": {"type": "Sequence", "normalizers": list(_normalizers(spec, more))},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": before} if before else None,
        "post_processor": None,
        "decoder": {"type": "Sequence", "decoders": list(_decoders(proto))},
        "model": _unigram(proto) if unigram else _bpe(proto, bool(defined)),
    }


def _normalizers(spec: Any, more: Any) -> Iterable[dict[str, Any]]:
    if spec.precompiled_charsmap:
        yield from _composed(spec.precompiled_charsmap, more)
        table = base64.b64encode(spec.precompiled_charsmap).decode()
        yield {"type": "Precompiled", "precompiled_charsmap": table}
    if spec.remove_extra_whitespaces:
        yield {"type": "Replace", "pattern": {"Regex": r"\A +| +\z"}, "content": ""}
        yield {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "}
    yield {"type": "Replace", "pattern": {"String": " "}, "content": _SPACE}
    if spec.remove_extra_whitespaces:  # at the end, an escaped space that was written so counts too
        yield {"type": "Replace", "pattern": {"Regex": rf"{_SPACE}+\z"}, "content": ""}


def _composed(table: bytes, more: Any) -> Iterable[dict[str, Any]]:
    """What the library composes and Precompiled does not, which looks at letters with marks of 5 bytes at most.

    Conjoining Hangul letters, which are too many, and marks that no letter of Unicode has are left as they are there.
    """
    precompiled = normalizers.Precompiled(table)
    for text in sorted(set(_letters_with_marks()), key=lambda text: (-len(text), text)):
        known = more.normalize(f"a{text}a").replace(_SPACE, " ")
        if known != precompiled.normalize_str(f"a{text}a"):
            yield {"type": "Replace", "pattern": {"String": text}, "content": known[1:-1]}


def _letters_with_marks() -> Iterable[str]:
    """Texts that Unicode composes into one letter, with one mark and with several."""
    for code in (*range(0xAC00), *range(0xD7A4, 0xD800), *range(0xE000, 0x20000)):
        parts = unicodedata.decomposition(chr(code))
        if parts and parts[0] != "<":
            whole = "".join(chr(int(part, 16)) for part in parts.split())
            for text in {whole, unicodedata.normalize("NFD", whole)}:
                if len(text) > 1:
                    yield text
    for kana in map(chr, range(0xFF66, 0xFF9E)):  # half-width, with its voiced or half-voiced mark
        yield from (kana + mark for mark in "\uff9e\uff9f" if len(unicodedata.normalize("NFKC", kana + mark)) == 1)


def _decoders(proto: Any) -> Iterable[dict[str, Any]]:
    yield {"type": "Replace", "pattern": {"String": _SPACE}, "content": " "}
    if proto.trainer_spec.byte_fallback:
        yield {"type": "ByteFallback"}
    yield {"type": "Fuse"}
    if proto.normalizer_spec.add_dummy_prefix or proto.normalizer_spec.remove_extra_whitespaces:
        yield {"type": "Strip", "content": " ", "start": 1, "stop": 0}


def _unigram(proto: Any) -> dict[str, Any]:
    """What is no normal piece gets the least score of one: a lower one would change that of the unknown token."""
    least = min((piece.score for piece in proto.pieces if piece.type == _NORMAL), default=0.0)
    scores = {_USER_DEFINED: _USER_DEFINED_SCORE}
    return {
        "type": "Unigram",
        "unk_id": proto.trainer_spec.unk_id,
        "byte_fallback": proto.trainer_spec.byte_fallback,
        "vocab": [
            [piece.piece, piece.score if piece.type == _NORMAL else scores.get(piece.type, least)]
            for piece in proto.pieces
        ],
    }


def _bpe(proto: Any, whole_pieces: bool) -> dict[str, Any]:
    pieces = list(proto.pieces)
    rank = {piece.piece: (-piece.score, id) for id, piece in enumerate(pieces) if piece.type == _NORMAL}
    merges = []
    if proto.trainer_spec.model_type == _BPE:
        for text, place in rank.items():
            cuts = ((text[:i], text[i:]) for i in range(1, len(text)))
            merges += [(*place, *cut) for cut in cuts if cut[0] in rank and cut[1] in rank]
    return {
        "type": "BPE",
        "dropout": None,
        "unk_token": pieces[proto.trainer_spec.unk_id].piece,
        "continuing_subword_prefix": None,
        "end_of_word_suffix": None,
        "fuse_unk": True,
        "byte_fallback": proto.trainer_spec.byte_fallback,
        "ignore_merges": whole_pieces,  # a user-defined piece is cut out, then found as it is
        "vocab": {piece.piece: id for id, piece in enumerate(pieces)},
        "merges": [[left, right] for _, _, left, right in sorted(merges)],
    }


def _cuts_of_names(pieces: list[Any], more: Any) -> list[str]:
    """Patterns that cut the written name of a byte, control or unknown piece where the library cuts it.

    Without them the model would take the name for the token.
    """
    names = [piece.piece for piece in pieces if piece.type not in (_NORMAL, _USER_DEFINED, _BYTE)]
    if any(piece.type == _BYTE for piece in pieces):
        names.append("<0x41>")
    found = []
    for text in names:
        first = more.encode(text, out_type=str)[0]
        if text.startswith(first) and len(first) < len(text):
            rest = re.escape(text[len(first) :]).replace("41>", "[0-9A-F]{2}>" if text == "<0x41>" else "41>")
            found.append(f"{re.escape(first)}(?={rest})")
    return found


def _metaspace(replacement: str, scheme: str) -> dict[str, Any]:
    return {"type": "Metaspace", "replacement": replacement, "prepend_scheme": scheme, "split": False}


def _split(pattern: str, behavior: str) -> dict[str, Any]:
    return {"type": "Split", "pattern": {"Regex": pattern}, "behavior": behavior, "invert": False}

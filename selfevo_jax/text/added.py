"""Added tokens: texts that are one token each, found before the tokenizer's model sees the text.

Special ones are control tokens, which only templates may write; the others are found in any text. How they are found
is that of the `tokenizers` package (AddedVocabulary): the leftmost longest match, then the flags of the token.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from selfevo_jax.errors import ModelError

OLDER = "added_tokens_of_older_files"
"""Marks settings whose `added_tokens_decoder` is that of added_tokens.json, which a tokenizer.json goes before."""
NAMED = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
"""The keys of tokenizer_config.json that every tokenizer of transformers knows, in its order."""
SPACES = "\t\n\v\f\r \x85\xa0\u1680" + "".join(map(chr, range(0x2000, 0x200B))) + "\u2028\u2029\u202f\u205f\u3000"
"""Unicode's White_Space, which `lstrip` and `rstrip` take (Python's own `strip` takes a few characters more)."""
_FLAGS = ("single_word", "lstrip", "rstrip", "normalized")
_JOINERS = "\u200c\u200d"
_WORD_CATEGORIES = frozenset({"Mn", "Mc", "Me", "Nd", "Nl", "Pc"})


@dataclass(frozen=True)
class AddedToken:
    """A text that is one token.

    special: only a template may write it, and it shows no text. single_word: only where no letter or digit touches it.
    lstrip, rstrip: it takes the white space before or after it. normalized: it is looked for in the normalized text.
    """

    content: str
    special: bool = True
    single_word: bool = False
    lstrip: bool = False
    rstrip: bool = False
    normalized: bool = False

    def entry(self, id: int) -> dict[str, Any]:
        """Its entry among the added tokens of a tokenizer.json."""
        return {"id": id, "content": self.content, **{f: getattr(self, f) for f in _FLAGS}, "special": self.special}


def added_token(tree: Mapping[str, Any]) -> AddedToken:
    """The token of an entry of a tokenizer.json or of `added_tokens_decoder`; flags left out are as in `tokenizers`."""
    special = bool(tree.get("special", False))
    flags = {flag: bool(tree.get(flag, flag == "normalized" and not special)) for flag in _FLAGS}
    return AddedToken(str(tree["content"]), special, **flags)


def declared_tokens(config: Mapping[str, Any], name: str) -> dict[int, AddedToken]:
    """Id -> token of `added_tokens_decoder`. Raises ModelError naming an entry that is none."""
    found: dict[int, AddedToken] = {}
    for id, tree in (config.get("added_tokens_decoder") or {}).items():
        if not str(id).isdecimal() or not isinstance(tree, dict) or not isinstance(tree.get("content"), str):
            raise ModelError(
                f"{name}: added_tokens_decoder: found the entry {str(id)!r}: {str(tree)[:80]}, expected an id and an "
                "object with 'content'; correct tokenizer_config.json"
            )
        found[int(id)] = added_token(tree)
    return dict(sorted(found.items()))


def token_text(value: Any) -> str | None:
    """The text of a special token, which tokenizer_config.json writes as a string or as an object."""
    if isinstance(value, dict):
        value = value.get("content")
    return value if isinstance(value, str) else None


def special_texts(config: Mapping[str, Any]) -> dict[str, str]:
    """Key -> text of the special tokens that a tokenizer_config.json names by a key of their own (`eot_token` too)."""
    keys = [*NAMED, *sorted(key for key in config if key.endswith("_token") and key not in NAMED)]
    texts = {key: token_text(config.get(key)) for key in keys}
    for group in ("model_specific_special_tokens", "extra_special_tokens"):
        if isinstance(named := config.get(group), dict):
            texts |= {key: token_text(value) for key, value in named.items()}
    return {key: text for key, text in texts.items() if text}


def flagged_specials(config: Mapping[str, Any]) -> dict[str, AddedToken]:
    """Text -> token of the named special tokens that are written as objects, with their flags."""
    values = [config.get(key) for key in special_texts(config)]
    found = [replace(added_token({**v, "special": True}), special=True) for v in values if isinstance(v, dict)]
    return {token.content: token for token in found}


def further_specials(config: Mapping[str, Any]) -> list[str]:
    """The texts of the special tokens without a key of their own."""
    lists = [config.get(key) for key in ("additional_special_tokens", "extra_special_tokens")]
    texts = [token_text(value) for values in lists if isinstance(values, list) for value in values]
    return [text for text in texts if text]


def with_legacy_files(
    config: dict[str, Any], special_map: Mapping[str, Any], added: Mapping[str, Any]
) -> dict[str, Any]:
    """The settings with what older folders keep in special_tokens_map.json and added_tokens.json.

    As in transformers, neither is read where `added_tokens_decoder` is there.
    """
    if "added_tokens_decoder" in config or not (special_map or added):
        return config
    config = {**config, **special_map}
    specials = {*special_texts(config).values(), *further_specials(config)}
    decoder = {
        str(id): {"content": text, "special": text in specials, "normalized": text not in specials}
        for text, id in added.items()
    }
    return {**config, "added_tokens_decoder": decoder, OLDER: True} if decoder else config


class Splitter:
    """Cuts texts at added tokens, as `AddedVocabulary::find_matches` of the `tokenizers` package."""

    def __init__(self, tokens: Mapping[int, AddedToken]) -> None:
        self._ids = {token.content: id for id, token in tokens.items() if token.content}
        self._tokens = dict(tokens)
        longest_first = sorted(self._ids, key=len, reverse=True)
        self._pattern = re.compile("|".join(map(re.escape, longest_first))) if longest_first else None

    def split(self, text: str) -> list[tuple[str, int | None]]:
        """(text, id of the token or None for text between tokens), in order; nothing is empty."""
        found: list[tuple[str, int | None]] = []
        at = 0
        for match in self._pattern.finditer(text) if self._pattern else ():
            id = self._ids[match[0]]
            token, start, stop = self._tokens[id], match.start(), match.end()
            if token.single_word and (_is_word(text[start - 1 : start]) or _is_word(text[stop : stop + 1])):
                continue
            if token.lstrip:
                start = max(at, len(text[:start].rstrip(SPACES)))
            if token.rstrip:
                stop = len(text) - len(text[stop:].lstrip(SPACES))
            if at < start:
                found.append((text[at:start], None))
            found.append((token.content, id))
            at = stop
        if at < len(text):
            found.append((text[at:], None))
        return found


def _is_word(character: str) -> bool:
    return bool(character) and (
        character.isalpha() or character in _JOINERS or unicodedata.category(character) in _WORD_CATEGORIES
    )


def clash(name: str, token: AddedToken, declared: int, given: int | None) -> ModelError:
    """The refusal of an added token whose declared id is not the one that the tokenizer gives it."""
    found = "no id" if given is None else f"id {given}"
    return ModelError(
        f"{name}: the added token {token.content!r} is declared with id {declared}, but has {found} in the "
        "tokenizer; correct added_tokens_decoder in tokenizer_config.json, or fetch the folder again"
    )


def undeclared(name: str, key: str, text: str) -> ModelError:
    """The refusal of a special token that is nowhere in the vocabulary."""
    return ModelError(
        f"{name}: {key} is {text!r}, which is neither in the vocabulary nor among the added tokens; correct "
        "tokenizer_config.json, or fetch added_tokens.json too"
    )

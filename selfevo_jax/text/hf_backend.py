"""Hugging Face tokenizer.json files, by the `tokenizers` package: byte-level and metaspace vocabularies."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from typing import Any

import tokenizers

from selfevo_jax.errors import ModelError
from selfevo_jax.text.added import (
    OLDER,
    AddedToken,
    added_token,
    clash,
    declared_tokens,
    flagged_specials,
    further_specials,
    special_texts,
    undeclared,
)
from selfevo_jax.text.gguf_export import byte_level_vocabulary
from selfevo_jax.text.tokenizer import (
    BaseTokenizer,
    dump_json,
    end_ids,
    known_settings,
    template_tokens,
    well_formed,
)

_GAPS = 1000
"""Ids beyond twice the number of tokens: more would take memory for nothing."""


class HuggingFaceTokenizer(BaseTokenizer):
    """A tokenizer.json with the settings of its tokenizer_config.json.

    The ids are those of the `tokenizers` package for the file as it is written, with the added tokens of
    tokenizer_config.json, as PreTrainedTokenizerFast of transformers has them. Texts begin with the token that the
    post-processor puts first, unless `add_bos_token` says otherwise; what it puts behind a text is left out, since
    prompts go on.

    Raises ModelError when the file is malformed, its vocabulary cannot be taken back to bytes (word pieces), a special
    or added token has no id or another one than declared, or an end of text is not in the vocabulary.
    """

    def __init__(
        self,
        content: bytes,
        config: dict[str, Any] | None = None,
        *,
        chat_template: str | None = None,
        eos_ids: tuple[int, ...] = (),
        name: str = "a tokenizer.json",
    ) -> None:
        """Args: the bytes of tokenizer.json; tokenizer_config.json; its template; further ids that end a text."""
        config = config or {}
        self.name, self._content, self.chat_template = name, content, chat_template
        try:
            tree = json.loads(content)
            original = tokenizers.Tokenizer.from_str(content.decode("utf-8"))
        except Exception as error:  # the library raises plain Exception
            raise ModelError(f"{name}: not a tokenizer.json ({error}); fetch the file again") from error
        vocabulary = original.get_vocab(with_added_tokens=True)
        tree |= {"truncation": None, "padding": None}
        if config.get(OLDER):
            known = {str(token["id"]) for token in tree.get("added_tokens") or []}
            declared = {id: token for id, token in config["added_tokens_decoder"].items() if id not in known}
            config = {**config, "added_tokens_decoder": declared}
        _require_class(tree, config, name)
        _declare(tree, vocabulary, config, name)
        self.vocab_size = max(vocabulary.values(), default=-1) + 1
        if self.vocab_size > 2 * len(vocabulary) + _GAPS:
            raise ModelError(f"{name}: {len(vocabulary)} tokens, but one has id {self.vocab_size - 1}; fetch it again")
        self._config = {"tokenizer_class": "PreTrainedTokenizerFast", **known_settings(config, vocabulary, name)}
        texts = special_texts(self._config)
        for key in ("bos_token", "eos_token"):
            if (text := texts.get(key)) is not None and text not in vocabulary:
                raise undeclared(name, key, text)
        for text in further_specials(self._config):
            if text not in vocabulary:
                raise undeclared(name, "a further special token", text)
        by_id = {id: text for text, id in vocabulary.items()}
        self.eos_ids = end_ids([vocabulary.get(texts.get("eos_token", "")), *eos_ids], self.vocab_size, name)
        specials = [
            vocabulary[text] for text in (*texts.values(), *further_specials(self._config)) if text in vocabulary
        ]
        flagged = flagged_specials(self._config)
        for id in (*specials, *self.eos_ids):
            _mark_special(tree, id, flagged.get(by_id[id], AddedToken(by_id[id])))
        first = _first_token(tree, name)
        add_bos = self._config.get("add_bos_token")
        self.bos_id = vocabulary.get(texts.get("bos_token", ""), first)
        if add_bos is None and first is not None:
            self.bos_id = first
        self.add_bos = self.bos_id is not None and (first == self.bos_id if add_bos is None else bool(add_bos))
        if self.bos_id is not None:
            _mark_special(tree, self.bos_id, AddedToken(by_id[self.bos_id]))
        self.pad_id = next((i for i in (vocabulary.get(texts.get("pad_token", "")), *self.eos_ids) if i is not None), 0)
        bos, eos = (None if id is None else by_id[id] for id in (self.bos_id, next(iter(self.eos_ids), None)))
        self.template_tokens = template_tokens(self._config, vocabulary, bos, eos)

        self._added = {token["id"]: added_token(token) for token in tree.get("added_tokens", [])}
        self.controls = {token.content: id for id, token in self._added.items() if token.special}
        self._texts = {id for id, token in self._added.items() if not token.special}
        tree |= {"post_processor": None}
        more = {**tree, **copy.deepcopy({key: tree.get(key) for key in ("normalizer", "pre_tokenizer")})}
        found = _remove_prefix(more)
        self.prefix_space = _takes_space_off(tree)
        self.prefix_after_control = "always" in found
        self._special = tokenizers.Tokenizer.from_str(json.dumps(tree))
        _check_added(self._special, self._added, name)
        self._whole = _plain_text(tree)
        for end in dict.fromkeys((self.bos_id, *self.eos_ids)):
            text = "" if end is None else original.decode([end], skip_special_tokens=False)
            if text and end in self.encode(text):
                raise ModelError(
                    f"{name}: {text!r} is to begin or end texts, but any text can hold it; name a token of its own in "
                    "tokenizer_config.json and generation_config.json"
                )
        self._more = _plain_text(more) if found else self._whole
        self._bytes = _all_bytes(tree, by_id, self.controls, self.vocab_size, name)
        self._finish()

    def encode(self, text: str, *, special: bool = False) -> list[int]:
        """As every tokenizer's; with special=True the ids are the library's own for the whole text."""
        made = self._special if special else self._whole
        return list(made.encode(well_formed(text), add_special_tokens=False).ids)

    def encode_run(self, text: str, *, prefix: bool | None) -> list[int]:
        text = well_formed(text)
        found = (self._whole if prefix else self._more).encode(text, add_special_tokens=False)
        ids = list(found.ids)
        if not prefix and self.prefix_after_control:  # text behind an added token has the leading space again
            at = next((i for i, id in enumerate(ids) if id in self._texts), None)
            if at is not None:
                rest = text[found.offsets[at][0] :]
                return ids[:at] + list(self._whole.encode(rest, add_special_tokens=False).ids)
        return ids

    def tokenizer_json(self) -> dict[str, Any]:
        tree: dict[str, Any] = json.loads(self._special.to_str())
        return tree

    def gguf_vocabulary(self) -> dict[str, Any]:
        return byte_level_vocabulary(self.tokenizer_json(), self.name)

    def files(self) -> dict[str, bytes]:
        names = {"bos_token": self.bos_id, "eos_token": self.eos_ids[0] if self.eos_ids else None}
        config: dict[str, Any] = {"add_bos_token": self.add_bos, "chat_template": self.chat_template}
        for key, id in names.items():
            config[key] = None if id is None else self._whole.id_to_token(id)
        return {
            "tokenizer.json": self._content,
            "tokenizer_config.json": dump_json({**self._config, **config}),
            "generation_config.json": dump_json({"eos_token_id": list(self.eos_ids)}),
        }


def _require_class(tree: dict[str, Any], config: dict[str, Any], name: str) -> None:
    """Raises ModelError where a byte-level class of transformers has other steps than the file."""
    made_by = str(config.get("tokenizer_class")).removesuffix("Fast")
    if made_by not in ("GPT2Tokenizer", "Qwen2Tokenizer"):
        return
    wanted = bool(config.get("add_prefix_space"))
    levels = [step for step in _parts(tree.get("pre_tokenizer")) if step["type"] == "ByteLevel"]
    if any(bool(step.get("add_prefix_space")) != wanted for step in levels):
        raise ModelError(
            f"{name}: add_prefix_space is {str(wanted).lower()} for the {made_by} of tokenizer_config.json and "
            f"{str(not wanted).lower()} in the file; make them equal, as the model was trained"
        )
    if made_by == "Qwen2Tokenizer" and not _only_nfc(tree.get("normalizer")):
        raise ModelError(
            f"{name}: the Qwen2Tokenizer of tokenizer_config.json normalizes to NFC, the file does otherwise; fetch "
            "both again, or set tokenizer_class to PreTrainedTokenizerFast if the file is right"
        )


def _declare(tree: dict[str, Any], vocabulary: dict[str, int], config: dict[str, Any], name: str) -> None:
    """Puts the added tokens of tokenizer_config.json, and their flags, in place of those of the tokenizer.json."""
    declared = declared_tokens(config, name)
    if not declared:
        return
    for id, token in declared.items():
        given = vocabulary.setdefault(token.content, len(vocabulary))
        if given != id:
            raise clash(name, token, id, given)
    kept = [token for token in tree.get("added_tokens") or [] if token["id"] not in declared]
    entries = [*kept, *(token.entry(id) for id, token in declared.items())]
    tree["added_tokens"] = sorted(entries, key=lambda token: token["id"])


def _check_added(made: tokenizers.Tokenizer, added: dict[int, AddedToken], name: str) -> None:
    """The library numbers the added tokens that its model does not know by itself."""
    for id, token in added.items():
        if (given := made.token_to_id(token.content)) != id:
            raise clash(name, token, id, given)


def _first_token(tree: dict[str, Any], name: str) -> int | None:
    """The token that the post-processor puts before a text."""
    if tree.get("post_processor") is None:
        return None
    made = _plain_text(tree)
    for text in ("a", "0", ".", " a", "é"):
        found = made.encode(text)
        behind = [i for i, added in enumerate(found.special_tokens_mask) if not added]
        if behind:
            first = list(found.ids[: behind[0]])
            if len(first) > 1:
                shown = " ".join(str(made.id_to_token(id)) for id in first)
                raise ModelError(f"{name}: its post-processor begins texts with {shown}, expected one token at most")
            return first[0] if first else None
    return None


def _plain_text(tree: dict[str, Any]) -> tokenizers.Tokenizer:
    """A tokenizer to which the texts of control tokens are text like any other."""
    made = tokenizers.Tokenizer.from_str(json.dumps(tree))
    made.encode_special_tokens = True
    return made


def _mark_special(tree: dict[str, Any], id: int, as_new: AddedToken) -> None:
    """Makes sure that a special token cannot be written by a user."""
    added = tree.setdefault("added_tokens", [])
    for token in added:
        if token["id"] == id:
            token["special"] = True
            return
    added.append(as_new.entry(id))
    added.sort(key=lambda token: token["id"])


def _only_nfc(normalizer: dict[str, Any] | None) -> bool:
    return [step["type"] for step in _parts(normalizer) if step["type"] != "Sequence"] == ["NFC"]


def _parts(step: dict[str, Any] | None) -> Iterator[dict[str, Any]]:
    """The steps of a normalizer, pre-tokenizer or decoder, with those inside sequences."""
    if not step:
        return
    yield step
    for key in ("normalizers", "pretokenizers", "decoders"):
        for inner in step.get(key, ()):
            yield from _parts(inner)


def _scheme(metaspace: dict[str, Any]) -> str:
    """Where a Metaspace step puts a space: always, first or never; older files have `add_prefix_space`."""
    return str(metaspace.get("prepend_scheme") or ("always" if metaspace.get("add_prefix_space", True) else "never"))


def _remove_prefix(tree: dict[str, Any]) -> set[str]:
    """Turns off what puts a space before a text. {"always"}: it also stood after control tokens; {"first"}: not."""
    found: set[str] = set()
    for step in _parts(tree.get("normalizer")):
        if step["type"] == "Prepend":
            found.add("always")
            step["prepend"] = ""
    for step in _parts(tree.get("pre_tokenizer")):
        if step["type"] == "Metaspace":
            scheme = _scheme(step)
            if scheme != "never":
                found.add(scheme)
            step["prepend_scheme"] = "never"
            step.pop("add_prefix_space", None)
        elif step["type"] == "ByteLevel" and step.get("add_prefix_space"):
            found.add("always")
            step["add_prefix_space"] = False
    return found


def _takes_space_off(tree: dict[str, Any]) -> bool:
    """Whether decoding takes a leading space off a text. (Byte-level decoders do not, whatever was put before it.)"""
    for step in _parts(tree.get("decoder")):
        if step["type"] == "Metaspace":
            return _scheme(step) != "never"
        if step["type"] == "Strip" and step.get("content") == " " and step.get("start"):
            return True
    return False


def byte_letters() -> dict[str, int]:
    """The letters by which GPT-2's byte-level vocabularies write bytes -> the byte."""
    shown = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    hidden = [byte for byte in range(256) if byte not in set(shown)]
    return {chr(b): b for b in shown} | {chr(256 + i): b for i, b in enumerate(hidden)}


def _all_bytes(
    tree: dict[str, Any], by_id: dict[int, str], controls: dict[str, int], size: int, name: str
) -> list[bytes]:
    steps = list(_parts(tree.get("decoder")))
    kinds = {step["type"] for step in steps}
    spaces = {step.get("replacement") for step in steps if step["type"] == "Metaspace"}
    spaces |= {step["pattern"].get("String") for step in steps if step["type"] == "Replace" and step["content"] == " "}
    added = {t["id"]: t["content"] for t in tree.get("added_tokens", [])}
    letters = byte_letters()
    control_ids = set(controls.values())

    def of(id: int) -> bytes:
        text = by_id.get(id, "")
        if id in control_ids:
            return b""
        if id in added:
            return added[id].encode("utf-8")
        if "ByteLevel" in kinds:
            return b"".join(bytes([letters[c]]) if c in letters else c.encode("utf-8") for c in text)
        if "ByteFallback" in kinds and len(text) == 6 and text.startswith("<0x") and text.endswith(">"):
            return bytes([int(text[3:5], 16)])
        for space in filter(None, spaces):
            text = text.replace(space, " ")
        return text.encode("utf-8")

    if "ByteLevel" not in kinds and not any(spaces):
        shown = ", ".join(sorted(kinds)) or "none"
        raise ModelError(f"{name}: found the decoder {shown}, expected a byte-level or a metaspace one")
    return [of(id) for id in range(size)]

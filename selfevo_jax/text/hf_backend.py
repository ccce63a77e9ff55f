"""Hugging Face tokenizer.json files, by the `tokenizers` package: byte-level and metaspace vocabularies."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from typing import Any

import tokenizers

from selfevo_jax.errors import ModelError
from selfevo_jax.text.tokenizer import (
    BaseTokenizer,
    dump_json,
    known_settings,
    token_text,
    unique_ids,
    well_formed,
)

_GAPS = 1000
"""Ids beyond twice the number of tokens: more would take memory for nothing."""


class HuggingFaceTokenizer(BaseTokenizer):
    """A tokenizer.json with the settings of its tokenizer_config.json.

    Raises ModelError when the file is malformed or its vocabulary cannot be taken back to bytes (word pieces).
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
        self.name, self._content = name, content
        self._config = {"tokenizer_class": "PreTrainedTokenizerFast", **known_settings(config or {})}
        self.chat_template = chat_template
        try:
            tree = json.loads(content)
            original = tokenizers.Tokenizer.from_str(content.decode("utf-8"))
        except Exception as error:  # the library raises plain Exception
            raise ModelError(f"{name}: not a tokenizer.json ({error}); fetch the file again") from error
        original.no_truncation()
        original.no_padding()
        vocabulary = original.get_vocab(with_added_tokens=True)
        self.vocab_size = max(vocabulary.values(), default=-1) + 1
        if self.vocab_size > 2 * len(vocabulary) + _GAPS:
            raise ModelError(f"{name}: {len(vocabulary)} tokens, but one has id {self.vocab_size - 1}; fetch it again")
        texts = {key: token_text(self._config.get(key)) for key in ("bos_token", "eos_token", "pad_token")}
        ids = {key: vocabulary.get(text) if text is not None else None for key, text in texts.items()}
        first, plain = (original.encode("a", add_special_tokens=flag).ids for flag in (True, False))
        probed = first[0] if first[-len(plain) :] == plain and len(first) > len(plain) else None
        self.bos_id = ids["bos_token"] if texts["bos_token"] is not None else probed
        add_bos = self._config.get("add_bos_token")
        self.add_bos = self.bos_id is not None and (probed == self.bos_id if add_bos is None else bool(add_bos))
        self.eos_ids = unique_ids([ids["eos_token"], *eos_ids], self.vocab_size)
        self.pad_id = next((i for i in (ids["pad_token"], *self.eos_ids) if i is not None), 0)

        by_id = {id: text for text, id in vocabulary.items()}
        for id in (self.bos_id, *self.eos_ids):
            _mark_special(tree, id, by_id)
        self.controls = {t["content"]: t["id"] for t in tree.get("added_tokens", []) if t.get("special")}
        for text, id in self.controls.items():
            if not 0 <= id < self.vocab_size:
                raise ModelError(f"{name}: the added token {text!r} has an id that is not in the vocabulary")
        tree |= {"post_processor": None, "truncation": None, "padding": None}
        more = {**tree, **copy.deepcopy({key: tree.get(key) for key in ("normalizer", "pre_tokenizer")})}
        found = _remove_prefix(more)
        self.prefix_space = bool(found)
        self.prefix_after_control = "always" in found
        self._whole = _plain_text(tree)
        self._more = _plain_text(more) if found else self._whole
        self._bytes = _all_bytes(tree, by_id, self.controls, self.vocab_size, name)
        self._finish()

    def encode_run(self, text: str, *, prefix: bool) -> list[int]:
        if not text:
            return []
        return list((self._whole if prefix else self._more).encode(well_formed(text), add_special_tokens=False).ids)

    def files(self) -> dict[str, bytes]:
        names: dict[str, int | None] = {"bos_token": self.bos_id, "pad_token": self.pad_id}
        names["eos_token"] = self.eos_ids[0] if self.eos_ids else None
        config: dict[str, Any] = {"add_bos_token": self.add_bos, "chat_template": self.chat_template}
        for key, id in names.items():
            config[key] = None if id is None else self._whole.id_to_token(id)
        return {
            "tokenizer.json": self._content,
            "tokenizer_config.json": dump_json({**self._config, **config}),
            "generation_config.json": dump_json({"eos_token_id": list(self.eos_ids)}),
        }


def _plain_text(tree: dict[str, Any]) -> tokenizers.Tokenizer:
    """A tokenizer to which the texts of control tokens are text like any other."""
    made = tokenizers.Tokenizer.from_str(json.dumps(tree))
    made.encode_special_tokens = True
    return made


def _mark_special(tree: dict[str, Any], id: int | None, by_id: dict[int, str]) -> None:
    """Makes sure that a token which begins or ends texts cannot be written by a user."""
    if id is None:
        return
    added = tree.setdefault("added_tokens", [])
    for token in added:
        if token["id"] == id:
            token["special"] = True
            return
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    added.append({"id": id, "content": by_id[id], **flags})
    added.sort(key=lambda token: token["id"])


def _parts(step: dict[str, Any] | None) -> Iterator[dict[str, Any]]:
    """The steps of a normalizer, pre-tokenizer or decoder, with those inside sequences."""
    if not step:
        return
    yield step
    for key in ("normalizers", "pretokenizers", "decoders"):
        for inner in step.get(key, ()):
            yield from _parts(inner)


def _remove_prefix(tree: dict[str, Any]) -> set[str]:
    """Turns off what puts a space before a text. {"always"}: it also stood after control tokens; {"first"}: not."""
    found: set[str] = set()
    for step in _parts(tree.get("normalizer")):
        if step["type"] == "Prepend":
            found.add("always")
            step["prepend"] = ""
    for step in _parts(tree.get("pre_tokenizer")):
        if step["type"] == "Metaspace":
            scheme = step.get("prepend_scheme") or ("always" if step.get("add_prefix_space", True) else "never")
            if scheme != "never":
                found.add(scheme)
            step["prepend_scheme"] = "never"
            step.pop("add_prefix_space", None)
        elif step["type"] == "ByteLevel" and step.get("add_prefix_space"):
            found.add("always")
            step["add_prefix_space"] = False
    return found


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

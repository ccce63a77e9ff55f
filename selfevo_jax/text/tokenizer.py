"""The tokenizer protocol, what its backends share, and `load_tokenizer`."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from selfevo_jax.errors import ModelError
from selfevo_jax.storage import place
from selfevo_jax.text.stream import StreamDecoder
from selfevo_jax.text.templates import MAX_TEMPLATE
from selfevo_jax.untrusted import read_bounded, read_object, read_text, reading

TOKENIZER_BYTES = 512 << 20
"""Of a tokenizer file."""
_SETTINGS = frozenset(
    """
    bos_token eos_token unk_token sep_token pad_token cls_token mask_token additional_special_tokens
    extra_special_tokens model_specific_special_tokens added_tokens_decoder add_bos_token add_eos_token
    add_prefix_space chat_template clean_up_tokenization_spaces do_lower_case errors legacy model_input_names
    model_max_length padding_side spaces_between_special_tokens split_special_tokens tokenizer_class truncation_side
    use_default_system_prompt
    """.split()  # noqa: SIM905
)
"""The keys of tokenizer_config.json that the tokenizers of transformers know."""
NO_TOKENIZER = "expected a SentencePiece .model, a tokenizer.json, a .gguf file or a folder that holds one of them"


class Tokenizer(Protocol):
    """Text to token ids and back.

    `encode` never adds BOS or EOS, and with `special=False` never makes a control id, whatever the text says;
    `decode` skips control ids and drops the bytes of an unfinished character at the end.
    """

    @property
    def vocab_size(self) -> int: ...
    @property
    def bos_id(self) -> int | None: ...
    @property
    def eos_ids(self) -> tuple[int, ...]:
        """Every id that ends a text; the first is the one to teach."""
        ...

    @property
    def pad_id(self) -> int: ...
    @property
    def add_bos(self) -> bool:
        """Whether a text begins with BOS."""
        ...

    @property
    def chat_template(self) -> str | None: ...
    @property
    def name(self) -> str:
        """Where it came from, for messages."""
        ...

    @property
    def controls(self) -> dict[str, int]:
        """Text of each control token -> id."""
        ...

    @property
    def prefix_space(self) -> bool:
        """Whether a leading space is put before a text, and taken off again in decoding."""
        ...

    @property
    def prefix_after_control(self) -> bool:
        """Whether a run of text after a control token gets the leading space too."""
        ...

    @property
    def fingerprint(self) -> str: ...
    def encode(self, text: str, *, special: bool = False) -> list[int]: ...
    def encode_run(self, text: str, *, prefix: bool) -> list[int]:
        """Ids of a text without control tokens; `prefix=False` is a text that goes on from an earlier one."""
        ...

    def decode(self, ids: Sequence[int]) -> str: ...
    def token_bytes(self, id: int) -> bytes: ...
    def files(self) -> dict[str, bytes]: ...


class BaseTokenizer:
    """What the backends share. A backend sets the fields and gives `encode_run`, `files` and `_bytes`."""

    vocab_size: int
    bos_id: int | None
    eos_ids: tuple[int, ...]
    pad_id: int
    add_bos: bool
    chat_template: str | None
    name: str
    controls: dict[str, int]
    prefix_space: bool
    prefix_after_control: bool
    fingerprint: str
    _bytes: list[bytes]
    _control_pattern: re.Pattern[str] | None

    def _finish(self) -> None:
        """Derives what follows from the fields."""
        digest = hashlib.sha256()
        for name, content in sorted(self.files().items()):
            digest.update(f"{name}\0{len(content)}\0".encode() + content)
        self.fingerprint = digest.hexdigest()
        # The longest first, so that a token whose text begins with another one's is found whole.
        texts = sorted(filter(None, self.controls), key=len, reverse=True)
        self._control_pattern = re.compile("(" + "|".join(map(re.escape, texts)) + ")") if texts else None

    def encode_run(self, text: str, *, prefix: bool) -> list[int]:
        raise NotImplementedError

    def files(self) -> dict[str, bytes]:
        """Name -> content of the files that `load_tokenizer` needs to make this tokenizer again."""
        raise NotImplementedError

    def encode(self, text: str, *, special: bool = False) -> list[int]:
        """Ids of a text. special=True reads the texts of control tokens as their ids (templates, never user text)."""
        if not special:
            return self.encode_run(text, prefix=True)
        ids: list[int] = []
        for part, control, prefix in self.runs(text):
            ids += [control] if control is not None else self.encode_run(part, prefix=prefix)
        return ids

    def runs(self, text: str, *, start: bool = True) -> list[tuple[str, int | None, bool]]:
        """Splits at control tokens: (text, its id if it is a control token, whether a leading space belongs before).

        Args:
          start: whether the text stands at the very beginning (else it goes on from an earlier one).
        """
        parts = [text] if self._control_pattern is None else self._control_pattern.split(text)
        found: list[tuple[str, int | None, bool]] = []
        for i, part in enumerate(parts):
            if i % 2:
                found.append((part, self.controls[part], False))
            elif part:
                found.append((part, None, start if i == 0 else self.prefix_after_control))
        return found

    def token_bytes(self, id: int) -> bytes:
        """The bytes that a token stands for; a control token, or an id past the vocabulary, stands for none."""
        return self._bytes[id] if 0 <= id < len(self._bytes) else b""

    def decode(self, ids: Sequence[int]) -> str:
        """Text of the ids: control ids skipped, an unfinished character at the end dropped."""
        stream = StreamDecoder(self)
        return "".join([stream.push(int(i)) for i in ids])


def known_settings(config: dict[str, Any]) -> dict[str, Any]:
    """What is kept of a tokenizer_config.json in checkpoints and exports: no name, path, code or credential."""
    return {key: value for key, value in config.items() if key in _SETTINGS}


def _json_beside(path: Path) -> dict[str, Any]:
    return read_object(path) if path.is_file() else {}


def dump_json(tree: dict[str, Any]) -> bytes:
    """The same bytes for the same values; keys without a value are left out."""
    kept = {key: value for key, value in tree.items() if value is not None}
    return (json.dumps(kept, ensure_ascii=False, indent=2, sort_keys=True) + "\n").encode("utf-8")


def token_text(value: Any) -> str | None:
    """The text of a special token, which tokenizer_config.json writes as a string or as an object."""
    if isinstance(value, dict):
        value = value.get("content")
    return value if isinstance(value, str) else None


def _template_of(folder: Path, config: dict[str, Any]) -> str | None:
    """The chat template of a folder: chat_template.jinja, or the entry of tokenizer_config.json (named `default`)."""
    file = folder / "chat_template.jinja"
    if file.is_file():
        return read_text(file, 4 * MAX_TEMPLATE)
    template = config.get("chat_template")
    if isinstance(template, list):
        named = {t.get("name"): t.get("template") for t in template if isinstance(t, dict)}
        template = named.get("default")
    return template if isinstance(template, str) else None


def _extra_eos(folder: Path) -> list[int]:
    """The ids that generation_config.json, or else config.json, names as ends."""
    for file in ("generation_config.json", "config.json"):
        value = _json_beside(folder / file).get("eos_token_id")
        if value is not None:
            ids = value if isinstance(value, list) else [value]
            if not all(type(id) is int for id in ids):
                raise ModelError(f"{folder / file}: eos_token_id is no token id or list of them; correct it")
            return ids
    return []


def settings_beside(path: Path) -> dict[str, Any]:
    """The arguments of a backend that lie beside its file: tokenizer_config.json, chat template, ends, and its name."""
    config = _json_beside(path.parent / "tokenizer_config.json")
    template, ends = _template_of(path.parent, config), tuple(_extra_eos(path.parent))
    return {"config": config, "chat_template": template, "eos_ids": ends, "name": str(path)}


def well_formed(text: str) -> str:
    """The text with `?` for each lone surrogate, which is no text: the libraries refuse the whole string."""
    return text.encode("utf-8", "replace").decode("utf-8")


def unique_ids(ids: Sequence[int | None], vocab_size: int) -> tuple[int, ...]:
    """The ids in their order, once each, without None and those past the vocabulary."""
    return tuple(dict.fromkeys(i for i in ids if i is not None and 0 <= i < vocab_size))


def load_tokenizer(path: str | Path) -> BaseTokenizer:
    """Loads a tokenizer.

    Args:
      path: a SentencePiece `.model`, a `tokenizer.json` (tokenizer_config.json, generation_config.json and
        chat_template.jinja beside either are read too), a `.gguf`, or a folder that holds one of these.

    Raises:
      ModelError: nothing there, a malformed file, or a kind of tokenizer that is not supported.
    """
    path = place(path)
    if path.is_dir():
        candidates = [path / "tokenizer.json", path / "tokenizer.model", *sorted(path.glob("*.model"))]
        candidates += sorted(path.glob("*.gguf"))
        found = next((c for c in candidates if c.is_file()), None)
        if found is None:
            raise ModelError(f"{path}: no tokenizer in this folder; {NO_TOKENIZER}")
        path = found
    if not path.is_file():
        raise ModelError(f"{path}: no such tokenizer; {NO_TOKENIZER}")
    with reading(path, "tokenizer"):
        return _backend(path)


def _backend(path: Path) -> BaseTokenizer:
    if path.suffix == ".model":
        from selfevo_jax.text.sentencepiece_backend import SentencePieceTokenizer

        return SentencePieceTokenizer(read_bounded(path, TOKENIZER_BYTES), **settings_beside(path))
    if path.suffix == ".json":
        from selfevo_jax.text.hf_backend import HuggingFaceTokenizer

        return HuggingFaceTokenizer(read_bounded(path, TOKENIZER_BYTES), **settings_beside(path))
    if path.suffix == ".gguf":
        from selfevo_jax.text.gguf_backend import gguf_tokenizer

        return gguf_tokenizer(path)
    raise ModelError(f"{path}: not a tokenizer; {NO_TOKENIZER}")

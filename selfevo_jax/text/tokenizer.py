"""The tokenizer protocol, what its backends share, and `load_tokenizer`."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Container, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from selfevo_jax.errors import ModelError
from selfevo_jax.storage import place
from selfevo_jax.text.added import SPACES, AddedToken, Splitter, special_texts, with_legacy_files
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
        """Whether decoding takes the leading space of a text off again."""
        ...

    @property
    def prefix_after_control(self) -> bool:
        """Whether a run of text after a control token gets the leading space too."""
        ...

    @property
    def fingerprint(self) -> str: ...
    def encode(self, text: str, *, special: bool = False) -> list[int]: ...
    def encode_run(self, text: str, *, prefix: bool | None) -> list[int]:
        """Ids of a text without control tokens.

        prefix: True is a whole text, False one that goes on from an earlier one, None one behind an added token that
        gets no leading space there.
        """
        ...

    def decode(self, ids: Sequence[int]) -> str: ...
    def token_bytes(self, id: int) -> bytes: ...
    def drawable(self, size: int) -> np.ndarray:
        """bool[size]: the ids that a model of `size` rows may draw."""
        ...

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
    template_tokens: dict[str, str]
    """Key -> text of the special tokens that a chat template may name: `bos_token` and the like."""
    fingerprint: str
    _added: dict[int, AddedToken]
    """Id -> token found before the model sees the text; every control token is among them."""
    _bytes: list[bytes]
    _config: dict[str, Any]

    def _finish(self) -> None:
        """Derives what follows from the fields."""
        digest = hashlib.sha256()
        for name, content in sorted(self.files().items()):
            digest.update(f"{name}\0{len(content)}\0".encode() + content)
        self.fingerprint = digest.hexdigest()
        self._controls_in = Splitter({id: self._added[id] for id in self.controls.values()})

    def encode_run(self, text: str, *, prefix: bool | None) -> list[int]:
        raise NotImplementedError

    def files(self) -> dict[str, bytes]:
        """Name -> content of the files that `load_tokenizer` needs to make this tokenizer again."""
        raise NotImplementedError

    def tokenizer_json(self) -> dict[str, Any]:
        """The tree of a tokenizer.json with the same ids, without a post-processor. Raises ModelError for none."""
        raise NotImplementedError

    def gguf_vocabulary(self) -> dict[str, Any]:
        """Key below `tokenizer.` -> value, of its tokens in a GGUF file. Raises ModelError where there is no form."""
        raise NotImplementedError

    def settings(self) -> dict[str, Any]:
        """What is kept of its tokenizer_config.json."""
        return dict(self._config)

    def text_tokens(self) -> list[str]:
        """The texts that are one token wherever they stand, and no control tokens."""
        return [token.content for token in self._added.values() if not token.special]

    def encode(self, text: str, *, special: bool = False) -> list[int]:
        """Ids of a text. special=True reads the texts of control tokens as their ids (templates, never user text)."""
        if not special:
            return self.encode_run(text, prefix=True)
        return self.encode_runs(self.runs(text))

    def runs(self, text: str, *, start: bool = True) -> list[tuple[str, int | None, bool | None]]:
        """Splits at control tokens: (text, its id if it is a control token, what `encode_run` takes as its `prefix`).

        Args:
          start: whether the text stands at the very beginning (else it goes on from an earlier one).
        """
        after = True if self.prefix_after_control else None
        return [
            (part, id, start if i == 0 and id is None else after)
            for i, (part, id) in enumerate(self._controls_in.split(text))
        ]

    def encode_runs(
        self, runs: Sequence[tuple[str, int | None, bool | None]], fill: Callable[[str], str] = lambda text: text
    ) -> list[int]:
        """Ids of what `runs` gave; `fill` puts our own texts where a template's text has marks for them.

        A control token takes the white space beside it where its flags say so, that of a filled-in text too.
        """
        ids: list[int] = []
        for i, (part, control, prefix) in enumerate(runs):
            if control is not None:
                ids.append(control)
                continue
            text = fill(part)
            if i and (before := runs[i - 1][1]) is not None and self._added[before].rstrip:
                text = text.lstrip(SPACES)
            if i + 1 < len(runs) and (after := runs[i + 1][1]) is not None and self._added[after].lstrip:
                text = text.rstrip(SPACES)
            ids += self.encode_run(text, prefix=prefix)
        return ids

    def token_bytes(self, id: int) -> bytes:
        """The bytes that a token stands for; a control token, or an id past the vocabulary, stands for none."""
        return self._bytes[id] if 0 <= id < len(self._bytes) else b""

    def drawable(self, size: int) -> np.ndarray:
        """bool[size]: the ids that a model of `size` rows may draw, those that stand for text and control tokens. The
        others have no text: rows past the vocabulary, gaps in it, unused pieces."""
        controls = {*self.controls.values(), *self.eos_ids}
        return np.asarray([id in controls or bool(self.token_bytes(id)) for id in range(size)], bool)

    def decode(self, ids: Sequence[int]) -> str:
        """Text of the ids: control ids skipped, an unfinished character at the end dropped."""
        stream = StreamDecoder(self)
        return "".join([stream.push(int(i)) for i in ids])


def known_settings(config: dict[str, Any], vocabulary: Container[str], name: str) -> dict[str, Any]:
    """What is kept of a tokenizer_config.json in checkpoints and exports: no name, path, code or credential.

    A special token under a key of its own (`eot_token`) is kept where its text is in the vocabulary, which no
    credential is. Raises ModelError for a setting that would give control tokens no id of their own.
    """
    if config.get("split_special_tokens"):
        raise ModelError(
            f"{name}: split_special_tokens of tokenizer_config.json takes control tokens apart; expected false"
        )
    named = {k for k, text in special_texts(config).items() if k.endswith("_token") and text in vocabulary}
    return {key: value for key, value in config.items() if key in _SETTINGS or key in named}


def _json_beside(path: Path) -> dict[str, Any]:
    return read_object(path) if path.is_file() else {}


def dump_json(tree: dict[str, Any], *, keep_none: bool = False) -> bytes:
    """The same bytes for the same values; keys without a value are left out unless `keep_none`."""
    kept = {key: value for key, value in tree.items() if keep_none or value is not None}
    return (json.dumps(kept, ensure_ascii=False, indent=2, sort_keys=True) + "\n").encode("utf-8")


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
    older = [_json_beside(path.parent / file) for file in ("special_tokens_map.json", "added_tokens.json")]
    config = with_legacy_files(config, *older)
    template, ends = _template_of(path.parent, config), tuple(_extra_eos(path.parent))
    return {"config": config, "chat_template": template, "eos_ids": ends, "name": str(path)}


def well_formed(text: str) -> str:
    """The text with `?` for each lone surrogate, which is no text: the libraries refuse the whole string."""
    return text.encode("utf-8", "replace").decode("utf-8")


def end_ids(ids: Sequence[int | None], vocab_size: int, name: str) -> tuple[int, ...]:
    """The ids that end a text, in their order, once each, without None.

    Raises ModelError for one that is not in the vocabulary: a text would not end where the model says its end.
    """
    found = tuple(dict.fromkeys(id for id in ids if id is not None))
    if (wrong := next((id for id in found if not 0 <= id < vocab_size), None)) is not None:
        raise ModelError(
            f"{name}: the end-of-text id {wrong} is not in the vocabulary of {vocab_size} tokens; correct eos_token_id "
            "in generation_config.json or config.json, or fetch the files of the added tokens too"
        )
    return found


def template_tokens(
    config: dict[str, Any], vocabulary: Container[str], bos: str | None, eos: str | None
) -> dict[str, str]:
    """Key -> text of the special tokens that templates may name, as `special_tokens_map` of transformers."""
    named = {**special_texts(config), "bos_token": bos, "eos_token": eos}
    return {key: text for key, text in named.items() if text is not None and text in vocabulary}


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

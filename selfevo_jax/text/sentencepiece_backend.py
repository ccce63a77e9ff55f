"""SentencePiece models (.model files)."""

from __future__ import annotations

import importlib
from dataclasses import replace
from typing import Any

import sentencepiece

from selfevo_jax.errors import ModelError
from selfevo_jax.text.added import (
    AddedToken,
    Splitter,
    clash,
    declared_tokens,
    further_specials,
    special_texts,
    undeclared,
)
from selfevo_jax.text.gguf_export import sentencepiece_vocabulary
from selfevo_jax.text.sentencepiece_json import sentencepiece_json
from selfevo_jax.text.tokenizer import (
    BaseTokenizer,
    dump_json,
    end_ids,
    known_settings,
    template_tokens,
    well_formed,
)

_SPACE = "\u2581"
_UNKNOWN, _CONTROL, _USER_DEFINED, _BYTE = 2, 3, 4, 6


class SentencePieceTokenizer(BaseTokenizer):
    """A SentencePiece model, as trained: its own normalizer and leading space.

    Text between added tokens has the ids of the `sentencepiece` library; added tokens are found before, as in the
    slow tokenizers of transformers, and text behind one gets the leading space where `legacy` says so. (transformers
    5 makes a BPE of its own of a .model file, which differs where a text begins with a space, and for other kinds of
    models; where it makes one true to the file, as for PreTrainedTokenizerFast, it agrees with this.) Text that goes
    on from an earlier one is encoded without the leading space, and the white space that it begins with is not trimmed,
    so that the ids are those of the joined text wherever its pieces break at the seam.

    Tokens that begin or end texts, and other special tokens, are control tokens whatever the model calls them: user
    text never makes them.
    """

    def __init__(
        self,
        model: bytes,
        config: dict[str, Any] | None = None,
        *,
        chat_template: str | None = None,
        eos_ids: tuple[int, ...] = (),
        name: str = "a SentencePiece model",
    ) -> None:
        """Args: the bytes of the model; tokenizer_config.json; its template; further ids that end a text.

        Raises ModelError: no such model, an added or special token that has no id or another one than declared, an
        end of text outside the vocabulary.
        """
        config = config or {}
        self.name, self._model, self.chat_template = name, model, chat_template
        proto = _read(model, name)
        normalizer = proto.normalizer_spec
        # Llama's class of transformers has another default than the slow tokenizers before it; it is made for models
        # that keep every space.
        of_llama = str(config.get("tokenizer_class")).startswith("LlamaTokenizer")
        legacy = bool(config.get("legacy", not of_llama or normalizer.remove_extra_whitespaces))
        self.prefix_after_control = bool(normalizer.add_dummy_prefix) and legacy
        self.prefix_space = bool(normalizer.add_dummy_prefix or normalizer.remove_extra_whitespaces)

        ids = {piece.piece: id for id, piece in enumerate(proto.pieces)}
        size = len(proto.pieces)
        self._added = {id: AddedToken(piece.piece) for id, piece in enumerate(proto.pieces) if piece.type == _CONTROL}
        for id, token in declared_tokens(config, name).items():
            given = ids.setdefault(token.content, len(ids))
            if given != id:
                raise clash(name, token, id, given)
            self._added[id] = token
        self.vocab_size = max(size, *(id + 1 for id in self._added), 0)
        self._config = {"tokenizer_class": "LlamaTokenizer", **known_settings(config, ids, name)}
        texts = special_texts(self._config)

        def named(key: str, fallback: int) -> int | None:
            if (text := texts.get(key)) is None:
                return fallback if fallback >= 0 else None
            if text not in ids:
                raise undeclared(name, key, text)
            return ids[text]

        spec = proto.trainer_spec
        whole = _processor(proto, name)
        self.bos_id = named("bos_token", whole.bos_id())
        eos = named("eos_token", whole.eos_id())
        self.eos_ids = end_ids([eos, *eos_ids], self.vocab_size, name)
        for text in further_specials(self._config):
            if text not in ids:
                raise undeclared(name, "a further special token", text)
        specials = [self.bos_id, *self.eos_ids, *(ids[text] for text in further_specials(self._config))]
        specials += [ids[text] for key, text in texts.items() if key != "unk_token" and text in ids]
        for id in dict.fromkeys(id for id in specials if id is not None):
            self._make_control(proto, id, required=id == self.bos_id or id in self.eos_ids)
        pad = ids.get(texts.get("pad_token", ""), whole.pad_id())
        self.pad_id = next((id for id in (pad, *self.eos_ids) if id >= 0), 0)
        self.add_bos = self.bos_id is not None and bool(self._config.get("add_bos_token", True))

        self._whole = _processor(proto, name)
        self._collapses = bool(proto.normalizer_spec.remove_extra_whitespaces)
        proto.normalizer_spec.add_dummy_prefix = True
        self._spaced = _processor(proto, name) if self._collapses else self._whole
        proto.normalizer_spec.add_dummy_prefix = False
        self._bare = _processor(proto, name)
        proto.normalizer_spec.remove_extra_whitespaces = False
        self._more = _processor(proto, name)

        self.controls = {token.content: id for id, token in self._added.items() if token.special}
        self._texts_in = Splitter({id: token for id, token in self._added.items() if not token.special})
        self._texts = {id: text for text, id in ids.items()}
        names = {"unk_token": self._texts.get(spec.unk_id), **self._config}
        bos, first = (None if id is None else self._texts[id] for id in (self.bos_id, next(iter(self.eos_ids), None)))
        self.template_tokens = template_tokens(names, ids, bos, first)
        self._bytes = [self._piece_bytes(id, size) for id in range(self.vocab_size)]
        self._finish()

    def _make_control(self, proto: Any, id: int, *, required: bool) -> None:
        """Takes a special token out of what the model can make of a text."""
        token = self._added.get(id)
        if id < len(proto.pieces):
            piece = proto.pieces[id]
            written = piece.type == _BYTE or (piece.type == _UNKNOWN and not proto.trainer_spec.byte_fallback)
            if written and required:
                raise ModelError(
                    f"{self.name}: {piece.piece!r} is to begin or end texts, but any text can hold it; name a token of "
                    "its own in tokenizer_config.json and generation_config.json"
                )
            if written or (token is None and not required and piece.type not in (_CONTROL, _USER_DEFINED)):
                return
            if piece.type != _UNKNOWN:
                piece.type = _CONTROL
            token = token or AddedToken(piece.piece)
        if token is not None:
            self._added[id] = replace(token, special=True)

    def encode_run(self, text: str, *, prefix: bool | None) -> list[int]:
        ids: list[int] = []
        for part, id in self._texts_in.split(well_formed(text)):
            if id is None:
                ids += self._processor_of(part, prefix).encode(part)
            else:
                ids.append(id)
            prefix = True if self.prefix_after_control else None
        return ids

    def _processor_of(self, text: str, prefix: bool | None) -> sentencepiece.SentencePieceProcessor:
        if prefix is not False:
            return self._whole if prefix else self._bare
        if not self._collapses:
            return self._more
        # in the joined text a run of white space is one space: that before its first word too
        first = next(iter(self._more.encode(text)), None)
        begins = first is not None and self._more.id_to_piece(first).startswith(_SPACE)
        return self._spaced if begins else self._bare

    def tokenizer_json(self) -> dict[str, Any]:
        return sentencepiece_json(
            self._proto(), self._entries(), every_run=self.prefix_after_control, more=self._more, name=self.name
        )

    def gguf_vocabulary(self) -> dict[str, Any]:
        return sentencepiece_vocabulary(self._proto(), self._entries(), self.name)

    def _entries(self) -> list[dict[str, Any]]:
        return [token.entry(id) for id, token in sorted(self._added.items())]

    def _proto(self) -> Any:
        return _read(self._whole.serialized_model_proto(), self.name)

    def text_tokens(self) -> list[str]:
        defined = [piece.piece for piece in self._proto().pieces if piece.type == _USER_DEFINED]
        return [*super().text_tokens(), *defined]

    def files(self) -> dict[str, bytes]:
        config = {
            "bos_token": None if self.bos_id is None else self._texts[self.bos_id],
            "eos_token": self._texts[self.eos_ids[0]] if self.eos_ids else None,
            "add_bos_token": self.add_bos,
            "legacy": self.prefix_after_control,
            "chat_template": self.chat_template,
        }
        return {
            "tokenizer.model": self._model,
            "tokenizer_config.json": dump_json({**self._config, **config}),
            "generation_config.json": dump_json({"eos_token_id": list(self.eos_ids)}),
        }

    def _piece_bytes(self, id: int, size: int) -> bytes:
        if id in self._added or id >= size:
            token = self._added.get(id)
            return b"" if token is None or token.special else token.content.encode("utf-8")
        sp = self._whole
        piece = sp.id_to_piece(id)
        if sp.is_control(id) or sp.is_unused(id):
            return b""
        if sp.is_unknown(id):
            return sp.decode([id]).encode("utf-8")
        if sp.is_byte(id):
            return bytes([int(piece[1:-1], 16)])
        return piece.replace(_SPACE, " ").encode("utf-8")


def _read(model: bytes, name: str) -> Any:
    """The model as a message that can be changed. Raises ModelError for what is none, or what cannot be followed."""
    schema: Any = importlib.import_module("sentencepiece.sentencepiece_model_pb2")
    try:
        proto = schema.ModelProto.FromString(model)
    except Exception as error:  # protobuf's own DecodeError
        raise ModelError(f"{name}: not a SentencePiece model ({error}); fetch the file again") from error
    if proto.trainer_spec.treat_whitespace_as_suffix:
        raise ModelError(f"{name}: a model that ends its words with their space; expected one that begins them with it")
    return proto


def _processor(proto: Any, name: str) -> sentencepiece.SentencePieceProcessor:
    try:
        return sentencepiece.SentencePieceProcessor(model_proto=proto.SerializeToString())
    except Exception as error:  # the library raises RuntimeError
        raise ModelError(f"{name}: not a SentencePiece model ({error}); fetch the file again") from error

"""SentencePiece models (.model files)."""

from __future__ import annotations

import importlib
from typing import Any

import sentencepiece

from selfevo_jax.errors import ModelError
from selfevo_jax.text.tokenizer import (
    BaseTokenizer,
    dump_json,
    known_settings,
    token_text,
    unique_ids,
    well_formed,
)

_SPACE = "\u2581"


class SentencePieceTokenizer(BaseTokenizer):
    """A SentencePiece model, as trained: its own normalizer and leading space.

    Text that goes on from an earlier one is encoded without the leading space and without trimming, so that the ids
    are those of the joined text wherever its pieces break at the seam.
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
        """Args: the bytes of the model; tokenizer_config.json; its template; further ids that end a text."""
        self.name, self._model = name, model
        self._config = {"tokenizer_class": "LlamaTokenizer", **known_settings(config or {})}
        self._whole, self._more, self.prefix_space = _processors(model, name)
        sp = self._whole
        self.vocab_size = sp.vocab_size()
        self.chat_template = chat_template
        self.controls = {sp.id_to_piece(i): i for i in range(self.vocab_size) if sp.is_control(i)}
        self.bos_id = self._special("bos_token", sp.bos_id())
        eos = self._special("eos_token", sp.eos_id())
        self.eos_ids = unique_ids([eos, *eos_ids], self.vocab_size)
        pad = self._special("pad_token", sp.pad_id())
        self.pad_id = next((i for i in (pad, *self.eos_ids) if i is not None), 0)
        self.add_bos = self.bos_id is not None and bool(self._config.get("add_bos_token", True))
        self.prefix_after_control = self.prefix_space and bool(self._config.get("legacy", True))
        self._bytes = [self._piece_bytes(i) for i in range(self.vocab_size)]
        self._finish()

    def encode_run(self, text: str, *, prefix: bool) -> list[int]:
        if not text:
            return []
        return list((self._whole if prefix else self._more).encode(well_formed(text)))

    def files(self) -> dict[str, bytes]:
        config = {
            "bos_token": None if self.bos_id is None else self._whole.id_to_piece(self.bos_id),
            "eos_token": self._whole.id_to_piece(self.eos_ids[0]) if self.eos_ids else None,
            "pad_token": self._whole.id_to_piece(self.pad_id),
            "add_bos_token": self.add_bos,
            "legacy": self.prefix_after_control,
            "chat_template": self.chat_template,
        }
        return {
            "tokenizer.model": self._model,
            "tokenizer_config.json": dump_json({**self._config, **config}),
            "generation_config.json": dump_json({"eos_token_id": list(self.eos_ids)}),
        }

    def _special(self, key: str, fallback: int) -> int | None:
        text = token_text(self._config.get(key))
        if text is not None:
            found = self._whole.piece_to_id(text)
            if found != self._whole.unk_id() or text == self._whole.id_to_piece(found):
                return int(found)
        return fallback if fallback >= 0 else None

    def _piece_bytes(self, id: int) -> bytes:
        sp = self._whole
        piece = sp.id_to_piece(id)
        if sp.is_control(id) or sp.is_unused(id):
            return b""
        if sp.is_unknown(id):
            return sp.decode([id]).encode("utf-8")
        if sp.is_byte(id):
            return bytes([int(piece[1:-1], 16)])
        return piece.replace(_SPACE, " ").encode("utf-8")


def _processors(
    model: bytes, name: str
) -> tuple[sentencepiece.SentencePieceProcessor, sentencepiece.SentencePieceProcessor, bool]:
    """(for a whole text, for text that goes on, whether a whole text gets a leading space)."""
    schema: Any = importlib.import_module("sentencepiece.sentencepiece_model_pb2")
    try:
        whole = sentencepiece.SentencePieceProcessor(model_proto=model)
        proto = schema.ModelProto.FromString(model)
    except Exception as error:  # the library raises RuntimeError, protobuf its own DecodeError
        raise ModelError(f"{name}: not a SentencePiece model ({error}); fetch the file again") from error
    prefix = bool(proto.normalizer_spec.add_dummy_prefix)
    proto.normalizer_spec.add_dummy_prefix = False
    proto.normalizer_spec.remove_extra_whitespaces = False
    return whole, sentencepiece.SentencePieceProcessor(model_proto=proto.SerializeToString()), prefix

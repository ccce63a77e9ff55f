"""Which ids a model may draw: those that stand for text, and control tokens."""

import importlib
import json

import numpy as np
import pytest
import sentencepiece

from selfevo_jax.text import load_tokenizer

schema = importlib.import_module("sentencepiece.sentencepiece_model_pb2")


def silent(tokenizer, size):
    return np.flatnonzero(~tokenizer.drawable(size)).tolist()


@pytest.mark.parametrize("name", ["sp_bpe", "sp_unigram", "bytes", "chatml", "no_system", "metaspace"])
def test_all_ids_of_a_tokenizer_without_gaps_and_none_past_it(name, loaded):
    tokenizer = loaded[name]
    assert silent(tokenizer, tokenizer.vocab_size) == []
    assert silent(tokenizer, tokenizer.vocab_size + 3) == [tokenizer.vocab_size + i for i in range(3)]


def test_unused_pieces_of_a_sentencepiece_model_are_not_drawn(folders, tmp_path):
    model = schema.ModelProto.FromString((folders["sp_bpe"] / "tokenizer.model").read_bytes())
    model.pieces.add(piece="<unused>", score=0.0, type=schema.ModelProto.SentencePiece.UNUSED)
    (tmp_path / "tokenizer.model").write_bytes(model.SerializeToString())
    tokenizer = load_tokenizer(tmp_path)
    assert silent(tokenizer, len(model.pieces)) == [len(model.pieces) - 1]
    controls = (
        sentencepiece.SentencePieceProcessor(model_proto=model.SerializeToString()).bos_id(),
        *tokenizer.eos_ids,
    )
    assert tokenizer.drawable(len(model.pieces))[list(controls)].all()


def test_gaps_of_a_tokenizer_json_are_not_drawn(folders, tmp_path):
    tree = json.loads((folders["chatml"] / "tokenizer.json").read_text())
    size = len(tree["model"]["vocab"])
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    tree["added_tokens"].append({"id": size + 5, "content": "<|late|>", **flags})
    vocab = tree["model"]["vocab"] | {"<|late|>": size + 5}
    (tmp_path / "tokenizer.json").write_text(json.dumps({**tree, "model": {**tree["model"], "vocab": vocab}}))
    assert silent(load_tokenizer(tmp_path), size + 8) == [*range(size, size + 5), size + 6, size + 7]

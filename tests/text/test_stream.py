"""Incremental decoding never breaks a character and agrees with decoding all at once."""

from hypothesis import given, settings
from hypothesis import strategies as st

from selfevo_jax.text import StreamDecoder, first_stop

NAMES = ["sp_bpe", "sp_unigram", "bytes", "chatml", "no_system", "metaspace"]


@settings(max_examples=40)
@given(text=st.text(max_size=16))
def test_stream_equals_decode_of_any_text_at_any_time(text, loaded):
    for name in NAMES:
        tok, shown = loaded[name], ""
        ids = tok.encode(text)
        stream = StreamDecoder(tok)
        for i, id in enumerate(ids):
            shown += stream.push(id)
            assert shown == tok.decode(ids[: i + 1]), name
            assert name == "sp_unigram" or text.startswith(shown), name
        assert stream.finish() == ("", True)


@settings(max_examples=80)
@given(data=st.data())
def test_stream_equals_decode_of_any_ids(data, loaded):
    for name in NAMES:
        tok = loaded[name]
        ids = data.draw(st.lists(st.integers(0, tok.vocab_size + 3), max_size=20))
        stream = StreamDecoder(tok)
        assert "".join(map(stream.push, ids)) + stream.finish()[0] == tok.decode(ids), name


def test_an_emoji_over_several_tokens_comes_whole(loaded):
    for name in ("sp_bpe", "bytes", "metaspace"):
        tok = loaded[name]
        ids = tok.encode("ok🙂")
        assert len(ids) >= 4
        stream = StreamDecoder(tok)
        pieces = [stream.push(id) for id in ids]
        assert pieces[-1] == "🙂"
        assert not any("\ufffd" in piece for piece in pieces)


def test_a_text_cut_within_an_emoji_shows_none_of_it_and_is_not_clean(loaded):
    for name in ("sp_bpe", "bytes", "metaspace"):
        tok = loaded[name]
        ids = tok.encode("ok🙂")[:-1]
        stream = StreamDecoder(tok)
        assert "".join(map(stream.push, ids)) == "ok" == tok.decode(ids)
        assert stream.finish() == ("", False)


def test_control_ids_and_ids_past_the_vocabulary_show_nothing(loaded):
    for tok in loaded.values():
        ids = [*tok.controls.values(), tok.vocab_size, -1]
        ids = [i for i in ids if tok.token_bytes(i) == b""]
        assert tok.decode(ids) == ""
        assert set(tok.eos_ids) <= set(ids)


def test_the_first_stop_string_is_found():
    assert first_stop("7\nQuestion: 8\nQ", ["\nQ", "Question"]) == 1
    assert first_stop("abc", ["c"]) == 2
    assert first_stop("abc", ["", "x"]) is None
    assert first_stop("abc", []) is None

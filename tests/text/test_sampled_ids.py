"""Training sees the very ids that were sampled, whichever tokenizer made the texts and whatever ended them."""

import dataclasses
import json

import gguf
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sentencepiece

from selfevo_jax.chains import RefineChain, Rollout, StageParams
from selfevo_jax.judges import ChainJudge
from selfevo_jax.methods.lessons import self_pool
from selfevo_jax.model import ModelConfig, abstract_params
from selfevo_jax.sample import DrawKey, Engine, SamplingParams
from selfevo_jax.sample.slot import Slot
from selfevo_jax.text import FormatSection, PromptFormat, Verdict, load_tokenizer

MODEL = ModelConfig(380, 16, 1, 2, 2, 8, 32, max_position=256)
MOST = 8
"""Tokens of a text at most."""
STOP = "p"
FORMATS = [(name, "plain") for name in ("sp_bpe", "sp_bare", "bytes", "metaspace", "gguf", "endless")]
FORMATS += [(name, "chat") for name in ("sp_bpe", "chatml", "metaspace")]


@pytest.fixture(scope="module")
def tokens_of(loaded, sp_bare, folders, tmp_path_factory):
    """Name -> tokenizer: also one out of a GGUF file, and one that names no end of text."""
    root = tmp_path_factory.mktemp("more")
    sp = sentencepiece.SentencePieceProcessor(model_file=str(folders["sp_bpe"] / "tokenizer.model"))
    ids = range(sp.vocab_size())
    writer = gguf.GGUFWriter(str(root / "small.gguf"), "llama")
    writer.add_tokenizer_model("llama")
    writer.add_token_list([sp.id_to_piece(i) for i in ids])
    writer.add_token_types(
        [2 if sp.is_unknown(i) else 3 if sp.is_control(i) else 6 if sp.is_byte(i) else 1 for i in ids]
    )
    writer.add_token_scores([sp.get_score(i) for i in ids])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    (root / "tokenizer.json").write_bytes(loaded["bytes"].files()["tokenizer.json"])
    made = {"gguf": load_tokenizer(root / "small.gguf"), "endless": load_tokenizer(root / "tokenizer.json")}
    return {**loaded, "sp_bare": sp_bare, **made}


@pytest.fixture
def drawn(monkeypatch):
    """Draw key -> every id that was drawn for it, as the host got them from the device."""
    found, take = {}, Slot.take

    def watched(slot, tokens, logprobs):
        found.setdefault(slot.request.key, []).extend(tokens)
        return take(slot, tokens, logprobs)

    monkeypatch.setattr(Slot, "take", watched)
    return found


def params_of(likely):
    """A random model that draws some ids more often than others."""
    rng = np.random.default_rng(0)
    params = jax.tree.map(
        lambda x: rng.normal(size=x.shape).astype(np.float32) * 0.35 if len(x.shape) > 1 else np.ones(x.shape, x.dtype),
        abstract_params(MODEL),
    )
    params["embedding"][list(likely)] *= 3
    return jax.tree.map(jnp.asarray, params)


class ByLength(ChainJudge):
    """Feedback ends at its first "a" and is good by its length."""

    name = "by_length"

    def read(self, feedback):
        end = feedback.index("a") if "a" in feedback[1:] else None
        return Verdict(len(feedback) % 3 == 0, None, end=end)

    def bare(self, feedback, good):
        return feedback


def rollouts_of(tokenizer, fmt, n=24):
    config = SamplingParams(1.0, max_new_tokens=MOST, stop_ids=fmt.stop_ids, stop_strings=fmt.stop_strings)
    chains = [
        RefineChain(
            f"p{i}",
            "the apple is " + "now " * (i % 3),
            fmt,
            StageParams(config, config, config),
            tokenizer.decode,
            judge=ByLength(),
            cut=lambda text: text.partition("n")[0].rstrip(),
        )
        for i in range(n)
    ]
    likely = [*fmt.stop_ids, tokenizer.encode_run(STOP, prefix=False)[0]]
    engine = Engine(MODEL, tokenizer, slots=8, cache_length=256, extend_rows=(8,), extend_lengths=(32, 256))
    engine.run(params_of(likely), chains)
    return [Rollout.from_dict(json.loads(json.dumps(chain.result.to_dict()))) for chain in chains]


@pytest.mark.parametrize(("name", "kind"), FORMATS)
def test_the_ids_of_an_example_are_those_that_were_drawn_and_its_end_is_the_one_that_was_said(
    name, kind, tokens_of, drawn
):
    tok = tokens_of[name]
    fmt = PromptFormat(FormatSection(kind=kind, judge="\nCheck", refine="\nAgain", stop_strings=(STOP,)), tok)
    ends = set()
    for r in rollouts_of(tok, fmt):
        for i, candidate in enumerate(r.candidates):
            ids = drawn[DrawKey(0, f"refine-{i}" if i else "respond", r.id, 0)]
            for part, said in ((candidate, ids), (candidate.feedback, drawn[DrawKey(0, f"feedback-{i}", r.id, 0)])):
                held = [*part.tokens, *part.end]
                assert held == said[: len(held)]
                assert tok.decode(said).startswith(part.text)
            taught = candidate.end if candidate.finish == "stop" else ()
            if candidate.finish == "stop":
                assert ids[len(candidate.tokens) :] == [*candidate.end]
                assert candidate.end[0] in fmt.stop_ids
            elif candidate.finish == "stop_string":
                spelt = b"".join(map(tok.token_bytes, candidate.end))
                assert STOP.encode() in spelt
                taught = candidate.end if name == "endless" and spelt == STOP.encode() else ()
            else:
                assert candidate.end == ()
                assert candidate.finish == "cut" or len(candidate.tokens) == MOST
            (example,) = self_pool([dataclasses.replace(r, chosen=i)], fmt) if candidate.tokens or taught else [None]
            if example is not None:
                asked = fmt.respond(r.prompt)
                assert example.tokens.tolist() == [*asked, *candidate.tokens, *taught]
                assert example.weights.tolist() == [0.0] * len(asked) + [1.0] * (len(example) - len(asked))
            ends.add((candidate.finish, bool(taught)))
    wanted = {("stop_string", False), ("cut", False), ("length", False)}
    assert ends >= wanted | {("stop_string", True) if name == "endless" else ("stop", True)}

"""Likelihoods by requests of the engine, against `transformers` on the same weights."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from selfevo_jax.checkpoint import export_huggingface
from selfevo_jax.data import PromptRow
from selfevo_jax.errors import ConfigError
from selfevo_jax.harness.answers import Answers, Settings
from selfevo_jax.harness.likelihood import asked, beginning, windows
from selfevo_jax.progress import Reporter

NAMES = ("Mia", "Ben", "Zoe", "Sam", "Ada")
PAIRS = [(f"{name} has {n} shells.", f" Then {name} finds {n + 2}.") for n, name in enumerate(NAMES)]
PAIRS += [(f"{name} has {n} shells. ", "Then one is lost.") for n, name in enumerate(NAMES)]
PAIRS += [("", f"{name} has {n} shells. How many now?") for n, name in enumerate(NAMES)]
PAIRS += [(f"{name} has {n} shells.\nAnswer:", f" {n}") for n, name in enumerate(NAMES)]


@pytest.fixture(scope="module")
def theirs(bare, tmp_path_factory):
    """Log-probabilities and argmaxes of the shipped model by `transformers`: ids -> of each id behind the first."""
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    bench, _ = bare
    folder = tmp_path_factory.mktemp("exported") / "model"
    export_huggingface(bench.base_params(), bench.model, bench.tokenizer, folder)
    model = transformers.AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager"
    ).eval()

    def scored(ids):
        with torch.no_grad():
            logits = model(torch.tensor([ids])).logits[0].double()
        found = torch.log_softmax(logits, -1)[:-1].gather(1, torch.tensor(ids[1:])[:, None])[:, 0]
        return found.numpy(), logits.argmax(-1)[:-1].numpy()

    return scored


def test_the_likelihoods_of_twenty_texts_are_those_of_transformers(bare, theirs) -> None:
    bench, params = bare
    answers = Answers(bench, params, Reporter(quiet=True), refine=False)
    found = answers.likelihoods(PAIRS)
    assert len(found) == 20
    for pair, one in zip(PAIRS, found, strict=True):
        before, text = asked(bench.format, bench.tokenizer, *pair)
        logprobs, best = theirs([*before, *text])
        np.testing.assert_allclose(one.logprob, logprobs[-len(text) :].sum(), atol=1e-4, rtol=0)
        assert one.greedy == (best[-len(text) :].tolist() == list(text))
    written = bench.chain(PromptRow("a", PAIRS[0][0]), bench.stages(greedy=True), round=0, judge=False)
    bench.engine.run(params, [written])
    tokens = written.result.candidates[0].tokens
    assert answers._scored([(tuple(bench.format.respond(PAIRS[0][0])), tokens)], greedy=True)[0].greedy


def test_a_text_longer_than_a_slot_is_scored_in_windows_each_token_once(bare, theirs) -> None:
    bench, params = bare
    text = " ".join(f"{NAMES[n % 5]} has {n} shells, and finds {n + 1} more." for n in range(14))
    ids = bench.tokenizer.encode_run(text, prefix=True)
    length, first = bench.engine.cache_length, beginning(bench.tokenizer)
    assert length < len(ids) <= 2 * length
    (found,) = Answers(bench, params, Reporter(quiet=True), refine=False).rolling([text])
    one = theirs([first, *ids[:length]])[0].sum()
    other = theirs(ids[len(ids) - length - 1 :])[0][-(len(ids) - length) :].sum()
    np.testing.assert_allclose(found, one + other, atol=1e-3, rtol=0)


@given(st.integers(0, 40), st.integers(1, 12))
def test_windows_are_those_of_lm_evaluation_harness(size, length) -> None:
    ids = list(range(100, 100 + size))
    found = windows(ids, 7, length)
    assert [id for _, text in found for id in text] == ids
    whole = [7, *ids]
    for n, (before, text) in enumerate(found):
        assert len(before) + len(text) - 1 <= length
        end = 1 + min(size, (n + 1) * length)
        assert list(before + text) == (whole[:end] if n == 0 else whole[end - length - 1 : end])


def test_what_a_task_asks_of_its_texts_is_read_or_refused_by_its_key() -> None:
    assert Settings.of({"until": "\n", "max_gen_toks": 5}) == Settings(("\n",), 5)
    assert Settings.of({"until": ["a", ""], "do_sample": False, "temperature": 0.7, "top_p": 0.9}) == Settings(("a",))
    assert Settings.of({"do_sample": True}).temperature == 1.0
    assert Settings.of({"do_sample": True, "temperature": 0.0}).temperature == 0.0
    assert Settings.of({"temperature": 0.5, "top_k": 3}) == Settings(temperature=0.5, others=(("top_k", 3),))
    with pytest.raises(ConfigError, match=r"generation_kwargs\.num_beams is 4; this engine has until, .*remove it"):
        Settings.of({"num_beams": 4})


def test_a_request_that_does_not_fit_is_refused_and_not_scored(bare) -> None:
    bench, params = bare
    answers = Answers(bench, params, Reporter(quiet=True), refine=False)
    long = "one two three " * 100
    with pytest.raises(ConfigError, match=r"1 of 2 rows could not be run; sampling.cache_length is 128"):
        answers.texts([(long, Settings()), ("short", Settings())])
    with pytest.raises(ConfigError, match=r"1 of 1 texts could not be scored.*raise sampling.cache_length"):
        answers.likelihoods([(long, " four")])

"""A round's time from the programs' times and the config's counts."""

import pytest
from plan_helpers import TINY, compiled, tiny_config

from selfevo_jax.plan.compiled import Compiled, Refusal
from selfevo_jax.plan.estimate import as_dict, estimate_round
from selfevo_jax.plan.lengths import Lengths


def test_lengths_come_from_the_config_and_prompts_from_what_the_cache_has_left():
    found = Lengths.of(tiny_config())
    assert found.drawn == 40 + 30 + 20 + 30
    assert found.extends == 4  # the prompt, judge, refine, judge
    assert found.prompt == 256 - 120 - 3 * 32
    assert found.mean_context == found.prompt + (120 + 3 * 32) / 2
    assert Lengths.of(tiny_config(), prompt=17).prompt == 17
    plain = Lengths.of(tiny_config(rounds={"turns": 0, "select": "none"}))
    assert (plain.drawn, plain.extends) == (40, 1)


def test_a_prompt_goes_into_the_compiled_length_that_covers_it():
    found = Lengths.of(tiny_config(), prompt=100)
    assert found.extend_bucket((8, 96, 128, 256)) == 128
    assert found.extend_bucket((8, 64)) == 64


def test_a_round_is_its_decode_steps_extends_and_training_steps():
    config, lengths = tiny_config(), Lengths.of(tiny_config(), prompt=32)
    train = compiled(2.0)
    extend = compiled(0.5, name="extend", kind="extend", rows=4, length=32)
    decode = compiled(1.0, name="decode", kind="decode", rows=16, length=8)
    found = estimate_round(config, lengths, [train, extend, decode], slots=16, chips=4)
    steps = 64 / 16 * lengths.drawn
    calls = 64 / 4 * 4  # a prompt and three instructions of 32 tokens, four rows at a time
    assert found.sampling.low == pytest.approx(steps / 8 * 1.0 + calls * 0.5)
    assert found.learn.low == 50 * 2.0
    assert found.round.high == pytest.approx(found.sampling.high + found.learn.high)
    assert found.run.low == pytest.approx(30 * 2.0 + 3 * found.round.low)
    assert found.chip_hours(found.round).low == pytest.approx(found.round.low * 4 / 3600)


def test_prompts_that_the_model_writes_are_texts_before_the_chains_of_their_rounds():
    config = tiny_config(
        data={**TINY["data"], "self_written": {"asked": 4, "given_share": 0.5, "examples": 3}},
        sampling={**TINY["sampling"], "write": {"max_new_tokens": 24}},
    )
    lengths = Lengths.of(config, prompt=32)
    parts = [compiled(2.0), compiled(0.5, name="extend", kind="extend", rows=4, length=32)]
    parts.append(compiled(1.0, name="decode", kind="decode", rows=16, length=8))
    found = estimate_round(config, lengths, parts, slots=4, chips=4)
    texts = 32 / 4  # half of 64 prompts, four in a text
    assert found.writing.low == pytest.approx(texts / 4 * 24 / 8 * 1.0 + texts / 1 * 3 * 0.5)
    assert (found.rounds, found.writes) == (3, 2)
    assert found.run.low == pytest.approx(found.meta.low + 3 * found.round.low + 2 * found.writing.low)
    assert "writing" in as_dict(found)
    assert "writing" not in as_dict(estimate_round(tiny_config(), lengths, parts, slots=4, chips=4))


def test_a_likelihood_extends_by_two_words_behind_each_text_of_feedback():
    config = tiny_config(judge={"kind": "likelihood"}, rounds={"number": 3, "controls": 8})
    lengths, usual = Lengths.of(config, prompt=32), Lengths.of(tiny_config(), prompt=32)
    assert (lengths.drawn, lengths.extends, lengths.short_extends) == (usual.drawn, usual.extends, 3 + 2 * 2)
    parts = [compiled(0.0), compiled(0.5, name="extend", kind="extend", rows=4, length=32)]
    parts.append(compiled(0.0, name="decode", kind="decode", rows=16, length=8))
    found = estimate_round(config, lengths, parts, slots=16, chips=4)
    # 64 chains: a prompt, three instructions, four words; 8 controls: a prompt, an instruction, two words
    assert found.sampling.low == pytest.approx((64 / 4 * (4 + 4) + 8 / 4 * (2 + 2)) * 0.5)


def test_a_batch_judge_s_questions_are_texts_of_the_model_or_are_counted_for_its_server():
    batch = {"kind": "pairwise"}
    config = tiny_config(judge={"batch": batch}, rounds={"number": 3, "controls": 8})
    lengths = Lengths.of(config, prompt=32)
    parts = [compiled(2.0), compiled(0.5, name="extend", kind="extend", rows=4, length=32)]
    parts.append(compiled(1.0, name="decode", kind="decode", rows=16, length=8))
    found = estimate_round(config, lengths, parts, slots=16, chips=4)
    questions = 2 * (64 + 8)
    pieces = -(-(256 - 30) // 32)  # what is shown takes all that 30 drawn tokens leave of the cache
    assert found.judging.low == pytest.approx(questions / 16 * 30 / 8 * 1.0 + questions / 4 * pieces * 0.5)
    assert found.round.low == pytest.approx(found.sampling.low + found.judging.low + found.learn.low)
    assert (found.asked, as_dict(found)["judging"]["seconds"][0]) == (0, pytest.approx(found.judging.low))
    asked = tiny_config(
        judge={"batch": {"kind": "endpoint", "endpoint": {"url": "http://127.0.0.1:1/v1", "model": "big"}}},
        rounds={"number": 3, "controls": 8},
    )
    by_server = estimate_round(asked, lengths, parts, slots=16, chips=4)
    assert (by_server.asked, by_server.judging.high) == (64 * 2 + 8, 0)
    assert "judging" not in as_dict(by_server)


def test_two_answers_are_compared_by_questions_and_a_checkpoint_is_measured_by_chains_of_its_own():
    config = tiny_config(method={"name": "debate"}, rounds={"number": 3, "controls": 8})
    lengths = Lengths.of(config, prompt=32)
    parts = [compiled(0.0), compiled(0.0, name="extend", kind="extend", rows=4, length=32)]
    parts.append(compiled(1.0, name="decode", kind="decode", rows=16, length=8))
    found = estimate_round(config, lengths, parts, slots=16, chips=4, evaluated={0: 160, 1: 32})
    assert found.sampling.low == pytest.approx(64 / 16 * (2 * 40) / 8)  # and no feedback on what is planted
    assert found.judging.low == pytest.approx(2 * (64 + 8) / 16 * 30 / 8)
    assert found.evaluating.low == pytest.approx((160 / 16 * 40 + 32 / 16 * (40 + 30 + 20 + 30)) / 8)


def test_with_two_training_programs_each_stage_takes_its_own():
    extend = compiled(0.0, name="extend", kind="extend", rows=4, length=32)
    decode = compiled(0.0, name="decode", kind="decode", rows=16, length=8)
    steps = [compiled(1.0, name="train (meta)"), compiled(3.0, name="train (learn)")]
    config = tiny_config()
    found = estimate_round(config, Lengths.of(config), [*steps, extend, decode], slots=16, chips=4)
    assert (found.meta.low, found.learn.low) == (30 * 1.0, 50 * 3.0)


def test_there_is_no_estimate_where_a_program_does_not_fit():
    decode = compiled(1.0, name="decode", kind="decode")
    train = Compiled(compiled().program, 0.0, refusal=Refusal(2, 1, "too large"))
    assert estimate_round(tiny_config(), Lengths.of(tiny_config()), [train, decode], slots=16, chips=4) is None

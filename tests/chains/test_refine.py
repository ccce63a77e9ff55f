"""SELF's chain, driven by a answered engine: which stages run, what is carried over, and which candidate is kept."""

import dataclasses
import json

import pytest
from sample_helpers import BOS, PIECES, ByteTokenizer, Format, Reader, Verdict, answered, engine, ids, random_params

from selfevo_jax.chains import RefineChain, Rollout, StageParams
from selfevo_jax.errors import ConfigError, SelfevoError
from selfevo_jax.judges import VerdictJudge
from selfevo_jax.sample import Completion, SamplingParams

STAGES = StageParams(
    SamplingParams(temperature=0.8, max_new_tokens=6),
    SamplingParams(temperature=0.7, max_new_tokens=8),
    SamplingParams(temperature=0.0, max_new_tokens=6),
)


def read(text):
    if text.isdigit():
        return Verdict(int(text) >= 9, float(text))
    return Verdict({"good": True, "bad": False}.get(text))


DECODE, JUDGE = ByteTokenizer().decode, Reader(read)


def play(*texts, finish="stop", judge=JUDGE, **kw):
    """Runs a chain over answered texts; returns it and its requests."""
    chain = RefineChain("p1", "abc", Format(), STAGES, **{"decode": DECODE, "judge": judge, **kw})
    return chain, answered(chain, texts, finish)


def test_a_good_verdict_on_the_response_ends_the_chain_and_keeps_it():
    chain, requests = play("xy", "good")
    assert [r.key.stage for r in requests] == ["respond", "feedback-0"]
    assert chain.result.chosen == 0
    assert chain.result.candidates[0].feedback.good is True
    assert chain.result.candidates[0].logprobs == (-0.5, -0.5)
    assert chain.result.candidates[0].n_tokens == 2


def test_each_stage_appends_to_the_last_and_the_refinement_is_judged_from_the_prompt():
    chain, requests = play("xy", "bad", "z", "good", round=3, sample=2)
    respond, judge, refine, again = (list(r.tokens) for r in requests)
    assert judge == [*respond, *ids("xy"), 60, 61]
    assert refine == [*judge, *ids("bad"), 62]
    assert again == [*respond, *ids("z"), 60, 61]
    assert [r.params for r in requests] == [STAGES.respond, STAGES.feedback, STAGES.refine, STAGES.feedback]
    assert len({r.key for r in requests}) == 4
    assert all((r.key.round, r.key.prompt_id, r.key.sample) == (3, "p1", 2) for r in requests)
    assert chain.result.chosen == 1
    assert [c.text for c in chain.result.candidates] == ["xy", "z"]


def test_turns_bound_the_refinements():
    chain, requests = play("xy", "bad", "z", "bad", "w", "bad", turns=2)
    assert len(requests) == 6
    assert len(chain.result.candidates) == 3
    assert play("xy", "bad", turns=0)[0].result.chosen == 0


def test_no_judge_is_plain_sampling():
    chain, requests = play("xy", judge=None)
    assert len(requests) == 1
    assert chain.result.candidates[0].feedback is None


def test_feedback_that_cannot_be_read_ends_the_chain_and_is_no_verdict():
    ended = play("xy", "mumble")[0].result
    assert len(ended.candidates) == 1
    assert ended.candidates[0].feedback.good is None


def test_a_worse_refinement_never_replaces_a_better_answer():
    kept = play("xy", "good", "z", "bad", stop_when_good=False)[0].result
    assert (kept.chosen, len(kept.candidates)) == (0, 2)
    assert play("xy", "7", "z", "3", turns=1)[0].result.chosen == 0
    assert play("xy", "3", "z", "7", "w", "5", turns=2)[0].result.chosen == 1
    assert play("xy", "bad", "z", "mumble")[0].result.chosen == 0


def test_clipped_feedback_is_never_a_verdict():
    chain, _ = play("xy", Completion(tuple(ids("good")), "good", (0.0,) * 4, "length"))
    assert chain.result.candidates[0].feedback.good is None
    assert len(chain.result.candidates) == 1


@pytest.mark.parametrize("at", [0, 1, 2, 3])
def test_a_fault_at_any_stage_ends_the_chain_with_its_message(at):
    script = ["xy", "bad", "z", "bad"]
    script[at] = Completion((), "", (), "error", "too long")
    rollout = play(*script[: at + 1])[0].result
    assert rollout.error == "too long"
    assert rollout.chosen == 0
    assert len(rollout.candidates) == at // 2 + 1


def test_a_run_on_is_cut_before_it_is_judged():
    text = "a\nb"
    last = Completion(tuple(PIECES.index(c.encode()) for c in text), text, (-0.5,) * 3, "length")
    chain, requests = play(last, "good", cut=lambda t: t.split("\n", maxsplit=1)[0])
    assert list(requests[1].tokens) == [BOS, *ids("abc"), *ids("a"), 60, 61]
    got = chain.result.candidates[0]
    assert (got.text, got.tokens, got.logprobs, got.finish) == ("a", tuple(ids("a")), (-0.5,), "cut")


def completion(text, pieces, finish="stop", end=(2,)):
    tokens, scores = tuple(pieces), (-0.25,) * len(end)
    return Completion(tokens, text, (-0.5,) * len(tokens), finish, end=end, end_logprobs=scores)


def pieces(*parts):
    return [PIECES.index(part if isinstance(part, bytes) else part.encode()) for part in parts]


def before_question(text):
    return text.partition("\nQ")[0].rstrip()


def test_a_cut_candidate_loses_its_tail_in_ids_and_the_end_that_stood_behind_it():
    drawn = pieces("a", b"ab", b"\nQ", b"uestion:", "b")
    chain, requests = play(completion("aab\nQuestion:b", drawn), "good", cut=before_question)
    got = chain.result.candidates[0]
    assert (got.text, got.tokens, got.finish, got.end) == ("aab", tuple(drawn[:2]), "cut", ())
    assert got.logprobs == (-0.5, -0.5)
    assert list(requests[1].tokens) == [*requests[0].tokens, *drawn[:2], 60, 61]


def test_white_space_behind_the_end_of_a_text_is_no_run_on():
    drawn = pieces("a", b"\n", b" ")
    got = play(completion("a\n ", drawn), "good", cut=str.rstrip)[0].result.candidates[0]
    assert (got.text, got.tokens, got.finish, got.end) == ("a\n ", tuple(drawn), "stop", (2,))


def test_a_token_across_the_cut_goes_with_the_tail_unless_only_white_space_stands_behind_the_cut_in_it():
    tokens = ("It is", " 18", "\n\nQ", "uestion")

    def decode(ids):
        return "".join(tokens[i] for i in ids)

    def cut_at(words, *drawn):
        last = completion(decode(drawn), drawn)
        return play(last, "good", cut=lambda text: text[: len(words)], decode=decode)[0].result.candidates[0]

    assert cut_at("It is 1", 0, 1, 2, 3).tokens == (0,)
    assert cut_at("It is 18", 0, 1, 2, 3).tokens == (0, 1)
    tokens = ("It is", " 18\n\n", "Question")
    got = cut_at("It is 18", 0, 1, 2)
    assert (got.text, got.tokens, got.finish, got.end) == ("It is 18", (0, 1), "cut", ())


def test_the_first_bytes_of_a_character_behind_the_cut_are_cut_with_it():
    drawn = pieces("a", "🙂".encode()[:2], "🙂".encode()[2:], "b")
    got = play(completion("a🙂b", drawn), "good", cut=lambda text: text[:1])[0].result.candidates[0]
    assert (got.text, got.tokens) == ("a", tuple(drawn[:1]))


@pytest.mark.parametrize("finish", ["stop", "length"])
def test_feedback_that_runs_on_is_cut_in_text_and_ids_and_not_carried_into_the_refinement(finish):
    def reader(text):
        return Verdict(False, end=text.index("\n")) if "\n" in text else Verdict(True)

    drawn = pieces("a", b"ab", b"\nQ", b"uestion:", "b")
    feedback = completion("aab\nQuestion:b", drawn, finish, (2,) if finish == "stop" else ())
    script = [completion("x", ids("x")), feedback, completion("y", ids("y")), completion("z", ids("z"))]
    chain, requests = play(*script, judge=Reader(reader))
    got = chain.result.candidates[0].feedback
    assert (got.text, got.tokens, got.finish, got.end) == ("aab", tuple(drawn[:2]), "cut", ())
    assert (got.good, got.logprobs) == (False, (-0.5, -0.5))
    assert list(requests[2].tokens) == [*requests[1].tokens, *drawn[:2], 62]
    whole = chain.result.candidates[1]
    assert (whole.feedback.tokens, whole.feedback.end, whole.end) == (tuple(ids("z")), (2,), (2,))
    assert chain.result.scores()["turns"] == [
        {"candidate": [-0.5, -0.25], "feedback": [-0.5, -0.5]},
        {"candidate": [-0.5, -0.25], "feedback": [-0.5, -0.25]},
    ]


@pytest.mark.parametrize("finish", ["stop", "length"])
def test_a_second_verdict_that_the_model_writes_behind_its_own_feedback_counts_for_nothing(finish):
    own = "13 is 5 too many. Verdict: incorrect"
    text = own + "\nRevision: 13\nFeedback: now it is correct. Verdict: correct"
    letters = [completion(said, map(ord, said), finish) for said in ("18", text, "13", "Verdict: correct")]
    chain, requests = play(*letters, judge=VerdictJudge(), decode=lambda ids: "".join(map(chr, ids)))
    first = chain.result.candidates[0].feedback
    assert (first.text.rstrip(), first.good, first.finish) == (own, False, "cut")
    assert list(requests[2].tokens) == [*requests[1].tokens, *map(ord, first.text), 62]
    assert chain.result.candidates[1].feedback.good is (True if finish == "stop" else None)


def test_a_row_of_an_older_version_is_refused_in_a_sentence():
    tree = play("xy", "good")[0].result.to_dict()
    del tree["candidates"][0]["tokens"]
    with pytest.raises(SelfevoError, match=r"rollout 'p1', sample 0: no token ids.*older version"):
        Rollout.from_dict(tree)


def test_a_rollout_survives_json_but_for_log_probabilities_whose_last_bits_are_not_reproducible():
    rollout = play("xy", "bad", "z", "good")[0].result
    back = Rollout.from_dict(json.loads(json.dumps(rollout.to_dict())))
    without = [
        dataclasses.replace(c, logprobs=(), feedback=dataclasses.replace(c.feedback, logprobs=()))
        for c in rollout.candidates
    ]
    assert back == dataclasses.replace(rollout, candidates=tuple(without))
    assert back != rollout


def test_chains_reuse_their_cache():
    chains = [RefineChain(f"p{i}", "abcdefgh"[: 2 + i % 6], Format(), STAGES, DECODE, judge=JUDGE) for i in range(9)]
    stats = engine(slots=1, cache_length=64).run(random_params(), chains)
    assert stats.prefilled <= 1.6 * stats.lower_bound  # the last drawn token of a stage enters the cache with the next


def test_unusable_stage_settings_are_refused_at_once():
    with pytest.raises(ConfigError, match="temperature"):
        StageParams(SamplingParams(temperature=-1), STAGES.feedback, STAGES.refine)

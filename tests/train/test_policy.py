"""Policy gradients, cross-entropy near its start, and hindsight: the numbers of their formulas."""

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from selfevo_jax.train import ObjectiveSection, Targets, open_objective
from selfevo_jax.train.objectives.advantages import ADVANTAGES, advantages


@pytest.mark.parametrize(
    ("kind", "two_of_four", "one_of_four"),
    [
        ("grpo", (0.865875, -0.865875), (1.4997, -0.4999)),
        ("dr_grpo", (0.5, -0.5), (0.75, -0.25)),
        ("rloo", (2 / 3, -2 / 3), (1.0, -1 / 3)),
    ],
)
def test_an_answer_is_worth_what_is_found_by_hand(kind, two_of_four, one_of_four):
    good, bad = two_of_four
    assert advantages([1, 0, 0, 1], kind) == pytest.approx([good, bad, bad, good], abs=1e-6)
    good, bad = one_of_four
    assert advantages([1, 0, 0, 0], kind) == pytest.approx([good, bad, bad, bad], abs=1e-6)


def test_a_divergence_may_be_taken_from_rewards_before_the_others_are():
    rewards = [reward - 0.05 * strayed for reward, strayed in zip((1, 0), (2, -1), strict=True)]
    assert advantages(rewards, "rloo") == pytest.approx([0.85, -0.85])


@settings(max_examples=50)
@given(st.lists(st.floats(-10, 10), max_size=8), st.sampled_from(ADVANTAGES))
def test_advantages_of_a_prompt_add_up_to_nothing_and_keep_the_order_of_rewards(rewards, kind):
    found = advantages(rewards, kind)
    assert len(found) == len(rewards)
    assert sum(found) == pytest.approx(0, abs=1e-9)
    assert all(
        a >= b for a, x in zip(found, rewards, strict=True) for b, y in zip(found, rewards, strict=True) if x > y
    )
    if len(set(rewards)) < 2:
        assert found == [0.0] * len(rewards)


def objective(name="grpo", **settings):
    return open_objective(ObjectiveSection(name=name, settings=settings))


def row(sizes, **extras):
    """Sequences of so many targets; extras of each sequence, or of each target."""
    owner = np.repeat(np.arange(len(sizes)), sizes)

    def laid(values):
        values = np.asarray(values, np.float32)
        return np.pad(values if len(values) == len(owner) else values[owner], (0, 1))[None]

    ids = np.pad(owner + 1, (0, 1))[None].astype(np.int32)
    return Targets((ids > 0).astype(np.float32), ids, {name: laid(x) for name, x in extras.items()})


LENGTHS = (2, 4, 4, 2)
LOGPS = np.pad(-np.linspace(0.5, 3, 12), (0, 1))[None].astype(np.float32)
HALVES = (0.5, -0.5, -0.5, 0.5)
ON = row(LENGTHS, advantage=HALVES, drawn=(1, 1, 1, 1), token_reference=LOGPS[0, :12])
BESIDE = row(LENGTHS, advantage=(0.5, -0.5, 0, 0), drawn=(1, 1, 0, 0), token_reference=[*LOGPS[0, :6], *[0] * 6])
OFF = row((1, 1, 1), advantage=(1, -1, -1), drawn=(1, 1, 1), token_reference=(0, 0, 0))
RATIOS = np.log([[1.5, 1.5, 0.5, 1]]).astype(np.float32)
WHOLE = row((2, 2), advantage=(1, -1), drawn=(1, 1), token_reference=(-1, -2, -3, -4))
MOVED = np.array([[-1 + 0.3, -2 + 0.3, -3 - 0.1, -4 + 0.3, 0]], np.float32)
TWO = row((2, 3), token_reference=(-1.5, -0.5, -1.5, -0.5, -1.5))
NEAR = np.array([[-1, -1, -0.5, -0.5, -0.5, 0]], np.float32)
FAR = np.full((1, 13), -200, np.float32)
FAR_BESIDE = row(LENGTHS, advantage=(0.5, -0.5, 0, 0), drawn=(1, 1, 0, 0), token_reference=(-200, -200, 0, 0))
ONE = row((5,))
BETTER = ONE.replace(weights=np.array([[0, 0, 1, 1, 1, 0]], np.float32))
K3 = 0.106531, np.exp(0.5) - 1.5, np.exp(-1)
"""For log-probabilities over the start's by 0.5, -0.5 and 1."""

BY_HAND = {
    "of sequences": (objective(), LOGPS, ON, 0.0, 4),
    "of tokens": (objective(loss_aggregation="token"), LOGPS, ON, 12 / 6, 12),
    "by a constant": (objective(loss_aggregation="constant", constant_length=8), LOGPS, ON, 0.0625 * 32, 32),
    "with D_meta beside": (objective(), LOGPS, BESIDE, -LOGPS[0, 6:10].mean() - LOGPS[0, 10:12].mean(), 4),
    "clipped": (objective(), RATIOS, OFF, -1.2 + 1.5 + 0.8, 3),
    "clipped higher": (objective(clip_high=0.28), RATIOS, OFF, -1.28 + 1.5 + 0.8, 3),
    "of whole answers": (objective(ratio="sequence"), MOVED, WHOLE, -1.2 + np.exp(0.2), 2),
    "held to the start": (objective(kl_weight=0.1), RATIOS, OFF, 1.1 + 0.1 * (2 * 0.072132 + 0.306853), 3),
    "with D_meta far from the start": (objective(kl_weight=0.1), FAR, FAR_BESIDE, 400, 4),
    "sft_kl": (objective("sft_kl"), NEAR, TWO, 3.5 + 0.35 * (K3[0] + K3[1] + 2 * K3[2]), 5),
    "sft_kl at its start": (objective("sft_kl"), LOGPS, ON, -LOGPS[0, :12].sum(), 12),
    "hindsight": (objective("hindsight"), NEAR, ONE, 0.7, 1),
    "hindsight of the better answer": (objective("hindsight"), NEAR, BETTER, 0.5, 1),
    "hindsight of two": (objective("hindsight"), NEAR, TWO, 1.5, 2),
}
"""Objective, log-probabilities, targets; the sum of losses, and what it is divided by."""


@pytest.fixture(scope="module")
def found():
    """All of it as one program."""

    def everything(logps):
        made = {
            name: jax.value_and_grad(of.loss, has_aux=True)(logps[name], targets)
            for name, (of, _, targets, *_) in BY_HAND.items()
        }
        of_policies = [name for name, (of, *_) in BY_HAND.items() if of.name == "grpo"]
        shown = {name: BY_HAND[name][0].figures(logps[name], BY_HAND[name][2]) for name in of_policies}
        return {**made, "figures": shown}

    return jax.device_get(jax.jit(everything)({name: given for name, (_, given, *_) in BY_HAND.items()}))


@pytest.mark.parametrize("name", BY_HAND)
def test_the_loss_is_that_found_by_hand(found, name):
    (loss, count), by = found[name]
    assert float(loss) == pytest.approx(BY_HAND[name][3], rel=1e-6, abs=1e-6)
    assert float(count) == BY_HAND[name][4]
    assert np.isfinite(by).all()


def test_the_first_step_on_policy_has_the_gradient_of_weighted_log_probabilities(found):
    advantage, size = (np.repeat(x, LENGTHS) for x in (HALVES, LENGTHS))
    np.testing.assert_allclose(found["of sequences"][1][0, :12], -advantage / size, rtol=1e-6)
    np.testing.assert_allclose(found["of tokens"][1][0, :12], -advantage, rtol=1e-6)
    np.testing.assert_allclose(found["with D_meta beside"][1][0, 6:12], -1 / size[6:], rtol=1e-6)


def test_what_is_clipped_has_no_gradient(found):
    by = found["clipped"][1][0]
    assert by[0] == 0  # likelier than 1 + clip already
    assert by[1] == pytest.approx(1.5)  # a bad answer that has become likelier comes back
    assert by[2] == 0
    np.testing.assert_allclose(found["of whole answers"][1][0, :4], [0, 0, np.exp(0.2), np.exp(0.2)], rtol=1e-5)


def test_the_step_log_has_the_share_that_is_clipped_and_how_far_targets_have_strayed(found):
    strayed = 2 * 0.072132 + 0.306853
    np.testing.assert_allclose(found["figures"]["clipped"], [[2, 3], [strayed, 3]], atol=1e-5)
    np.testing.assert_allclose(found["figures"]["with D_meta beside"], [[0, 6], [0, 6]], atol=1e-6)
    assert found["figures"]["of whole answers"][0].tolist() == [1, 2]

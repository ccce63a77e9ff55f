"""What an objective asks of the run around it: planted wrong answers to go by, and answers as the model draws them."""

import pytest

from selfevo_jax.config import parse_config
from selfevo_jax.errors import ConfigError
from selfevo_jax.train import ObjectiveSection, open_objective, settled

TREE = {"run_dir": "x", "model": {"source": "builtin:stories"}, "data": {"prompts": "p.jsonl", "meta_skill": "m.jsonl"}}
GRPO, FROM_BEFORE = {"objective": {"name": "grpo"}}, {"variant": "continual_mixed"}
ROBUST = {"name": "robust", "settings": {"label_smoothing": "controls"}}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"learn": {"objective": ROBUST}, "rounds": {"controls": 0}},
            r"learn.objective.settings.label_smoothing: found controls, but rounds.controls is 0; give a number",
        ),
        (
            {"meta": {"objective": ROBUST}},
            r"meta.objective.settings.label_smoothing: found controls, but only rounds have any; give a number",
        ),
        (
            {"learn": GRPO, "rounds": FROM_BEFORE},
            r"sampling.respond.temperature: found 0.8, but learn.objective grpo compares with .*; set it to 1",
        ),
        (
            {"learn": GRPO, "rounds": FROM_BEFORE, "sampling": {"respond": {"temperature": 1, "top_k": 5}}},
            r"sampling.respond.top_k: found 5, .*; set it to 0",
        ),
        (
            {"learn": GRPO},
            r"config: rounds.variant: found restart, .* those of the checkpoint before; set it to continual_mixed\n"
            r"config: sampling.respond.temperature: found 0.8, .* set it to 1$",
        ),
        ({"learn": GRPO, "rounds": {**FROM_BEFORE, "pool": "all"}}, r"rounds.pool: found all, .*; set it to last"),
    ],
)
def test_what_cannot_go_together_is_refused_with_the_key_to_change(changes, message):
    with pytest.raises(ConfigError, match=message):
        parse_config({**TREE, **changes})


def test_what_can_go_together_is_taken():
    parse_config({**TREE, "learn": {"objective": ROBUST}})
    parse_config({**TREE, "learn": GRPO, "rounds": FROM_BEFORE, "sampling": {"respond": {"temperature": 1}}})


@pytest.mark.parametrize(
    ("controls", "share", "said"),
    [
        ({"rows": 40, "passed": 6}, 0.15, "label_smoothing is 0.15: 6 of 40 planted wrong answers pass the critic"),
        ({"rows": 4, "passed": 3}, 0.45, "label_smoothing is 0.45: 3 of 4 planted wrong answers pass the critic"),
        ({"rows": 4, "passed": 0}, 0.0, "label_smoothing is 0: 0 of 4 planted wrong answers pass the critic"),
        ({"rows": 0, "passed": 0}, 0.1, "label_smoothing is 0.1: no wrong answer could be planted"),
        (None, 0.1, "label_smoothing is 0.1: no wrong answer could be planted"),
        ({"rows": 40, "passed": 6, "unread": 20}, 0.3, "label_smoothing is 0.3: 6 of 20 planted wrong answers pass"),
        (
            {"rows": 4, "passed": 0, "unread": 4},
            0.1,
            "label_smoothing is 0.1: no feedback on planted wrong answers can",
        ),
    ],
)
def test_pairs_are_believed_as_far_as_the_critic_tells_planted_wrong_answers(controls, share, said):
    objective = open_objective(ObjectiveSection(**ROBUST))
    found, told = settled(objective, controls)
    assert found == open_objective(ObjectiveSection(name="robust", settings={"label_smoothing": share}))
    assert told is not None
    assert told.startswith(said)


def test_an_objective_with_a_number_of_its_own_keeps_it():
    objective = open_objective(ObjectiveSection(name="cdpo", settings={"label_smoothing": 0.2}))
    assert settled(objective, {"rows": 4, "passed": 3}) == (objective, None)

"""Which keys of a config each artefact of a run rests on; pure."""

import pytest

from selfevo_jax.config import Config, parse_config
from selfevo_jax.config.forms import fields, section_at
from selfevo_jax.judges import WHERE_AND_HOW
from selfevo_jax.run.artefacts import artefacts, inputs, is_read_by


def config(**changes: object) -> Config:
    tree: dict = {"run_dir": "r", "model": {"source": "m"}, "data": {"stories": {}}}
    for key, value in changes.items():
        section, _, name = key.partition("__")
        tree[section] = {**tree.get(section, {}), name: value} if name else value
    return parse_config(tree)


MADE = list(artefacts(config(rounds__number=1)))
ALL = [artefact.name for artefact in MADE]
BASE, META_DATA, META, META_FIGURES, ROLLOUTS, CONTROLS, ROUND, FIGURES = ALL
MEASURED = {"data__open_ended": {"open": "p.jsonl"}, "data__ordinary": "o.jsonl"}
FILES = {"data": {"prompts": "p", "meta_skill": "d"}}


def shared(one: Config, other: Config) -> list[str]:
    return [a.name for a in artefacts(one) if a.name in ALL and a.rests_on(inputs(one)) == a.rests_on(inputs(other))]


@pytest.mark.parametrize(
    ("changes", "left"),
    [
        ({"run_dir": "elsewhere", "mesh": {"fsdp": 2}, "sampling__slots": 3, "saving": {"keep_last": 1}}, ALL),
        ({"rounds__select": "random"}, [BASE, META_DATA, META, META_FIGURES, ROLLOUTS, CONTROLS]),
        ({"rounds__variant": "continual_mixed"}, [BASE, META_DATA, META, META_FIGURES, ROLLOUTS, CONTROLS]),
        ({"judge": {"kind": "ensemble"}}, [META_DATA, META]),
        ({"learn": {"steps": 3}}, [BASE, META_DATA, META, META_FIGURES, ROLLOUTS, CONTROLS]),
        # without feedback: other rollouts, but figures with self-refinement take one turn all the same
        ({"rounds": {"turns": 0, "select": "none"}}, [BASE, META_DATA, META, META_FIGURES]),
        ({"rounds__turns": 2}, [META_DATA, META]),
        # a judge of finished chains reads none of them otherwise, but one that compares wants more refinements
        ({"judge": {"batch": {"kind": "scorer"}}}, [BASE, META_DATA, META, META_FIGURES, ROLLOUTS]),
        ({"judge": {"batch": {"kind": "pairwise"}}}, [BASE, META_DATA, META, META_FIGURES]),
        ({"rounds__controls": 5}, [BASE, META_DATA, META, META_FIGURES, ROLLOUTS]),
        ({"data__prompts_per_round": 7}, [BASE, META_DATA, META, META_FIGURES]),
        ({"data__meta_feedback": "verdict"}, [BASE]),
        ({"sampling__respond": {"temperature": 0.3}}, [BASE, META_DATA, META, META_FIGURES]),
        # the base's answers, about which D_meta of stories is written, have that limit
        ({"sampling__respond": {"max_new_tokens": 9}}, []),
        ({"meta": {"steps": 9}}, [BASE, META_DATA]),
        ({"evaluate": {"k": 9}}, [META_DATA, META, ROLLOUTS, CONTROLS, ROUND]),
        ({"sampling__write": {"temperature": 0.3}}, ALL),
        ({"seed": 1}, [BASE]),
        ({"model": {"source": "other"}}, []),
    ],
)
def test_runs_share_what_rests_on_equal_inputs_and_nothing_else(changes: dict, left: list[str]) -> None:
    assert shared(config(), config(**changes)) == left


def test_d_meta_of_a_file_rests_on_no_setting_of_the_sampler() -> None:
    other = {"sampling": {"respond": {"max_new_tokens": 9}}}
    assert shared(config(**FILES), config(**FILES, **other)) == [META_DATA, META]


def test_figures_with_drawn_samples_rest_on_the_seed() -> None:
    voting = {"evaluate": {"modes": ["direct", "consistency"]}}
    assert shared(config(**voting), config(**voting, seed=1)) == []


def test_settings_of_a_task_are_read_by_what_its_section_says() -> None:
    assert shared(config(), config(data={"stories": {"evaluation_rows": 3}})) == [
        META_DATA,
        META,
        ROLLOUTS,
        CONTROLS,
        ROUND,
    ]
    assert shared(config(), config(data={"stories": {"right_copies": 5}})) == [BASE]
    declared = {kind for name, _ in fields() for kind in _declared(name)}
    assert declared <= {kind for artefact in MADE for kind in artefact.kinds}


def _declared(name: str) -> tuple[str, ...]:
    *path, last = name.split(".")
    section = section_at(tuple(path))
    return () if section is None else section.read_by.get(last, ())


def test_chains_of_a_method_from_outside_rest_on_all_settings_of_rounds() -> None:
    outside = {"method": {"name": "my.parts:Mine"}}
    assert shared(config(**outside), config(**outside, learn={"steps": 3})) == [BASE, META_DATA, META, META_FIGURES]
    assert shared(config(**outside), config(**outside, rounds={"number": 9})) == ALL


def test_a_rating_changes_the_default_text_of_a_chat_format_and_so_m_meta() -> None:
    assert META in shared(config(**FILES), config(**FILES, judge={"kind": "rating"}))
    chat = {"format": {"kind": "chat"}, **FILES}
    assert META not in shared(config(**chat), config(**chat, judge={"kind": "rating"}))


def test_the_share_that_is_kept_changes_no_rollout_and_a_likelihood_asks_as_a_verdict_does() -> None:
    rated = {"judge": {"kind": "rating"}}
    top = {"judge": {"kind": "rating", "top_share": 0.5}}
    assert shared(config(**rated), config(**top)) == [BASE, META_DATA, META, META_FIGURES, ROLLOUTS]
    chat = {"format": {"kind": "chat"}, **FILES}
    assert META in shared(config(**chat), config(**chat, judge={"kind": "likelihood"}))


def test_a_later_round_rests_on_all_before_it() -> None:
    one, other = inputs(config()), inputs(config(rounds__per_prompt=1))
    second = next(a for a in artefacts(config(rounds__number=2)) if a.name == "rollouts of round 2")
    assert second.rests_on(one) != second.rests_on(other)


def made_alike(one: Config, other: Config) -> list[str]:
    """The artefacts that two runs share, as they find out (`run.sharing`)."""
    theirs = {a.name: a for a in artefacts(other)}
    return [
        a.name
        for a in artefacts(one)
        if (of := theirs.get(a.name)) is not None
        and of.kinds == a.kinds
        and a.rests_on(inputs(one)) == a.rests_on(inputs(other))
    ]


def test_runs_share_all_until_the_model_of_one_writes_prompts_of_its_own() -> None:
    def writing(**settings: object) -> Config:
        return config(rounds__number=3, data__self_written=settings)

    first = ALL  # all of round 1
    second = [name.replace("1", "2") for name in (ROLLOUTS, CONTROLS, ROUND, FIGURES)]
    assert made_alike(writing(), config(rounds__number=3)) == first
    assert made_alike(config(rounds__number=3), writing()) == first
    assert made_alike(writing(from_round=3), writing()) == first
    assert made_alike(writing(from_round=3), config(rounds__number=3)) == [*first, *second]
    assert made_alike(writing(asked=3), writing()) == first
    assert "prompts of round 2" in made_alike(writing(), writing())
    other = config(rounds__number=3, data__self_written={}, learn={"steps": 3})
    assert made_alike(writing(), other) == [BASE, META_DATA, META, META_FIGURES, ROLLOUTS, CONTROLS]


def test_written_prompts_rest_on_the_rows_that_they_are_held_against() -> None:
    one, other = (
        config(data={"stories": {"evaluation_rows": n}, "self_written": {}}, rounds__number=2) for n in (3, 4)
    )
    assert "prompts of round 2" not in made_alike(one, other)
    assert ROUND in made_alike(one, other)


def test_ordinary_answers_rest_on_the_model_and_their_rows_and_on_no_judge_or_sampler() -> None:
    def reading(**changes: object) -> Config:
        return config(rounds__number=1, **{"data__ordinary": "p.jsonl", **changes})

    names = [a.name for a in artefacts(reading()) if a.name.startswith("ordinary")]
    assert names == ["ordinary answers of base", "ordinary answers of M_meta", "ordinary answers of M_1"]
    of_base = names[0]
    for other in ({"sampling": {"respond": {"max_new_tokens": 9}}}, {"judge": {"kind": "rating"}}, {"seed": 4}):
        assert of_base in made_alike(reading(), reading(**other))
    for other in ({"data__ordinary": "q.jsonl"}, {"model": {"source": "o"}}, {"format": {"respond": "Q: {prompt}"}}):
        assert of_base not in made_alike(reading(), reading(**other))
    # nothing else rests on them
    assert made_alike(config(rounds__number=1), reading()) == [a.name for a in artefacts(config(rounds__number=1))]


def test_a_key_that_nobody_has_placed_is_one_that_everything_rests_on() -> None:
    for key in ("data.something", "something", "data.stories.something"):
        assert all(is_read_by(key, (kind,)) for a in MADE for kind in a.kinds)


def test_every_key_of_a_round_s_own_sections_is_read_by_something() -> None:
    made = list(artefacts(config(rounds__number=2, data__self_written={}, **MEASURED)))
    free = {name for name, _ in fields() if not any(is_read_by(name, a.kinds) for a in made)}
    asked = {name for name in free if ".endpoint." in name}
    assert {name.rpartition(".")[2] for name in asked} == set(WHERE_AND_HOW)
    assert {n.split(".")[0] for n in free - asked} == {
        *("run_dir", "platform", "mesh", "saving", "track", "sampling", "rounds")
    }


def test_files_belong_to_one_artefact_and_removed_arrays_are_not_shared() -> None:
    names = ["meta/COMMITTED", "meta/meta_skill.jsonl", "checkpoints/meta/params/a", "evaluations/meta/s.jsonl"]
    names += ["evaluations/meta.json", "rounds/0001/rollouts/manifest.json", "rounds/0001/rollouts/part-00000.jsonl"]
    names += ["rounds/0001/controls.json", "rounds/0001/COMMITTED", "rounds/0001/metrics.json", "checkpoints/0001/x"]
    taken = [name for artefact in MADE for name in artefact.of(names)]
    assert sorted(taken) == sorted(names)
    removed = next(a for a in MADE if a.name == META).of([*names, "checkpoints/meta/REMOVED"])
    assert removed == []


def test_what_a_judge_of_finished_chains_says_is_an_artefact_of_its_own() -> None:
    made = {a.name: a for a in artefacts(config(judge={"batch": {"kind": "scorer"}}, rounds__number=1))}
    names = [
        f"rounds/0001/{name}" for name in ("judged/manifest.json", "judged/answers.jsonl", "judged/part-00000.jsonl")
    ]
    names += ["rounds/0001/controls.json", "rounds/0001/controls/answers.jsonl", "rounds/0001/COMMITTED"]
    assert made["judged rows of round 1"].of(names) == names[:3]
    assert made["controls of round 1"].of(names) == names[3:5]
    assert made["M_1"].of(names) == names[5:]

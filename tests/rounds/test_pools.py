import json
from pathlib import Path

import pytest

from selfevo_jax.config import parse_config
from selfevo_jax.data import stories
from selfevo_jax.errors import DataError
from selfevo_jax.rounds.pools import FilePools, StoryPools, open_pools


def write(path: Path, rows: list[dict]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def config(tmp_path: Path, evaluation: list[str], **data: object):
    meta = {"prompt": "m", "response": "r", "feedback": "Verdict: correct", "refinement": "r", "good": True}
    return parse_config(
        {
            "run_dir": "x",
            "model": {"source": "builtin:stories"},
            "data": {
                "prompts": write(tmp_path / "p.jsonl", [{"prompt": f"p{i}", "answer": str(i)} for i in range(5)]),
                "meta_skill": write(tmp_path / "m.jsonl", [meta]),
                "evaluation": {"held": write(tmp_path / "e.jsonl", [{"prompt": t, "answer": "1"} for t in evaluation])},
                **data,
            },
        }
    )


def test_an_evaluation_row_that_is_also_a_prompt_is_refused_with_the_count(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"2 of its 3 prompts are also in data.prompts"):
        open_pools(config(tmp_path, ["p1", " p3 ", "new"]))
    with pytest.raises(DataError, match=r"1 of its 1 prompts are also in data.meta_skill"):
        open_pools(config(tmp_path, ["m"]))


def test_rounds_take_their_own_part_of_the_pile_and_begin_again_when_it_is_used_up(tmp_path: Path) -> None:
    pools = open_pools(config(tmp_path, ["e"], prompts_per_round=2))
    assert isinstance(pools, FilePools)
    assert [[row.prompt for row in pools.prompts(r)] for r in (1, 2, 3)] == [["p0", "p1"], ["p2", "p3"], ["p4", "p0"]]
    assert set(pools.gold(1).values()) == {"0", "1", "2", "3", "4"}
    assert not hasattr(pools.prompts(1)[0], "answer")


def test_an_evaluation_row_whose_gold_answer_cannot_be_scored_is_refused_at_the_start(tmp_path: Path) -> None:
    asked = config(tmp_path, ["e", "f"])
    write(tmp_path / "e.jsonl", [{"prompt": "e", "answer": "1"}, {"prompt": "f", "answer": "Paris"}])
    with pytest.raises(DataError, match=r"e\.jsonl:2, field 'answer': found \"Paris\", expected one number"):
        open_pools(asked)


def test_gold_answers_of_the_prompts_are_known_row_by_row_and_the_others_are_counted_aloud(tmp_path: Path) -> None:
    rows = [
        {"prompt": "a", "answer": 1},
        {"prompt": "b"},
        {"prompt": "c", "answer": "Paris"},
        {"prompt": "d", "answer": 2},
    ]
    prompts = write(tmp_path / "mixed.jsonl", rows)
    pools = open_pools(config(tmp_path, ["e"], prompts=prompts, prompts_per_round=1))
    assert sorted(pools.gold(1).values()) == ["1", "2"]
    assert set(pools.gold(1)) <= {
        row.id for row in pools.prompts(1) + pools.prompts(2) + pools.prompts(3) + pools.prompts(4)
    }
    said = str(pools.notice())
    assert "1 of the 4 rows of data.prompts have a gold answer that cannot be scored" in said
    assert "mixed.jsonl:3" in said
    assert "1 of the 4 rows of data.prompts have no gold answer" in said


def test_prompts_without_any_gold_answer_are_no_matter(tmp_path: Path) -> None:
    prompts = write(tmp_path / "bare.jsonl", [{"prompt": t} for t in "abc"])
    pools = open_pools(config(tmp_path, ["e"], prompts=prompts, prompts_per_round=1))
    assert pools.gold(1) == {}
    assert "gold" not in str(pools.notice())


def test_splits_of_the_stories_share_no_skeleton_and_cover_less_than_a_tenth_of_the_space() -> None:
    pools = open_pools(
        parse_config({"run_dir": "x", "model": {"source": "builtin:stories"}, "data": {"stories": {}}, "seed": 5})
    )
    assert isinstance(pools, StoryPools)
    prompts = {stories.read_skeleton(row.prompt) for r in (1, 2, 3) for row in pools.prompts(r)}
    held = {stories.read_skeleton(row.prompt) for row in pools.evaluation()["stories"]}
    meta = {row.skeleton for row in pools.meta_questions}
    assert not prompts & held
    assert not prompts & meta
    assert not held & meta
    assert pools.coverage == len(prompts) / stories.space_size(3, "prompts") < 0.1
    assert len({row.id for r in (1, 2, 3) for row in pools.prompts(r)}) == 3 * 1024

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from selfevo_jax.config import RoundsSection, parse_config
from selfevo_jax.errors import DataError
from selfevo_jax.tasks import cut_of, open_task
from selfevo_jax.tasks.stories import generate as stories
from selfevo_jax.tasks.stories.task import Stories


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


def test_conversations_of_which_the_first_turn_alone_is_asked_are_counted_by_file(tmp_path: Path) -> None:
    def said(*texts: str) -> list[dict]:
        return [{"role": ("user", "assistant")[at % 2], "content": text} for at, text in enumerate(texts)]

    chats = [{"prompt": "a"}, {"messages": said("b", "1", "c")}, {"turns": ["d", "e"]}, {"turns": ["f"]}]
    qa = [{"chat": said("g", "1", "h", "2")}, {"chat": said("i", "1")}]
    task = open_task(
        config(
            tmp_path,
            ["x"],
            prompts=write(tmp_path / "chats.jsonl", chats),
            qa={"source": write(tmp_path / "qa.jsonl", qa), "columns": {"prompt": "chat"}},
        )
    )
    told = [line.partition(" are conversations")[0] for line in task.notices() if "conversations" in line]
    assert told == [
        f"{tmp_path}/chats.jsonl: 2 of 4 rows (the first: line 2)",
        f"{tmp_path}/qa.jsonl: 1 of 2 rows (the first: line 1)",
    ]
    assert [row.prompt for row in task.qa_rows()] == ["g", "i"]


def test_only_where_answers_are_numbers_are_they_cut_behind_one(tmp_path: Path) -> None:
    numbers = config(tmp_path, ["e"])
    told = "The answer is 7.\n\nQuestion: And now?"
    cut = cut_of(numbers)
    assert cut is not None
    assert cut(told) == "The answer is 7."
    for scorers in (["choice"], ["exact", "number"], ["mine:Scorer"]):
        held = {"held": {"source": str(tmp_path / "e.jsonl"), "scorers": scorers}}
        tree = numbers.model_dump(mode="json")
        tree["data"]["evaluation"] = held
        assert cut_of(parse_config(tree)) is None


def test_an_evaluation_row_that_is_also_a_prompt_is_refused_with_the_count(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"2 of its 3 prompts are also in data.prompts"):
        open_task(config(tmp_path, ["p1", " p3 ", "new"]))
    with pytest.raises(DataError, match=r"1 of its 1 prompts are also in data.meta_skill"):
        open_task(config(tmp_path, ["m"]))


def test_every_key_that_names_rows_takes_tables_and_names_of_columns(tmp_path: Path) -> None:
    (tmp_path / "p.csv").write_text("q,a\np1,1\np2,2\n")
    (tmp_path / "m.tsv").write_text("q\tr\tf\tok\nm\tr\tVerdict: correct\ttrue\n")
    pq.write_table(pa.table({"q": ["s1"], "a": ["4"]}), tmp_path / "s.parquet")
    pq.write_table(pa.table({"q": ["e1"], "a": [7]}), tmp_path / "e.parquet")
    pair = {"prompt": "q", "answer": "a"}
    data = {
        "prompts": {"source": str(tmp_path / "p.csv"), "columns": pair},
        "meta_skill": {
            "source": str(tmp_path / "m.tsv"),
            "columns": {"prompt": "q", "response": "r", "refinement": "r", "feedback": "f", "good": "ok"},
        },
        "qa": {"source": str(tmp_path / "s.parquet"), "columns": pair},
        "evaluation": {"held": {"source": str(tmp_path / "e.parquet"), "columns": pair}},
    }
    tree = {"run_dir": "x", "model": {"source": "builtin:stories"}, "data": data}
    c = parse_config(tree)
    assert c.model_dump(mode="json")["data"]["qa"]["columns"] == pair
    task = open_task(c)
    assert sorted(row.prompt for row in task.prompts(1)) == ["p1", "p2"]
    assert [row.columns["answer"] for row in task.gold(1).values()] == ["1", "2"]
    assert [row.feedback for row in task.meta_rows(()).rows] == ["Verdict: correct"]
    assert [(row.prompt, row.answer) for row in task.qa_rows()] == [("s1", "4")]
    assert [row.columns["answer"] for row in task.evaluation()["held"].rows] == [7]
    assert set(task.files()) == {"data.prompts", "data.meta_skill", "data.qa", "data.evaluation.held"}
    data["meta_from_solutions"] = data.pop("meta_skill") | {"columns": {"prompt": "q", "answer": "why"}}
    with pytest.raises(DataError, match=r"m\.tsv:2, field 'why': is missing; the row has the fields: q, r, f, ok"):
        open_task(parse_config(tree))


@pytest.mark.parametrize("wanted", [1, 2, 3, 4, 5, 9])
def test_the_pile_is_shuffled_and_no_row_comes_twice_before_all_came_once_nor_twice_in_a_round(
    tmp_path: Path, wanted: int
) -> None:
    task = open_task(config(tmp_path, ["e"], prompts_per_round=wanted))
    rounds = [[row.prompt for row in task.prompts(r)] for r in range(1, 41)]
    assert rounds == [[row.prompt for row in task.prompts(r)] for r in range(1, 41)]
    assert all(len(set(row)) == len(row) == min(wanted, 5) for row in rounds)
    drawn = [prompt for row in rounds for prompt in row]
    passes = [drawn[at : at + 5] for at in range(0, len(drawn) - 4, 5)]
    assert all(set(one) == {f"p{i}" for i in range(5)} for one in passes)
    assert len(set(map(tuple, passes))) > 5


def test_a_pile_that_is_sorted_by_topic_gives_every_round_the_same_mixture_by_the_seed(tmp_path: Path) -> None:
    topics = write(tmp_path / "t.jsonl", [{"prompt": f"{topic} {i}"} for topic in "abcd" for i in range(250)])
    c = config(tmp_path, ["e"], prompts=topics, prompts_per_round=250)
    first = [open_task(c).prompts(r) for r in (1, 2, 3, 4)]
    for rows in first:
        assert all(40 <= sum(row.prompt[0] == topic for row in rows) <= 85 for topic in "abcd")
    assert open_task(c.model_copy(update={"seed": 1})).prompts(1) != first[0]


def test_gold_beside_the_prompts_is_kept_from_the_rounds(tmp_path: Path) -> None:
    task = open_task(config(tmp_path, ["e"], prompts_per_round=2))
    assert {row.columns["answer"] for row in task.gold(1).values()} == {"0", "1", "2", "3", "4"}
    assert vars(task.prompts(1)[0]).keys() == {"id", "prompt"}


def test_an_evaluation_row_whose_gold_answer_cannot_be_scored_is_refused_at_the_start(tmp_path: Path) -> None:
    asked = config(tmp_path, ["e", "f"])
    write(tmp_path / "e.jsonl", [{"prompt": "e", "answer": "1"}, {"prompt": "f", "answer": "Paris"}])
    with pytest.raises(DataError, match=r"e\.jsonl:2, field 'answer': found \"Paris\", expected one number"):
        open_task(asked)


def test_gold_answers_of_the_prompts_are_known_row_by_row_and_the_others_are_counted_aloud(tmp_path: Path) -> None:
    rows = [
        {"prompt": "a", "answer": 1},
        {"prompt": "b"},
        {"prompt": "c", "answer": "Paris"},
        {"prompt": "d", "answer": 2},
    ]
    prompts = write(tmp_path / "mixed.jsonl", rows)
    task = open_task(config(tmp_path, ["e"], prompts=prompts, prompts_per_round=1))
    assert sorted(row.columns["answer"] for row in task.gold(1).values()) == [1, 2]
    assert set(task.gold(1)) <= {
        row.id for row in task.prompts(1) + task.prompts(2) + task.prompts(3) + task.prompts(4)
    }
    said = str(task.notices())
    assert "1 of the 4 rows of data.prompts have a gold answer that cannot be scored" in said
    assert "mixed.jsonl:3" in said
    assert "1 of the 4 rows of data.prompts have no gold answer" in said


def test_prompts_without_any_gold_answer_are_no_matter(tmp_path: Path) -> None:
    prompts = write(tmp_path / "bare.jsonl", [{"prompt": t} for t in "abc"])
    task = open_task(config(tmp_path, ["e"], prompts=prompts, prompts_per_round=1))
    assert task.gold(1) == {}
    assert "gold" not in str(task.notices())


def test_prompts_that_are_also_trained_on_or_copies_of_others_are_counted_aloud(tmp_path: Path) -> None:
    qa = write(tmp_path / "qa.jsonl", [{"prompt": " p1", "answer": "1"}, {"prompt": "p3  ", "answer": "3"}])
    prompts = write(tmp_path / "t.jsonl", [{"prompt": text} for text in ("p1", "p3", "m", "p 4", "p  4", "p3 ")])
    found = open_task(config(tmp_path, ["e"], prompts=prompts, qa=qa, prompts_per_round=2)).notices()
    assert [line.split(" (")[0].split(":")[0] for line in found] == [
        "1 of the 6 rows of data.prompts are also in data.meta_skill",
        "3 of the 6 rows of data.prompts are also in data.qa",
        "2 of the 6 rows of data.prompts are copies of others",
    ]
    assert open_task(config(tmp_path, ["e"], prompts_per_round=1)).notices() == []
    more = config(tmp_path, ["e"], prompts_per_round=1024)
    assert open_task(more.model_copy(update={"rounds": RoundsSection(number=1)})).notices() == []
    assert "prompts come up again" in open_task(config(tmp_path, ["e"], prompts_per_round=2)).notices()[0]


def test_splits_of_the_stories_share_no_skeleton_and_cover_less_than_a_tenth_of_the_space() -> None:
    task = Stories(
        parse_config({"run_dir": "x", "model": {"source": "builtin:stories"}, "data": {"stories": {}}, "seed": 5})
    )
    prompts = {stories.read_skeleton(row.prompt) for r in (1, 2, 3) for row in task.prompts(r)}
    held = {stories.read_skeleton(row.prompt) for row in task.evaluation()["stories"].rows}
    meta = {stories.read_skeleton(row.prompt) for row in task.questions().rows}
    assert not prompts & held
    assert not prompts & meta
    assert not held & meta
    assert task.coverage == len(prompts) / stories.space_size(3, "prompts") < 0.1
    assert len({row.id for r in (1, 2, 3) for row in task.prompts(r)}) == 3 * 1024


def test_prompts_are_read_under_the_names_that_their_own_file_has(tmp_path):
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text('{"query": "Say hi.", "key": "a", "target": 7}\n')
    section = {"source": str(prompts), "columns": {"prompt": "query", "id": "key", "answer": "target"}}
    config = parse_config(
        {
            "run_dir": "x",
            "model": {"source": "builtin:stories"},
            "meta": {"steps": 0},
            "data": {"prompts": section},
        }
    )
    task = open_task(config)
    assert [(row.id, row.prompt) for row in task.prompts(1)] == [("a", "Say hi.")]
    assert task.gold(1)["a"].columns["answer"] == 7
    assert task.files()["data.prompts"] == str(prompts)
    assert config.model_dump(mode="json")["data"]["prompts"] == section

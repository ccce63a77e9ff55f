"""Runs side by side: figures from stored rows, and tables of any width at 80 columns."""

import json
import math
import statistics
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from selfevo_jax.config import parse_config
from selfevo_jax.errors import ConfigError
from selfevo_jax.evaluate import paired
from selfevo_jax.report import WIDTH, as_markdown, as_text
from selfevo_jax.report.comparison import GAIN, LAST, MODES, _sets_of, compare_members
from selfevo_jax.report.members import Member, right_by
from selfevo_jax.report.texts import LIKELIHOOD, ORDINARY, Texts, text_scores
from selfevo_jax.run import RunDir


def member(name: str, seed: int, right: dict, config: dict | None = None) -> Member:
    keys = {"rounds.number": 1, "seed": seed, "rounds.select": name, "data.evaluation_rows": None, **(config or {})}
    return Member(f"runs/{name}-{seed}", seed, True, None, keys, right, {})


rights = st.lists(st.sampled_from([True, False, None]), min_size=5, max_size=5).map(
    lambda hits: {f"row {n}": hit for n, hit in enumerate(hits)}
)


@settings(max_examples=40)
@given(before=st.lists(rights, min_size=2, max_size=2), after=st.lists(rights, min_size=2, max_size=2))
def test_differences_are_paired_seed_by_seed_on_the_same_rows(before, after) -> None:
    key = ("s", "direct", "round 1")
    members = [member("a", n, {key: right}) for n, right in enumerate(before)]
    members += [member("b", n, {key: right}) for n, right in enumerate(after)]
    found = compare_members(members)
    gains = [p.gain for p in map(paired, before, after) if p is not None]
    figure = found.differences.get(("s", "direct", "b", "round 1"))
    if not gains:
        assert figure is None
        return
    assert figure is not None
    assert figure.mean == pytest.approx(statistics.fmean(gains))
    if len(gains) == 2:
        assert figure.stderr == pytest.approx(abs(gains[0] - gains[1]) / 2)
    else:
        assert figure.p is not None


def test_two_single_runs_are_compared_whatever_their_seeds() -> None:
    key = ("s", "direct", "meta")
    right = {str(n): n < 30 for n in range(100)}
    better = {str(n): n < 40 for n in range(100)}
    found = compare_members([member("a", 1, {key: right}), member("b", 2, {key: better})])
    figure = found.differences["s", "direct", "b", "meta"]
    assert (figure.mean, figure.rows, figure.p) == (pytest.approx(0.1), 100, pytest.approx(2 * 0.5**10))
    assert figure.stderr == pytest.approx(math.sqrt((0.1 - 0.01) / 100))


def test_other_content_is_said_without_its_digest_and_only_where_both_sides_have_some() -> None:
    key, right = ("s", "direct", "meta"), {"1": True}
    told = [{"data.qa": "q", "content of data.qa": "a" * 40, "content of model": "b" * 40}, {"content of model": "c"}]
    found = as_text(compare_members([member(name, 1, {key: right}, of) for name, of in zip("ab", told, strict=True)]))
    said = " ".join(found[found.index("b differs from a") :].split())
    assert said.startswith("b differs from a in: rounds.select b (a: a); data.qa null (a: q); content of model ")


def test_as_many_right_answers_on_other_rows_are_a_difference_of_nothing_that_is_shown() -> None:
    first = {str(n): n < 30 for n in range(100)}
    moved = {str(n): 10 <= n < 40 for n in range(100)}
    shown = {name: (("s", "direct", name), right) for name, right in (("meta", first), ("round 1", moved))}
    found = compare_members(
        [member("a", 1, {key: first for key, _ in shown.values()}), member("b", 1, dict(shown.values()))]
    )
    table = as_text(found).split("difference to a in points")[1]
    assert "+0.0 ± 4.5" in table
    assert "meta" not in table.split("──")[0]  # the very same answers


def test_a_baseline_without_rounds_is_compared_where_the_rounds_of_the_other_end_too() -> None:
    def hits(n: int) -> dict:
        return {str(row): row < n for row in range(100)}

    of_rounds = {("s", "direct", shown): hits(n) for shown, n in (("meta", 20), ("round 1", 50), ("round 2", 60))}
    without = {("s", "direct", "meta"): hits(45)}
    found = compare_members(
        [member("self", 1, of_rounds, {"rounds.number": 2}), member("supervised", 1, without, {"rounds.number": 0})]
    )
    apart = {key[-1]: figure.mean for key, figure in found.differences.items()}
    assert apart == {"meta": pytest.approx(0.25), LAST: pytest.approx(-0.15)}
    assert ("s", "direct", "supervised", GAIN) not in found.accuracy
    assert "difference to self in points" in (text := as_text(found))
    assert "-15.0 ± 3.6" in text
    # where both have as many rounds that column says nothing of its own
    same = compare_members([member("a", 1, of_rounds), member("b", 1, of_rounds)])
    assert not any(key[-1] == LAST for key in same.differences)


@pytest.mark.parametrize(
    ("other", "config", "said"),
    [
        ({"1": True, "3": True}, {}, "2 and 2 rows, of which 1 are the same"),
        (
            {"1": True, "2": True},
            {"data.evaluation.s.scorers": "exact"},
            "data.evaluation.s.scorers is None and 'exact'",
        ),
        ({"1": True, "2": True}, {"content of data.evaluation.s": "x"}, "content of data.evaluation.s is None and 'x'"),
    ],
)
def test_other_rows_and_other_scorers_are_never_compared(other, config, said) -> None:
    key = ("s", "direct", "base")
    members = [member("a", 1, {key: {"1": True, "2": False}}), member("b", 1, {key: other}, config)]
    with pytest.raises(ConfigError, match="evaluation set 's' is not the same in runs/a-1 and runs/b-1") as error:
        compare_members(members)
    assert said in str(error.value)


def test_names_of_rows_leave_the_seed_out_and_a_baseline_goes_by_name_or_run() -> None:
    key = ("s", "direct", "base")
    members = [member(name, seed, {key: {"1": True}}) for name in ("a", "b") for seed in (1, 2)]
    found = compare_members(members, baseline="b")
    assert [(row.name, len(row.members)) for row in found.rows] == [("a", 2), ("b", 2)]
    assert found.config["a"] == {"rounds.select": ("b", "a")}
    assert compare_members(members, baseline="runs/b-2/").baseline == "b"
    with pytest.raises(ConfigError, match="baseline 'c': no such row; expected one of a, b"):
        compare_members(members, baseline="c")


def test_tables_with_many_rounds_and_long_names_are_whole_at_80_columns() -> None:
    columns = ["base", "meta", *(f"round {n}" for n in range(1, 9))]
    names = ["short", "a_variant_with_a_name_of_some_length_that_is_cut"]
    members = []
    for name in names:
        right = {("gsm8k", mode, at): {str(n): n % 3 == 0 for n in range(1319)} for mode in MODES for at in columns}
        members.append(member(name, 1, right, {"rounds.number": 8}))
    found = compare_members(members)
    text = as_text(found)
    assert max(map(len, text.splitlines())) <= WIDTH
    assert text.count("[30.9, 35.9]") == 2 * 4 * len(columns)
    assert "accuracy in % (continued)" in text
    assert all(f" {name}" in text for name in (*columns, GAIN))
    assert f"| {names[1]} | 33.4 [30.9, 35.9] |" in as_markdown(found)


def test_a_row_without_figures_on_a_set_is_in_none_of_its_tables_and_said_to_have_none() -> None:
    right = {"1": True, "2": False}
    members = [member(name, 1, {(set_name, "direct", "base"): right}) for name, set_name in (("a", "s"), ("b", "t"))]
    text = as_text(compare_members(members))
    assert not [line for line in text.splitlines() if line.split()[1:] == ["-"]]
    assert "a: seed 1\n  has no figures on t\n" in text
    assert "b: seed 1\n  has no figures on s\n  has no set in common with a: there is nothing to compare" in text
    both = [*members, member("c", 1, {(set_name, "direct", "base"): right for set_name in "st"})]
    text = as_text(compare_members(both))
    assert "c: seed 1\n" in text
    assert [line.split()[0] for line in text.splitlines() if line.endswith(" 50.0")] == ["a", "c", "b", "c"]


def judged(name: str, seed: int, outcomes: list, marks: list) -> Member:
    def by_prompt(values: list) -> dict:
        return {f"prompt {n}": value for n, value in enumerate(values)}

    key = ("open", "round 1")
    found = {(key[0], "win rate", key[1]): by_prompt(outcomes), (key[0], "mark", key[1]): by_prompt(marks)}
    found[key[0], "win rate at equal lengths", key[1]] = {"rate": 0.4, "error": 0.1}
    keys = {"rounds.number": 1, "seed": seed, "rounds.select": name, "data.evaluation_rows": None}
    return Member(f"runs/{name}-{seed}", seed, True, None, keys, {}, {}, judged=found)


def test_open_ended_figures_have_the_error_over_the_prompts_of_one_run_and_over_the_seeds_of_several() -> None:
    one = judged("a", 1, [1.0, 0.5, 0.0, None], [5.0, 6.0, None, 8.0])
    found = compare_members([one, judged("b", 1, [1.0, 1.0, 0.5, 0.0], [6.0, 6.0, 9.0, 9.0])])
    rate, mark = (found.judged["open", measure, "a", "round 1"] for measure in ("win rate", "mark"))
    assert (rate.mean, rate.rows) == (0.5, 3)
    assert rate.stderr == pytest.approx(statistics.stdev([1.0, 0.5, 0.0]) / math.sqrt(3))
    assert mark.mean == pytest.approx(19 / 3)
    apart = found.judged_differences["open", "mark", "b", "round 1"]
    assert (apart.mean, apart.rows) == (pytest.approx(2 / 3), 3)  # on the prompts that both have a mark of
    assert apart.stderr == pytest.approx(statistics.stdev([1.0, 0.0, 1.0]) / math.sqrt(3))
    text = as_text(found)
    assert "open, open-ended: win rate in %" in text
    assert "40.0 ± 10.0" in text
    assert "6.33 ± 0.88" in text
    assert "open, open-ended: marks from 1 to 10, difference to a" in text
    assert max(map(len, text.splitlines())) <= WIDTH
    assert "open, open-ended" in as_markdown(found)
    seeds = compare_members([one, judged("a", 2, [1.0, 1.0, 1.0, 1.0], [7.0, 7.0, 7.0, 7.0])])
    over = seeds.judged["open", "win rate", "a", "round 1"]
    assert (over.mean, over.stderr, over.rows) == (0.75, pytest.approx(0.25), None)


def test_a_set_whose_name_is_the_beginning_of_another_s_up_to_a_dot_is_compared_without_that_one() -> None:
    right = {("v1", "direct", "meta"): {"1": True}}
    both = member("a", 1, right, {"data.evaluation.v1.0.columns": {"prompt": "q"}})
    found = compare_members([replace(both, sets=("v1", "v1.0")), member("b", 1, right)])
    assert found.differences["v1", "direct", "b", "meta"].mean == 0


def test_ordinary_answers_are_of_one_content_and_other_tokens_of_them_are_told() -> None:
    def of(name: str, tokens: int, **config: object) -> Member:
        one = read(name, [0.0], [-2.0, None])
        more = {"data.ordinary.source": name, "content of data.ordinary": "1", "data.ordinary.columns": {}, **config}
        return replace(one, config={**one.config, **more}, ordinary_tokens={"round 1": tokens})

    told = "another tokenizer than a's: ordinary answers are 1,200 tokens"
    assert told in as_text(compare_members([of("a", 1000), of("b", 1200)]))
    assert told in as_markdown(compare_members([of("a", 1000), of("b", 1200)]))
    assert "another tokenizer" not in as_text(compare_members([of("a", 1000), of("b", 1000)]))
    assert max(map(len, as_text(compare_members([of("a", 1000), of("b", 1200)])).splitlines())) <= WIDTH
    for changed in ("content of data.ordinary", "data.ordinary.columns"):
        with pytest.raises(ConfigError, match=f"'ordinary answers' is not the same in .*: {changed} is"):
            compare_members([of("a", 1000), of("b", 1000, **{changed: "2"})])


def read(name: str, looping: list, likely: list) -> Member:
    def by_row(values: list) -> dict:
        return {str(n): value for n, value in enumerate(values)}

    texts = {("s", "looping", "round 1"): by_row(looping), ("s", "leaked", "round 1"): by_row([0.0] * len(looping))}
    texts[ORDINARY, LIKELIHOOD, "round 1"] = by_row(likely)
    keys = {"rounds.number": 1, "rounds.select": name, "data.instructions.two_share": name}
    return Member(f"runs/{name}-1", 1, True, None, keys, {}, {}, texts=texts)


def test_faults_and_ordinary_answers_are_compared_row_by_row_and_faults_that_no_answer_has_are_left_out() -> None:
    found = compare_members([read("a", [0.0, 0.0, 1.0, None], [-2.0, -3.0]), read("b", [1.0] * 4, [-2.5, -3.7])])
    assert found.texts["s", "looping", "a", "round 1"].mean == pytest.approx(1 / 3)
    apart = found.text_differences["s", "looping", "b", "round 1"]
    assert (apart.mean, apart.rows) == (pytest.approx(2 / 3), 3)
    likely = found.text_differences[ORDINARY, LIKELIHOOD, "b", "round 1"]
    assert (likely.mean, likely.stderr) == (pytest.approx(-0.6), pytest.approx(0.1))
    text = as_text(found)
    assert "s, answers that are looping in %" in text
    assert "leaked" not in text
    assert "ordinary answers, log-likelihood in nats a token, difference to a" in text
    assert "-0.60 ± 0.10" in text
    assert max(map(len, text.splitlines())) <= WIDTH
    assert {"texts", "text_differences"} <= found.to_dict().keys()
    with pytest.raises(ConfigError, match="'ordinary answers' is not the same in .*2 and 1 rows"):
        compare_members([read("a", [1.0], [-2.0, -3.0]), read("b", [1.0], [-2.5])])


def test_other_prompts_of_one_open_ended_set_are_refused() -> None:
    with pytest.raises(ConfigError, match="evaluation set 'open' is not the same in .*4 and 3 rows"):
        compare_members([judged("a", 1, [1.0] * 4, [5.0] * 4), judged("b", 1, [1.0] * 3, [5.0] * 3)])


def test_the_sets_of_a_task_from_outside_are_those_that_its_run_has_measured(tmp_path) -> None:
    run = RunDir(tmp_path / "run")
    tree = {"run_dir": str(run.root), "model": {"source": "x"}, "data": {"task": "mine:Task"}}
    run.open(parse_config(tree), {"model": "x"})
    run.close()
    run.evaluation("base").parent.mkdir(parents=True)
    run.evaluation("base").write_text('{"loud": {}}')
    assert _sets_of(run) == ["loud"]


def test_rows_are_right_by_the_scorer_that_is_asked_for(tmp_path) -> None:
    """Its grades stand beside the texts; a mode or a row without one is in no share."""

    def grades(number: float, exact: float | None) -> dict:
        return {"number": {"value": number}, "exact": {"value": exact}}

    run = RunDir(tmp_path)
    rows = [
        {"id": "a", "grades": {"direct": grades(1.0, 0.5), "refined": grades(0.0, 1.0)}},
        {"id": "b", "grades": {"direct": grades(0.0, None), "refined": None}},
    ]
    run.texts("meta", "s").parent.mkdir(parents=True)
    run.texts("meta", "s").write_text("".join(json.dumps(row) + "\n" for row in rows))
    right = {mode: {"a": True, "b": False} for mode in ("direct", "refined", "consistency")}
    figures = {"scorers": ["number", "exact"], "right": right}
    assert right_by(run, "meta", "s", figures, None) == right_by(run, "meta", "s", figures, "number") == right
    found = {"direct": {"a": False, "b": None}, "refined": {"a": True, "b": None}}
    assert right_by(run, "meta", "s", figures, "exact") == found
    assert right_by(run, "meta", "s", figures, "choice") == right_by(run, "base", "s", figures, "exact") == {}


def test_ordinary_answers_are_compared_where_they_are_a_set_that_is_named(tmp_path) -> None:
    run = RunDir(tmp_path)
    run.ordinary("base").parent.mkdir()
    run.ordinary("base").write_text('{"by_row": {"1": -2.0}, "tokens": 9}')
    texts = Texts(run, run)  # type: ignore[arg-type]
    for sets, found in (([], [ORDINARY]), ([ORDINARY], [ORDINARY]), (["gsm8k"], [])):
        assert [key[0] for key in text_scores(run, texts, {"base": "base"}, sets)] == found

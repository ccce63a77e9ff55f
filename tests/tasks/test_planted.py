"""The builder of D_meta on real GSM8K rows: one mistake a row, carried through, and feedback that tells the truth."""

import re
from collections import Counter
from fractions import Fraction

import pytest

from selfevo_jax.data import meta_balance
from selfevo_jax.data.sources import MetaRow, QARow, read_meta, read_qa, write_jsonl
from selfevo_jax.errors import ConfigError, EmptySelectionError
from selfevo_jax.tasks.solutions.mistakes import KINDS
from selfevo_jax.tasks.solutions.planted import build_meta_rows

MARK = re.compile(r"<<([^=]*)=([^>]*)>>([\d,.]*\d)")
DIGITS = re.compile(r"(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?|\.\d+")


def _value(text):
    """Independent of the package: Python's own grammar over exact fractions."""
    literal = re.sub(r"(\d+\.?\d*|\.\d+)(%?)", r"(F('\1')/(100 if '\2' else 1))", text.replace(",", ""))
    return eval(literal, {"F": Fraction})


def _marks(text):
    return [(m[1], _value(m[2]), _value(m[3])) for m in MARK.finditer(text)]


def _answer(text):
    return _value(text.rsplit("#### ", 1)[1])


def _numbers(text):
    return [Fraction(m.replace(",", "")) for m in DIGITS.findall(text)]


@pytest.fixture(scope="module")
def qa():
    return read_qa("builtin:gsm8k/train")


@pytest.fixture(scope="module", params=KINDS)
def wrong(request, qa):
    rows = build_meta_rows(qa, 0, right_share=0.0, kinds=[request.param], marks=True)
    gold = {row.prompt: row.answer for row in qa}
    return request.param, [(row, gold[row.prompt]) for row in rows]


def test_each_kind_can_be_planted_in_most_real_rows(wrong, qa):
    kind, rows = wrong
    assert len(rows) > 0.6 * len(qa)
    assert {row.error for row, _ in rows} == {kind}


def test_the_final_answer_is_wrong_and_is_the_last_value_worked_out(wrong):
    for row, gold in wrong[1]:
        assert not row.good
        assert row.refinement == gold
        assert _answer(row.response) != _answer(gold)
        assert _answer(row.response) == _marks(row.response)[-1][1]


def test_exactly_one_step_is_wrong_and_every_later_one_follows_from_it(wrong):
    kind, rows = wrong
    for row, gold in rows:
        gold_lines, lines = gold.split("\n")[:-1], row.response.split("\n")[:-1]
        at = row.step - 1
        assert lines[:at] == gold_lines[:at]
        missing = kind == "missing_step"
        assert len(lines) == len(gold_lines) - missing
        became = {}
        for i, gold_line in enumerate(gold_lines[at:], at):
            gold_marks = _marks(gold_line)
            if missing and i == at:
                ((_, old, _),) = gold_marks
                became[old] = None  # learnt from its first use
                continue
            line = lines[i - missing]
            marks = _marks(line)
            assert len(marks) == len(gold_marks)
            for (expr, value, shown), (gold_expr, gold_value, _) in zip(marks, gold_marks, strict=True):
                assert shown == value
                holds = _value(expr) == value
                changed = [(a, b) for a, b in zip(_numbers(expr), _numbers(gold_expr), strict=True) if a != b]
                operators = [DIGITS.sub("", text) for text in (expr, gold_expr)]
                if i == at:
                    assert holds == (kind != "wrong_result")
                    assert len(changed) == (kind == "wrong_operand")
                    assert sum(a != b for a, b in zip(*operators, strict=True)) == (kind == "wrong_operation")
                else:
                    assert holds
                    assert operators[0] == operators[1]
                    for new, old in changed:
                        if became.get(old, 0) is None:
                            became[old] = new
                        assert became[old] == new
                    assert all(
                        became.get(a) in (None, a) for a in _numbers(gold_expr) if a not in dict(changed).values()
                    )
                if value != gold_value:
                    became[gold_value] = value
            if not marks:
                for new, old in zip(_numbers(line), _numbers(gold_line), strict=True):
                    if became.get(old, 0) is None:
                        became[old] = new
                    assert new == became.get(old, old)
        if lines and not _marks(lines[-1]) and _answer(gold) in _numbers(gold_lines[-1]):
            assert _answer(row.response) in _numbers(lines[-1])


def test_the_visible_text_says_what_the_marks_say(wrong):
    for row, gold in wrong[1]:
        for line in set(row.response.split("\n")) - set(gold.split("\n")):
            mark = MARK.search(line)
            if mark is None:
                continue
            before = line[: mark.start()]
            inside = _numbers(mark[1])
            if row.error != "wrong_result" and "=" in before:
                assert _numbers(before)[-len(inside) :] == inside


def test_no_planted_value_is_absurd(wrong):
    for row, gold in wrong[1]:
        assert all(
            value > 0 and (value * 100).denominator == 1
            for _, value, _ in _marks(row.response)
            if value not in [v for _, v, _ in _marks(gold)]
        )
        if _answer(gold).denominator == 1:
            assert _answer(row.response).denominator == 1


def test_feedback_works_out_the_right_value_compares_and_ends_in_the_verdict(wrong):
    for row, gold in wrong[1]:
        text, verdict = row.feedback.rsplit("\n", 1)
        assert verdict == "Verdict: incorrect"
        assert "Verdict" not in text
        for equation in re.findall(r"(?<![\w.])([-(\d.][\d.()+*/ %-]*) = (\d[\d.]*\d|\d)", text):
            true = _value(equation[0]) == _value(equation[1])
            planted = equation[0].replace(" ", "") in row.response.replace(" ", "")
            assert true or planted
        right = [value for _, value, _ in _marks(gold)][-1]
        assert right in _numbers(text)
        assert _answer(row.response) in _numbers(text)
        number = row.step if row.error != "missing_step" else max(row.step - 1, 1)
        assert re.search(rf"\b[Ss]teps? (\d+ and )?{number}\b", text)


def test_right_rows_are_praised_step_by_step(qa):
    rows = build_meta_rows(qa, 0, right_share=1.0)
    assert len({row.feedback for row in rows}) == len(rows)
    for row in rows:
        assert row.good
        assert row.error is None
        assert row.response == row.refinement
        assert row.feedback.endswith("\nVerdict: correct")
        for expr, value in re.findall(r"(?<![\w.])([-(\d.][\d.()+*/ %-]*) = (\d[\d.]*\d|\d)", row.feedback):
            assert _value(expr) == _value(value)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.5, 1.0])
def test_right_rows_have_the_share_that_was_asked_for(qa, share):
    rows = build_meta_rows(qa[:100], 1, right_share=share)
    assert abs(sum(row.good for row in rows) - share * len(rows)) < 1


def test_kinds_take_turns_and_words_vary(qa):
    rows = build_meta_rows(qa, 0, per_row=2)
    assert len({row.id for row in rows}) == len(rows)
    counts = meta_balance(rows).kinds
    assert set(counts) == set(KINDS)
    assert min(counts.values()) > 0.15 * sum(counts.values())
    shapes = Counter(re.sub(r"[\d.,]+", "#", row.feedback) for row in rows)
    assert max(shapes.values()) < 0.02 * len(rows)


def test_same_seed_gives_the_same_rows_and_another_seed_others(qa):
    first = build_meta_rows(qa[:40], 3)
    assert first == build_meta_rows(qa[:40], 3)
    assert first != build_meta_rows(qa[:40], 4)


def test_marks_are_left_out_by_default_and_nothing_else_changes(qa):
    plain, marked = build_meta_rows(qa[:40], 3), build_meta_rows(qa[:40], 3, marks=True)
    for a, b in zip(plain, marked, strict=True):
        assert "<<" not in a.response + a.refinement + a.feedback
        assert a.response == re.sub(r"<<.*?>>", "", b.response)
        assert a.feedback == b.feedback


def test_rows_pass_through_a_file(tmp_path, qa):
    rows = build_meta_rows(qa[:20], 0)
    write_jsonl(tmp_path / "meta.jsonl", rows)
    assert read_meta(tmp_path / "meta.jsonl") == rows


def test_limit_ends_early(qa):
    assert len(build_meta_rows(qa, 0, limit=7)) == 7


def test_rows_without_a_worked_solution_are_an_empty_selection():
    with pytest.raises(EmptySelectionError, match="none of 1 rows"):
        build_meta_rows([QARow("a", "2+2?", "4")], 0)


@pytest.mark.parametrize("wrong_setting", [{"per_row": 0}, {"right_share": 1.2}, {"kinds": ["typo"]}, {"limit": 0}])
def test_a_setting_that_cannot_be_used_is_refused(qa, wrong_setting):
    with pytest.raises(ConfigError):
        build_meta_rows(qa[:2], 0, **wrong_setting)


@pytest.mark.parametrize(
    ("right", "warned"), [(0, True), (24, True), (25, False), (75, False), (76, True), (100, True)]
)
def test_unbalanced_rows_are_warned_of(right, warned):
    rows = [MetaRow(str(i), "p", "r", "f", "h", i < right) for i in range(100)]
    balance = meta_balance(rows)
    assert (balance.right, balance.wrong, balance.right_share) == (right, 100 - right, right / 100)
    assert (balance.warning is not None) == warned
    assert balance.kinds == ({"unknown": 100 - right} if right < 100 else {})


def test_no_rows_are_warned_of():
    assert meta_balance([]).warning

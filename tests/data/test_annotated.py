"""What an annotation says of itself is used where it can be read, and else nothing is known."""

import json

import pytest

from selfevo_jax.data.annotated import Annotated, annotated, format_notice, summary_of
from selfevo_jax.text import FormatSection

FORMAT = {"kind": "plain", "respond": "{prompt}\nA:"}
WHOLE = {"base": {"format": FORMAT}, "counts": {"drawn": 8, "cut": 2}, "response_tokens": 40}


def told_by(folder, summary):
    """What is known of rows that have this summary beside them."""
    rows = folder / "meta.jsonl"
    summary_of(rows).parent.mkdir(exist_ok=True)
    summary_of(rows).write_text(summary if isinstance(summary, str) else json.dumps(summary), encoding="utf-8")
    notice = format_notice(str(rows), FormatSection(kind="plain"))
    return annotated(str(rows)), notice is not None


def test_a_summary_says_how_many_responses_were_drawn_and_cut_and_under_which_format(tmp_path):
    assert told_by(tmp_path, WHOLE) == (Annotated(8, 2, 40, FORMAT), True)
    assert told_by(tmp_path, WHOLE | {"base": None}) == (Annotated(8, 2, 40), False)


@pytest.mark.parametrize(
    "summary",
    [
        "",
        "{half",
        "[" * 100_000,
        [],
        {"counts": {"rows": 3}},
        WHOLE | {"counts": {"drawn": "many", "cut": 2}},
        WHOLE | {"counts": {"drawn": None, "cut": 2}},
        WHOLE | {"response_tokens": "40 or so"},
        WHOLE | {"base": {"format": ["kind"]}},
        WHOLE | {"base": {"format": "plain"}},
        WHOLE | {"base": {"format": {"kind": "plain", "a_later_key": 1}}},
        WHOLE | {"base": {"format": {"respond": 3}}},
    ],
)
def test_of_a_summary_of_another_version_or_of_a_broken_one_nothing_is_known(tmp_path, summary):
    assert told_by(tmp_path, summary) == (None, False)

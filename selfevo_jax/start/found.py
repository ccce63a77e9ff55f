"""What a user's files hold: prompts, gold answers and what grades them, feedback examples and how they judge."""

from __future__ import annotations

import contextlib
import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from selfevo_jax.data import MetaRow, PromptRow, read_meta, read_prompts, read_qa
from selfevo_jax.data.sources import EvaluationRow, numbered_rows
from selfevo_jax.errors import DataError, EmptySelectionError, Faults
from selfevo_jax.judges import JudgeSection, open_judge
from selfevo_jax.progress import counted
from selfevo_jax.scorers import faults_of, open_scorers
from selfevo_jax.scorers.section import EvaluationSection
from selfevo_jax.start.columns import ANSWER, META, PROMPT, Fields
from selfevo_jax.tasks.solutions import build_meta_rows
from selfevo_jax.text import normal

_SHORT = 5
"""Words of a gold answer that is to be met as a whole."""
NUMBER, EXACT, LABEL, OPEN = "number", "exact", "regex", "open_ended"
LOOSE = {"kind": EXACT, "punctuation": False}
"""Takes "Paris." for "Paris", too."""
_MOST_LABELS, _ROWS_OF_A_LABEL = 8, 5
"""Of labels: different ones at most, and for each so many rows at least, on average."""
_SLICES = ("builtin:", "hf:", "tfds:")


@dataclass(frozen=True)
class Found:
    """A file, and what it is to a run."""

    source: str
    columns: Mapping[str, str]
    """Our names of fields -> the file's, where they differ."""
    rows: int
    kind: str
    """Of gold answers the scorer, or OPEN where nothing can grade them; of D_meta the config's key."""
    told: str
    """In words."""
    scorer: Any = None
    """What grades gold answers, as the config names it."""

    def section(self, **more: Any) -> Any:
        """As the config names it."""
        columns = {"columns": dict(self.columns)} if self.columns else {}
        return {"source": self.source, **columns, **more} if columns or more else self.source


@dataclass(frozen=True)
class Meta(Found):
    """D_meta, and its judge."""

    examples: Sequence[MetaRow] = ()
    """None of them where the run makes them."""
    judge: Mapping[str, Any] | None = None


def find_prompts(source: str, given: Mapping[str, str]) -> tuple[Found, list[PromptRow]]:
    """Raises DataError for rows without a prompt."""
    fields = Fields.of(source)
    columns = fields.columns([PROMPT], given)
    with fields.remedy("prompts", [PROMPT], columns):
        rows = read_prompts(source, columns=columns)
    return Found(
        source, columns, len(rows), "prompts", f"{source}: {counted(len(rows), 'prompt')}{_mapped(columns)}"
    ), rows


def find_gold(source: str, given: Mapping[str, str]) -> tuple[Found, list[EvaluationRow]]:
    """What grades the answers to a file's prompts: a scorer that can score every row, or OPEN. Raises DataError for
    rows without a prompt."""
    fields = Fields.of(source)
    columns = fields.columns([PROMPT, ANSWER], given)
    with fields.remedy("evaluation", [PROMPT], columns):
        rows = [row for _, row in numbered_rows(source, EvaluationRow, columns=columns)]
    kind = _grader(rows)
    if kind == OPEN:
        columns = {ours: theirs for ours, theirs in columns.items() if ours == PROMPT}
    scorer: Any = LOOSE if kind == EXACT and not _punctuated(rows) else kind
    labels = _labels(rows) if kind == LABEL else []
    if labels:
        scorer = {"kind": LABEL, "pattern": _the_one_of(labels)}
    graded = "without gold answers: judged by the base" if kind == OPEN else f"with gold answers for '{kind}'"
    graded += ", punctuation apart" if scorer == LOOSE else ""
    graded += f", which looks for {', '.join(labels)}" if labels else ""
    told = f"{source}: {counted(len(rows), 'row')} {graded}{_mapped(columns)}"
    return Found(source, columns, len(rows), kind, told, scorer), rows


def _grader(rows: Sequence[EvaluationRow]) -> str:
    if all("instruction_id_list" in row.columns for row in rows):
        return "constraints"
    if all("choices" in row.columns for row in rows) and _scores("choice", rows):
        return "choice"
    if _scores(NUMBER, rows):
        return NUMBER
    answers = [str(row.columns.get(ANSWER, "")) for row in rows]
    if _scores("choice", rows) and all(len(answer.strip(" ().")) == 1 for answer in answers):
        return "choice"
    short = all(answers) and median(len(answer.split()) for answer in answers) <= _SHORT
    if not short or not _scores(EXACT, rows):
        return OPEN
    return LABEL if _labels(rows) else EXACT


def _labels(rows: Sequence[EvaluationRow]) -> list[str]:
    """The gold answers, where they are a few words that come again and again, as `positive` and `negative`; else none.
    The longest come first: one may begin as another."""
    answers = [row.columns.get(ANSWER) for row in rows]
    found = {normal(one): one for one in answers if isinstance(one, str) and re.fullmatch(r"\s*\w(.*\w)?\s*", one)}
    few = 2 <= len(found) <= _MOST_LABELS and len(found) * _ROWS_OF_A_LABEL <= len(rows)
    every = all(isinstance(one, str) and normal(one) in found for one in answers)
    return sorted(found.values(), key=lambda label: (-len(label), label)) if few and every else []


def _the_one_of(labels: Sequence[str]) -> str:
    """A pattern whose one group is the label that a text names, once or more; it fits no text that names two. Of labels
    that begin alike the longer one comes first."""
    words = "|".join(r"\s+".join(map(re.escape, label.split())) for label in labels)
    one = rf"(?<!\w)(?:{words})(?!\w)"
    return rf"(?is)\A(?:(?!{one}).)*({one})(?:(?<!\w)\1(?!\w)|(?!{one}).)*\Z"


def _punctuated(rows: Sequence[EvaluationRow]) -> bool:
    """Whether a gold answer has punctuation, so that it may count."""
    answers = (row.columns.get(ANSWER) for row in rows)
    golds = (str(one) for found in answers for one in (found if isinstance(found, list) else [found]))
    return any(normal(gold) != normal(gold, punctuation=False) for gold in golds)


def _scores(kind: str, rows: Sequence[EvaluationRow]) -> bool:
    section = EvaluationSection.model_validate({"source": "", "scorers": [kind]})
    (scorer,) = open_scorers(section.scorers, "scorers")
    return not any(fault is not None for fault in faults_of(scorer, rows))


def find_meta(source: str, given: Mapping[str, str], seed: int) -> Meta:
    """D_meta, worked solutions, or word problems with equations. Raises DataError for other rows, with what is missing
    of the first."""
    fields = Fields.of(source)
    columns = fields.columns(META, given)
    if fields.has_somewhere("feedback", columns):
        with fields.remedy("meta", META, columns):
            rows = read_meta(source, columns=columns)
        judge = judge_of(rows)
        read = "ratings" if judge is not None and judge["kind"] == "rating" else "verdicts"
        told = f"{source}: {counted(len(rows), 'row')} of D_meta, with {read}{_mapped(columns)}"
        return Meta(source, columns, len(rows), "meta_skill", told, examples=rows, judge=judge)
    columns = fields.columns([PROMPT, ANSWER], given)
    if fields.has("equation", columns=columns):
        told = f"{source}: word problems with equations: D_meta is made of the base's own answers{_mapped(columns)}"
        return Meta(source, columns, len(fields.rows), "meta_from_equations", told)
    if fields.has(ANSWER, columns=columns):
        with contextlib.suppress(EmptySelectionError):
            made = build_meta_rows(read_qa(source, columns=columns), seed)
            told = f"{source}: worked solutions, of which {len(made):,} rows of D_meta are made{_mapped(columns)}"
            return Meta(source, columns, len(made), "meta_from_solutions", told, examples=made)
    raise DataError(
        source,
        None,
        None,
        "no rows of D_meta (prompt, response, feedback, refinement, good), no worked solutions with <<3*4=12>> marks "
        f"(question, answer), and no word problems with equations; the fields are: {', '.join(fields.names)}. If "
        "they are D_meta, name those that are called otherwise: --column meta.feedback=FIELD",
    )


def judge_of(rows: Sequence[MetaRow]) -> dict[str, Any] | None:
    """The judge that reads in all feedback what the rows say of themselves; None for none of ours: a check names the
    rows."""
    ratings = [open_judge(JudgeSection(kind="rating")).read(row.feedback).rating for row in rows]
    tries: list[dict[str, Any]] = [{"kind": "verdict"}, {"kind": "rating"}]
    good = [rating for row, rating in zip(rows, ratings, strict=True) if row.good and rating is not None]
    if good:
        tries.append({"kind": "rating", "good_rating": min(good)})
    for tree in tries:
        judge = Faults().of(lambda tree=tree: open_judge(JudgeSection(**tree)))  # type: ignore[misc]
        if judge is not None and all(judge.read(row.feedback).good == row.good for row in rows):
            return tree
    return None


def _mapped(columns: Mapping[str, str]) -> str:
    told = ", ".join(f"{ours} from '{theirs}'" for ours, theirs in columns.items())
    return f" ({told})" if told else ""


def named_sets(found: Sequence[Found]) -> dict[str, Found]:
    """Evaluation sets by names of their own."""
    named: dict[str, Found] = {}
    for of in found:
        name = _set_name(of.source)
        free = itertools.chain([name], (f"{name[:56]}-{n}" for n in itertools.count(2)))
        named[next(one for one in free if one not in named)] = of
    return named


def _set_name(source: str) -> str:
    """That of the file, or of the slice of a data set."""
    last = source.rstrip("/").rpartition("/")[2]
    stem = last.rpartition(":")[2] if source.startswith(_SLICES) else Path(last).stem
    plain = re.sub(r"[^A-Za-z0-9_.-]+", "-", stem).strip("-.")[:64]
    return plain or "held_out"

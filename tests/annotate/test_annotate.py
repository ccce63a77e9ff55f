"""The whole command against a server on this machine that is busy, broken and killed under it."""

import json
import re
import time
import zlib
from collections import Counter
from pathlib import Path

import pytest

pytest.importorskip("openai")

from annotate_helpers import KEY, SMALL, annotated, rows_of, sums, teacher, tokens, written
from completions_server import serving
from lock_helpers import owned_by_a_living_process
from quick_processes import start

import selfevo_jax
from selfevo_jax.annotate.files import Files
from selfevo_jax.cli.annotate import _section
from selfevo_jax.data import QARow, read_meta
from selfevo_jax.errors import ConfigError
from selfevo_jax.judges import RatingJudge, VerdictJudge
from selfevo_jax.rounds.meta_stage import check_verdicts
from selfevo_jax.storage.disk import Disk

ROOT = Path(selfevo_jax.__file__).parents[1]


def unlucky(asks: str, n: int) -> str | None:
    """15 % 429, 10 % 500, and hang-ups, halved JSON and slow answers; the third try is answered."""
    draw = zlib.crc32(f"{n} {asks}".encode()) % 100 if n < 3 else 100
    limits = ((15, "429 wait 0.002"), (25, "500"), (29, "hang up"), (33, "half json"))
    return next((fault for limit, fault in limits if draw < limit), None)


BEGINS = """
import sys
from selfevo_jax import cli
from selfevo_jax.judges import asking, endpoint
endpoint.Pace = lambda *a, **k: asking.Pace(*a, **k, first_wait=0.005)
cli.main()
"""


ROWS = 100
"""300 pass as well, and take three times as long."""


def test_all_rows_of_a_bad_server_come_with_a_kill_on_the_way_are_asked_once_and_paid_once(tmp_path):
    prompts, out = sums(tmp_path / "p.jsonl", ROWS, wrong=10), tmp_path / "meta.jsonl"
    asked = tmp_path / "meta.annotate" / "asked.jsonl"
    with serving(unlucky) as server:
        server.says, server.counts = teacher, tokens
        words = ["annotate", prompts, out, "--endpoint", server.url, "--model", "big"]
        words += ["--price-read", "2", "--price-written", "8"]
        process = start(["-c", BEGINS, *words], cwd=ROOT)
        end = time.monotonic() + 60
        while not (asked.exists() and asked.read_bytes().count(b"\n") >= 30):
            assert process.poll() is None
            assert time.monotonic() < end
            time.sleep(0.005)
        process.kill()
        process.wait()
        assert not out.exists()
        kept = [row["id"] for row in map(json.loads, asked.read_bytes().split(b"\n")[:-1])]
        assert 30 <= len(kept) < ROWS
        said = annotated(*words[1:])
        answered, charged = Counter(server.answered), Counter(server.charged)
        # what was on its way when the process was killed is all that was answered twice
        twice = [asks for asks, times in answered.items() if times > 1]
        assert len(twice) <= 16
        assert set(answered.values()) <= {1, 2}
        before = sum(server.asked.values())
        assert f"{ROWS} rows" in annotated(*words[1:])
        assert sum(server.asked.values()) == before
    rows = read_meta(out)
    assert [row.id for row in rows] == [f"r{i}" for i in range(ROWS)]
    check_verdicts(rows, VerdictJudge())
    assert [row.good for row in rows] == [i % 10 != 0 for i in range(ROWS)]
    assert rows[0].refinement == "I add 0 and 1.\nIt is 1."
    assert (rows[0].step, rows[1].step, rows[1].refinement) == (2, None, rows[1].response)
    for asks in twice:
        charged.subtract(dict(zip(("prompt_tokens", "completion_tokens"), tokens(asks, teacher(asks)), strict=True)))
    cost = json.loads((asked.parent / "summary.json").read_text())["cost"]
    assert (cost["answers"], cost["read"], cost["written"]) == (
        ROWS + ROWS // 10,
        *(charged[kind] for kind in sorted(charged)[::-1]),
    )
    assert cost["cost"] == pytest.approx((2 * cost["read"] + 8 * cost["written"]) / 1e6)
    assert f"cost {cost['cost']:.6g} ({cost['read']:,} tokens read" in said
    assert not any(KEY.encode() in file.read_bytes() for file in tmp_path.rglob("*") if file.is_file())


def test_what_cannot_be_read_is_counted_shown_and_kept_apart(tmp_path):
    prompts, out = sums(tmp_path / "p.jsonl", 9), tmp_path / "meta.jsonl"
    bad = {
        1: "It looks fine to me.",
        2: "Step 2: right, fine.\nVerdict: correct",
        4: "Step 1: right.\nStep 2: right.\nStep 3: right.\nVerdict: correct",
        5: "Step 1: right.\nStep 2: wrong.\nVerdict: correct",
        7: "",
    }

    def says(asks: str) -> str:
        number = int(re.search(r"What is (\d+) \+ 1", asks)[1])
        if number == 0 and asks.endswith("Give only the new answer."):
            return re.search(r"\[Answer of the student\]\n(.*)\n\[End of the answer", asks, re.DOTALL)[1]
        return bad.get(number, teacher(asks))

    with serving(lambda asks, n: "400" if "What is 8 +" in asks else None) as server:
        server.says = says
        words = [prompts, out, "--endpoint", server.url, "--model", "big"]
        said = annotated(*words)
        assert [row.id for row in read_meta(out)] == ["r3", "r6"]
        rejected = rows_of(tmp_path / "meta.annotate" / "rejected.jsonl")
        found = {row["id"]: f"{row['stage']}: {row['reason']}" for row in rejected}
        assert found.pop("r8").startswith("feedback: HTTP 400")
        assert found == {
            "r0": "refine: the response again",
            "r1": "feedback: no verdict",
            "r2": "feedback: steps out of order",
            "r4": "feedback: a step that is not there",
            "r5": "feedback: a wrong step, and a good verdict",
            "r7": "feedback: empty",
        }
        assert rejected[1]["text"] == bad[1]
        assert "7 of 9 responses gave no row (1 " in said
        assert said.index("gave no row") < said.index("2 rows")
        assert "1 feedback: no verdict" in said
        # a rejected answer is an answer: it is not asked for again; what was refused is
        before = Counter(server.asked)
        annotated(*words)
        assert [asks for asks in server.asked if server.asked[asks] > before[asks]] == [
            asks for asks in before if "What is 8 +" in asks
        ]


def test_a_second_call_for_a_file_is_refused_before_anything_is_asked(tmp_path):
    other = owned_by_a_living_process(tmp_path / ".meta.jsonl.lock")
    who = "--endpoint", "http://127.0.0.1:9/v1", "--model", "m"
    said = annotated(sums(tmp_path / "p.jsonl", 2), tmp_path / "meta.jsonl", *who, fails=True)
    assert said.startswith(f"{tmp_path / 'meta.jsonl'}: process {other.pid} on ")
    assert "is writing this file" in said
    assert said.endswith("or name another file")


def test_a_kill_behind_the_summary_again_and_again_leaves_an_out_that_is_known(tmp_path, monkeypatch):
    files, write = Files(str(tmp_path / "meta.jsonl")), Disk.write
    files.write([QARow("a", "p", "1")], [], {})
    with monkeypatch.context() as patch:
        patch.setattr(Disk, "write", lambda self, path, content: path == files.out or write(self, path, content))
        for text in "23":  # killed behind the summary
            files.write([QARow("a", "p", text)], [], {})
    files.check(False, {})
    files.write([QARow("a", "p", "4")], [], {})
    files.check(False, {})
    files.out.write_text("mine")
    with pytest.raises(ConfigError, match="was changed since it was written"):
        files.check(False, {})


def test_an_annotation_that_gives_no_row_writes_none(tmp_path):
    prompts, out = sums(tmp_path / "p.jsonl", 3), tmp_path / "meta.jsonl"
    with serving() as server:
        error = annotated(prompts, out, "--endpoint", server.url, "--model", "big", fails=True)
    assert "not written, since nothing gave a row (3 feedback: no verdict)" in error
    assert not out.exists()


def test_no_more_is_spent_than_max_cost_and_a_higher_one_goes_on(tmp_path):
    prompts, out = sums(tmp_path / "p.jsonl", 12), tmp_path / "meta.jsonl"
    with serving() as server:
        server.says, server.counts = teacher, lambda asks, said: (100, 50)
        words = [prompts, out, "--endpoint", server.url, "--model", "big", "--max-tokens", 60]
        words += ["--price-read", 1, "--price-written", 1000, "--concurrency", 4]
        error = annotated(*words, "--max-cost", 0.3, fails=True)
        # an answer costs 0.0501; the sixth could take it past
        assert 4 <= len(server.answered) <= 5
        assert server.charged["completion_tokens"] * 1000 / 1e6 < 0.3
        assert "stopped at --max-cost 0.3: " in error
        assert 0 < len(read_meta(out)) <= 5
        done = annotated(*words, "--max-cost", 10)
        assert "12 rows" in done
        assert len(server.answered) == 16
        assert sum(server.asked.values()) == 16
        server.counts = lambda asks, said: (0, 0)
        error = annotated(*words, "--max-cost", 10, "--temperature", 0.5, "--force", fails=True)
        assert "leave --max-cost out" in error
    assert "max_cost: what tokens cost is not known" in annotated(*words[:6], "--max-cost", 1, fails=True)


def test_a_dry_run_asks_and_writes_nothing(tmp_path):
    prompts, out = sums(tmp_path / "p.jsonl", 6), tmp_path / "meta.jsonl"
    said = annotated(prompts, out, "--model", "big", "--dry-run", "--price-read", 1, "--price-written", 10)
    assert "feedback by big: 6 questions, about" in said
    assert "refine by big: 6 questions, about" in said
    assert "6,144 written at most, cost about 0.0" in said
    assert "[1] I add 0 and 1. [2] It is 2." in said
    assert "no answer is there yet" in said
    said = annotated(prompts, out, "--model", "big", "--dry-run", "--response-model", "small", "--responses", 2)
    assert "--- user What is 0 + 1? Nothing was asked" in said
    assert "response by small: 12 questions" in said
    assert "what it costs is not known; give --price-read and --price-written" in said
    config = tmp_path / "small.yaml"
    config.write_text(SMALL)
    said = annotated(prompts, out, "--model", "big", "--dry-run", "--base", config)
    assert "[1] (a text that is not there yet) [End of the answer]" in said
    assert "for those of 8 tokens, the longest" in said
    config.unlink()
    assert [path.name for path in tmp_path.iterdir()] == ["p.jsonl"]


def test_aspects_give_ratings_that_a_run_reads_as_they_are(tmp_path):
    prompts, out = sums(tmp_path / "p.jsonl", 3), tmp_path / "meta.jsonl"
    best = "Instruction following: 5. Yes.\nHonesty: N/A.\nTruthfulness: 5\nHelpfulness: **5**/5 - all.\nAdvice: none."
    poor = best.replace("Helpfulness: **5**/5", "Helpfulness: 2").replace("Truthfulness: 5", "Truthfulness: 3 - 4")

    def says(asks: str) -> str:
        if asks.endswith("Give only the new answer."):
            return "Better."
        number = int(re.search(r"What is (\d+)", asks)[1])
        return (best, best.replace("Helpfulness: **5**/5", "Helpfulness: 3"), poor)[number]

    with serving() as server:
        server.says = says
        said = annotated(prompts, out, "--endpoint", server.url, "--model", "big", "--aspects", "all")
    rows = read_meta(out)
    check_verdicts(rows, RatingJudge(5, 5))
    assert [(row.good, row.feedback.splitlines()[-1], row.refinement) for row in rows] == [
        (True, "Rating: 5/5", rows[0].response),
        (False, "Rating: 4.33/5", "Better."),
    ]
    assert rows[0].feedback.splitlines()[1] == "Honesty: not applicable."
    assert "judge: {kind: rating, good_rating: 5, scale: 5}" in said
    assert "1 feedback: no mark from 1 to 5 for truthfulness" in said


def test_a_changed_row_is_asked_again_and_a_higher_limit_asks_only_for_what_was_cut(tmp_path):
    prompts, out = sums(tmp_path / "p.jsonl", 6), tmp_path / "meta.jsonl"
    with serving(lambda asks, n: "clipped" if "What is 5" in asks and n == 1 else None) as server:
        server.says = teacher
        words = [prompts, out, "--endpoint", server.url, "--model", "big"]
        assert "5 rows" in annotated(*words, "--max-tokens", 64)
        assert sum(server.asked.values()) == 8
        assert "6 rows" in annotated(*words, "--max-tokens", 128)
        assert sum(server.asked.values()) == 9
        rows = rows_of(prompts)
        rows[4]["response"] = "It is 5.\nI am sure."
        written(prompts, rows)
        annotated(*words)
        assert sum(server.asked.values()) == 10
        content = out.read_bytes()
        for others, said in (
            ([*words[:-1], "bigger"], 'endpoint.model was "big", is "bigger"'),
            ([*words, "--temperature", 0.7], "endpoint.temperature was 0.0, is 0.7"),
            ([*words, "--form", "rating"], 'form was null, is "rating"'),
            ([*words, "--limit", 3], "limit was null, is 3"),
            ([*words, "--column", "prompt=prompt"], 'columns was {}, is {"prompt": "prompt"}'),
        ):
            assert f"exists, and was made otherwise ({said})" in annotated(*others, fails=True)
        assert out.read_bytes() == content
        annotated(*words[:-1], "bigger", "--force")
        assert sum(server.asked.values()) == 18
        annotated(*words, "--force")
        assert sum(server.asked.values()) == 18
        out.write_text("{}\n")
        assert "was changed since it was written" in annotated(*words, fails=True)
        annotated(*words, "--force")
        assert len(read_meta(out)) == 6
        (tmp_path / "meta.annotate" / "summary.json").write_text("{half")
        assert "summary.json: not what selfevo writes there" in annotated(*words[:-1], "a third", fails=True)
        assert sum(server.asked.values()) == 18


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "who is to be asked? --endpoint URL is missing"),
        (["--endpoint", "http://h/v1"], "--model NAME is missing"),
        (["--endpoint", "h", "--model", "m"], "endpoint.url: found 'h', expected a URL such as https://HOST/v1"),
        (["--endpoint", "https://u:p@h/v1", "--model", "m"], "a URL with credentials in it"),
        (
            ["--endpoint", "http://h/v1", "--model", "m", "--aspects", "beauty"],
            'found "beauty", expected all, or some of',
        ),
        (["--endpoint", "http://h/v1", "--model", "m", "--good-rating", "3"], "a verdict is no rating"),
        (
            ["--endpoint", "http://h/v1", "--model", "m", "--form", "stars"],
            'found "stars", expected verdict or rating',
        ),
        (
            ["--endpoint", "http://h/v1", "--model", "m", "--limit", 0],
            "limit: found 0, expected a whole number above",
        ),
        (["--endpoint", "http://h/v1", "--model", "m", "--column", "x"], "expected NAME=FIELD"),
        (["--endpoint", "http://h/v1", "--model", "m"], "no row has a 'response'; name who gives the responses"),
        (
            ["--endpoint", "http://h/v1", "--model", "m", "--reference", "--response-model", "s"],
            "p.jsonl:1, field 'answer': is missing",
        ),
    ],
)
def test_a_mistake_is_one_clear_line(tmp_path, words, message):
    prompts = written(tmp_path / "p.jsonl", [{"prompt": "Why?"}])
    assert message in annotated(prompts, tmp_path / "meta.jsonl", *words, fails=True)


def test_settings_come_from_a_file_and_flags_go_before_it(tmp_path):
    prompts, settings = sums(tmp_path / "p.jsonl", 2), tmp_path / "annotate.yaml"
    settings.write_text(
        "endpoint: {model: big, max_tokens: 77}\nprice: {read: 1, written: 2}\nsteps: false\n"
        "templates: {system: Be brief., feedback: 'Q {prompt} A {response} ok?'}\n"
    )
    requests = tmp_path / "ask.jsonl"
    words = [prompts, tmp_path / "meta.jsonl", "--settings", settings, "--write-requests", requests]
    annotated(*words, "--temperature", 0.5)
    body = rows_of(requests)[0]["body"]
    assert body == {
        "model": "big",
        "max_tokens": 77,
        "temperature": 0.5,
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Q What is 0 + 1? A I add 0 and 1.\nIt is 2. ok?"},
        ],
    }
    settings.write_text("endpoint: {model: big}\ntemplates: {feedback: 'Q {prompt}'}\n")
    assert "templates.feedback: found no {response} in it, expected one" in annotated(*words, "--force", fails=True)
    for text, said in (
        ("endpoint: {model: big}\nbudget: 3", "unknown key 'budget'; `selfevo keys annotate` lists all"),
        ("endpoint: {model: big}\naspects: 5", "aspects: found 5, expected all, or some of instruction_following"),
        ("endpoint: {model: big}\naspects: [5]", "aspects: found 5, expected all, or some of"),
        ("endpoint: {model: yes}", "endpoint.model: found true, expected a text"),
        ("endpoint: [big]", 'endpoint: found ["big"], expected a section with keys such as url, model'),
        ("endpoint: {model: big}\ncolumns: {prompt: 3}", "columns.prompt: found 3, expected a section of names"),
        ("endpoint: {model: big}\nprice: {read: -1, written: .nan}", "price.read: found -1, expected a number from 0"),
    ):
        settings.write_text(f"{text}\n")
        assert said in annotated(*words, fails=True)
    settings.write_text("endpoint: {model: big}\ncolumns: {prompt: problem, response: draft}\n")
    columns = _section(settings, {"columns": {"response": "output"}}, offline=True).columns
    assert columns == {"prompt": "problem", "response": "output"}


def test_again_asks_for_what_cannot_be_used_and_for_nothing_else_and_all_askings_are_paid_for(tmp_path):
    prompts, out = sums(tmp_path / "p.jsonl", 6), tmp_path / "meta.jsonl"
    asked = tmp_path / "meta.annotate" / "asked.jsonl"
    with serving() as server:
        server.counts = lambda asks, said: (10, 10)
        words = [prompts, out, "--endpoint", server.url, "--model", "big"]
        error = annotated(*words, fails=True)
        assert error.endswith("rejected.jsonl; --again asks once more for the 6 answers that cannot be used")
        server.says = lambda asks: "Fine." if "What is 1 +" in asks else teacher(asks)
        for more in ([], ["--force"]):
            assert "nothing gave a row" in annotated(*words, *more, fails=True)
        assert sum(server.asked.values()) == 6
        assert "feedback by big: 6 questions" in annotated(*words, "--again", "--dry-run")
        said = annotated(*words, "--again")
        assert "5 rows" in said
        assert "--again asks once more for the 1 answers that cannot be used" in said
        assert sum(server.asked.values()) == 6 + 6 + 2  # two refinements
        # a kill leaves the answers so far: those that can be used stay
        lines = asked.read_bytes().splitlines(keepends=True)
        asked.write_bytes(b"".join(lines[:9]) + lines[9][:40])
        lost, there = len(lines) - 9, Counter(server.asked)
        assert "5 rows" in annotated(*words, "--again")
        assert lost <= sum(server.asked.values()) - there.total() <= lost + 1
        server.says = teacher
        before = Counter(server.asked)
        said = annotated(*words, "--again")
        assert "6 rows" in said
        assert "refine by big: nothing was asked now, since all 2 answers are there" in said
        assert all("What is 1 +" in asks for asks in server.asked if server.asked[asks] > before[asks])
        content, before = out.read_bytes(), Counter(server.asked)
        for more in ([], ["--again"]):
            said = annotated(*words, *more)
            assert "feedback by big: nothing was asked now" in said
        assert (out.read_bytes(), server.asked) == (content, before)
    cost = json.loads((asked.parent / "summary.json").read_text())["cost"]
    ids = [row["id"] for row in rows_of(asked)]
    assert cost["answers"] == len(set(ids)) == len(ids)
    assert cost["read"] == 10 * len(ids)


def test_a_file_that_is_read_is_never_written_over(tmp_path):
    prompts, link = sums(tmp_path / "p.jsonl", 2), tmp_path / "link.jsonl"
    link.symlink_to(prompts)
    content = prompts.read_bytes()
    for out in (prompts, link, f"{tmp_path}/./p.jsonl"):
        error = annotated(prompts, out, "--endpoint", "http://127.0.0.1:9/v1", "--model", "m", "--force", fails=True)
        assert f"is {prompts} itself, which is read and would be lost; name another file" in error
    words = [prompts, tmp_path / "meta.jsonl", "--model", "m", "--force", "--write-requests"]
    assert "itself, which is read" in annotated(*words, link, fails=True)
    assert prompts.read_bytes() == content

"""Where responses come from: batch files, a model at the server, a base that is sampled here; and D_QA."""

import re

import pytest

pytest.importorskip("openai")

from annotate_helpers import SMALL, annotated, answers_to, rows_of, sums, teacher, written
from completions_server import serving

from selfevo_jax.data import read_meta, read_qa
from selfevo_jax.data.annotated import Annotated
from selfevo_jax.data.annotated import annotated as beside
from selfevo_jax.rounds import generate


def test_batch_files_are_written_and_read_pass_by_pass_and_give_what_asking_gives(tmp_path):
    prompts, out = sums(tmp_path / "p.jsonl", 6), tmp_path / "meta.jsonl"
    first, second, third = (tmp_path / f"ask{n}.jsonl" for n in range(3))
    assert "6 requests" in annotated(prompts, out, "--model", "big", "--write-requests", first)
    results = answers_to(first, tmp_path / "said.jsonl", skip=1)
    words = [prompts, out, "--model", "big", "--read-results", results]
    said = annotated(*words, "--write-requests", second)
    assert "5 answers read, 0 were there already" in said
    assert "1 lines" in said
    assert "1 HTTP 400: too odd" in said
    # the one that failed, and two refinements
    assert [row["custom_id"].partition("-")[0] for row in rows_of(second)] == ["feedback", "refine", "refine"]
    assert not out.exists()
    words[-1] = answers_to(second, tmp_path / "said2.jsonl")
    assert "6 rows" in annotated(*words, "--write-requests", third)
    assert not third.exists()
    with serving() as server:
        server.says = teacher
        annotated(prompts, tmp_path / "live.jsonl", "--endpoint", server.url, "--model", "big")
    assert (tmp_path / "live.jsonl").read_bytes() == out.read_bytes()
    error = annotated(prompts, out, "--model", "big", "--read-results", prompts, fails=True)
    assert "custom_id': found null, expected text" in error
    assert "--max-cost: a batch is asked by its server" in annotated(
        *[prompts, out, "--model", "big", "--write-requests", third, "--max-cost", 1],
        *["--price-read", 1, "--price-written", 1],
        fails=True,
    )


def test_responses_come_from_a_model_at_the_server_and_copies_are_asked_about_once(tmp_path):
    prompts = written(
        tmp_path / "p.jsonl", [{"id": "a", "prompt": "What is 1 + 1?"}, {"id": "b", "prompt": "What is 2 + 1?"}]
    )
    out = tmp_path / "meta.jsonl"

    def says(asks: str) -> str:
        return "I add.\nIt is 2." if re.fullmatch(r"What is \d \+ 1\?", asks) else teacher(asks)

    with serving() as server:
        server.says, server.models = says, ["small"]
        said = annotated(
            *[prompts, out, "--endpoint", server.url, "--model", "big", "--response-model", "small"],
            *["--responses", 2],
        )
        asked = dict(server.asked)
    notice = "lists no model 'big', but small; the responses come first, and then it is asked"
    assert said.index(notice) < said.index("response by small") < said.index("feedback by big")
    assert [(row.id, row.response, row.good) for row in read_meta(out)] == [
        ("a-0", "I add.\nIt is 2.", True),
        ("b-0", "I add.\nIt is 2.", False),
    ]
    assert "2 copies were left out" in said
    assert asked["What is 1 + 1?"] == 2  # samples are questions of their own
    assert sum(asked.values()) == 4 + 2 + 1


def test_cut_responses_are_said_before_feedback_is_paid_for_and_noted_for_those_who_use_the_rows(tmp_path):
    prompts = written(tmp_path / "p.jsonl", [{"id": str(n), "prompt": f"What is {n} + 1?"} for n in range(4)])
    out = tmp_path / "meta.jsonl"

    def says(asks: str) -> str:
        return "I add.\nIt is 1." if re.fullmatch(r"What is \d \+ 1\?", asks) else teacher(asks)

    with serving(lambda asks, n: "clipped" if re.fullmatch(r"What is [123] \+ 1\?", asks) else None) as server:
        server.says = says
        words = [prompts, out, "--endpoint", server.url, "--model", "big", "--response-model", "small"]
        said = annotated(*words, "--response-tokens", 40)
    first, last = (
        "3 of 4 responses were cut at 40 tokens and give no row",
        "3 of 4 responses gave no row (3 response: cut",
    )
    assert said.index(first) < said.index("feedback by big") < said.index(last) < said.index("1 row")
    assert (
        "This call goes on: feedback is asked for on the 1 others all the same. To have the longer ones first" in said
    )
    assert "raise --response-tokens (now 40), so that not only short responses stay; see" in said
    assert beside(str(out)) == Annotated(drawn=4, cut=3, limit=40)
    cut = rows_of(tmp_path / "meta.annotate" / "rejected.jsonl")
    assert [(one["reason"], one["text"]) for one in cut] == [("cut at the limit", "I add.\nIt is 1.")] * 3
    assert beside(str(prompts)) is None


def test_batch_files_may_be_in_a_bucket(tmp_path):
    prompts, out = sums(tmp_path / "p.jsonl", 2), tmp_path / "meta.jsonl"
    for option in ("--write-requests", "--read-results"):
        error = annotated(prompts, out, "--model", "big", option, "s3://bucket/ask.jsonl", fails=True)
        assert error.startswith("s3://bucket/ask.jsonl: expected a folder of this machine or gs://BUCKET/NAME")


def test_a_base_is_sampled_here_and_no_response_twice(tmp_path, monkeypatch, quick_compiles):
    rows = [{"id": n, "prompt": f"{n} has 7 shells. Then {n} finds 5. How many now?"} for n in ("Mia", "Tom")]
    prompts, out, config = written(tmp_path / "p.jsonl", rows), tmp_path / "meta.jsonl", tmp_path / "small.yaml"
    config.write_text(SMALL)
    with serving() as server:
        server.says = lambda asks: "13." if asks.endswith("new answer.") else "Step 1: wrong.\nVerdict: incorrect"
        words = [prompts, out, "--endpoint", server.url, "--model", "big", "--base", config, "--responses", 3]
        server.models = ["other"]
        said = annotated(*words)
        assert said.index("lists no model 'big', but other; the responses come first") < said.index("chains in")
        found, content = read_meta(out), out.read_bytes()
        assert {row.prompt for row in found} <= {row["prompt"] for row in rows}
        assert all(row.response.strip() == row.response != row.refinement == "13." for row in found)
        assert len(rows_of(tmp_path / "meta.annotate" / "sampled.jsonl.unfinished")) == 6
        assert len({row.id for row in found}) == len(found) > 1
        noted = beside(str(out))
        assert (noted.drawn, noted.limit, noted.format["respond"]) == (6, 8, "{prompt}\nAnswer:")
        config.write_text(SMALL.replace("0.8", "0.7"))
        assert "made otherwise (base.respond.temperature was 0.8, is 0.7)" in annotated(*words, fails=True)
        config.write_text(SMALL)

        def opened(_: object) -> None:
            raise AssertionError("sampled again")

        monkeypatch.setattr(generate, "open_workbench", opened)
        annotated(*words)
        assert out.read_bytes() == content
        assert set(server.asked.values()) == {1}


def test_d_qa_is_the_annotator_s_own_answers(tmp_path):
    prompts, out = sums(tmp_path / "p.jsonl", 3), tmp_path / "qa.jsonl"
    with serving(lambda asks, n: "clipped" if "2 + 1" in asks else None) as server:
        server.says = lambda asks: f"To {asks}: so and so."
        said = annotated(prompts, out, "--endpoint", server.url, "--model", "big", "--kind", "qa")
        assert [row.answer for row in read_qa(out)] == [f"To What is {i} + 1?: so and so." for i in range(2)]
        assert "1 answer: cut at the limit" in said
        written(prompts, [row | {"id": f"{row['id']}-{n}"} for n in range(3) for row in rows_of(prompts)[:2]])
        said = annotated(prompts, out, "--endpoint", server.url, "--model", "big", "--kind", "qa", "--force")
    assert [row.id for row in read_qa(out)] == ["r0-0", "r1-0"]
    assert "prompts that came before, and were left out: 4" in said


def test_again_with_batch_files_asks_and_takes_the_second_answers(tmp_path):
    prompts, out = sums(tmp_path / "p.jsonl", 3, wrong=9), tmp_path / "meta.jsonl"
    with serving() as server:
        annotated(prompts, out, "--endpoint", server.url, "--model", "big", fails=True)
    asks = tmp_path / "ask.jsonl"
    words = [prompts, out, "--model", "big", "--again", "--write-requests", asks]
    assert "3 requests" in annotated(*words)
    said = answers_to(asks, tmp_path / "said.jsonl")
    last = tmp_path / "ask2.jsonl"
    annotated(*words[:-1], last, "--read-results", said)
    asks.unlink()
    said = answers_to(last, tmp_path / "said2.jsonl")
    assert "3 rows" in annotated(prompts, out, "--model", "big", "--read-results", said)

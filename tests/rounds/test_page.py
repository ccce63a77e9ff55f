import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from loop_helpers import Heard
from typer.testing import CliRunner

from selfevo_jax.cli import app
from selfevo_jax.errors import ConfigError
from selfevo_jax.report import Limits, chains_of, summarize, write_page
from selfevo_jax.report.page import document, payload, writing
from selfevo_jax.run import RunDir, verify

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
runner = CliRunner()


def test_the_chains_of_a_round_have_the_grades_that_its_figures_are_of(finished: Path) -> None:
    run = RunDir(finished)
    for record in summarize(run).rounds:
        entries, told = list(chains_of(run, record["round"])), record["data_accuracy"]
        assert len(entries) == record["counts"]["sampled"]
        assert sum(entry.right[0] is True for entry in entries) / len(entries) == told["first"]["share"]
        assert sum(entry.right[1] is True for entry in entries) / len(entries) == told["candidates"]["share"]
        kept = [entry for entry in entries if entry.kept]
        assert (len(kept), sum(entry.right[1] is True for entry in kept) / len(kept)) == (
            told["kept"]["n"],
            told["kept"]["share"],
        )
        good = [entry for entry in entries if entry.verdict.startswith("good")]
        assert len(good) == told["verdict"]["precision"]["n"]
        assert sum(entry.verdict == "not read" for entry in entries) == told["verdict"]["unparseable"]
        assert all(entry.gold for entry in entries)


def test_a_page_shows_the_summary_of_the_run_and_says_what_part_of_its_chains_it_holds(finished: Path) -> None:
    run = RunDir(finished)
    figures, chains = payload([run], Limits(chains=5, rows=4))
    (told,) = figures["runs"]
    assert told["summary"] == json.loads(json.dumps(summarize(run).to_dict()))
    for record, group in zip(told["summary"]["rounds"], figures["groups"], strict=False):
        verdict, tally = record["data_accuracy"]["verdict"], group["tally"]
        assert tally["verdicts"].get("not read", 0) == verdict["unparseable"]
        assert tally["read"] == verdict["accuracy"]["n"]
        assert tally["judged_good"] == verdict["precision"]["n"] >= record["counts"]["judged_good"]
    groups = {(of["at"], of["set"]): (of["shown"], of["of"]) for of in figures["groups"]}
    assert groups == {("round 1", None): (5, 16), ("round 2", None): (5, 16), (None, "stories"): (4, 16)}
    assert len(chains) == 5 + 5 + 4 * 4  # base, meta and two rounds
    assert [of["checkpoint"] for of in told["losses"]] == ["meta", "round 1", "round 2"]
    assert next(of["phase"] for of in told["phases"] if of.get("trained")) == "fine-tuning, meta"
    assert {of["key"]: of.get("default") for of in told["config"] if of.get("own")}["rounds.select"] == "feedback"


def test_several_runs_come_side_by_side_with_the_same_rows_of_each(finished: Path, tmp_path: Path) -> None:
    other = shutil.copytree(finished, tmp_path / "other")
    evaluation = other / "evaluations/0002.json"
    record = json.loads(evaluation.read_text())
    right = record["stories"]["right"]["direct"]
    changed = sorted(right)[:2]
    right |= {id: not right[id] for id in changed}
    evaluation.write_text(json.dumps(record))
    figures, chains = payload([RunDir(finished), RunDir(other)], Limits(chains=0, rows=4))
    (difference,) = figures["differences"]
    assert (difference["checkpoint"], difference["gained"] + difference["lost"]) == ("round 2", 2)
    shown = [{of["id"] for of in chains if of["run"] == n} for n in (0, 1)]
    assert shown[0] == shown[1] > set(changed)
    assert figures["comparison"]["baseline"] == "run"


def test_a_page_that_cannot_be_written_is_a_warning(finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    heard = Heard()
    monkeypatch.setattr(writing, "page_of", lambda runs: 1 / 0)
    assert not write_page(RunDir(finished), heard)
    (said,) = heard.lines
    assert "report.html: not written (ZeroDivisionError" in said


def test_a_run_with_its_page_is_verified_and_joined_as_one_without(finished: Path, tmp_path: Path) -> None:
    root = shutil.copytree(finished, tmp_path / "run")
    run, heard = RunDir(root), Heard()
    prints = json.loads((root / "fingerprints.json").read_text())
    run.open(run.read_config(), {key: value for key, value in prints.items() if key != "config"})
    assert write_page(run, heard)
    run.close()
    assert heard.lines == []
    assert (verify(run).faults, verify(run).absent) == ([], [])
    (root / "report.html").rename(tmp_path / "shown.html")
    there = verify(run)
    assert (there.faults, there.absent) == ([], ["report.html"])
    done = runner.invoke(app, ["verify", str(root)])
    assert "Not here, and nothing rests on it: report.html" in done.output
    run.open(run.read_config(), {key: value for key, value in prints.items() if key != "config"})
    assert run.take_notes() == []
    run.close()
    assert verify(run).absent == []


def test_commands_write_a_page_and_show_chains(finished: Path, tmp_path: Path) -> None:
    out = tmp_path / "run.html"
    done = runner.invoke(app, ["report", str(finished), "--html", str(out)])
    assert done.exit_code == 0, done.output
    assert re.search(r"run\.html: a page, \d+ KB", done.output.replace("\n", ""))
    assert out.stat().st_size < 150_000
    again = runner.invoke(app, ["report", str(finished), "--html", str(out)])
    assert isinstance(again.exception, ConfigError)
    own = runner.invoke(app, ["report", str(finished), "--html", str(finished / "costs.jsonl"), "--force"])
    assert "a record of the run itself" in str(own.exception)
    inner = next(file for file in sorted((finished / "checkpoints").rglob("*")) if file.is_file())
    own = runner.invoke(app, ["report", str(finished), "--html", str(inner), "--force"])
    assert "a file of the run itself, and no page" in str(own.exception)
    several = runner.invoke(app, ["report", str(finished), str(tmp_path)])
    assert "selfevo compare" in str(several.exception)

    def shown(*options: str) -> list[dict]:
        done = runner.invoke(app, ["show", str(finished), "--json", "--limit", "0", *options])
        assert done.exit_code == 0, done.output
        return json.loads(done.output)

    entries = list(chains_of(RunDir(finished), 2))
    wrong = [entry.rollout.id for entry in entries if entry.right[1] is False]
    assert [of["id"] for of in shown("--round", "2", "--wrong")] == wrong
    (at,) = {of["at"] for of in shown("--set", "stories", "--round", "1")}
    row = shown("--set", "stories")[0]["id"]
    assert at == "round 1"
    assert [of["at"] for of in shown("--set", "stories", "--prompt", row)] == ["base", "meta", "round 1", "round 2"]
    told = runner.invoke(app, ["show", str(finished), "--round", "2", "--limit", "1"]).output
    assert f"[round 2, {entries[0].rollout.id}: {entries[0].kind}" in told
    assert "16 of 16 chains, the first 1 are shown (--limit)" in told
    refused = runner.invoke(app, ["show", str(finished), "--round", "9"])
    assert "no finished chains of round 9; 2 rounds finished" in str(refused.exception)


EVIL = "</script><script>document.title='run'</script><img src=x onerror=\"document.title='run'\">needle"
LONG = "needle" * 30
"""A name or a word without a place to break it."""
MEASURED = """
new MutationObserver(() => setTimeout(() => {
  for (const folded of document.querySelectorAll("details")) folded.open = true;
  const page = document.documentElement;
  page.dataset.sideways = page.scrollWidth - page.clientWidth;
}, 500)).observe(document.documentElement, { attributeFilter: ["data-ready"] });
"""
"""Notes, of a page that is whole, by how many pixels it scrolls sideways."""


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here")
@pytest.mark.slow
def test_a_browser_without_a_network_shows_the_page_filters_its_chains_and_runs_nothing_that_a_model_wrote(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    figures, chains = json.loads(json.dumps(payload([RunDir(finished)])).replace("stories", LONG))
    figures["runs"].append({**figures["runs"][0], "name": LONG, "said": [LONG]})
    answer = {**chains[0]["answers"][0], "text": f"javascript:{EVIL}"}
    evil = {**chains[0], "run": 1, "id": LONG, "prompt": EVIL + LONG, "gold": LONG, "answers": [answer]}
    made = sys.modules[document.__module__]
    script = made._script()
    monkeypatch.setattr(made, "_script", lambda: script + MEASURED)
    page = tmp_path / "page.html"
    page.write_bytes(document("before", [f"A sentence of {LONG}."], figures, [*chains, evil]))
    flags = "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"
    flags += " --disable-component-update --disable-sync --enable-logging=stderr --dump-dom --virtual-time-budget=3000"
    flags += " --window-size=400,800"
    offline = "--host-resolver-rules=MAP * ~NOTFOUND"
    command = [str(CHROMIUM), *flags.split(), offline, f"--user-data-dir={tmp_path}/profile"]
    done = subprocess.run([*command, f"{page.as_uri()}#set=*&q=onerror"], capture_output=True, text=True, timeout=120)
    assert 'data-ready="true"' in done.stdout
    assert 'data-sideways="0"' in done.stdout
    assert f"1 of the {len(chains) + 1} chains in this page" in done.stdout
    assert done.stdout.count('<article class="chain">') == 1
    assert "<title>before</title>" in done.stdout
    assert "<img" not in done.stdout.replace("&lt;img", "")
    assert "CONSOLE" not in done.stderr
    for title in (
        "Accuracy",
        "Flips",
        "What the rounds kept",
        "Verdicts",
        "Kept data",
        "Losses",
        "Where the time went",
    ):
        assert f">{title}</h2>" in done.stdout
    assert '<path class="line" d="M' in done.stdout

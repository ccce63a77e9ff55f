import base64
import hashlib
import json
import re
import shutil
import subprocess
import zlib
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from selfevo_jax.chains import Candidate, Feedback, Rollout
from selfevo_jax.judges import Assessment
from selfevo_jax.report import KINDS, VERDICTS, Entry, Wanted
from selfevo_jax.report import page as room
from selfevo_jax.report.page.document import _SCRIPTS, document
from selfevo_jax.report.page.embedded import Group, _fill, chosen_chains, chosen_rows, is_notable
from selfevo_jax.report.page.payload import names_of
from selfevo_jax.report.page.tally import Tally

ASSETS = Path(room.__file__).parent


class Read(HTMLParser):
    """The tags of a page, and the texts of its blocks by their tag and id, as a browser takes them apart."""

    def __init__(self, page: bytes) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.blocks: dict[str, str] = {}
        self._in = ""
        self.feed(page.decode("ascii", "strict") if page.isascii() else page.decode())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._in = dict(attrs).get("id") or tag

    def handle_endtag(self, tag: str) -> None:
        self._in = ""

    def handle_data(self, data: str) -> None:
        if self._in:
            self.blocks[self._in] = self.blocks.get(self._in, "") + data


EVIL = "</script><script>alert(1)</script><img src=x onerror=alert(2)> <!-- @@script@@ \u2028 & \ud800 ' \" ]]>"


def digest(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def test_what_a_model_wrote_is_data_wherever_it_stands() -> None:
    plain = EVIL.replace("\ud800", "")  # a title is a name of a folder
    page = document(plain, [plain], {"text": EVIL}, [{"prompt": EVIL}])
    read, empty = Read(page), Read(document("", [""], {}, []))
    assert [tag for tag, _ in read.tags] == [tag for tag, _ in empty.tags]
    assert json.loads(read.blocks["figures"]) == {"text": EVIL}
    assert json.loads(zlib.decompress(base64.b64decode(read.blocks["chains-data"]))) == [{"prompt": EVIL}]
    assert read.blocks["title"] == read.blocks["h1"] == plain


def test_the_policy_lets_the_one_script_and_the_one_style_of_the_page_run_and_nothing_be_loaded() -> None:
    read = Read(document("run", [], {"x": EVIL}, []))
    (policy,) = [of["content"] for tag, of in read.tags if of.get("http-equiv") == "Content-Security-Policy"]
    assert policy is not None
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["default-src"] == "'none'"
    assert rules["script-src"] == digest(read.blocks["script"])
    assert rules["style-src"] == digest(read.blocks["style"])
    assert all(of.get("src") is None and not str(of.get("href", "#")).startswith("http") for _, of in read.tags)


def test_the_script_puts_no_text_on_the_page_as_markup_and_asks_no_network() -> None:
    files = {file.stem: file.read_text() for file in (ASSETS / "js").glob("*.js")}
    assert set(files) == set(_SCRIPTS)
    forbidden = (
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|Function\(|fetch\(|XMLHttpRequest|import\("
    )
    for name, text in files.items():
        assert not re.search(forbidden, text), name
    assert not re.search(r"url\(|@import|https?:", (ASSETS / "page.css").read_text())


def test_equal_figures_give_an_equal_page_and_a_number_that_is_not_finite_is_refused() -> None:
    assert document("a", ["b"], {"c": 1.5}, [1]) == document("a", ["b"], {"c": 1.5}, [1])
    with pytest.raises(ValueError, match="not JSON compliant"):
        document("a", [], {"c": float("nan")}, [])


def rollout(id: str, texts: int = 1, chosen: int = 0, good: bool | None = True, finish: str = "stop") -> Rollout:
    said = Feedback("so: fine", "stop", good, None)
    return Rollout(id, 0, f"prompt {id}", tuple(Candidate(f"t{n}", finish, (1,), said) for n in range(texts)), chosen)


@pytest.mark.parametrize(
    ("right", "texts", "good", "kind", "verdict"),
    [
        ((True, True), 1, True, "left right", "good and right"),
        ((False, False), 1, True, "left wrong", "good but wrong"),
        ((False, True), 2, True, "put right", "good and right"),
        ((True, False), 2, False, "spoilt", "bad and wrong"),
        ((True, True), 2, False, "still right", "bad but right"),
        ((False, False), 2, None, "still wrong", "not read"),
        ((None, True), 2, True, "not scored", "good and right"),
        ((True, None), 2, True, "not scored", "no grade"),
    ],
)
def test_what_became_of_a_chain_and_its_verdict_beside_gold(right, texts, good, kind, verdict) -> None:
    entry = Entry("round 1", None, rollout("a", texts, texts - 1, good), "9", right)
    assert (entry.kind, entry.verdict) == (kind, verdict)
    assert kind in KINDS
    assert verdict in VERDICTS


def test_the_verdicts_of_a_round_are_counted_from_its_chains_as_they_are_found_in_them() -> None:
    bad_then_unread = Rollout(
        "b",
        0,
        "p",
        tuple(Candidate("t", "stop", (1,), Feedback("f", "stop", good, None)) for good in (False, None)),
        0,
    )
    failed = replace(rollout("f", good=None), error="too long")
    silent = replace(rollout("s"), candidates=())  # as a chain from outside may end
    chains = [rollout("a"), rollout("c", finish="length"), rollout("u", good=None), bad_then_unread, failed, silent]
    entries = [Entry("round 1", None, one, "9", (True, True)) for one in chains]
    tally = Tally()
    assert list(tally.of(entries)) == entries
    told = tally.to_dict()
    assert (told["read"], told["judged_good"]) == (3, 2)  # a later feedback that is not read takes no verdict back
    assert told["verdicts"] == {"good and right": 2, "not read": 1, "bad but right": 1, "not judged": 1}
    assert told["verdicts"] == {
        verdict: sum(
            Wanted(verdicts=frozenset({verdict})).has(entry) for entry in entries if entry.rollout is not failed
        )
        for verdict in told["verdicts"]
    }


def test_of_an_evaluation_the_verdict_is_on_the_first_answer_and_a_batch_judge_decides_where_there_is_one() -> None:
    two = rollout("a", 2, 1, False)
    assert Entry("meta", "s", two, "9", (False, True)).verdict == "bad and wrong"
    judged = two.assessed([Assessment(False), Assessment(True, 8.0)])
    assert Entry("round 1", None, judged, "9", (False, True)).verdict == "good and right"
    assert Entry("round 1", None, judged, "9", (False, True)).to_dict()["answers"][1]["judge"]["rating"] == 8.0


def test_filters_are_of_the_chosen_answer_and_texts_are_found_without_regard_to_capitals() -> None:
    entry = Entry("round 1", None, rollout("a", 2, 1), "42", (False, True), kept=True)
    fitting = [{}, {"right": True}, {"kept": True}, {"prompt": "PROMPT a"}, {"prompt": "a"}, {"search": "So: Fine"}]
    fitting += [{"search": "42"}, {"kinds": frozenset({"put right"})}, {"verdicts": frozenset({"good and right"})}]
    assert all(Wanted(**of).has(entry) for of in fitting)
    others = [{"right": False}, {"kept": False}, {"clipped": True}, {"prompt": "fine"}, {"search": "nowhere"}]
    assert not any(Wanted(**of).has(entry) for of in [*others, {"kinds": frozenset({"spoilt"})}])


@given(st.lists(st.booleans(), max_size=40), st.integers(0, 20))
def test_a_page_holds_as_many_chains_as_it_may_half_of_them_notable_at_most_and_the_same_ones_again(odd, most) -> None:
    entries = [
        Entry("round 1", None, rollout(str(n), good=None if of else True), None, (True, True))
        for n, of in enumerate(odd)
    ]
    taken, of, notable = chosen_chains(entries, most)
    assert (len(taken), of, notable) == (min(most, len(odd)), len(odd), sum(odd))
    assert sum(map(is_notable, taken)) == min(sum(odd), max(most // 2, most - (len(odd) - sum(odd))))
    ids = [int(entry.rollout.id) for entry in taken]
    assert ids == sorted(ids)
    again, *_ = chosen_chains(reversed(entries), most)
    assert {entry.rollout.id for entry in again} == {entry.rollout.id for entry in taken}
    rows = chosen_rows(entries, {"0"}, most)
    assert len(rows) == len(set(rows)) == min(most, len(odd))


def test_texts_fill_a_page_up_to_its_room_and_a_long_one_says_how_much_more_there_is() -> None:
    def entry(id: str) -> Entry:
        return Entry(
            "round 1", None, Rollout(id, 0, "x" * 5000, (Candidate("y", "stop", (1,)),), 0), None, (None, None)
        )

    group = Group(0, "round 1", None, 3)
    _fill(group, ([entry(id)] for id in "abc"), 9000)
    assert [of["id"] for of in group.entries] == ["a", "b"]
    assert (group.shown, group.of) == (2, 3)
    assert group.entries[0]["prompt"].endswith("x … [1,000 more characters]")


NODE = shutil.which("node")


@pytest.mark.skipif(NODE is None, reason="no node here")
def test_the_page_has_the_difference_where_rounds_end_and_minutes_of_60_seconds_at_most() -> None:
    found = {
        "baseline": "self",
        "rows": [{"name": "self"}, {"name": "plain"}],
        "accuracy": [
            {"set": "s", "mode": "direct", "row": "self", "checkpoint": at, "mean": 0.5, "seeds": {}}
            for at in ("meta", "round 1")
        ],
        "differences": [
            {"set": "s", "mode": "direct", "row": "plain", "checkpoint": "last", "mean": -0.15, "stderr": 0.036}
        ],
    }
    stand_ins = "const SHARES = {}, lineChart = () => null, table = (caption, head, rows) => ({ caption, head, rows });"
    told = f'console.log(JSON.stringify([overlaid({json.dumps(found)}, "s", "direct")[1], duration(119.7)]))'
    script = "\n".join([stand_ins, *((ASSETS / "js" / f"{name}.js").read_text() for name in ("dom", "compare")), told])
    done = subprocess.run([str(NODE), "-e", script], capture_output=True, text=True, timeout=60, check=True)
    shown, time = json.loads(done.stdout)
    assert shown["head"] == ["", "meta", "round 1", "last"]
    assert shown["rows"] == [["plain", "–", "–", ["\u221215.0 ± 3.6", None]]]
    assert "last: where the rounds of both end" in shown["caption"]
    assert time == "2 min 00 s"


def test_runs_are_named_by_as_much_of_their_paths_as_tells_them_apart() -> None:
    assert names_of(["runs/mine"]) == ["mine"]
    assert names_of(["out/self/seed-1", "out/plain/seed-1"]) == ["self/seed-1", "plain/seed-1"]

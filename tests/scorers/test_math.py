"""Mathematical expressions by math-verify, in processes of their own."""

import importlib.util
import re
import runpy
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from scorer_helpers import fault, key, row

from selfevo_jax.errors import ConfigError
from selfevo_jax.lazy import install
from selfevo_jax.scorers import math
from selfevo_jax.scorers.math import Math

needs_math_verify = pytest.mark.skipif(
    importlib.util.find_spec("math_verify") is None, reason="math-verify is not installed"
)
MATH = Math(processes=1, seconds=20)


@needs_math_verify
def test_expressions_that_are_equal_are_right_however_they_are_written() -> None:
    golds = ["\\frac{1}{2}", "$x^2+2x+1$", 18.0, "5 + 3 = 8\n#### 8", "\\text{even}", "\\{1,2,3\\}"]
    texts = ["The answer is $0.5$.", "\\boxed{(x+1)^2}", "It is 18.", "The answer is \\boxed{9}", "\\boxed{even}", ""]
    rows = [row(answer=gold) for gold in golds]
    assert MATH.faults(rows) == [None] * 6
    found = MATH.grades(rows, texts)
    assert [g.right for g in found] == [True, True, True, False, True, False]
    assert [g.answered for g in found] == [True, True, True, True, True, False]
    assert key(MATH, row(), "so \\boxed{\\frac{2}{3}}") == key(MATH, row(), "it is $2/3$")


@needs_math_verify
@pytest.mark.parametrize("gold", ["Paris", "", [1], None])
def test_gold_that_is_no_expression_is_a_fault(gold: object) -> None:
    assert (fault(MATH, row(answer=gold)) or "").startswith("answer: ")


@needs_math_verify
def test_what_takes_too_long_is_not_scored_and_what_comes_after_it_is() -> None:
    begun = time.monotonic()
    hurried = Math(processes=1, seconds=1.0)
    hostile = "The answer is $9^{9^{9^{9}}}$"
    found = hurried.grades([row(answer="2")] * 2, [hostile, "$2$"])
    assert found[0].value is None or not found[0].answered
    assert found[1].right
    assert time.monotonic() - begun < 60


@pytest.mark.parametrize("failing", ["parse", "verify"])
def test_a_text_that_cannot_be_read_or_compared_has_failed_and_is_not_one_without_an_answer(
    monkeypatch, failing
) -> None:
    def fails(*_: object, **how: object) -> None:
        assert how["raise_on_error"]
        raise RecursionError

    stub = SimpleNamespace(parse=lambda text, **_: [text] if text else [], verify=lambda *_, **how: True)
    monkeypatch.setitem(sys.modules, "math_verify", stub)
    child = runpy.run_path(str(Path(math.__file__).with_name("math_child.py")))["answer"]
    assert child({"gold": "2", "text": ""}) == {"read": None, "right": None, "failed": False}
    assert child({"gold": "2", "text": "2"}) == {"read": "2", "right": True, "failed": False}
    setattr(stub, failing, fails)
    child = runpy.run_path(str(Path(math.__file__).with_name("math_child.py")))["answer"]
    assert child({"gold": "2", "text": "2"})["failed"]


def test_without_the_package_it_is_refused_with_the_command_to_install_it(monkeypatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=re.escape(f"x.0: math needs the package math-verify: {install('math')}")):
        MATH.open("x.0")

"""A set of open-ended prompts in the config."""

import pytest

from selfevo_jax.config import parse_config
from selfevo_jax.errors import ConfigError

SERVER = {"url": "http://127.0.0.1:1/v1", "model": "big"}


def with_set(section: object, **data: object):
    tree = {"run_dir": "x", "model": {"source": "m"}, "data": {"stories": {}, "open_ended": {"o": section}, **data}}
    return parse_config(tree)


def test_a_file_alone_is_judged_by_the_base_beside_the_base() -> None:
    found = with_set("p.jsonl")
    section = found.data.open_ended["o"]
    assert (section.against.source, section.judge, section.ratings, section.stays) == ("base", "base", True, True)
    assert found.model_dump(mode="json")["data"]["open_ended"] == {"o": "p.jsonl"}
    assert with_set({"source": "p.jsonl", "endpoint": SERVER}).data.open_ended["o"].judged_by.startswith("big at http")


@pytest.mark.parametrize(
    ("section", "said"),
    [
        ({"source": "p", "against": "other"}, "against: found 'other', expected base, or a file of answers"),
        ({"source": "p", "judge": ""}, "data.open_ended.o.judge: found ''"),
        ({"source": "p", "judge": "http://127.0.0.1/v1"}, "is a server; set endpoint"),
        ({"source": "p", "endpoint": SERVER, "brief": True}, "brief stands beside endpoint"),
        ({"source": "p", "endpoint": SERVER, "judge": "self"}, "judge stands beside endpoint"),
        ({"source": "p", "scorers": ["number"]}, "unknown key 'data.open_ended.o.scorers'"),
    ],
)
def test_what_cannot_be_judged_so_is_refused_by_its_key(section: dict, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        with_set(section)


def test_no_two_sets_have_one_name() -> None:
    with pytest.raises(ConfigError, match=r"open_ended.stories: another evaluation set has this name"):
        with_set("p", open_ended={"stories": "p"})

"""What the tests of verifiable instructions share: texts, base instructions, prompts, a config."""

import itertools
import json

from selfevo_jax.config import parse_config
from selfevo_jax.tasks.instructions import make_rows
from selfevo_jax.tasks.instructions.wordings import WORDINGS

EVERY = tuple(WORDINGS)
TEXTS = (
    "The sea is calm today, and the boats are out.",
    "I would take the early train. It is cheaper and it is quiet.",
    "Rice, beans and a little salt: that will do for many people.",
    '"Nobody knows," said the man in the shop, "but we can ask."',
    "- bring a coat\n- bring a hat\n- bring water for the way",
    "Walk slowly (at first), then run: 20 minutes a day is enough.",
)


def rows_of(part, number, section, seed="s", tag="x"):
    return list(itertools.islice(make_rows(part, section, seed, tag), number))


def instructions_config(tmp_path, **instructions):
    ifeval = {
        "prompt": "Say it.",
        "instruction_id_list": ["language:response_language"],
        "kwargs": [{"language": "de"}],
    }
    (tmp_path / "ifeval.jsonl").write_text(json.dumps(ifeval) + "\n")
    rows = {"source": str(tmp_path / "ifeval.jsonl"), "scorers": ["constraints", {"constraints": {"loose": True}}]}
    data = {"instructions": instructions, "evaluation": {"ifeval": rows}, "prompts_per_round": 40}
    return parse_config({"run_dir": "x", "seed": 7, "model": {"source": "builtin:stories"}, "data": data})

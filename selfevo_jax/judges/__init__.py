"""What the loop, or an evaluation, believes of an answer: one small file for each kind.

The client of servers (`selfevo_jax.judges.endpoint`) is imported by its own name: what is here needs no JAX.
"""

from selfevo_jax.judges.base import ChainJudge, Judged
from selfevo_jax.judges.pairwise import (
    PAIR_VERDICTS,
    SIDES,
    Judgement,
    Pair,
    PairPrompt,
    PairVerdict,
    mt_bench_pair,
    read_pair_verdict,
)
from selfevo_jax.judges.rating import RatingJudge
from selfevo_jax.judges.section import EndpointSection, JudgeSection, open_judge
from selfevo_jax.judges.verdict import VerdictJudge

__all__ = [
    "PAIR_VERDICTS",
    "SIDES",
    "ChainJudge",
    "EndpointSection",
    "JudgeSection",
    "Judged",
    "Judgement",
    "Pair",
    "PairPrompt",
    "PairVerdict",
    "RatingJudge",
    "VerdictJudge",
    "mt_bench_pair",
    "open_judge",
    "read_pair_verdict",
]

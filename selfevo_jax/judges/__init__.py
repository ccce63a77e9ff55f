"""What the loop, or an evaluation, believes of an answer: one small file for each kind.

The client of servers (`selfevo_jax.judges.endpoint`) is imported by its own name: what is here needs no JAX.
"""

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
from selfevo_jax.judges.section import EndpointSection

__all__ = [
    "PAIR_VERDICTS",
    "SIDES",
    "EndpointSection",
    "Judgement",
    "Pair",
    "PairPrompt",
    "PairVerdict",
    "mt_bench_pair",
    "read_pair_verdict",
]

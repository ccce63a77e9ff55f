"""The kinds of verifiable instructions: IFEval's 25, and a few more that need no outside data.

Semantics: Zhou et al., Instruction-Following Evaluation for Large Language Models (arXiv:2311.07911), as in the code
that they published with it (google-research/instruction_following_eval, Apache-2.0).
"""

from selfevo_jax.scorers.checks import formats, keywords, lengths, letters, whole
from selfevo_jax.scorers.checks.base import Argument, Kind, used

KINDS: dict[str, Kind] = {
    kind.id: kind for kinds in (keywords, lengths, formats, whole, letters) for kind in kinds.KINDS
}
OFFICIAL = tuple(sorted(kind.id for kind in KINDS.values() if kind.official))

__all__ = ["KINDS", "OFFICIAL", "Argument", "Kind", "used"]

"""Whether parameters are finite, leaf by leaf, on the devices where they are."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from selfevo_jax.errors import ModelError


@jax.jit
def _all_finite(x: jax.Array) -> jax.Array:
    """One array at a time: layers of one shape share a program."""
    return jnp.all(jnp.isfinite(x))


def leaves_not_finite(tree: Any) -> list[str]:
    """Names such as `layers_0/mlp/up/kernel` of the arrays with a number that is NaN or infinite.

    On a mesh over several processes every one calls it.
    """
    paths, leaves = zip(*jax.tree_util.tree_leaves_with_path(tree), strict=True)
    whole = jax.device_get([_all_finite(leaf) for leaf in leaves])
    return [
        jax.tree_util.keystr(path, simple=True, separator="/")
        for path, fine in zip(paths, whole, strict=True)
        if not fine
    ]


def shown_leaves(names: list[str]) -> str:
    """The first of them, and how many there are."""
    return names[0] + (f" and {len(names) - 1} more" if len(names) > 1 else "")


def require_finite(params: Any, what: str, remedy: str = "take another checkpoint, or make this one again") -> Any:
    """The parameters. Raises ModelError with `what` they are of and the arrays' names where one is not finite."""
    found = leaves_not_finite(params)
    if found:
        raise ModelError(
            f"{what}: {shown_leaves(found)} has NaN or infinite numbers (a damaged file, or a training that failed); "
            f"{remedy}"
        )
    return params

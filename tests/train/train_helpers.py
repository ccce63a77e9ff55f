"""A comparison of trees for the tests of training."""

import jax
import numpy as np


def assert_close(tree, reference, relative=1e-5):
    """Relative to the largest entry of the whole tree: single entries near zero carry rounding of large sums."""
    top = max(float(np.abs(x).max()) for x in jax.tree.leaves(reference))
    assert jax.tree.structure(tree) == jax.tree.structure(reference)
    for mine, theirs in zip(jax.tree.leaves(tree), jax.tree.leaves(reference), strict=True):
        np.testing.assert_allclose(np.asarray(mine), np.asarray(theirs), rtol=relative, atol=relative * top)


def assert_equal(tree, reference):
    """To the last bit."""
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(tree), jax.device_get(reference))

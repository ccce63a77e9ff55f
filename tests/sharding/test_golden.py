"""How each preset's parameters and cache lie on a mesh, as golden files: a change of the rules shows in review.

`UPDATE_GOLDEN=1 python -m pytest tests/sharding/test_golden.py` writes them anew.
"""

import os
from pathlib import Path

import jax
import pytest

from selfevo_jax.model import PRESETS, abstract_params, cache_shardings, init_cache, param_shardings
from selfevo_jax.sharding import DECODE_RULES, TRAIN_RULES, make_mesh

GOLDEN = Path(__file__).parent / "golden"
MESH = (1, 4, 2)


def spec(sharding, leaf):
    parts = [*sharding.spec, *[None] * (leaf.ndim - len(sharding.spec))]
    return ",".join("+".join(part) if isinstance(part, tuple) else part or "-" for part in parts)


def rows(name, leaf, *layouts):
    sizes = "x".join(map(str, leaf.shape))
    return f"{name:<34} {sizes:<18} " + "  ".join(f"{spec(layout, leaf):<24}" for layout in layouts).rstrip()


def dump(config):
    mesh = make_mesh(*MESH, jax.devices()[:8])
    tree = abstract_params(config)
    layouts = [param_shardings(config, mesh, rules) for rules in (TRAIN_RULES, DECODE_RULES)]
    for layout in layouts:  # one layer stands for all
        assert all(layout[name] == layout["layers_0"] for name in layout if name.startswith("layers_"))
    kept = [name for name in tree if not name.startswith("layers_") or name == "layers_0"]
    lines = [f"mesh data={MESH[0]} fsdp={MESH[1]} tensor={MESH[2]}: training | decoding"]
    picked = [{name: part[name] for name in kept} for part in (tree, *layouts)]
    leaves = [jax.tree_util.tree_leaves_with_path(part) for part in picked]
    for (path, leaf), *found in zip(*leaves, strict=True):
        lines.append(rows(".".join(part.key for part in path), leaf, *(layout for _, layout in found)))
    cache = jax.eval_shape(lambda: init_cache(config, 16, 512))
    keys = cache_shardings(cache, mesh, DECODE_RULES).k[0]
    lines.append(rows("cache (keys or values of a layer)", cache.k[0], keys))
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize("preset", PRESETS)
def test_the_shardings_of_a_preset_are_as_recorded(preset):
    file, found = GOLDEN / f"{preset}.txt", dump(PRESETS[preset])
    if os.environ.get("UPDATE_GOLDEN"):
        GOLDEN.mkdir(exist_ok=True)
        file.write_text(found)
    assert file.read_text() == found, f"{file.name} differs; UPDATE_GOLDEN=1 accepts the change"

import pytest
from jax.sharding import PartitionSpec

from selfevo_jax.errors import ConfigError
from selfevo_jax.sharding import ShardingRules, make_mesh


def test_one_size_is_inferred() -> None:
    assert dict(make_mesh(-1, 2, 2).shape) == {"data": 2, "fsdp": 2, "tensor": 2}


def test_a_size_that_does_not_divide_names_the_nearest_valid_ones() -> None:
    with pytest.raises(ConfigError, match="3 does not divide 8 devices.*2 or 4"):
        make_mesh(-1, 3, 1)


def test_too_large_a_mesh_is_refused() -> None:
    with pytest.raises(ConfigError, match="needs 16 devices, found 8"):
        make_mesh(4, 4, 1)


def test_two_axes_of_one_array_on_one_mesh_axis_are_refused() -> None:
    rules = ShardingRules({"a": "tensor", "b": "tensor"})
    with pytest.raises(ConfigError, match="used by two"):
        rules.spec(("a", "b"), (8, 8), make_mesh(2, 2, 2))


def test_an_axis_that_does_not_divide_is_an_error_unless_the_rules_replicate_it() -> None:
    mesh = make_mesh(2, 2, 2)
    with pytest.raises(ConfigError, match="size 5 does not divide over 4"):
        ShardingRules({"batch": ("data", "fsdp")}).spec(("batch",), (5,), mesh)
    spec = ShardingRules({"kv_heads": "tensor"}, frozenset({"kv_heads"})).spec(("kv_heads",), (3,), mesh)
    assert spec == PartitionSpec(None)

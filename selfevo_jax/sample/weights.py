"""The parameters as the sampler takes them: cast or quantized, laid out for decoding, and stacked for a scan."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from selfevo_jax.errors import ConfigError
from selfevo_jax.model import LANES, ModelConfig, abstract_params, param_shardings, quantize_params, stack_layers
from selfevo_jax.model.int8 import is_int8
from selfevo_jax.model.panels import is_panelled, panelled_params
from selfevo_jax.sample.memory import device_bytes, tree_bytes
from selfevo_jax.sharding import ShardingRules, laid_out, replicated, reshard

_COMPARED = "TPU v5 lite"
"""The kind of device. On v6e a scanned extend copies the cache (benchmarks/scanned_layers.py); v5p was not compared."""
_SCANNED_FROM = 2 * 2**30
"""Bytes of a device. A scanned step of Qwen 2.5 0.5B (0.92 GiB) moves 78 MB (2.7 %) more in HBM than an unrolled
one, one of Vicuna 7B (3.1 GiB of it on each chip) 25 MB less (benchmarks/scanned_layers.py)."""


def scanning_pays(config: ModelConfig, mesh: Mesh | None, rules: ShardingRules, dtype: Any) -> bool:
    """Whether programs on TPU take no longer with their layers scanned, by its compiler: on v5e, of many parameters,
    dense and not int8, in layers all alike. It copies int8 parameters, and in an extend a cache of wider heads (that of
    one layer where layers are unrolled); mixtures and layers of several kinds in turn were not compared."""
    kind = (jax.devices()[0] if mesh is None else mesh.devices.flat[0]).device_kind
    if kind != _COMPARED or config.n_experts or config.period > 1 or config.head_dim > LANES or is_int8(dtype):
        return False
    whole = abstract_params(config, dtype)
    layout = None if mesh is None else param_shardings(config, mesh, rules, dtype)
    return (tree_bytes(whole) if layout is None else device_bytes(whole, layout)) >= _SCANNED_FROM


@dataclass(frozen=True)
class Weights:
    """What they are made of and made into, by way of their shapes."""

    config: ModelConfig
    dtype: Any
    """int8: matrices quantized, with float32 scales."""
    mesh: Mesh | None
    rules: ShardingRules
    stacked: bool
    """Whether the layers are stacked (`stack_layers`)."""
    panelled: bool = False
    """Whether matrices lie in panels, for products in C (`panelled_params`)."""

    @functools.cached_property
    def layout(self) -> Any:
        """Nested dict of NamedSharding; None without a mesh."""
        if self.mesh is None:
            return None
        if self.panelled:
            whole = replicated(self.mesh)
            return jax.tree.map(lambda _: whole, self._made_shapes)
        return param_shardings(self.config, self.mesh, self.rules, self.dtype, self.stacked)

    @functools.cached_property
    def shapes(self) -> Any:
        """Nested dict of ShapeDtypeStruct, with their shardings where there is a mesh."""
        shapes = self._made_shapes if self.panelled else abstract_params(self.config, self.dtype, self.stacked)
        return shapes if self.layout is None else laid_out(shapes, self.layout)

    def place(self, params: Any) -> Any:
        """Of parameters with their layers apart, on the device; as they are where nothing changes.

        Raises ConfigError for parameters that another kind of engine has placed in panels.
        """
        given: Any = jax.tree.structure(params)
        alike: bool = given == jax.tree.structure(self.shapes)
        if alike and all(map(_is_already, jax.tree.leaves(params), jax.tree.leaves(self.shapes))):
            return params
        if self.panelled:
            made = params if alike else self._make(params)
            return made if self.layout is None else jax.device_put(made, self.layout)
        if is_panelled(params):
            raise ConfigError("these parameters were placed for kernels in C; this engine wants what they were made of")
        if self.stacked or is_int8(self.dtype):
            return self._made(params)
        if self.layout is None:
            return jax.tree.map(lambda x: jnp.asarray(x, self.dtype), params)
        return reshard(params, self.layout, self.dtype)

    @functools.cached_property
    def _made(self) -> Any:
        return jax.jit(self._make, out_shardings=self.layout)

    @functools.cached_property
    def _made_shapes(self) -> Any:
        return jax.eval_shape(self._make, abstract_params(self.config, self.dtype))

    def _make(self, params: Any) -> Any:
        if self.panelled:
            return panelled_params(self.config, params)
        if is_int8(self.dtype):
            cast = quantize_params(params, declared=abstract_params(self.config, self.dtype))
        else:
            cast = jax.tree.map(lambda x: jnp.asarray(x, self.dtype), params)
        return stack_layers(cast) if self.stacked else cast


def _is_already(leaf: Any, wanted: jax.ShapeDtypeStruct) -> bool:
    if not isinstance(leaf, jax.Array) or leaf.dtype != wanted.dtype:
        return False
    return wanted.sharding is None or bool(leaf.sharding.is_equivalent_to(wanted.sharding, leaf.ndim))

"""Slots on several devices: each shard of a mesh runs the sampler's programs on slots of its own."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from selfevo_jax.sharding import ShardingRules


@dataclass(frozen=True)
class Shards:
    """The parts of a mesh that hold slots of their own. Each has a copy of the parameters over the other axes, so that
    none waits for another one inside a program, and each goes through its own rows as often as it has some.

    Slot i lies on shard i // (slots / count); of an array with a row for each slot or row it has the same part.
    """

    mesh: Mesh
    axes: tuple[str, ...]
    """Mesh axes that the slots lie over."""

    @classmethod
    def of(cls, mesh: Mesh | None, rules: ShardingRules) -> Shards | None:
        """None where one copy of the parameters has all the slots."""
        if mesh is None or rules.ways("batch", mesh) == 1:
            return None
        return cls(mesh, rules.mesh_axes("batch"))

    @property
    def count(self) -> int:
        return math.prod(self.mesh.shape[axis] for axis in self.axes)

    @property
    def layout(self) -> NamedSharding:
        """Of an array whose leading dimension is slots or rows."""
        return NamedSharding(self.mesh, PartitionSpec(self.axes))

    def total(self, count: jax.Array) -> jax.Array:
        """The sum of a number of each shard."""
        return jax.lax.psum(count, self.axes)

    def likely_total(self, count: jax.Array) -> jax.Array:
        """The same where each slice takes the others to be like itself, so that it does not wait for the network
        between them."""
        near = tuple(axis for axis in self.axes if axis != "slice")
        return jax.lax.psum(count, near) * self.mesh.shape["slice"]

    def most(self, count: jax.Array) -> jax.Array:
        """The largest of a number of each shard."""
        return jax.lax.pmax(count, self.axes)

    def extend(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """`extend` of all slots (see `Dispatcher.extend`) from that of one shard's."""

        def extend(
            params: Any,
            state: Any,
            slots: jax.Array | None,
            rows: Any,
            tokens: jax.Array,
            starts: jax.Array,
            lengths: jax.Array,
            allowed: jax.Array | None = None,
            *,
            window: int,
            at_once: int,
        ) -> Any:
            here = functools.partial(function, window=window, at_once=at_once // self.count)
            given = (_WHOLE, *[self._rows] * 6, _WHOLE)
            own = self._within(slots, len(state.token))
            return self._each(here, given, self._rows)(params, state, own, rows, tokens, starts, lengths, allowed)

        return extend

    def decode_many(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """`decode_many` of all slots from that of one shard's, which ends with the others'."""

        def decode_many(
            params: Any,
            state: Any,
            rows: Any,
            n_steps: jax.Array,
            floor: jax.Array,
            allowed: jax.Array | None = None,
            *,
            window: int,
            capacity: int,
            drafts: int = 0,
        ) -> Any:
            here = functools.partial(function, window=window, capacity=capacity, drafts=drafts)
            by_step, by_token = PartitionSpec(None, self.axes), PartitionSpec(None, None, self.axes)
            given = (_WHOLE, self._rows, self._rows, _WHOLE, _WHOLE, _WHOLE)
            made = (self._rows, by_token, by_token, by_step, _WHOLE, _WHOLE)
            return self._each(here, given, made)(params, state, rows, n_steps, floor, allowed)

        return decode_many

    def fork(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """`fork` of all slots from that of one shard's."""

        def fork(state: Any, sources: jax.Array, targets: jax.Array) -> Any:
            own = (self._within(ids, len(state.token)) for ids in (sources, targets))
            return self._each(function, self._rows, self._rows)(state, *own)

        return fork

    @property
    def _rows(self) -> PartitionSpec:
        return PartitionSpec(self.axes)

    def _within(self, slots: jax.Array | None, n_slots: int) -> jax.Array | None:
        """Ids in each shard; one that is out of range stays so."""
        each = n_slots // self.count
        return None if slots is None else jnp.where(slots < n_slots, slots % each, each)

    def _each(self, function: Callable[..., Any], given: Any, made: Any) -> Callable[..., Any]:
        """The function on every shard, with arguments and results that lie by these specs; how its arrays lie over the
        other axes is left to the compiler."""
        return jax.shard_map(
            function, mesh=self.mesh, axis_names=set(self.axes), in_specs=given, out_specs=made, check_vma=False
        )


_WHOLE = PartitionSpec()

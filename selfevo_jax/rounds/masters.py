"""fp32 parameters between their uses: on the devices while they are needed there, else out of the way of sampling."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
from jax.sharding import Mesh

from selfevo_jax import hosts
from selfevo_jax.sample.memory import host_bytes, released_while_sampling

_HOST_MEMORY = "pinned_host"
_SHARE = 0.5
"""Of a host's free memory, that one tree of parameters may take."""


class Masters:
    """Trees of parameters by name, laid out for training; one that is not at hand is read again.

    Where devices have a memory of their own, a tree that rests lies in that of the hosts, if there is room for it.
    """

    def __init__(self, mesh: Mesh) -> None:
        self._mesh = mesh
        self._here: dict[str, Any] = {}
        self._resting: dict[str, Any] = {}

    def get(self, name: str, read: Callable[[], Any]) -> Any:
        """The tree on the devices."""
        if name not in self._here:
            resting = self._resting.pop(name, None)
            self._here[name] = read() if resting is None else _moved(resting, "device")
        return self._here[name]

    def put(self, name: str, tree: Any) -> None:
        self.forget(name)
        self._here[name] = tree

    def forget(self, name: str) -> None:
        self._here.pop(name, None)
        self._resting.pop(name, None)

    def rest(self, but: Any = None) -> None:
        """Frees the devices of all trees but one."""
        if not released_while_sampling(self._mesh):
            return
        for name in [name for name, tree in self._here.items() if tree is not but]:
            tree = self._here.pop(name)
            if self._room_for(tree):
                self._resting[name] = _moved(tree, _HOST_MEMORY)

    def _room_for(self, tree: Any) -> bool:
        kinds = {memory.kind for memory in self._mesh.local_devices[0].addressable_memories()}
        size = sum(shard.data.nbytes for leaf in jax.tree.leaves(tree) for shard in leaf.addressable_shards)
        fits = _HOST_MEMORY in kinds and size <= _SHARE * host_bytes()
        return all(hosts.gather("comparing the hosts' memory", fits))


def _moved(tree: Any, kind: str) -> Any:
    """The tree in another kind of memory of the same devices."""
    return jax.device_put(tree, jax.tree.map(lambda leaf: leaf.sharding.with_memory_kind(kind), tree))

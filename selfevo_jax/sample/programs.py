"""Compiled programs by their shapes, each compiled once: at its first use or ahead."""

import functools
import threading
import time
from collections.abc import Callable
from typing import Any

import jax

NARROW = 48
"""Tokens up to which a product with a matrix is narrow."""
_YNNPACK = "xla_cpu_experimental_ynn_fusion_type"
_WITHOUT_PRODUCTS = "LIBRARY_FUSION_TYPE_REDUCE,LIBRARY_FUSION_TYPE_ELTWISE"


@functools.cache
def narrow_options() -> dict[str, str]:
    """Options of XLA for CPUs that make a step of few tokens faster; none where this version does not know them.

    XLA hands products to the YNNPACK library or to Eigen. With a weight matrix and up to about 48 tokens Eigen is the
    faster one: 1.2 times for 16 and for 32. Attention to the cache is faster in YNNPACK, which takes it with the
    softmax around it: 2.3 times for one query of each of 32 slots that reads 768 positions, and 1.4 times as fast as
    with its products in YNNPACK by themselves too (benchmarks/narrow_products.py). In a whole step most products end up
    in YNNPACK all the same, within fusions that begin at the elementwise work beside them.
    """
    return _first_known({_YNNPACK: _WITHOUT_PRODUCTS}, {_YNNPACK: ""})


@functools.cache
def native_options() -> dict[str, str]:
    """The same for a step whose products and attention are made in C: what is left to XLA is elementwise, in pieces for
    which handing them to YNNPACK takes longer than they do (8.9 ms of a step of 49 against 2)."""
    return _first_known({_YNNPACK: ""})


def _first_known(*choices: dict[str, str]) -> dict[str, str]:
    zero = jax.device_put(0.0, jax.local_devices(backend="cpu")[0])
    for options in choices:
        try:
            jax.jit(lambda x: x, compiler_options=options).lower(zero).compile()
        except (jax.errors.JaxRuntimeError, ValueError):
            continue
        return options
    return {}


def _platform(args: Any) -> str | None:
    """Where a program with these arguments runs."""
    found = (getattr(leaf, "sharding", None) for leaf in jax.tree.leaves(args))
    return next((next(iter(s.device_set)).platform for s in found if s is not None), None)


class Programs:
    """The compiled functions of one model, dtype and placement, each shape compiled once: at its first use or ahead.

    Shared by engines that agree on model, dtype and placement.
    """

    def __init__(self, extend: Any, decode_many: Any, fork: Any, native: bool = False) -> None:
        self._functions = {"extend": extend, "decode_many": decode_many, "fork": fork}
        self.native = native
        """Whether steps that draw one token a row are made in C, but for what is elementwise."""
        self._ready: dict[Any, Any] = {}
        self._layouts: dict[Any, int] = {}
        self.seconds = 0.0
        """Spent compiling, those of programs side by side summed."""
        self._counting = threading.Lock()

    @property
    def count(self) -> int:
        """How many programs have been compiled."""
        return len(self._ready)

    def layout(self, tree: Any) -> int:
        """A number for the shapes, dtypes and shardings of a tree of arrays, cheap to compare."""
        key = tuple((x.shape, x.dtype, x.sharding) for x in jax.tree.leaves(tree))
        return self._layouts.setdefault(key, len(self._layouts))

    def compiled(
        self, name: str, key: Any, args: Any, *, on_cpu: Callable[[], dict[str, str]] | None = None, **static: int
    ) -> Any:
        """The program for these shapes; `key` tells them apart, and `args` may be arrays or their shapes.

        `on_cpu` gives options of its compiler where it runs on a CPU.
        """
        key = (name, key, *sorted(static.items()))
        if key not in self._ready:
            begin = time.perf_counter()
            options = on_cpu() if on_cpu is not None and _platform(args) == "cpu" else {}
            self._ready[key] = self.lower(name, args, **static).compile(compiler_options=options)
            with self._counting:
                self.seconds += time.perf_counter() - begin
        return self._ready[key]

    def lower(self, name: str, args: Any, **static: int) -> Any:
        """The program for these arguments, or arrays' shapes, before it is compiled."""
        return self._functions[name].lower(*args, **static)

"""Other stacks with our weights, and workers: each is a process of its own, asked in turns over a pipe."""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from selfevo_jax.checkpoint import config_to_huggingface
from selfevo_jax.checkpoint.weights import flatten, foreign_tensors
from selfevo_jax.model import ModelConfig


def torch_model(config: ModelConfig, params: Any) -> Any:
    """The Llama of `transformers`, fp32."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    tensors, model = foreign_tensors(config), LlamaForCausalLM(LlamaConfig(**config_to_huggingface(config))).float()
    arrays = {tensors[name].name: tensors[name].foreign(np.array(leaf)) for name, leaf in flatten(params).items()}
    found = model.load_state_dict({name: torch.from_numpy(a) for name, a in arrays.items()}, strict=False)
    assert not {*found.unexpected_keys, *found.missing_keys} - {"lm_head.weight"}, found
    model.tie_weights()
    return model


def tunix_model(config: ModelConfig, params: Any) -> Any:
    """Tunix's Llama3, given the right rope_theta: it ignores the one of its config (and rotates by a base of 1e6)."""
    from flax import nnx
    from tunix.models.llama3 import model as llama3

    c = config
    llama3.apply_rope = functools.partial(llama3.apply_rope, rope_theta=c.rope_theta)
    sizes = (c.n_layers, c.vocab_size, c.d_model, c.d_ff, c.n_heads, c.head_dim, c.n_kv_heads)
    shape = llama3.ModelConfig(*sizes, int(c.rope_theta), c.norm_eps, weight_tying=True)
    model = nnx.eval_shape(lambda: llama3.Llama3(shape, rngs=nnx.Rngs(0)))
    places = [(model.embedder.input_embedding, params["embedding"])]
    places.append((model.final_norm.w, params["final_norm"]["scale"]))
    for i, layer in enumerate(model.layers):
        ours = params[f"layers_{i}"]
        places.append((layer.input_layernorm.w, ours["attention_norm"]["scale"]))
        places.append((layer.post_attention_layernorm.w, ours["mlp_norm"]["scale"]))
        places += [(getattr(layer.attn, f"{key}_proj").w, ours["attention"][key]["kernel"]) for key in "qkvo"]
        places += [(getattr(layer.mlp, f"{k}_proj").kernel, ours["mlp"][k]["kernel"]) for k in ("gate", "up", "down")]
    for place, array in places:
        assert place.get_value().shape == array.shape
        place.set_value(array)
    return model


def serve(make: Callable[[], Any]) -> None:
    """The worker's end: answers each line of JSON, a method's name and arguments, by one."""
    out = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what libraries print goes to stderr
    try:
        served, absent = make(), None
    except ImportError as error:
        served, absent = None, str(error)
    print(json.dumps(absent), file=out)
    for line in sys.stdin if served else ():
        method, arguments = json.loads(line)
        print(json.dumps(getattr(served, method)(**arguments)), file=out)


class Worker:
    """The other end: a process of the same script that serves `name`."""

    def __init__(self, name: str, flags: Sequence[str]) -> None:
        command, pipe = [sys.executable, sys.argv[0], "--worker", name, *flags], subprocess.PIPE
        self.name, self.process = name, subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True)
        self.absent: str | None = self._answer()

    def ask(self, method: str, **arguments: Any) -> Any:
        assert self.process.stdin is not None
        print(json.dumps([method, arguments]), file=self.process.stdin, flush=True)
        return self._answer()

    def end(self) -> None:
        self.process.communicate()

    def _answer(self) -> Any:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"the process of {self.name} ended; its message stands above")
        return json.loads(line)


def start(names: Sequence[str], flags: Sequence[str]) -> list[Worker]:
    """Workers for the names whose packages are installed; the others are told."""
    workers = [Worker(name, flags) for name in names]
    for worker in workers:
        if worker.absent:
            print(f"{worker.name}: absent ({worker.absent})")
    return [worker for worker in workers if not worker.absent]

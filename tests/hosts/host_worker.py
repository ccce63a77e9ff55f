"""One of the processes of the tests of `hosts/`.

Arguments: the coordinator's port, the number of processes, this process's number, what to do, and more for that.
"""

import os
import signal
import sys
import threading
import time
from pathlib import Path

os.environ["JAX_PLATFORMS"] = "cpu"

from selfevo_jax import hosts
from selfevo_jax.errors import SelfevoError


def say(*words):
    print(*words, flush=True)


def meet(me, url="", path=""):
    say("peers", *hosts.peers())
    say("brought", hosts.gather("bringing", {"number": me * 10}))
    say("agreed", hosts.agree("deciding", lambda: f"by {me}"))
    hosts.barrier("tea")
    say("writer", hosts.is_writer(), hosts.count())
    if url:
        ask(url, path)


def peak():
    """MiB of memory that this process has had at most."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) // 1024


def besieged(me, done):
    """Process 0 tells its memory before and after strangers have come."""
    hosts.barrier("both are here")
    say("before", peak())
    while not os.path.exists(done):
        time.sleep(0.05)
    say("brought", hosts.gather("bringing", me), "after", peak())


def wait(me):
    """Process 1 does not come."""
    if me == 0:
        hosts.barrier("tea", limit=1.5)
    time.sleep(150)


def fail(me):
    """Process 1 fails; process 0 hears nothing of it where it is."""
    hosts.barrier("both are here")
    if me == 1:
        raise SelfevoError("the cellar is flooded")
    time.sleep(150)


def crash(me):
    hosts.barrier("both are here")
    if me == 1:
        say(1 // 0)
    time.sleep(150)


def same_error(me):
    """An error that all have at about the same time, as most are."""
    hosts.barrier("both are here")
    time.sleep(0.2 * me)
    raise SelfevoError("the roof is gone")


def interrupt(me):
    """Ctrl-C at process 0."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it
    hosts.barrier("both are here")
    if me == 0:
        main_thread = threading.main_thread().ident
        threading.Timer(0.3, lambda: signal.pthread_kill(main_thread, signal.SIGINT)).start()
    time.sleep(150)


def compute(me):
    """Collectives without end."""
    import jax
    import jax.numpy as jnp
    import numpy as np
    from jax.sharding import Mesh, NamedSharding, PartitionSpec

    mesh = Mesh(np.asarray(jax.devices()), ("all",))
    rows, whole = NamedSharding(mesh, PartitionSpec("all")), NamedSharding(mesh, PartitionSpec())
    x = jax.make_array_from_callback((jax.device_count(),), rows, lambda index: np.ones(1, np.float32))
    total = jax.jit(lambda x: jnp.sum(x), out_shardings=whole)
    for step in range(10**9):
        value = float(total(x))
        if step == 0:
            say("computing", value)


freeze = compute


def alone(me, folder):
    """Process 0 alone saves, samples and trains what lies on both."""
    import numpy as np

    from selfevo_jax.checkpoint import open_model, save_params
    from selfevo_jax.model import param_shardings
    from selfevo_jax.sample import Engine
    from selfevo_jax.sharding import TRAIN_RULES, make_mesh
    from selfevo_jax.train import TrainConfig
    from selfevo_jax.train.loop import run_steps

    source, mesh = open_model("builtin:stories"), make_mesh(1, 2, 1)
    params = source.load(param_shardings(source.config, mesh, TRAIN_RULES), np.float32)
    engine = Engine(source.config, source.tokenizer, slots=2, cache_length=64, mesh=mesh)
    hosts.barrier("both have the parameters", limit=150)
    if me == 0:
        attempts = (
            lambda: save_params(folder, params, {}),
            lambda: engine.run(params, []),
            lambda: run_steps(None, source.config, None, TrainConfig(), mesh),
        )
        for attempt in attempts:
            try:
                attempt()
            except hosts.HostError as error:
                say("refused", error)
        raise SelfevoError("nothing can be done alone")
    time.sleep(150)


def save(me, folder):
    import jax
    import numpy as np

    from selfevo_jax.checkpoint import is_complete, restore_params, save_params
    from selfevo_jax.model import PRESETS, abstract_params, init_params, param_shardings
    from selfevo_jax.sharding import TRAIN_RULES, make_mesh

    config, mesh = PRESETS["tiny"], make_mesh(1, 2, 1)
    params = init_params(config, jax.random.key(0), mesh, TRAIN_RULES)
    save_params(folder, params, {"round": 3}, {"note.txt": b"once"})
    say("complete", is_complete(folder))
    back = restore_params(folder, abstract_params(config), param_shardings(config, mesh, TRAIN_RULES))
    for one, other in zip(jax.tree.leaves(params), jax.tree.leaves(back), strict=True):
        for a, b in zip(one.addressable_shards, other.addressable_shards, strict=True):
            np.testing.assert_array_equal(np.asarray(a.data), np.asarray(b.data))
    say("restored")


def train(me, folder, told_at):
    """Process 1 is told to end before a step."""
    from small_training import Batched
    from small_training import train as train_small

    from selfevo_jax import notice

    def before_step(step):
        say("step", step)
        if me == 1 and step == int(told_at):
            os.kill(os.getpid(), signal.SIGTERM)

    with notice.heeded():
        say("losses", *train_small(folder, Batched(before_step), (1, 2, 1))[1].losses)


def open_run(me, *roots):
    """Each process is given a directory of its own."""
    from selfevo_jax.config import parse_config
    from selfevo_jax.hosts import session
    from selfevo_jax.run import RunDir

    session.SEEN_SECONDS = 1.0
    seed = int(roots[2 + me]) if len(roots) > 2 else 0
    tree = {"run_dir": roots[me], "seed": seed, "model": {"source": "builtin:stories"}, "data": {"stories": {}}}
    RunDir(roots[me]).open(parse_config(tree), {"tokenizer": "a"})
    say("open")


def ask(url, path):
    """Questions to a server: process 0 asks, and keeps the answers."""
    import contextlib

    from selfevo_jax.judges import EndpointSection
    from selfevo_jax.judges.endpoint import Question, ask_endpoint
    from selfevo_jax.progress import Reporter
    from selfevo_jax.run.journal import Journal

    questions = [Question.of(f"q{i}", "be fair", f"prompt {i}") for i in range(300)]
    section = EndpointSection(url=url, model="m", concurrency=8)
    with Journal(Path(path)) if hosts.is_writer() else contextlib.nullcontext() as log:
        answers = ask_endpoint(section, questions, log, Reporter(quiet=not hosts.is_writer()), "asking")
    say("last", len(answers), answers[-1].text)


def main(port, n, me, deed, *rest):
    limits = {"alone": {"barrier_limit": 0.7}, "freeze": {"silent_limit": 8}}.get(deed, {})
    with hosts.together(f"127.0.0.1:{port}", int(n), int(me), 120, **limits):
        globals()[deed](int(me), *rest)
    say("ended well")


main(*sys.argv[1:])

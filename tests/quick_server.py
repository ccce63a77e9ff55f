"""Forks Python processes that have imported JAX and the package already: see quick_processes.py.

Argument: the path of a socket to listen at. A connection brings one line of JSON (words, env, cwd) with the new
process's stdout and stderr, and is told its pid and, when it has ended, its exit code. Ends with its standard input.
"""

import contextlib
import gc
import importlib
import json
import os
import runpy
import select
import signal
import socket
import sys
import types

IMPORTED = ("orbax.checkpoint", "selfevo_jax.cli", "selfevo_jax.rounds", "selfevo_jax.report", "gcsfs", "openai")


def asked(path: str) -> dict:
    """Serves until a process is asked for, and returns in that process; in the server, it returns never."""
    running: dict[int, socket.socket] = {}
    wakes, woken = socket.socketpair()
    for end in (wakes, woken):
        end.setblocking(False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(woken.fileno())
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"{path}.soon")
        listener.listen(64)
        os.rename(f"{path}.soon", path)
        while True:
            ready = select.select([0, wakes, listener], [], [])[0]
            if 0 in ready:
                os._exit(0)
            if wakes in ready:
                wakes.recv(4096)
                while running and (ended := os.waitpid(-1, os.WNOHANG))[0]:
                    with running.pop(ended[0]) as connection, contextlib.suppress(OSError):  # it may not listen now
                        connection.sendall(b"%d\n" % os.waitstatus_to_exitcode(ended[1]))
            if listener in ready:
                connection = listener.accept()[0]
                line, files, _, _ = socket.recv_fds(connection, 1 << 20, 2)
                while not line.endswith(b"\n"):
                    line += connection.recv(1 << 20)
                pid = os.fork()
                if not pid:
                    break
                for file in files:
                    os.close(file)
                running[pid] = connection
                connection.sendall(b"%d\n" % pid)
    for other in (*running.values(), connection):
        other.close()
    signal.set_wakeup_fd(-1)
    for end in (wakes, woken):
        end.close()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for file, place in ((nothing, 0), (files[0], 1), (files[1], 2)):
        os.dup2(file, place)
        os.close(file)
    found: dict = json.loads(line)
    return found


def become(words: list[str], env: dict[str, str], cwd: str) -> None:
    """Does what `python WORDS` does with these variables in this folder."""
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    sys.path[:0] = [place for place in env.get("PYTHONPATH", "").split(os.pathsep) if place]
    main = sys.modules["__main__"] = types.ModuleType("__main__")
    if words[0] == "-c":
        sys.argv = ["-c", *words[2:]]
        sys.path.insert(0, "")
        exec(compile(words[1], "<string>", "exec"), vars(main))
    elif words[0] == "-m":
        sys.argv = words[1:]
        sys.path.insert(0, cwd)
        runpy.run_module(words[1], run_name="__main__", alter_sys=True)
    else:
        sys.argv = words
        sys.path.insert(0, os.path.dirname(words[0]))
        runpy.run_path(words[0], run_name="__main__")


def keep_programs_of_all() -> None:
    """JAX keeps what process 0 of several compiles, and on CPUs the others look for their programs by other names: here
    all keep theirs."""
    from jax._src import compilation_cache, compiler

    def keep(key: str, seconds: float, name: str, backend: object, program: object, callbacks: object) -> None:
        if not callbacks:
            compilation_cache.put_executable_and_time(key, name, program, backend, int(seconds))

    compiler._cache_write = keep


for name in IMPORTED:
    with contextlib.suppress(ModuleNotFoundError):
        importlib.import_module(name)
with contextlib.suppress(ImportError):  # JAX's own parts, which may be called otherwise in another version
    keep_programs_of_all()
gc.freeze()  # its pages stay shared
become(**asked(sys.argv[1]))

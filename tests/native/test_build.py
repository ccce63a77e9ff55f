"""How the kernels are built: by which compiler, for which machine, by several processes at once, or not at all."""

import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from selfevo_jax.native import build, calls

needs_compiler = pytest.mark.skipif(not calls.available(), reason="no C compiler")
COMPILER = os.environ.get(build.COMPILER) or "cc"
KERNELS = Path(__file__).with_name("test_kernels.py")
ASK = """
import json
from selfevo_jax.native import build
found = build.library()
print(json.dumps([found and str(found.file), build.problem()]))
"""


def started(cache, **more):
    env = {**os.environ, "XDG_CACHE_HOME": str(cache), "JAX_PLATFORMS": "cpu", **more}
    command = [sys.executable, "-c", ASK]
    return subprocess.Popen(command, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def said(process):
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert err == ""
    return tuple(json.loads(out))


def compiler(tmp_path, script):
    made = tmp_path / "my cc"
    made.write_text(f"#!/bin/sh\n{script}\n")
    made.chmod(0o755)
    return f"'{made}'"


def test_an_empty_name_is_no_compiler_and_nothing_is_said_of_it(tmp_path):
    assert said(started(tmp_path, SELFEVO_CC="")) == (None, None)
    assert not list(tmp_path.rglob("*.so"))


def test_a_compiler_that_is_not_there_is_told(tmp_path):
    found, why = said(started(tmp_path, SELFEVO_CC="cc-of-nowhere"))
    assert found is None
    assert why.startswith(
        "sampling on this CPU takes about twice as long as it could: SELFEVO_CC=cc-of-nowhere: no such"
    )


def test_a_machine_without_any_is_told(tmp_path):
    found, why = said(started(tmp_path, PATH=str(tmp_path)))
    assert found is None
    assert "there is no C compiler (cc, gcc, clang) to build its kernels; install one, or name one in SELFEVO_CC" in why


def test_a_compiler_that_fails_is_told_with_what_it_said(tmp_path):
    broken = compiler(tmp_path, '[ "$1" = --version ] && exit 0; echo "product.c:7: error: no luck" >&2; exit 1')
    found, why = said(started(tmp_path, SELFEVO_CC=broken))
    assert found is None
    assert "cannot build its kernels (product.c:7: error: no luck); install one, or name one" in why
    assert not list(tmp_path.rglob("*.so"))


def test_a_library_that_cannot_be_loaded_is_told(tmp_path):
    empty = compiler(
        tmp_path, 'while [ "$1" != -o ] && [ $# -gt 0 ]; do shift; done; [ -n "$2" ] && echo > "$2"; exit 0'
    )
    found, why = said(started(tmp_path, SELFEVO_CC=empty))
    assert found is None
    assert "its kernels cannot be kept or loaded (" in why
    assert why.endswith("XDG_CACHE_HOME names another folder")


def test_a_cache_that_cannot_be_written_is_told(tmp_path):
    (tmp_path / "selfevo_jax").write_text("a file where the folder would be")
    found, why = said(started(tmp_path))
    assert found is None
    assert "its kernels cannot be kept or loaded ([Errno 20] Not a directory" in why or "there is no C compiler" in why
    assert why.count("cannot be") == 1  # another compiler would not help


@pytest.mark.parametrize("bad", ["'cc", "cc\\", "'' -O2"])
def test_a_command_that_cannot_be_read_is_told(tmp_path, bad):
    found, why = said(started(tmp_path, SELFEVO_CC=bad))
    assert found is None
    assert why.startswith("sampling on this CPU takes about twice as long as it could: ")


def test_a_script_that_cannot_run_is_told(tmp_path):
    script = compiler(tmp_path, "")
    (tmp_path / "my cc").write_text("#!/nowhere/at/all\n")
    assert "cannot build its kernels (" in said(started(tmp_path, SELFEVO_CC=script))[1]


@needs_compiler
def test_the_next_compiler_is_tried_where_the_first_fails(tmp_path):
    stub = tmp_path / "bin" / "cc"
    stub.parent.mkdir()
    stub.write_text("#!/bin/sh\necho 'error: no developer tools were found' >&2; exit 1\n")
    stub.chmod(0o755)
    path = f"{stub.parent}:{os.environ['PATH']}"
    if not (shutil.which("gcc") or shutil.which("clang")):
        pytest.skip("cc is the only one")
    assert said(started(tmp_path, PATH=path))[1] is None
    why = said(started(tmp_path / "other", PATH=path, SELFEVO_CC="cc"))[1]
    assert "cc cannot build its kernels (error: no developer tools were found)" in why


@needs_compiler
@pytest.mark.parametrize("left", [lambda whole: whole[:20_000], lambda whole: b"\n" * len(whole)])
def test_a_damaged_library_is_built_again(tmp_path, left):
    file, _ = said(started(tmp_path))
    Path(file).write_bytes(left(Path(file).read_bytes()))
    assert said(started(tmp_path)) == (file, None)
    assert Path(file).read_bytes().startswith(b"\x7fELF") or sys.platform != "linux"


def test_a_command_that_hangs_is_ended_with_what_it_started(tmp_path):
    begun = tmp_path / "begun"
    with pytest.raises(subprocess.TimeoutExpired) as hung:
        build._run(["sh", "-c", f"sleep 1000 & echo $! > {begun}; wait"], 2)
    assert build._said(hung.value) == "it did not end in 2 s"
    for _ in range(100):
        try:
            os.kill(int(begun.read_text()), 0)
        except ProcessLookupError:
            return
        if Path(f"/proc/{begun.read_text().strip()}/stat").read_text().split()[2] == "Z":
            return
        time.sleep(0.1)
    pytest.fail("it still runs")


@needs_compiler
def test_a_library_of_another_user_is_not_loaded(tmp_path, monkeypatch):
    file, _ = said(started(tmp_path))
    monkeypatch.setattr(build, "_folder", lambda: Path(file).parent)
    version = Path(file).stem.split("-")[1]
    assert build._kept(version) == Path(file)
    monkeypatch.setattr(build.os, "getuid", lambda: 12345)
    if os.stat(file).st_uid != 0:
        with pytest.raises(PermissionError, match="belongs to another user"):
            build._kept(version)


@needs_compiler
def test_a_library_that_another_process_put_there_stays(tmp_path):
    made, there = tmp_path / "made", tmp_path / "there"
    made.write_text("mine")
    build._publish(made, there)
    made.unlink()
    made.write_text("later")
    build._publish(made, there)
    assert there.read_text() == "mine"


@needs_compiler
def test_the_architecture_that_a_command_names_is_kept(tmp_path, monkeypatch):
    asked = []
    failed = subprocess.CompletedProcess([], 1, "", "")
    monkeypatch.setattr(build, "_run", lambda command, seconds: asked.append(command) or failed)
    monkeypatch.setattr(build, "_folder", lambda: tmp_path)
    for command in (["gcc", "-march=x86-64-v3"], ["gcc"]):
        with pytest.raises(subprocess.CalledProcessError):
            build._build(command, "version")
    assert [sum(option.startswith("-m") for option in command) for command in asked] == [1, 1, 1, 0]


@needs_compiler
def test_processes_that_build_at_once_share_one_library_and_the_next_builds_nothing(tmp_path):
    processes = [started(tmp_path) for _ in range(3)]
    told = [said(p) for p in processes]
    (file,) = tmp_path.rglob("*.so")
    assert told == [(str(file), None)] * 3
    built = file.stat().st_mtime_ns
    assert [path for path in file.parent.iterdir() if path != file] == []
    assert said(started(tmp_path)) == (str(file), None)
    assert file.stat().st_mtime_ns == built


@needs_compiler
@pytest.mark.slow
@pytest.mark.parametrize("less", ["-mno-avx512f", "-mno-avx512f -mno-avx"])
def test_machines_with_narrower_vectors_compute_the_same(tmp_path, less):
    command = f"{COMPILER} {less}"
    probe = subprocess.run([*shlex.split(command), "-E", "-x", "c", os.devnull], capture_output=True, check=False)
    if probe.returncode:
        pytest.skip("another kind of machine")
    env = {**os.environ, "SELFEVO_TESTS_PROGRAMS": str(tmp_path), "SELFEVO_CC": command, "JAX_PLATFORMS": "cpu"}
    tests = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", str(KERNELS)]
    done = subprocess.run(tests, env=env, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stdout[-3000:]
    assert "skipped" not in done.stdout
    assert list(tmp_path.rglob("kernels-*.so"))


@needs_compiler
def test_names_change_with_whatever_the_library_depends_on(monkeypatch):
    mine = shlex.split(COMPILER)
    first = build._version(mine)
    assert build._version(mine) == first
    assert build._version([*mine, "-O1"]) != first
    monkeypatch.setattr(build, "_cpu", lambda: "another machine")
    assert build._version(mine) != first

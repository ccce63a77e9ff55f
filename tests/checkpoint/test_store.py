"""Our own checkpoints: whole or not there, and readable on any mesh."""

import shutil

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest
from etils import epath
from random_params import random_params

from selfevo_jax.checkpoint import MARK, is_complete, read_metadata, restore_params, save_params
from selfevo_jax.errors import ModelError
from selfevo_jax.model import PRESETS, abstract_params, param_shardings
from selfevo_jax.sharding import DECODE_RULES, TRAIN_RULES, make_mesh

CONFIG = PRESETS["tiny"]


def assert_equal(one, other) -> None:
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(np.asarray(a), np.asarray(b)), one, other)


def test_a_checkpoint_of_eight_devices_restores_on_two_and_on_one(tmp_path) -> None:  # C28
    params = jax.device_put(random_params(CONFIG), param_shardings(CONFIG, make_mesh(2, 2, 2), TRAIN_RULES))
    save_params(tmp_path / "c", params, {"round": 3})
    assert read_metadata(tmp_path / "c") == {"round": 3}
    for count in (2, 1):
        mesh = make_mesh(1, 1, count, jax.devices()[:count])
        shardings = param_shardings(CONFIG, mesh, DECODE_RULES)
        restored = restore_params(tmp_path / "c", abstract_params(CONFIG), shardings)
        assert_equal(params, restored)
        assert restored["layers_0"]["attention"]["q"]["kernel"].sharding.mesh.size == count
    alone = restore_params(tmp_path / "c", abstract_params(CONFIG))
    assert_equal(params, alone)
    assert len(alone["embedding"].sharding.device_set) == 1


def test_a_relative_path_will_do(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    params = random_params(CONFIG)
    save_params("runs/c", params, {})
    assert is_complete("runs/c")
    assert is_complete(tmp_path / "runs" / "c")
    assert_equal(params, restore_params("runs/c", abstract_params(CONFIG)))


def test_restoring_casts_to_the_dtype_asked_for(tmp_path) -> None:
    params = random_params(CONFIG)
    save_params(tmp_path / "c", params, {})
    restored = restore_params(tmp_path / "c", abstract_params(CONFIG, jnp.bfloat16))
    assert_equal(jax.tree.map(lambda x: x.astype(jnp.bfloat16), params), restored)


def test_a_complete_checkpoint_is_never_overwritten(tmp_path) -> None:  # C31
    save_params(tmp_path / "c", {"w": jnp.ones(3)}, {})
    with pytest.raises(ModelError, match="lies here already"):
        save_params(tmp_path / "c", {"w": jnp.zeros(3)}, {})
    assert_equal(restore_params(tmp_path / "c", {"w": jax.ShapeDtypeStruct((3,), jnp.float32)}), {"w": np.ones(3)})


def test_what_a_killed_save_left_is_refused_and_set_aside(tmp_path) -> None:  # C29
    left = tmp_path / "c" / "params.orbax-checkpoint-tmp-1"
    for again in (1, 2):
        shutil.rmtree(tmp_path / "c", ignore_errors=True)
        left.mkdir(parents=True)
        (left / "half").write_text(f"half {again}")
        (tmp_path / "c" / "metadata.json").write_text("{}")
        assert not is_complete(tmp_path / "c")
        with pytest.raises(ModelError, match="no finished checkpoint"):
            restore_params(tmp_path / "c", {"w": jax.ShapeDtypeStruct((3,), jnp.float32)})
        (aside,) = save_params(tmp_path / "c", {"w": jnp.ones(3)}, {"again": True})
        assert is_complete(tmp_path / "c")
        assert sorted(p.name for p in (tmp_path / "c").iterdir()) == ["metadata.json", "params"]
        assert aside == epath.Path(tmp_path / "quarantine" / f"c.{left.name}.{again}")
        assert (aside / "half").read_text() == f"half {again}"


def test_a_copy_without_its_mark_is_set_aside_whole(tmp_path, monkeypatch) -> None:  # C32
    # on object storage Orbax marks what is finished with a file, which a copied folder does not have
    save_params(tmp_path / "c", {"w": jnp.arange(3.0)}, {})
    (tmp_path / "c" / "params" / MARK).unlink(missing_ok=True)  # newer versions mark it on a disk too
    monkeypatch.setattr(ocp.utils, "is_checkpoint_finalized", lambda path: (epath.Path(path) / MARK).exists())
    assert not is_complete(tmp_path / "c")
    (aside,) = save_params(tmp_path / "c", {"w": jnp.zeros(3)}, {})
    (aside / MARK).touch()
    (tmp_path / "c" / "params").rename(tmp_path / "other")
    aside.rename(tmp_path / "c" / "params")
    found = restore_params(tmp_path / "c", {"w": jax.ShapeDtypeStruct((3,), jnp.float32)})
    np.testing.assert_array_equal(found["w"], np.arange(3.0))


def test_a_checkpoint_of_another_shape_names_the_parameter(tmp_path) -> None:
    save_params(tmp_path / "c", {"a": {"w": jnp.ones(3)}}, {})
    with pytest.raises(ModelError, match=r"'a\.w' is \(3,\) in the checkpoint, the model has \(4,\)"):
        restore_params(tmp_path / "c", {"a": {"w": jax.ShapeDtypeStruct((4,), jnp.float32)}})
    with pytest.raises(ModelError, match=r"'a\.w'.*no such parameter|'b' is absent"):
        restore_params(tmp_path / "c", {"b": jax.ShapeDtypeStruct((3,), jnp.float32)})


def test_a_failed_write_is_an_error_that_names_the_folder(tmp_path) -> None:  # C30
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ModelError, match="file/c.*could not be written"):
        save_params(tmp_path / "file" / "c", {"w": jnp.ones(3)}, {})


@pytest.mark.parametrize(
    ("saved", "dtype", "fits"),
    [
        (np.int32([33554433]), "float32", False),
        (np.float32([0.1]), "int32", False),
        (np.float32([70000.0]), "float16", False),
        (np.bool_([True]), "int8", False),
        (np.int8([1]), "bool", False),
        (np.int32([1 << 20]), "int16", False),
        (np.uint32([3_000_000_000]), "int32", False),
        (np.int8([-5]), "int32", True),
        (np.float32([0.5]), "bfloat16", True),
        (np.float16([0.5]), "float32", True),
    ],
)
def test_numbers_are_restored_where_the_dtype_holds_them_else_refused_by_leaf(saved, dtype, fits, tmp_path) -> None:
    save_params(tmp_path / "c", {"a": {"w": jnp.asarray(saved)}}, {})
    wanted = {"a": {"w": jax.ShapeDtypeStruct(saved.shape, dtype)}}
    if fits:
        np.testing.assert_array_equal(restore_params(tmp_path / "c", wanted)["a"]["w"], saved)
        return
    with pytest.raises(ModelError, match=rf"c: 'a\.w' is {saved.dtype} in the checkpoint, and {dtype} cannot hold"):
        restore_params(tmp_path / "c", wanted)


def test_a_number_is_no_template(tmp_path) -> None:
    save_params(tmp_path / "c", {"n": 3, "w": jnp.ones(3)}, {})
    for number in (3, 0.5, True):
        with pytest.raises(ModelError, match=f"'n' is asked for as {number}, expected a shape and a dtype"):
            restore_params(tmp_path / "c", {"n": number, "w": jax.ShapeDtypeStruct((3,), jnp.float32)})
    template = {"n": jax.ShapeDtypeStruct((), jnp.int32), "w": jax.ShapeDtypeStruct((3,), jnp.float32)}
    with pytest.raises(ModelError, match="'n' is int64 in the checkpoint"):
        restore_params(tmp_path / "c", template)

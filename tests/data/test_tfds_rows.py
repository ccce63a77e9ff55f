"""A real tfds dataset, prepared as array_record without TensorFlow."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from selfevo_jax.data import EvaluationRow, numbered_rows, read_qa, source_checksum
from selfevo_jax.errors import DataError

PREPARE = """
import sys
import numpy as np
import tensorflow_datasets as tfds

class Sums(tfds.core.GeneratorBasedBuilder):
    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        text, several = tfds.features.Text(), tfds.features.Sequence
        kinds = {"question": text, "answer": text, "right": several(text), "at": several(np.int32)}
        features = tfds.features.FeaturesDict(kinds)
        return tfds.core.DatasetInfo(builder=self, features=features)

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples()}

    def _generate_examples(self):
        for i in range(5):
            yield i, {"question": f"{i} + ½?", "answer": f"{i}.5", "right": [f"{i}.5", f"{i}½"], "at": [i, 1]}

def prepare(folder):
    Sums(data_dir=folder, file_format="array_record").download_and_prepare()
    assert "tensorflow" not in sys.modules
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("tfds")
    (root / "sums").mkdir()
    (root / "sums" / "sums.py").write_text(PREPARE)  # a builder needs a module of its own
    main = "import sums, sys; sums.prepare(sys.argv[1])"
    command = [sys.executable, "-c", main, str(root / "data")]
    subprocess.run(command, check=True, capture_output=True, timeout=120, cwd=root / "sums")
    return next((root / "data").rglob("dataset_info.json")).parent


def test_rows_of_a_prepared_dataset_are_read_without_tensorflow(folder: Path) -> None:
    rows = read_qa(f"tfds:{folder}/train")
    assert sorted((row.prompt, row.answer) for row in rows) == [(f"{i} + ½?", f"{i}.5") for i in range(5)]
    columns = {row.prompt: row.columns for _, row in numbered_rows(f"tfds:{folder}/train", EvaluationRow)}
    assert columns["3 + ½?"] == {"answer": "3.5", "right": ["3.5", "3½"], "at": [3, 1]}
    assert "tensorflow" not in sys.modules
    assert source_checksum(f"tfds:{folder}/train") == source_checksum(f"tfds:{folder}/train")


def test_a_missing_split_or_dataset_is_named(folder: Path) -> None:
    with pytest.raises(DataError, match="no split 'test' is prepared; there are train"):
        read_qa(f"tfds:{folder}/test")
    with pytest.raises(DataError, match="tfds knows no such dataset"):
        read_qa("tfds:no_such_dataset_here/train")
    with pytest.raises(DataError, match="expected tfds:NAME/SPLIT"):
        read_qa("tfds:train")


@pytest.mark.parametrize("source", ["tfds:huggingface:squad/train", "tfds:someone:theirs/train"])
def test_names_that_would_fetch_code_are_refused(source: str) -> None:
    with pytest.raises(DataError, match="datasets run code that comes with them"):
        read_qa(source)


WHOLE = "tensorflow_datasets.core.features.features_dict.FeaturesDict"


@pytest.mark.parametrize(
    "features",
    [
        {"pythonClassName": "evil.Feature"},
        {"python_class_name": "evil.Feature"},
        {"type": "evil.Feature", "content": {}},
        {"pythonClassName": WHOLE, "featuresDict": {"features": {"a": {"pythonClassName": "evil.Feature"}}}},
        {"type": WHOLE, "proto_cls": "FeaturesDict", "content": '{"features": {"a": {"pythonClassName": "evil.F"}}}'},
    ],
)
def test_a_prepared_folder_imports_no_module_of_its_own(features, folder, tmp_path, monkeypatch) -> None:
    mine = tmp_path / "data"
    shutil.copytree(folder, mine)
    (tmp_path / "evil.py").write_text("import pathlib; pathlib.Path(__file__).with_name('ran').touch()")
    monkeypatch.syspath_prepend(tmp_path)
    (mine / "features.json").write_text(json.dumps(features))
    with pytest.raises(DataError, match=r"features\.json names .*evil"):
        read_qa(f"tfds:{mine}/train")
    shutil.copytree(mine, tmp_path / "all" / "sums" / "1.0.0")
    monkeypatch.setattr("tensorflow_datasets.core.constants.DATA_DIR", str(tmp_path / "all"))
    with pytest.raises(DataError, match=r"features\.json names .*evil"):
        read_qa("tfds:sums/train")
    assert not (tmp_path / "ran").exists()


def test_a_dataset_is_found_by_its_name_and_version_alone(folder: Path, monkeypatch) -> None:
    monkeypatch.setattr("tensorflow_datasets.core.constants.DATA_DIR", str(folder.parents[1]))
    assert len(read_qa("tfds:sums/train")) == len(read_qa("tfds:sums:1.0.0/train")) == 5
    for name in (f"sums/data_dir={folder.parents[1]}", "sums/..:1.0.0"):
        with pytest.raises(DataError, match="expected tfds:NAME/SPLIT"):
            read_qa(f"tfds:{name}/train")


def test_torn_files_of_a_prepared_folder_are_one_error(folder: Path, tmp_path: Path) -> None:
    mine = tmp_path / "data"
    shutil.copytree(folder, mine)
    for file in mine.glob("*array_record*"):
        file.write_bytes(b"torn" * 100)
    with pytest.raises(DataError, match="not a readable row"):
        read_qa(f"tfds:{mine}/train")
    (mine / "features.json").write_text("[" * 100_000)
    with pytest.raises(DataError, match="not valid JSON"):
        read_qa(f"tfds:{mine}/train")

"""A real tfds dataset, prepared as array_record without TensorFlow."""

import subprocess
import sys
from pathlib import Path

import pytest

from selfevo_jax.data import read_qa, source_checksum
from selfevo_jax.errors import DataError

PREPARE = """
import sys
import tensorflow_datasets as tfds

class Sums(tfds.core.GeneratorBasedBuilder):
    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        features = tfds.features.FeaturesDict({"question": tfds.features.Text(), "answer": tfds.features.Text()})
        return tfds.core.DatasetInfo(builder=self, features=features)

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples()}

    def _generate_examples(self):
        for i in range(5):
            yield i, {"question": f"{i} + ½?", "answer": f"{i}.5"}

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
    assert "tensorflow" not in sys.modules
    assert source_checksum(f"tfds:{folder}/train") == source_checksum(f"tfds:{folder}/train")


def test_a_missing_split_or_dataset_is_named(folder: Path) -> None:
    with pytest.raises(DataError, match="no split 'test' is prepared; there are train"):
        read_qa(f"tfds:{folder}/test")
    with pytest.raises(DataError, match="tfds knows no such dataset"):
        read_qa("tfds:no_such_dataset_here/train")
    with pytest.raises(DataError, match="expected tfds:NAME/SPLIT"):
        read_qa("tfds:train")

"""Rows of data sets of the Hugging Face hub: from a server on this machine, and from a cache without one."""

import io

import fake_hub
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from selfevo_jax.data import read_prompts, read_qa, source_checksum
from selfevo_jax.errors import DataError

pytest.importorskip("huggingface_hub")


def parquet(*rows):
    file = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(list(rows)), file)
    return file.getvalue()


ONE, TWO = parquet({"question": "q1", "answer": "1"}), parquet({"question": "q2", "answer": "2"})
OWN = {
    "README.md": b"",
    "main/train-00000-of-00002.parquet": ONE,
    "main/train-00001-of-00002.parquet": TWO,
    "main/test-00000-of-00001.parquet": TWO,
    "other/test-00000-of-00001.parquet": ONE,
}


def asked(source):
    return [row.prompt for row in read_prompts(source)]


def test_a_split_is_fetched_from_the_hub_and_read_again_without_it(tmp_path, monkeypatch):
    with fake_hub.serving({("datasets", "acme/sums"): {"main": OWN}}) as server:
        fake_hub.use(monkeypatch, tmp_path, server)
        assert asked("hf:acme/sums/train") == ["q1", "q2"]
        assert not [name for name in server.asked if "resolve" in name and "train" not in name]
        before = source_checksum("hf:acme/sums/main/train")
        with pytest.raises(DataError, match="several configs have this split: main/test, other/test; name one"):
            asked("hf:acme/sums/test")
        with pytest.raises(DataError, match=r"no Parquet file of a split 'dev'; there are main/train, main/test, oth"):
            asked("hf:acme/sums/dev")
        with pytest.raises(DataError, match="no revision 'v9'"):
            asked("hf:acme/sums/train@v9")
        with pytest.raises(DataError, match=r"hf:acme/none/train: the hub shows no dataset 'acme/none'.*hf auth login"):
            asked("hf:acme/none/train")
    fake_hub.use(monkeypatch, tmp_path)
    assert read_qa("hf:acme/sums/main/train", columns={"prompt": "question"})[1].answer == "2"
    assert source_checksum("hf:acme/sums/train") == before
    with pytest.raises(DataError, match="takes 'prompt' from 'goal', which no row has; there are question, answer"):
        read_prompts("hf:acme/sums/train", columns={"prompt": "goal"})


def test_a_data_set_of_another_format_is_read_from_the_conversion_of_the_hub(tmp_path, monkeypatch):
    converted = {"default/train/0000.parquet": ONE, "default/train/0001.parquet": TWO}
    sets = {"main": {"rows.jsonl": b"{}"}, "refs/convert/parquet": converted}
    with fake_hub.serving(
        {
            ("datasets", "acme/lines"): sets,
            ("datasets", "acme/alone"): {"main": {"rows.jsonl": b"{}"}},
            ("datasets", "acme/terms"): "gated",
        }
    ) as server:
        fake_hub.use(monkeypatch, tmp_path, server)
        assert asked("hf:acme/lines/train") == asked("hf:acme/lines/default/train") == ["q1", "q2"]
        with pytest.raises(DataError, match="no Parquet file of a split 'train'; there are none of any split"):
            asked("hf:acme/alone/train")
        with pytest.raises(DataError, match="terms to agree to.*hf auth login"):
            asked("hf:acme/terms/train")
    fake_hub.use(monkeypatch, tmp_path)
    assert asked("hf:acme/lines/train") == ["q1", "q2"]


@pytest.mark.parametrize(
    "names",
    [
        ("data/train-00000-of-00001.parquet",),
        ("train.parquet",),
        ("train-00000-of-00001-0123abcd.parquet",),
        ("train/0000.parquet",),
        ("data/train-00000-of-00001.parquet", "data/test-00000-of-00001.parquet"),
    ],
)
def test_every_usual_name_of_a_split_is_found_in_a_cache(names, tmp_path, monkeypatch):
    fake_hub.cached(tmp_path, "dataset", "acme/sums", dict.fromkeys(names, ONE))
    fake_hub.use(monkeypatch, tmp_path)
    assert asked("hf:acme/sums/train") == ["q1"]


def test_a_part_of_a_split_is_not_taken_for_the_whole(tmp_path, monkeypatch):
    fake_hub.cached(tmp_path, "dataset", "acme/sums", {"data/train-00001-of-00002.parquet": TWO})
    fake_hub.use(monkeypatch, tmp_path)
    with pytest.raises(DataError, match=r"has the files data/train-00001-of-00002\.parquet, expected 2 of them"):
        asked("hf:acme/sums/train")
    with pytest.raises(DataError, match="the hub is not reached, and the cache of huggingface-hub has nothing of it"):
        asked("hf:acme/other/train")


@pytest.mark.parametrize("source", ["hf:acme/train", "hf:acme//train", "hf:acme/a/b/c/d", "hf:acme/../x", "hf:a/b/c@"])
def test_a_name_of_another_form_is_refused(source):
    with pytest.raises(DataError, match=r"^hf:.*(expected hf:OWNER/NAME/SPLIT|no revision behind '@')"):
        asked(source)

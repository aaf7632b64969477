"""A language model that reads its text from disk equals the one that has it in memory."""

import random

import pytest
from etils import epath

from configs import language_model
from experiments.build.experiment import build
from experiments.runtime import loop
from tests.experiments.data.prepare import write_texts
from tests.experiments.runtime.lives import result

FIELDS = {
    **{"data.context_length": 8, "model.num_layers": 1, "model.num_heads": 2, "model.width": 8},
    **{"batch_size": 8, "eval_batch_size": 5, "log_every_steps": 3, "epochs": 2.5},
    **{"data.tokens": "bytes", "schedule.warmup_epochs": 0.5},
    **{"optimizer.name": "sgd", "optimizer.beta2": None},
}


@pytest.fixture(scope="module", autouse=True)
def cache_home(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


def texts():
    rng = random.Random(0)
    return [bytes(rng.choices(b"abcde", k=rng.randrange(200))) for _ in range(12)]


def in_folder(root):
    for number, each in enumerate(texts()):
        (root / f"{number:02}.txt").write_bytes(each)
    return "folder"


def in_records(root):
    splits = {"train": texts()[:9], "test": texts()[9:]}
    write_texts(root / "my_texts" / "1.0.0", splits, num_shards=2)
    return "my_texts"


@pytest.mark.parametrize("write", [in_folder, pytest.param(in_records, marks=pytest.mark.slow)])
def test_streamed_text_gives_the_run_in_memory(write, tmp_path):
    data_dir = tmp_path / "data"
    data_dir.mkdir()
    name = write(data_dir)
    outcomes = []
    for how in ({"data.loading": "memory"}, {"data.loading": "stream", "data.workers": 0}):
        config = language_model.get_config(name)
        fields = {**FIELDS, "data.data_dir": str(data_dir), **how}
        config.update_from_flattened_dict(fields)
        workdir = tmp_path / how["data.loading"]
        loop.run(build(config, list(fields)), epath.Path(workdir))
        outcomes.append(result(workdir))
    assert outcomes[0] == outcomes[1]

"""TensorBoard's HParams page shows the trials of a sweep; TensorBoard itself reads the files."""

import pytest
from etils import epath

from experiments.sweeping import hparams

PEAK = "schedule.peak_value"


def rows_of(*, setting, seed, accuracies, phase="final", peak=0.1):
    return [
        {
            "phase": phase,
            "setting": setting,
            "seed": seed,
            "data": "digits",
            "model": "nn2",
            PEAK: peak,
            "epoch": float(epoch),
            "step": 5 * epoch,
            "learning_rate": 0.1,
            "train_loss": None if accuracy is None else 1.0,
            "test_accuracy": accuracy,
            "diverged": accuracy is None,
        }
        for epoch, accuracy in enumerate(accuracies, 1)
    ]


@pytest.fixture
def directory(tmp_path):
    rows = [
        *rows_of(setting="a/b (c)", seed=0, accuracies=[0.5, 0.6]),
        *rows_of(setting="a/b (c)", seed=1, accuracies=[0.5, 0.8]),
        *rows_of(setting="cosine", seed=0, accuracies=[0.5, None], peak=0.2),
        *rows_of(setting="cosine", seed=9, accuracies=[0.25, 0.5], phase="tune", peak=0.2),
    ]
    for _ in range(2):  # a command that was killed before the summary writes the files again
        hparams.write(epath.Path(tmp_path), rows, [PEAK], seconds=3.0)
    return tmp_path / "tensorboard"


def test_page_lists_groups_of_seeds_with_their_mean(directory):
    from tensorboard.backend.event_processing import data_provider, plugin_event_multiplexer
    from tensorboard.context import RequestContext
    from tensorboard.plugins import base_plugin
    from tensorboard.plugins.hparams import api_pb2, backend_context, list_session_groups

    runs = plugin_event_multiplexer.EventMultiplexer()
    runs.AddRunsFromDirectory(str(directory))
    runs.Reload()
    provider = data_provider.MultiplexerDataProvider(runs, str(directory))
    context = backend_context.Context(
        base_plugin.TBContext(logdir=str(directory), data_provider=provider)
    )
    columns = [
        *({"hparam": name} for name in ("phase", "setting", PEAK)),
        {"metric": {"tag": "eval/accuracy", "group": ""}},
    ]
    request = api_pb2.ListSessionGroupsRequest(
        allowed_statuses=[api_pb2.STATUS_SUCCESS, api_pb2.STATUS_FAILURE],
        col_params=columns,
        aggregation_type=api_pb2.AGGREGATION_AVG,
        aggregation_metric=api_pb2.MetricName(tag="eval/accuracy"),
        start_index=0,
        slice_size=10,
    )
    handler = list_session_groups.Handler(RequestContext(), context, "", request)
    found = {
        (
            group.hparams["phase"].string_value,
            group.hparams["setting"].string_value,
            group.hparams[PEAK].number_value,
        ): (
            len(group.sessions),
            group.sessions[0].status,
            {metric.name.tag: metric.value for metric in group.metric_values}["eval/accuracy"],
        )
        for group in handler.run().session_groups
    }
    assert found == {
        ("final", "a/b (c)", 0.1): (2, api_pb2.STATUS_SUCCESS, pytest.approx(0.7)),
        # The diverged trial has the value of its last finite epoch.
        ("final", "cosine", 0.2): (1, api_pb2.STATUS_FAILURE, 0.5),
        ("tune", "cosine", 0.2): (1, api_pb2.STATUS_SUCCESS, 0.5),
    }


def test_each_trial_has_its_curves_in_one_file(directory):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    folders = sorted(path.name for path in directory.iterdir() if path.is_dir())
    assert folders == [
        *("final-a-b-c-0000-seed0", "final-a-b-c-0001-seed1", "final-cosine-0002-seed0"),
        "tune-cosine-0003-seed9",
    ]
    events = EventAccumulator(str(directory / folders[1]), size_guidance={"tensors": 0}).Reload()
    assert [event.step for event in events.Tensors("eval/accuracy")] == [5, 10]
    assert {"train/loss", "train/learning_rate"} <= set(events.Tags()["tensors"])
    assert len(list(directory.rglob("events.out.tfevents.*"))) == 5

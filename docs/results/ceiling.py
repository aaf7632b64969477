"""Searches for the best schedule of any shape: a ceiling for the families that are compared.

    taskset -c 0 python -m docs.results.ceiling teacher

A schedule has eight knots at equal distances, and is linear between them. CMA-ES (Hansen and
Ostermeier 2001) searches the rates at the knots for the lowest score on validation examples, the
mean over ten seeds. It stores every candidate in docs/results/data, one generation at a time, and
continues where that file ends. configs/sweeps/ceiling.py compares the schedule that it found with
the other methods, with other seeds and examples.
"""

import argparse
import csv
from collections.abc import Callable, Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
from ml_collections import ConfigDict

from configs.sweeps import base, comparison
from docs.results.stored import DATA, ROOT
from experiments.build.experiment import Experiment
from experiments.build.schedules import Run
from experiments.build.sweeps import read_sweep
from experiments.errors import UserError
from experiments.program import parallel, switches
from experiments.sweeping import trials

TASKS = ("teacher", "teacher_short")
KNOTS = 8
SEEDS = tuple(range(100, 110))
GENERATIONS, CANDIDATES = 30, 10
# Rates are in octaves above the center of the peaks of the comparison. The search begins with a
# linear decay from twice the center, whose end is at a 64th of it.
LOWEST, HIGHEST = -10.0, 3.0
FIRST_MEAN = (*np.log2(2 * (1 - np.arange(KNOTS - 1) / (KNOTS - 1))), -6.0)
FIRST_STANDARD_DEVIATION = 0.7
SEARCH_SEED = 0

Losses = Callable[[Sequence[np.ndarray]], list[float]]


def make_schedule(config: ConfigDict, run: Run) -> optax.Schedule:
    """Builds a schedule that is linear between knots, after a linear warmup.

    Args:
      config: the section `schedule` of a run. Its option `knots` has the rates at the knots, in
        octaves above `peak_value`.
      run: the length of the run.

    Returns:
      The schedule. The last step has the rate of the last knot.

    Raises:
      UserError: there are fewer than two knots.
    """
    octaves = np.asarray(config.options.get("knots", ()), np.float64)
    if len(octaves) < 2:
        raise UserError(
            f"schedule.options.knots={tuple(octaves.tolist())} has fewer than two knots"
        )
    rates = config.peak_value * 2.0**octaves
    warmup = run.steps(config.warmup_epochs)
    steps = np.linspace(warmup, run.num_steps - 1, len(rates))
    if warmup:
        steps, rates = np.append(0, steps), np.append(0.1 * rates[0], rates)
    steps, rates = jax.device_put((steps.astype(np.float32), rates.astype(np.float32)))
    return lambda step: jnp.interp(step, steps, rates)


def setting(name: str, knots: Sequence[float], center: float) -> dict[str, object]:
    """Returns the setting of a sweep.

    Args:
      name: its name.
      knots: rates at the knots, in octaves above the center.
      center: the center of the peaks.
    """
    octaves = np.round(np.asarray(knots, np.float64), 3)
    return {
        "name": name,
        "schedule.name": "docs.results.ceiling:make_schedule",
        "schedule.peak_value": float(center * 2.0 ** octaves.max()),
        "schedule.options.knots": tuple(map(float, octaves - octaves.max())),
    }


def search(task: str) -> np.ndarray:
    """Searches the knots of a task, and trains what its file lacks.

    Args:
      task: one of `TASKS`.

    Returns:
      The mean of the last distribution, [knots], in octaves above the center of the peaks.
    """
    import cmaes  # only the search needs it, not the schedule

    optimizer = cmaes.CMA(
        mean=np.array(FIRST_MEAN),
        sigma=FIRST_STANDARD_DEVIATION,
        bounds=np.tile((LOWEST, HIGHEST), (KNOTS, 1)),
        seed=SEARCH_SEED,
        population_size=CANDIDATES,
    )
    stored = read(task)
    train: Losses | None = None
    for generation in range(GENERATIONS):
        candidates = [optimizer.ask() for _ in range(CANDIDATES)]
        if generation < len(stored):
            of_generation = stored[generation].tolist()
        else:
            train = train or _trainer(task)
            of_generation = train(candidates)
            _append(task, generation, candidates, of_generation)
        optimizer.tell([*zip(candidates, of_generation, strict=True)])
    return np.asarray(optimizer.mean)


def file_of(task: str) -> Path:
    """Returns the file of a search."""
    return ROOT / DATA / f"ceiling_{task}.csv"


def read(task: str) -> np.ndarray:
    """Returns the stored scores, [generations, candidates]."""
    if not file_of(task).exists():
        return np.zeros((0, CANDIDATES))
    with file_of(task).open(newline="") as file:
        scores = [float(row["score"]) for row in csv.DictReader(file)]
    return np.reshape(scores, (-1, CANDIDATES))


def _append(
    task: str, generation: int, candidates: Sequence[np.ndarray], scores: Sequence[float]
) -> None:
    with file_of(task).open("a", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        if not generation:
            knots = [f"knot_{index}" for index in range(KNOTS)]
            writer.writerow(["generation", "candidate", *knots, "score"])
        for index, (knots_of, score) in enumerate(zip(candidates, scores, strict=True)):
            octaves = [f"{knot:.3f}" for knot in knots_of]
            writer.writerow([generation, index, *octaves, repr(score)])


def _trainer(task: str) -> Losses:
    """Returns a function that trains with candidates, and returns the mean score of each."""
    config = comparison.get_config(task)
    _, center, held_out = comparison.TASKS[task]()
    config.grid = ()
    config.seeds = SEEDS
    config.base.data.validation_examples = held_out
    config.tune = base.make(config.base).tune
    mesh = trials.make_mesh()
    replicated = trials.replicated(mesh)

    def experiments_of(candidates: Sequence[np.ndarray]) -> list[Experiment]:
        config.settings = tuple(
            setting(f"candidate {index}", knots, center) for index, knots in enumerate(candidates)
        )
        sweep = read_sweep(config)
        return [each for name in sweep.settings for each in sweep.experiments(name, {}, SEEDS)]

    one = experiments_of([np.array(FIRST_MEAN)])[0]
    assert one.num_steps <= one.steps_per_epoch  # a single order of the examples is enough
    programs = trials.make_programs(one, mesh, trials.one_after_another)
    data = one.task.load()
    train, test = (parallel.to_devices(split, replicated) for split in (data.train, data.test))
    chance = one.task.metrics[one.task.objective].chance

    def scores_of(candidates: Sequence[np.ndarray]) -> list[float]:
        block = trials.make_block(experiments_of(candidates))
        state = programs.init(block)
        steps = parallel.count(one.num_steps, replicated)
        state, _ = programs.train(state, block, train, programs.order(state), steps)
        metrics = trials.means({"test": [jax.device_get(programs.evaluate(state, test))]})
        scores = np.reshape(metrics[f"test_{one.task.objective}"], (len(candidates), len(SEEDS)))
        return np.fmin(scores, chance).mean(1).tolist()  # also where a trial diverged

    return scores_of


def main(task: str) -> None:
    """Runs a search to its end, and prints the schedule that it found."""
    switches.pin()
    found = setting("searched", search(task), comparison.TASKS[task]()[1])
    knots = [f"{knot:.2f}" for knot in found["schedule.options.knots"]]
    print(f"peak {found['schedule.peak_value']:.3g}, knots ({', '.join(knots)})")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Searches for the best schedule of any shape.")
    parser.add_argument("task", choices=TASKS)
    main(parser.parse_args().task)

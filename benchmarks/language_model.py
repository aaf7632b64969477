"""Compares one step of the character model on a CPU with PyTorch's four modes, in one run.

    pip install -e '.[benchmarks]' -c constraints.txt
    TFDS_DATA_DIR=DIR python -m benchmarks.language_model [--rounds=5]

The model has nanoGPT's size on a CPU: 4 layers of width 128, 4 heads, a context of 64, and 12
windows per step; AdamW, and gradients clipped to a norm of 1. loganneal_jax runs the program of
`experiments.train`, which also cuts the windows, averages the metrics, and checks the loss.
PyTorch cuts its windows and reads the loss once per turn. Its attention is
`scaled_dot_product_attention`, and its AdamW is fused. Compiling needs a C++ compiler.
"""

import argparse
from collections.abc import Callable
from typing import Any

from benchmarks.side_by_side import Contender, environment, installed, measure, table

STEPS = 100  # per turn
LAYERS, HEADS, WIDTH, CONTEXT, BATCH, VOCABULARY = 4, 4, 128, 64, 12, 65
LEARNING_RATE, WEIGHT_DECAY, CLIP_NORM = 1e-3, 0.1, 1.0


def ours(dtype: str) -> Callable[[], Any]:
    """Returns a function that runs steps of `experiments.train` in one dispatch."""
    import jax
    import numpy as np

    from configs import language_model
    from experiments.build.experiment import build
    from experiments.program import assemble, parallel

    config = language_model.get_config("tiny_shakespeare")
    config.model.dtype = dtype
    experiment = build(config)
    strategy = parallel.make_strategy("jit", jax.devices(), bfloat16=dtype == "bfloat16")
    programs = assemble.compiled(
        experiment.task, experiment.optimizer, experiment.batches, strategy
    )
    split = parallel.to_devices(experiment.task.load().train, strategy.replicated)
    state = programs.init(np.array([0, 0], np.uint32))
    order = programs.order(state)

    def turn() -> Any:
        nonlocal state
        state, metrics, _ = programs.train(state, split, order, STEPS)
        return jax.block_until_ready((state, metrics))

    return turn


def pytorch(bfloat16: bool, compiled: bool) -> Callable[[], Any]:
    """Returns a function that runs steps of PyTorch."""
    import torch
    from torch.nn import functional

    from benchmarks.pytorch_transformer import Transformer

    torch.manual_seed(0)
    text = torch.randint(0, VOCABULARY, (1_000_000,))
    network: Any = Transformer(VOCABULARY, CONTEXT, LAYERS, HEADS, WIDTH)
    optimizer = torch.optim.AdamW(
        network.parameters(), LEARNING_RATE, weight_decay=WEIGHT_DECAY, fused=True
    )
    parameters = list(network.parameters())
    forward = torch.compile(network) if compiled else network

    def turn() -> Any:
        for _ in range(STEPS):
            starts = torch.randint(0, len(text) - CONTEXT - 1, (BATCH, 1))
            windows = text[starts + torch.arange(CONTEXT + 1)]
            optimizer.zero_grad(set_to_none=True)
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bfloat16):
                logits = forward(windows[:, :-1])
                loss = functional.cross_entropy(
                    logits.float().flatten(0, 1), windows[:, 1:].flatten()
                )
            loss.backward()
            torch.nn.utils.clip_grad_norm_(parameters, CLIP_NORM)
            optimizer.step()
        return loss.item()

    return turn


def main() -> None:
    """Measures each contender and prints the table."""
    parser = argparse.ArgumentParser(
        description="Compares one step of the character model on a CPU with PyTorch."
    )
    parser.add_argument("--rounds", type=int, default=5, help="turns per contender")
    options = parser.parse_args()
    torch = installed("torch")
    print(environment("jax", "flax", "optax", *torch), flush=True)
    contenders = {
        "loganneal_jax": Contender(ours, {"dtype": "float32"}, STEPS),
        "loganneal_jax, bfloat16": Contender(ours, {"dtype": "bfloat16"}, STEPS),
    }
    if torch:
        for bfloat16 in (False, True):
            for compiled in (False, True):
                name = f"PyTorch{', bfloat16' * bfloat16}{', compiled' * compiled}"
                arguments = {"bfloat16": bfloat16, "compiled": compiled}
                contenders[name] = Contender(pytorch, arguments, STEPS)
    else:
        print("PyTorch is not installed, so it is left out.", flush=True)
    seconds = measure(contenders, rounds=options.rounds).seconds
    print(f"\n{options.rounds} rounds of {STEPS} steps\n", flush=True)
    print(table(seconds, unit="ms per step", scale=1e3), flush=True)


if __name__ == "__main__":
    main()

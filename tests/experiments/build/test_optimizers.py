"""Optimizers take the same steps as PyTorch and as arithmetic by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from configs import base
from experiments.build.optimizers import OPTIMIZERS, kernels, optimizer_maker
from experiments.errors import UserError

RATES = jnp.array([0.1, 0.05, 0.2, 0.01])
GRADIENTS = np.random.default_rng(0).normal(size=(4, 5)).astype(np.float32)
START = np.linspace(-1, 1, 5, dtype=np.float32)


def schedule(count):
    return RATES[count]


def section(**changes):
    config = base.get_config().optimizer
    config.update(changes)
    return config


def make(config, schedule):
    return optimizer_maker(config)(schedule, config.weight_decay)


def run(config):
    optimizer = make(config, schedule)
    params = {"kernel": jnp.asarray(START)}
    state = optimizer.init(params)
    for gradient in GRADIENTS:
        updates, state = optimizer.update({"kernel": jnp.asarray(gradient)}, state, params)
        params = optax.apply_updates(params, updates)
    return params["kernel"]


@pytest.mark.parametrize(
    ("ours", "theirs", "options"),
    [
        ({"name": "sgd"}, "SGD", {"momentum": 0.9, "dampening": 0}),
        ({"name": "sgd", "nesterov": True}, "SGD", {"momentum": 0.9, "nesterov": True}),
        ({"name": "sgd", "momentum": 0.0}, "SGD", {}),
        ({"name": "adam"}, "Adam", {}),
        ({"name": "adamw"}, "AdamW", {}),
        ({"name": "adam", "weight_decay_mode": "decoupled"}, "AdamW", {}),
        ({"name": "rmsprop", "momentum": 0.0}, "RMSprop", {"alpha": 0.9}),
        ({"name": "rmsprop", "momentum": 0.9}, "RMSprop", {"alpha": 0.9, "momentum": 0.9}),
    ],
    ids=lambda value: str(value)[:40],
)
def test_four_steps_equal_pytorchs(ours, theirs, options):
    torch = pytest.importorskip("torch")
    config = section(weight_decay=0.1, **ours)
    weights = torch.nn.Parameter(torch.tensor(START))
    peer = getattr(torch.optim, theirs)([weights], lr=0.1, weight_decay=0.1, **options)
    for rate, gradient in zip(RATES, GRADIENTS, strict=True):
        peer.param_groups[0]["lr"] = float(rate)
        weights.grad = torch.tensor(gradient)
        peer.step()
    np.testing.assert_allclose(run(config), weights.detach().numpy(), rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_follows_the_schedule(name):
    """With a zero gradient, weight decay alone moves a parameter, in proportion to the rate."""
    config = section(name=name, weight_decay=0.5, momentum=0.0)
    moved = {}
    for rate in (0.1, 0.2):
        optimizer = make(config, optax.constant_schedule(rate))
        params = {"kernel": jnp.array([2.0, -2.0])}
        zero = jax.tree.map(jnp.zeros_like, params)
        moved[rate], _ = optimizer.update(zero, optimizer.init(params), params)
    assert (np.sign(moved[0.1]["kernel"]) == [-1, 1]).all()
    np.testing.assert_allclose(moved[0.2]["kernel"], 2 * moved[0.1]["kernel"], rtol=1e-6)
    if name in ("sgd", "adamw"):
        np.testing.assert_allclose(moved[0.1]["kernel"], [-0.1, 0.1], rtol=1e-6)


def test_mask_kernels_excludes_biases_norms_and_position_embeddings():
    params = {
        "dense": {"kernel": jnp.ones((2, 2)), "bias": jnp.ones(2)},
        "attention": {"query": {"kernel": jnp.ones((2, 1, 2)), "bias": jnp.ones((1, 2))}},
        "norm": {"scale": jnp.ones(2), "bias": jnp.ones(2)},
        "positions": jnp.ones((1, 4, 2)),
    }
    assert kernels(params) == {
        "dense": {"kernel": True, "bias": False},
        "attention": {"query": {"kernel": True, "bias": False}},
        "norm": {"scale": False, "bias": False},
        "positions": False,
    }
    zero = jax.tree.map(jnp.zeros_like, params)
    for mask, bias in (("all", -0.1), ("kernels", 0.0)):
        config = section(name="sgd", weight_decay=1.0, weight_decay_mask=mask)
        optimizer = make(config, optax.constant_schedule(0.1))
        updates, _ = optimizer.update(zero, optimizer.init(params), params)
        np.testing.assert_allclose(updates["dense"]["kernel"], -0.1, rtol=1e-6)
        np.testing.assert_allclose(updates["dense"]["bias"], bias, rtol=1e-6)


def test_gradients_are_clipped_by_their_global_norm_before_weight_decay():
    config = section(name="sgd", clip_norm=1.0, weight_decay=0.5)
    optimizer = make(config, optax.constant_schedule(1.0))
    params = {"kernel": jnp.array([2.0]), "bias": jnp.array([4.0])}
    gradients = {"kernel": jnp.array([30.0]), "bias": jnp.array([40.0])}
    updates, _ = optimizer.update(gradients, optimizer.init(params), params)
    np.testing.assert_allclose(updates["kernel"], [-0.6 - 1.0], rtol=1e-6)
    np.testing.assert_allclose(updates["bias"], [-0.8 - 2.0], rtol=1e-6)


def test_weight_decay_and_schedule_may_be_traced():
    """A sweep passes both as data; the updates equal those of concrete values."""
    make_optimizer = optimizer_maker(section(name="adam"))
    params = {"kernel": jnp.asarray(START)}
    gradients = {"kernel": jnp.asarray(GRADIENTS[0])}

    def update(rate, weight_decay):
        optimizer = make_optimizer(lambda count: rate, weight_decay)
        return optimizer.update(gradients, optimizer.init(params), params)[0]["kernel"]

    traced = jax.jit(jax.vmap(update))(jnp.array([0.1, 0.2]), jnp.array([0.5, 0.0]))
    np.testing.assert_allclose(traced, [update(0.1, 0.5), update(0.2, 0.0)], rtol=1e-5)


def test_adamw_with_coupled_weight_decay_is_refused():
    config = section(name="adamw", weight_decay_mode="coupled")
    with pytest.raises(
        UserError,
        match=r"^optimizer\.weight_decay_mode='coupled' turns adamw into adam; set "
        r"optimizer\.name=adam$",
    ):
        optimizer_maker(config)

"""Optimizers take the same steps as PyTorch, optax's own, and arithmetic by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from etils import epath
from optax import contrib

import loganneal_jax
from configs import base
from experiments.build.optimizers import OPTIMIZERS, kernels, optimizer_maker
from experiments.errors import UserError
from experiments.program.state import TrainState
from experiments.program.weights import to_evaluate
from experiments.runtime.checkpoint import Checkpointer
from experiments.runtime.hashes import tree_sha256 as sha256_of

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


# Large enough for Adafactor to factor its statistics.
SHAPES = {"kernel": (128, 130), "bias": (130,)}
# Learning rate of each step and weight decay, in two trials.
TRIALS = (
    (np.array([0.02, 0.1, 0.05, 0.01], np.float32), 0.1),
    (np.array([0.01, 0.02, 0.04, 0.08], np.float32), 0.5),
)


def given(optimizer):
    """An optimizer without weight decay of its own, whose weight decay acts on the gradient."""
    return lambda rate, decay, /, **fields: optax.chain(
        optax.add_decayed_weights(decay), optimizer(rate, **fields)
    )


def moved(optimizer):
    """An optimizer without weight decay of its own, whose weight decay acts on the parameters."""

    def chain(rate, decay, /, **fields):
        decayed = optax.chain(
            optax.set_to_zero(),
            optax.add_decayed_weights(decay),
            optax.scale_by_learning_rate(rate),
        )
        inner = optimizer(rate, **fields)

        def update(gradient, states, params):
            one, first = inner.update(gradient, states[0], params)
            two, second = decayed.update(gradient, states[1], params)
            return jax.tree.map(jnp.add, one, two), (first, second)

        return optax.GradientTransformation(
            lambda params: (inner.init(params), decayed.init(params)), update
        )

    return chain


def own(optimizer):
    """An optimizer whose weight decay is an argument."""
    return lambda rate, decay, /, **fields: optimizer(rate, weight_decay=decay, **fields)


def adafactor(rate, decay):
    # Its weight decay is not multiplied by the learning rate.
    return optax.adafactor(rate, weight_decay_rate=lambda count: decay * rate(count))


def muon(rate, decay, **fields):
    return contrib.muon(rate, weight_decay=decay, adam_weight_decay=decay, **fields)


BETAS = {"beta1": 0.8, "beta2": 0.95, "epsilon": 1e-3}
SLOW = pytest.mark.slow
# Fields, optax's own optimizer, and its arguments.
PEERS = [
    pytest.param("adabelief", {}, moved(optax.adabelief), {}, marks=SLOW),
    ("adafactor", {}, adafactor, {}),
    pytest.param("adagrad", {}, given(optax.adagrad), {}, marks=SLOW),
    ("adam", BETAS, given(optax.adam), {"b1": 0.8, "b2": 0.95, "eps": 1e-3}),
    pytest.param("adamw", {}, own(optax.adamw), {}, marks=SLOW),
    # A larger epsilon, because some of Adan's denominators almost cancel.
    pytest.param(
        *("adan", {"beta3": 0.9, "epsilon": 0.1}, own(optax.adan), {"b3": 0.9, "eps": 0.1}),
        marks=SLOW,
    ),
    ("lamb", {}, own(optax.lamb), {}),
    ("lion", {"beta1": 0.8}, own(optax.lion), {"b1": 0.8}),
    ("muon", {"consistent_rms": 0.2, "beta2": 0.9}, muon, {"consistent_rms": 0.2, "adam_b2": 0.9}),
    pytest.param("muon", {}, muon, {}, marks=SLOW),
    pytest.param("nadamw", {}, own(optax.nadamw), {}, marks=SLOW),
    ("prodigy", {"beta2": 0.9}, own(contrib.prodigy), {"betas": (0.9, 0.9)}),
    pytest.param(
        *("prodigy", {"weight_decay_mode": "coupled"}, given(contrib.prodigy), {}), marks=SLOW
    ),
    pytest.param("radam", {}, moved(optax.radam), {}, marks=SLOW),
    pytest.param(
        *("rmsprop", {"momentum": 0.0, "beta2": 0.8}, given(optax.rmsprop)),
        {"eps_in_sqrt": False, "decay": 0.8},
        marks=SLOW,
    ),
    ("schedule_free_adamw", {"beta1": 0.8}, own(contrib.schedule_free_adamw), {"b1": 0.8}),
    pytest.param("schedule_free_sgd", {}, own(contrib.schedule_free_sgd), {}, marks=SLOW),
    pytest.param("sgd", {}, given(optax.sgd), {"momentum": 0.9}, marks=SLOW),
]


@pytest.mark.parametrize(
    ("name", "fields", "peer", "arguments"),
    PEERS,
    ids=lambda value: getattr(value, "__name__", str(value))[:30],
)
def test_trials_of_a_sweep_take_the_steps_of_optaxs_own(name, fields, peer, arguments):
    """Our trials share a program, in which their schedules and weight decays are data."""
    make_optimizer = optimizer_maker(section(name=name, **fields))
    draw = np.random.default_rng(0).standard_normal
    gradients = {key: draw((4, *shape), np.float32) for key, shape in SHAPES.items()}
    start = {key: draw(shape, np.float32) for key, shape in SHAPES.items()}
    rows, decays = (jnp.asarray(np.stack(column)) for column in zip(*TRIALS, strict=True))

    def train(optimizer):
        def step(carry, gradient):
            params, state = carry
            updates, state = optimizer.update(gradient, state, params)
            params = optax.apply_updates(params, updates)
            return (params, state), params

        return jax.lax.scan(step, (start, optimizer.init(start)), gradients)

    def trial(row, decay):
        (params, state), path = train(make_optimizer(loganneal_jax.from_values(row), decay))
        none = jnp.zeros((), jnp.int32)
        state = TrainState(step=none, params=params, batch_stats={}, opt_state=state, key=none)
        return path, to_evaluate(state).params

    def theirs(row, decay):
        (params, state), path = train(
            peer(lambda count: jnp.asarray(row)[count], decay, **arguments)
        )
        if name.startswith("schedule_free"):
            params = contrib.schedule_free_eval_params(state, params)
        return path, params

    ours, expected = jax.jit(lambda: (jax.vmap(trial)(rows, decays), theirs(*TRIALS[1])))()
    for leaf, peers in zip(jax.tree.leaves(ours), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(leaf[1], peers, rtol=2e-5, atol=2e-6)
    if name.startswith("schedule_free"):
        path, evaluated = ours
        assert np.abs(path["kernel"][:, -1] - evaluated["kernel"]).max() > 1e-3


def test_every_optimizer_is_compared():
    compared = {each.values[0] if hasattr(each, "values") else each[0] for each in PEERS}
    assert compared == set(OPTIMIZERS)


@pytest.mark.slow
def test_state_of_every_optimizer_can_be_donated_and_saved(tmp_path):
    optimizers = {
        name: make(section(name=name, clip_norm=1.0), optax.constant_schedule(0.1))
        for name in OPTIMIZERS
    }

    def init():
        params = {key: jnp.ones(shape) for key, shape in SHAPES.items()}
        return TrainState(
            step=jnp.ones((), jnp.int32),
            params=dict.fromkeys(optimizers, params),
            batch_stats={},
            opt_state={name: each.init(params) for name, each in optimizers.items()},
            key=jax.random.key(0),
        )

    def step(state):
        gradient = {key: jnp.full(shape, 0.5) for key, shape in SHAPES.items()}
        states = {
            name: each.update(gradient, state.opt_state[name], state.params[name])[1]
            for name, each in optimizers.items()
        }
        return state.replace(opt_state=states)

    state = jax.jit(step, donate_argnums=0)(jax.jit(init)())
    with Checkpointer(epath.Path(tmp_path), max_to_keep=1, config_sha256="") as checkpointer:
        checkpointer.save(1, state, {})
        checkpointer.finish_saving()
        restored, _ = checkpointer.restore_latest(jax.eval_shape(init))
    assert jax.tree.structure(restored) == jax.tree.structure(state)
    assert sha256_of(restored.opt_state) == sha256_of(state.opt_state)
    evaluated = to_evaluate(restored).params
    assert evaluated["adam"] is restored.params["adam"]
    assert evaluated["schedule_free_sgd"] is not restored.params["schedule_free_sgd"]


def test_schedule_free_without_interpolation_is_refused():
    with pytest.raises(
        UserError, match=r"^optimizer\.beta1=0\.0 cannot be used with optimizer\.name"
    ):
        optimizer_maker(section(name="schedule_free_sgd", beta1=0.0))


# With a gradient of zero, Prodigy divides zero by zero.
@pytest.mark.parametrize("name", [name for name in OPTIMIZERS if name != "prodigy"])
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

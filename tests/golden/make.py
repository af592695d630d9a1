"""Regenerate the golden trajectories: what torch, optax and Keras do with given gradients.

Run by hand, from anywhere: ``pip install torch "jax[cpu]" optax keras`` and then
``python tests/golden/make.py``. It writes, beside itself, ``problem.npz`` (the gradients, the start
and the steps at which x is kept) and one file per library: a case's name -> x at those steps, and
``versions``. A new case is a row here and a row in ``tests/test_golden.py``.
"""

import os
import platform
from pathlib import Path

# Both are read at import. Without x64, JAX rounds every array to float32, with no more than a
# warning.
os.environ["KERAS_BACKEND"] = "jax"
os.environ["JAX_ENABLE_X64"] = "1"

import jax
import jax.numpy as jnp
import keras
import numpy as np
import optax
import torch

# Keras keeps the learning rate in floatx, whatever the dtype of the variables: a float32 rate shows
# as 1e-6 in float64 trajectories.
keras.config.set_floatx("float64")

HERE = Path(__file__).parent

# With a constant rate and a tiny eps, the places of both (inside or outside the momentum buffer and
# the root) cannot be told apart: here the rate falls elevenfold and eps dwarfs some gradients.
LR, LR_DECAY, EPS = 0.1, 0.01, 1e-2
STEPS = np.array([1, 2, *range(25, 1001, 25)])
# The last coordinate is sparse.
SCALES = np.array([1e-3, 1e-2, 1e-1, 1.0, 10.0, 100.0, 1.0])
DENSITY = np.array([1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.05])

TORCH = {
    "sgd": (torch.optim.SGD, {}),
    "sgd-weight-decay": (torch.optim.SGD, {"weight_decay": 0.1}),
    "sgd-momentum": (torch.optim.SGD, {"momentum": 0.9}),
    "sgd-dampening": (torch.optim.SGD, {"momentum": 0.9, "dampening": 0.3}),
    "sgd-nesterov": (torch.optim.SGD, {"momentum": 0.9, "nesterov": True}),
    "sgd-momentum-weight-decay": (torch.optim.SGD, {"momentum": 0.9, "weight_decay": 0.1}),
    "sgd-maximize": (torch.optim.SGD, {"maximize": True}),
    "adagrad": (torch.optim.Adagrad, {"eps": EPS}),
    "adagrad-lr-decay": (torch.optim.Adagrad, {"eps": EPS, "lr_decay": 0.02}),
    "adagrad-initial": (torch.optim.Adagrad, {"eps": EPS, "initial_accumulator_value": 0.5}),
    "adagrad-weight-decay": (torch.optim.Adagrad, {"eps": EPS, "weight_decay": 0.1}),
    "adagrad-maximize": (torch.optim.Adagrad, {"eps": EPS, "maximize": True}),
    "adagrad-all": (
        torch.optim.Adagrad,
        {
            "eps": EPS,
            "lr_decay": 0.02,
            "initial_accumulator_value": 0.5,
            "weight_decay": 0.1,
            "maximize": True,
        },
    ),
    "rmsprop": (torch.optim.RMSprop, {"eps": EPS}),
    "rmsprop-alpha-0.9": (torch.optim.RMSprop, {"eps": EPS, "alpha": 0.9}),
    "rmsprop-weight-decay": (torch.optim.RMSprop, {"eps": EPS, "weight_decay": 0.1}),
    "rmsprop-momentum": (torch.optim.RMSprop, {"eps": EPS, "momentum": 0.9}),
    "rmsprop-centered": (torch.optim.RMSprop, {"eps": EPS, "centered": True}),
    "rmsprop-centered-momentum": (
        torch.optim.RMSprop,
        {"eps": EPS, "centered": True, "momentum": 0.9},
    ),
    "rmsprop-momentum-weight-decay": (
        torch.optim.RMSprop,
        {"eps": EPS, "momentum": 0.9, "weight_decay": 0.1},
    ),
    "rmsprop-maximize": (torch.optim.RMSprop, {"eps": EPS, "maximize": True}),
    "rmsprop-all": (
        torch.optim.RMSprop,
        {
            "eps": EPS,
            "alpha": 0.9,
            "centered": True,
            "momentum": 0.9,
            "weight_decay": 0.1,
            "maximize": True,
        },
    ),
}

OPTAX = {
    "sgd": (optax.sgd, {}),
    "sgd-momentum": (optax.sgd, {"momentum": 0.9}),
    "sgd-nesterov": (optax.sgd, {"momentum": 0.9, "nesterov": True}),
    "adagrad": (optax.adagrad, {"eps": EPS}),
    "adagrad-initial-0": (optax.adagrad, {"eps": EPS, "initial_accumulator_value": 0.0}),
    "adagrad-initial-2": (optax.adagrad, {"eps": EPS, "initial_accumulator_value": 2.0}),
    "adagrad-weight-decay": (
        lambda lr, **options: optax.chain(
            optax.add_decayed_weights(0.1), optax.adagrad(lr, **options)
        ),
        {"eps": EPS},
    ),
    "rmsprop": (optax.rmsprop, {"eps": EPS}),
    "rmsprop-eps-outside": (optax.rmsprop, {"eps": EPS, "eps_in_sqrt": False}),
    "rmsprop-initial": (optax.rmsprop, {"eps": EPS, "initial_scale": 1.0}),
    "rmsprop-centered": (optax.rmsprop, {"eps": EPS, "centered": True}),
    "rmsprop-momentum": (optax.rmsprop, {"eps": EPS, "momentum": 0.9}),
    "rmsprop-nesterov": (optax.rmsprop, {"eps": EPS, "momentum": 0.9, "nesterov": True}),
    "rmsprop-centered-momentum": (optax.rmsprop, {"eps": EPS, "centered": True, "momentum": 0.9}),
}

KERAS = {
    "sgd": (keras.optimizers.SGD, {}),
    "sgd-momentum": (keras.optimizers.SGD, {"momentum": 0.9}),
    "sgd-nesterov": (keras.optimizers.SGD, {"momentum": 0.9, "nesterov": True}),
    "sgd-weight-decay": (keras.optimizers.SGD, {"weight_decay": 0.1}),
    # Only with momentum does SGD tell decoupled decay from coupled.
    "sgd-momentum-weight-decay": (keras.optimizers.SGD, {"momentum": 0.9, "weight_decay": 0.1}),
    "adagrad": (keras.optimizers.Adagrad, {"epsilon": EPS}),
    "adagrad-initial": (
        keras.optimizers.Adagrad,
        {"epsilon": EPS, "initial_accumulator_value": 0.5},
    ),
    "adagrad-weight-decay": (keras.optimizers.Adagrad, {"epsilon": EPS, "weight_decay": 0.1}),
    "rmsprop": (keras.optimizers.RMSprop, {"epsilon": EPS}),
    "rmsprop-momentum": (keras.optimizers.RMSprop, {"epsilon": EPS, "momentum": 0.9}),
    "rmsprop-centered": (keras.optimizers.RMSprop, {"epsilon": EPS, "centered": True}),
    "rmsprop-centered-momentum": (
        keras.optimizers.RMSprop,
        {"epsilon": EPS, "centered": True, "momentum": 0.9},
    ),
    "rmsprop-weight-decay": (keras.optimizers.RMSprop, {"epsilon": EPS, "weight_decay": 0.1}),
}


def draw_problem():
    """Noise that changes sign around a mean, on scales from 1e-3 to 1e2."""
    rng = np.random.default_rng(20240229)
    noise = rng.normal(0.5, 1.0, (STEPS[-1], SCALES.size))
    present = rng.random(noise.shape) < DENSITY
    return np.where(present, SCALES * noise, 0.0), rng.normal(size=SCALES.size)


def lr_of(t):
    """Learning rate of step t, counted from 1."""
    return LR / (1 + LR_DECAY * (t - 1))


def run_torch(optimizer, options, gradients, x0):
    """Yield x after each step; the rate is assigned, as torch's schedulers do."""
    x = torch.tensor(x0, requires_grad=True)
    opt = optimizer([x], lr=LR, **options)
    for t, g in enumerate(gradients, start=1):
        opt.param_groups[0]["lr"] = lr_of(t)
        x.grad = torch.tensor(g)
        opt.step()
        yield x.detach().numpy()


def run_optax(optimizer, options, gradients, x0):
    """Yield x after each step; the rate is a schedule, which optax evaluates at 0 first."""
    opt = optimizer(lambda count: lr_of(count + 1), **options)
    x = jnp.array(x0)
    state = opt.init(x)
    for g in gradients:
        updates, state = opt.update(jnp.array(g), state, x)
        x = optax.apply_updates(x, updates)
        yield x


def run_keras(optimizer, options, gradients, x0):
    """Yield x after each step; the rate is assigned."""
    x = keras.Variable(x0)
    opt = optimizer(learning_rate=LR, **options)
    for t, g in enumerate(gradients, start=1):
        opt.learning_rate = lr_of(t)
        opt.apply([jnp.array(g)], [x])
        yield x.value


def trajectory(run, case, gradients, x0):
    """Return x at STEPS, one row each."""
    rows = []
    for t, x in enumerate(run(*case, gradients, x0), start=1):
        if t in STEPS:
            assert x.dtype == np.float64, x.dtype
            rows.append(np.array(x))
    return np.array(rows)


def main():
    """Write the four files."""
    gradients, x0 = draw_problem()
    np.savez_compressed(HERE / "problem.npz", gradients=gradients, x0=x0, steps=STEPS)
    host = {"numpy": np.__version__, "python": platform.python_version()}
    for name, run, cases, versions in (
        ("torch", run_torch, TORCH, {"torch": torch.__version__}),
        ("optax", run_optax, OPTAX, {"optax": optax.__version__, "jax": jax.__version__}),
        ("keras", run_keras, KERAS, {"keras": keras.__version__, "jax": jax.__version__}),
    ):
        versions = [f"{package} {version}" for package, version in (versions | host).items()]
        golden = {case: trajectory(run, cases[case], gradients, x0) for case in cases}
        np.savez_compressed(HERE / f"{name}.npz", versions=np.array(versions), **golden)
        print(f"{name}.npz: {len(cases)} cases, {', '.join(versions)}")


if __name__ == "__main__":
    main()

"""Regenerate the golden trajectories: what torch, optax and Keras do with given gradients.

Run by hand, from anywhere: ``pip install torch "jax[cpu]" optax keras`` and then
``python tests/golden/make.py``. It writes, beside itself, ``problem.npz`` (the gradients, the start
and the steps at which x is kept) and one file per library: a case's name -> x at those steps, and
``versions``. A new case is a row here and a row in ``tests/test_golden.py``.

``tensorflow1.npz`` is not made by TensorFlow 1, which no current Python installs, but by a NumPy
transcription of the formulas of its kernels, below.

``torch_state.npz`` holds what torch's optimizers keep: ``case/x`` and ``case/KEY`` for every tensor
of the state after so many steps, and ``case/x_later`` after as many more.
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
# So does torch with NAdam's product of momenta, in its default dtype.
torch.set_default_dtype(torch.float64)

HERE = Path(__file__).parent

# With a constant rate and a tiny eps, the places of both (inside or outside the momentum buffer and
# the root) cannot be told apart: here the rate falls elevenfold and eps dwarfs some gradients.
LR, LR_DECAY, EPS = 0.1, 0.01, 1e-2
STEPS = np.array([1, 2, *range(25, 1001, 25)])
STATE_STEPS = 50
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
    "adadelta": (torch.optim.Adadelta, {"eps": EPS}),
    "adadelta-rho-0.99": (torch.optim.Adadelta, {"eps": EPS, "rho": 0.99}),
    "adadelta-weight-decay": (torch.optim.Adadelta, {"eps": EPS, "weight_decay": 0.1}),
    "adadelta-maximize": (torch.optim.Adadelta, {"eps": EPS, "maximize": True}),
    "adam": (torch.optim.Adam, {"eps": EPS}),
    "adam-betas": (torch.optim.Adam, {"eps": EPS, "betas": (0.5, 0.9)}),
    "adam-weight-decay": (torch.optim.Adam, {"eps": EPS, "weight_decay": 0.1}),
    "adam-decoupled": (
        torch.optim.Adam,
        {"eps": EPS, "weight_decay": 0.1, "decoupled_weight_decay": True},
    ),
    "adam-maximize": (torch.optim.Adam, {"eps": EPS, "maximize": True}),
    "adamw": (torch.optim.AdamW, {"eps": EPS}),
    "adamw-weight-decay": (torch.optim.AdamW, {"eps": EPS, "weight_decay": 0.1}),
    "adamw-amsgrad": (torch.optim.AdamW, {"eps": EPS, "amsgrad": True}),
    "adamw-maximize": (torch.optim.AdamW, {"eps": EPS, "maximize": True}),
    "amsgrad": (torch.optim.Adam, {"eps": EPS, "amsgrad": True}),
    "amsgrad-betas": (torch.optim.Adam, {"eps": EPS, "amsgrad": True, "betas": (0.5, 0.9)}),
    "amsgrad-all": (
        torch.optim.Adam,
        {"eps": EPS, "amsgrad": True, "weight_decay": 0.1, "maximize": True},
    ),
    "adamax": (torch.optim.Adamax, {"eps": EPS}),
    "adamax-betas": (torch.optim.Adamax, {"eps": EPS, "betas": (0.5, 0.9)}),
    "adamax-weight-decay": (torch.optim.Adamax, {"eps": EPS, "weight_decay": 0.1}),
    "adamax-maximize": (torch.optim.Adamax, {"eps": EPS, "maximize": True}),
    "nadam": (torch.optim.NAdam, {"eps": EPS}),
    "nadam-betas": (torch.optim.NAdam, {"eps": EPS, "betas": (0.5, 0.9)}),
    "nadam-momentum-decay": (torch.optim.NAdam, {"eps": EPS, "momentum_decay": 0.1}),
    "nadam-weight-decay": (torch.optim.NAdam, {"eps": EPS, "weight_decay": 0.1}),
    "nadam-decoupled": (
        torch.optim.NAdam,
        {"eps": EPS, "weight_decay": 0.1, "decoupled_weight_decay": True},
    ),
    "nadam-maximize": (torch.optim.NAdam, {"eps": EPS, "maximize": True}),
}
TORCH_STATES = (
    "sgd-momentum",
    "adagrad",
    "rmsprop",
    "rmsprop-momentum",
    "rmsprop-centered",
    "rmsprop-centered-momentum",
    "adadelta",
    "adam",
    "adamw",
    "amsgrad",
    "adamax",
    "nadam",
)

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
    "adadelta": (optax.adadelta, {"eps": EPS}),
    "adadelta-weight-decay": (optax.adadelta, {"eps": EPS, "rho": 0.99, "weight_decay": 0.1}),
    "adam": (optax.adam, {"eps": EPS}),
    "adam-betas": (optax.adam, {"eps": EPS, "b1": 0.5, "b2": 0.9}),
    "adam-eps-root": (optax.adam, {"eps": EPS, "eps_root": 0.1}),
    "adamw": (optax.adamw, {"eps": EPS, "weight_decay": 1e-3}),
    "adamw-weight-decay": (optax.adamw, {"eps": EPS, "eps_root": 0.1, "weight_decay": 0.1}),
    "adamax": (optax.adamax, {"eps": EPS}),
    "adamax-betas": (optax.adamax, {"eps": EPS, "b1": 0.5, "b2": 0.9}),
    "adamaxw": (optax.adamaxw, {"eps": EPS, "weight_decay": 0.1}),
    "nadam": (optax.nadam, {"eps": EPS}),
    "nadam-betas": (optax.nadam, {"eps": EPS, "b1": 0.5, "b2": 0.9}),
    "nadam-eps-root": (optax.nadam, {"eps": EPS, "eps_root": 0.1}),
    "nadamw": (optax.nadamw, {"eps": EPS, "weight_decay": 0.1}),
    "amsgrad": (optax.amsgrad, {"eps": EPS}),
    "amsgrad-betas": (optax.amsgrad, {"eps": EPS, "b1": 0.5, "b2": 0.9}),
    "amsgrad-eps-root": (optax.amsgrad, {"eps": EPS, "eps_root": 0.1}),
    "amsgrad-uncorrected": (
        optax.amsgrad,
        {"eps": EPS, "bias_correction_mu": False, "bias_correction_nu": False},
    ),
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
    "adadelta": (keras.optimizers.Adadelta, {"epsilon": EPS}),
    "adadelta-weight-decay": (keras.optimizers.Adadelta, {"epsilon": EPS, "weight_decay": 0.1}),
    "adam": (keras.optimizers.Adam, {"epsilon": EPS}),
    "adam-betas": (keras.optimizers.Adam, {"epsilon": EPS, "beta_1": 0.5, "beta_2": 0.9}),
    "adam-weight-decay": (keras.optimizers.Adam, {"epsilon": EPS, "weight_decay": 0.1}),
    "adamw": (keras.optimizers.AdamW, {"epsilon": EPS}),
    "adamw-weight-decay": (keras.optimizers.AdamW, {"epsilon": EPS, "weight_decay": 0.1}),
    "adamw-amsgrad": (keras.optimizers.AdamW, {"epsilon": EPS, "amsgrad": True}),
    "adamax": (keras.optimizers.Adamax, {"epsilon": EPS}),
    "adamax-betas": (keras.optimizers.Adamax, {"epsilon": EPS, "beta_1": 0.5, "beta_2": 0.9}),
    "adamax-weight-decay": (keras.optimizers.Adamax, {"epsilon": EPS, "weight_decay": 0.1}),
    "nadam": (keras.optimizers.Nadam, {"epsilon": EPS}),
    "nadam-betas": (keras.optimizers.Nadam, {"epsilon": EPS, "beta_1": 0.5, "beta_2": 0.9}),
    "nadam-weight-decay": (keras.optimizers.Nadam, {"epsilon": EPS, "weight_decay": 0.1}),
    "amsgrad": (keras.optimizers.Adam, {"epsilon": EPS, "amsgrad": True}),
    "amsgrad-weight-decay": (
        keras.optimizers.Adam,
        {"epsilon": EPS, "amsgrad": True, "weight_decay": 0.1},
    ),
}


# The kernels ApplyAdagrad, ApplyRMSProp, ApplyCenteredRMSProp and ApplyAdam of
# tensorflow/core/kernels/training_ops.cc, statement by statement, with the initial values of
# tf.train.AdagradOptimizer, RMSPropOptimizer and AdamOptimizer.


def transcribed_adagrad(var, initial_accumulator_value=0.1):
    """ApplyAdagrad: there is no epsilon."""
    accum = np.full_like(var, initial_accumulator_value)
    while True:
        grad, lr = yield var
        accum = accum + np.square(grad)
        var = var - grad * lr * (1 / np.sqrt(accum))


def transcribed_rmsprop(var, epsilon, decay=0.9, momentum=0.0):
    """ApplyRMSProp: the mean square starts at one."""
    ms, mom = np.ones_like(var), np.zeros_like(var)
    while True:
        grad, lr = yield var
        ms = ms + (np.square(grad) - ms) * (1 - decay)
        mom = mom * momentum + (grad * lr) / np.sqrt(ms + epsilon)
        var = var - mom


def transcribed_centered_rmsprop(var, epsilon, decay=0.9, momentum=0.0):
    """ApplyCenteredRMSProp: the mean square starts at one, the mean at zero."""
    ms, mg, mom = np.ones_like(var), np.zeros_like(var), np.zeros_like(var)
    while True:
        grad, lr = yield var
        ms = ms + (np.square(grad) - ms) * (1 - decay)
        mg = mg + (grad - mg) * (1 - decay)
        denom = (ms - np.square(mg)) + epsilon
        mom = mom * momentum + (grad * lr) / np.sqrt(denom)
        var = var - mom


def transcribed_adam(var, epsilon, beta1=0.9, beta2=0.999):
    """ApplyAdam; the powers of the betas are variables, multiplied after each step."""
    m, v = np.zeros_like(var), np.zeros_like(var)
    beta1_power, beta2_power = beta1, beta2
    while True:
        grad, lr = yield var
        alpha = lr * np.sqrt(1 - beta2_power) / (1 - beta1_power)
        m = m + (grad - m) * (1 - beta1)
        v = v + (np.square(grad) - v) * (1 - beta2)
        var = var - (m * alpha) / (np.sqrt(v) + epsilon)
        beta1_power, beta2_power = beta1_power * beta1, beta2_power * beta2


TENSORFLOW1 = {
    "adagrad": (transcribed_adagrad, {}),
    "adagrad-initial": (transcribed_adagrad, {"initial_accumulator_value": 0.5}),
    "rmsprop": (transcribed_rmsprop, {"epsilon": EPS}),
    "rmsprop-momentum": (transcribed_rmsprop, {"epsilon": EPS, "decay": 0.99, "momentum": 0.9}),
    "rmsprop-centered": (transcribed_centered_rmsprop, {"epsilon": EPS}),
    "rmsprop-centered-momentum": (
        transcribed_centered_rmsprop,
        {"epsilon": EPS, "decay": 0.99, "momentum": 0.9},
    ),
    "adam": (transcribed_adam, {"epsilon": EPS}),
    "adam-betas": (transcribed_adam, {"epsilon": EPS, "beta1": 0.5, "beta2": 0.9}),
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


def run_torch(optimizer, options, gradients, x0, states=None):
    """Yield x after each step; the rate is assigned, as torch's schedulers do.

    ``states``, where given, is filled with the optimizer's state after each step.
    """
    x = torch.tensor(x0, requires_grad=True)
    opt = optimizer([x], lr=LR, **options)
    for t, g in enumerate(gradients, start=1):
        opt.param_groups[0]["lr"] = lr_of(t)
        x.grad = torch.tensor(g)
        opt.step()
        if states is not None:
            (state,) = opt.state_dict()["state"].values()
            states.append({key: value.numpy().copy() for key, value in state.items()})
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


def run_transcription(optimizer, options, gradients, x0):
    """Yield x after each step."""
    opt = optimizer(x0, **options)
    next(opt)
    for t, g in enumerate(gradients, start=1):
        yield opt.send((g, lr_of(t)))


def trajectory(run, case, gradients, x0):
    """Return x at STEPS, one row each."""
    rows = []
    for t, x in enumerate(run(*case, gradients, x0), start=1):
        if t in STEPS:
            assert x.dtype == np.float64, x.dtype
            rows.append(np.array(x))
    return np.array(rows)


def torch_state(case, gradients, x0):
    """Return x and the optimizer's state after STATE_STEPS, and x after as many more."""
    states = []
    xs = [x.copy() for x in run_torch(*case, gradients[: 2 * STATE_STEPS], x0, states)]
    return {"x": xs[STATE_STEPS - 1], **states[STATE_STEPS - 1], "x_later": xs[-1]}


def main():
    """Write the files."""
    gradients, x0 = draw_problem()
    np.savez_compressed(HERE / "problem.npz", gradients=gradients, x0=x0, steps=STEPS)
    host = {"numpy": np.__version__, "python": platform.python_version()}
    libraries = {"torch": torch, "optax": optax, "keras": keras, "jax": jax}
    written = {}
    for name, run, cases, packages in (
        ("torch", run_torch, TORCH, ["torch"]),
        ("optax", run_optax, OPTAX, ["optax", "jax"]),
        ("keras", run_keras, KERAS, ["keras", "jax"]),
        ("tensorflow1", run_transcription, TENSORFLOW1, []),
    ):
        golden = {case: trajectory(run, cases[case], gradients, x0) for case in cases}
        written[name] = (golden, packages)
    states = {
        f"{case}/{key}": value
        for case in TORCH_STATES
        for key, value in torch_state(TORCH[case], gradients, x0).items()
    }
    written["torch_state"] = ({**states, "steps": np.array(STATE_STEPS)}, ["torch"])
    for name, (golden, packages) in written.items():
        versions = {package: libraries[package].__version__ for package in packages} | host
        versions = [f"{package} {version}" for package, version in versions.items()]
        np.savez_compressed(HERE / f"{name}.npz", versions=np.array(versions), **golden)
        print(f"{name}.npz: {len(golden)} arrays, {', '.join(versions)}")


if __name__ == "__main__":
    main()

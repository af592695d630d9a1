"""Convert states from and to torch: continue a run of torch here, or the reverse.

Parameters correspond in their order: torch's first parameter, counted through its groups, is the
first name of ``params``. torch's state does not contain the values of the parameters: copy them.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from itertools import groupby
from typing import Any, TypeAlias

import numpy as np

from .methods.base import Method
from .optimizer.optimizer import Optimizer

__all__ = ["from_torch", "to_torch"]

# Method -> slot -> torch's key. V, the variance of centered RMSProp, is computed.
_KEYS: dict[str, dict[str, str]] = {
    "Momentum": {"b": "momentum_buffer"},
    "AdaGrad": {"G": "sum"},
    "RMSProp": {"E": "square_avg", "m": "grad_avg", "b": "momentum_buffer"},
    "AdaDelta": {"E": "square_avg", "D": "acc_delta"},
    "Adam": {"m": "exp_avg", "v": "exp_avg_sq"},
    "AdamW": {"m": "exp_avg", "v": "exp_avg_sq"},
    "Adamax": {"m": "exp_avg", "u": "exp_inf"},
    "Nadam": {"m": "exp_avg", "v": "exp_avg_sq"},
    "AMSGrad": {"m": "exp_avg", "v": "exp_avg_sq", "v_max": "max_exp_avg_sq"},
}
# Our name of a hyperparameter -> torch's name, if they differ.
_NAMES = {"rho": "alpha", "initial_accumulator": "initial_accumulator_value"}
# Options that torch does not have -> the value that it uses. They are not in torch's groups.
_FIXED: dict[str, object] = {
    "eps_inside": False,
    "lr_inside": False,
    "eps_hat": False,
    "eps_root": 0.0,
    "corrected_max": False,
    "bias_correction": True,
}
# Methods for which torch also has decoupled decay.
_DECOUPLED = ("Adam", "AdamW", "AMSGrad", "Nadam")
_OF_METHOD: dict[str, dict[str, object]] = {
    "RMSProp": {"nesterov": False, "initial_accumulator": 0.0},
    "Adamax": {"eps_inside": True},
}


# What state_dict() of one of torch's optimizers returns.
TorchState: TypeAlias = Mapping[str, Any]


def from_torch(
    optimizer: Optimizer,
    state_dict: TorchState,
    *,
    t: int | None = None,
    names: Sequence[str] | None = None,
) -> None:
    """Load the state of torch's Adagrad, RMSprop, Adadelta, Adam, AdamW, Adamax or NAdam.

    Parameters
    ----------
    optimizer : Optimizer
        An optimizer with the corresponding method and the same shapes. Its slots, ``t`` and scalars
        are replaced. Its parameters and hyperparameters stay unchanged.
    state_dict : dict
        The result of ``state_dict()`` of torch's optimizer, with tensors or arrays.
    t : int, optional
        The number of steps taken, which torch's SGD does not store. By default the number in the
        state, or 1 if it has none.
    names : sequence of str, optional
        Names of torch's parameters, counted through its groups. By default the names in the state
        (of an optimizer made with ``named_parameters``) if they are those of ``params``, otherwise
        the names of ``params`` in their order.

    Raises
    ------
    TypeError, ValueError
        If the state belongs to another method or has other shapes, or if the method has an option
        that torch does not have. Nothing is modified then.

    Notes
    -----
    A parameter without a state in torch has taken no step: it starts with a count of 0 steps. For
    centered RMSProp torch keeps the second moment E. Here the state is the variance
    :math:`V = E - m^2`, so the conversion rounds.

    Examples
    --------
    >>> import numpy as np, adaptopt as ao
    >>> opt = ao.Optimizer(np.ones(2), ao.AdaGrad(lr=0.1, eps=1e-10))
    >>> theirs = {"state": {0: {"step": 3.0, "sum": np.array([4.0, 9.0])}},
    ...           "param_groups": [{"params": [0]}]}
    >>> ao.interchange.from_torch(opt, theirs)
    >>> opt.t, opt.state["G"]
    (3, array([4., 9.]))
    """
    order = _order(optimizer, state_dict, names)
    methods = _methods(optimizer)
    for method in methods.values():
        _check(method)
    optimizer.flush()
    ours = optimizer.state_dict()
    counts = {}
    for name, k in order.items():
        entry, method = ours["parameters"][name], methods[name]
        entry["hidden"].pop("last", None)
        theirs = _state_of(state_dict, k)
        counts[name] = _count(theirs, t)
        if not theirs:
            entry["state"] = {
                slot: np.full_like(array, method.initial_state().get(slot, 0.0))
                for slot, array in entry["state"].items()
            }
            first = method.initial_scalars()
            entry["scalars"] = dict(zip(entry["scalars"], first, strict=True))
            continue
        keys = {slot: _KEYS[type(method).__name__].get(slot, "square_avg") for slot in method.slots}
        for slot, array in entry["state"].items():
            key = keys[slot]
            value = _value(theirs, key, k, method).astype(np.float64)
            if slot == "V":
                mean = _value(theirs, "grad_avg", k, method).astype(np.float64)
                value = np.maximum(value - mean**2, 0.0)
            entry["state"][slot] = value.astype(array.dtype)
        entry["scalars"] = {
            key: _number(key, _value(theirs, key, k, method)) for key in entry["scalars"]
        }
        if unknown := theirs.keys() - {"step", *keys.values(), *method.scalars}:
            raise ValueError(
                f"state_dict has {sorted(unknown)} for parameter {k}, which {method} does not "
                "keep: expected the method and options that correspond"
            )
    ours["t"] = max(counts.values())
    for name, count in counts.items():
        ours["parameters"][name]["behind"] = ours["t"] - count
    optimizer.load_state_dict(ours)


def _methods(optimizer: Optimizer) -> dict[str, Method]:
    """Return the method of each parameter."""
    names, method = optimizer.state_dict()["parameters"], optimizer.method
    return dict(method) if isinstance(method, Mapping) else dict.fromkeys(names, method)


def _order(
    optimizer: Optimizer, state_dict: TorchState, names: Sequence[str] | None
) -> dict[str, object]:
    """Return torch's number of each parameter by our name."""
    groups = state_dict.get("param_groups") if isinstance(state_dict, Mapping) else None
    if not (
        isinstance(groups, Sequence)
        and all(isinstance(group, Mapping) and "params" in group for group in groups)
        and isinstance(state_dict.get("state"), Mapping)
    ):
        raise TypeError(
            "state_dict has no 'state' and 'param_groups', expected what state_dict() of torch's "
            "optimizer returns"
        )
    if any(group.get("maximize") for group in groups):
        raise ValueError("state_dict has maximize True, expected False: here steps go down")
    numbers = [k for group in groups for k in group["params"]]
    ours = list(optimizer.state_dict()["parameters"])
    theirs = [name for group in groups for name in group.get("param_names", ())]
    if names is None:
        names = theirs if sorted(theirs) == sorted(ours) else ours
    if len(numbers) != len(ours):
        raise ValueError(f"state_dict has {len(numbers)} parameters, expected {len(ours)}")
    if len(set(numbers)) < len(numbers):
        raise ValueError(f"state_dict has parameters {numbers}, expected each once")
    if sorted(names) != sorted(ours):
        raise ValueError(f"names is {list(names)}, expected those of params, {ours}, in any order")
    found = dict(zip(names, numbers, strict=True))
    return {name: found[name] for name in ours}


def _state_of(state_dict: TorchState, k: object) -> dict[str, np.ndarray]:
    """Return torch's state of one parameter as arrays."""
    state = state_dict["state"].get(k, {})
    if not isinstance(state, Mapping):
        raise TypeError(f"state_dict has {state!r:.60} for parameter {k}, expected a dict")
    return {key: _array(value) for key, value in state.items() if value is not None}


def _count(theirs: Mapping[str, np.ndarray], t: int | None) -> int:
    """Return how many steps a parameter has taken."""
    if not theirs:
        return 0
    if t is not None:
        return t
    count = _number("step", theirs["step"]) if "step" in theirs else 1.0
    if not (count >= 0 and count.is_integer()):
        raise ValueError(f"state_dict has step {count}, expected a whole number >= 0")
    return int(count)


def _value(theirs: Mapping[str, np.ndarray], key: str, k: object, method: Method) -> np.ndarray:
    if key not in theirs:
        raise ValueError(
            f"state_dict has {sorted(theirs)} for parameter {k}, expected {key!r} of "
            f"torch's {type(method).__name__}"
        )
    if theirs[key].dtype.kind not in "fiu" and theirs[key].dtype.name != "bfloat16":
        raise TypeError(f"state_dict has {key} of {theirs[key].dtype}, expected numbers")
    return theirs[key]


def _number(key: str, value: np.ndarray) -> float:
    if value.size != 1:
        raise ValueError(f"state_dict has {key} of shape {value.shape}, expected one number")
    return float(value.reshape(()))


def to_torch(
    optimizer: Optimizer, *, tensor: Callable[[np.ndarray], object] | None = None
) -> dict[str, Any]:
    """Return the state in the form that ``load_state_dict`` of torch's optimizer takes.

    Parameters
    ----------
    optimizer : Optimizer
        An optimizer after at least one step. Successive names with equal methods form one of
        torch's groups, so that parameters correspond in their order.
    tensor : callable, optional
        Makes a tensor from an array. By default ``torch.tensor``, which needs torch.

    Returns
    -------
    dict
        ``state`` and ``param_groups``, with the hyperparameters under torch's names. ``lr`` is the
        rate of the last step.

    Raises
    ------
    ValueError
        If the method has an option that torch does not have.

    Examples
    --------
    >>> import numpy as np, adaptopt as ao
    >>> opt = ao.Optimizer(np.ones(2), ao.AdaGrad(lr=0.1, eps=1e-10))
    >>> opt.step(np.array([2.0, 3.0]))
    >>> ao.interchange.to_torch(opt, tensor=np.asarray)["state"][0]["sum"]
    array([4., 9.])
    """
    if tensor is None:
        tensor = importlib.import_module("torch").tensor
    optimizer.flush()
    entries = optimizer.state_dict()["parameters"]
    methods = _methods(optimizer)
    state: dict[int, dict[str, object]] = {}
    for k, (name, method) in enumerate(methods.items()):
        _check(method)
        keys = _KEYS[type(method).__name__]
        slots = entries[name]["state"]
        arrays = {keys[slot]: array for slot, array in slots.items() if slot in keys}
        if "V" in slots:
            arrays["square_avg"] = slots["V"] + slots["m"] ** 2
        if type(method).__name__ != "Momentum":
            arrays["step"] = np.array(optimizer.t - entries[name].get("behind", 0), np.float32)
        for key, value in entries[name]["scalars"].items():
            arrays[key] = np.array(value)
        state[k] = {key: tensor(array) for key, array in arrays.items()}
    groups = []
    for method, same in groupby(range(len(methods)), key=list(methods.values()).__getitem__):
        groups.append({**_options(method, max(optimizer.t, 1)), "params": list(same)})
    return {"state": state, "param_groups": groups}


def _check(method: Method) -> None:
    """Raise if torch has no such method."""
    name = type(method).__name__
    if name not in _KEYS:
        raise ValueError(f"method is {method}, expected one of {', '.join(_KEYS)}")
    for option, value in (_FIXED | _OF_METHOD.get(name, {})).items():
        if getattr(method, option, value) != value:
            raise ValueError(
                f"{name}.{option} is {getattr(method, option)!r}, expected {value!r}: torch has "
                "no such option"
            )
    if method.weight_decay and method.decoupled and name not in _DECOUPLED:
        raise ValueError(f"{name}.decoupled is True, expected False: torch's is coupled")


def _options(method: Method, t: int) -> dict[str, object]:
    """Return the hyperparameters in the form of torch's groups."""
    name = type(method).__name__
    fixed = _FIXED.keys() | _OF_METHOD.get(name, {}).keys()
    options = {
        key: value
        for key, value in vars(method).items()
        if not key.startswith("_") and key not in fixed and key != "decoupled"
    }
    options["lr"] = method.lr_at(max(t, 1))
    if "beta1" in options:
        options["betas"] = (options.pop("beta1"), options.pop("beta2"))
    for ours, theirs in _NAMES.items():
        if ours in options and not (ours == "rho" and name == "AdaDelta"):
            options[theirs] = options.pop(ours)
    if name == "AdaGrad":
        options["lr_decay"] = 0.0
    if name in ("Adam", "AdamW", "AMSGrad"):
        options["amsgrad"] = name == "AMSGrad"
    if name in _DECOUPLED:
        options["decoupled_weight_decay"] = method.decoupled
    return options


def _array(value: object) -> np.ndarray:
    """Return a tensor, an array or a number as an array; float64 holds all of torch's numbers."""
    if hasattr(value, "detach"):
        value = value.detach().cpu().double().numpy()
    return np.asarray(value)

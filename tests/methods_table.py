"""Every method with every option, one row each: what holds for a method is tested for all.

Rows with the same rule and decay share their kernels, and compiling is what a test costs: a fact
about kernels is tested once a kernel, with what else it depends on (dtype, map, layout) in turn.
"""

from dataclasses import dataclass

import adaptopt as ao

METHODS = {
    "sgd": ao.SGD(0.1),
    "sgd-decay": ao.SGD(0.1, weight_decay=0.1),
    "sgd-decoupled": ao.SGD(0.1, weight_decay=0.1, decoupled=True),
    "momentum": ao.Momentum(0.1),
    "momentum-dampening": ao.Momentum(0.1, dampening=0.3),
    "momentum-lr-inside": ao.Momentum(0.1, lr_inside=True),
    "nesterov": ao.Momentum(0.1, nesterov=True),
    "nesterov-lr-inside": ao.Momentum(0.1, nesterov=True, lr_inside=True),
    "adagrad": ao.AdaGrad(0.1, eps=1e-2),
    "adagrad-eps-inside": ao.AdaGrad(0.1, eps=1e-2, eps_inside=True),
    "adagrad-initial": ao.AdaGrad(0.1, initial_accumulator=0.1),
    "adagrad-decay": ao.AdaGrad(0.1, weight_decay=0.1),
    "adagrad-schedule": ao.AdaGrad(ao.schedules.inverse_time(0.1, 0.01)),
    "rmsprop": ao.RMSProp(0.1, eps=1e-2),
    "rmsprop-eps-inside": ao.RMSProp(0.1, eps=1e-2, eps_inside=True),
    "rmsprop-initial": ao.RMSProp(0.1, initial_accumulator=1.0),
    "rmsprop-momentum": ao.RMSProp(0.1, momentum=0.9),
    "rmsprop-momentum-lr-inside": ao.RMSProp(0.1, momentum=0.9, lr_inside=True),
    "rmsprop-nesterov": ao.RMSProp(0.1, momentum=0.9, nesterov=True),
    "rmsprop-centered": ao.RMSProp(0.1, centered=True, eps=1e-2),
    "rmsprop-centered-momentum": ao.RMSProp(0.1, centered=True, momentum=0.9, eps=1e-2),
    "rmsprop-centered-nesterov": ao.RMSProp(
        0.1, centered=True, momentum=0.9, nesterov=True, eps=1e-2
    ),
    "rmsprop-decoupled": ao.RMSProp(0.1, weight_decay=0.1, decoupled=True),
    "rmsprop-schedule": ao.RMSProp(ao.schedules.cosine(0.1, 50)),
    "adadelta": ao.AdaDelta(),
    "adadelta-eps": ao.AdaDelta(0.5, rho=0.95, eps=1e-2),
    "adadelta-schedule": ao.AdaDelta(ao.schedules.cosine(1.0, 50)),
    "adam": ao.Adam(0.1),
    "adam-eps-hat": ao.Adam(0.1, eps=1e-2, eps_hat=True),
    "adam-eps-root": ao.Adam(0.1, eps=0.0, eps_root=1e-2),
    "adam-decay": ao.Adam(0.1, weight_decay=0.1),
    "adam-schedule": ao.Adam(ao.schedules.cosine(0.1, 50)),
    "adamw": ao.AdamW(0.1, weight_decay=0.1),
    "adamax": ao.Adamax(0.1),
    "adamax-eps-outside": ao.Adamax(0.1, eps=1e-2, eps_inside=False),
    "nadam": ao.Nadam(0.1),
    "nadam-constant-momentum": ao.Nadam(0.1, momentum_decay=1e3),
    "nadam-eps-root": ao.Nadam(0.1, eps=0.0, eps_root=1e-2),
    "nadam-decoupled": ao.Nadam(0.1, weight_decay=0.1, decoupled=True),
    "nadam-schedule": ao.Nadam(ao.schedules.cosine(0.1, 50)),
    "amsgrad": ao.AMSGrad(0.1),
    "amsgrad-eps-hat": ao.AMSGrad(0.1, eps=1e-2, eps_hat=True),
    "amsgrad-eps-root": ao.AMSGrad(0.1, eps=0.0, eps_root=1e-2),
    "amsgrad-corrected-max": ao.AMSGrad(0.1, corrected_max=True),
    "amsgrad-uncorrected": ao.AMSGrad(0.1, bias_correction=False),
    "adagrad-da": ao.AdaGradDA(0.1, eps=1e-2),
    "adagrad-da-penalties": ao.AdaGradDA(0.1, eps=1e-2, l1=0.1, l2=0.3),
    "ftrl": ao.FTRL(0.1),
    "ftrl-penalties": ao.FTRL(0.1, beta=0.5, l1=0.1, l2=0.3),
    "ftrl-schedule": ao.FTRL(ao.schedules.inverse_time(0.1, 0.01)),
}

# The name of the first row of each kernel, and for every row the name of that which has its kernel.
_FIRST = {(m.rule, m.decay): name for name, m in reversed(METHODS.items())}
KERNEL_OF = {name: _FIRST[m.rule, m.decay] for name, m in METHODS.items()}
KERNELS = list(dict.fromkeys(KERNEL_OF.values()))


def _first_of_each(feature):
    """Return the first of the kernels for every value of a feature of a method."""
    first = {}
    for name in KERNELS:
        first.setdefault(feature(METHODS[name]), name)
    return set(first.values())


# One kernel of each shape: of how many arrays and numbers, how its rate comes about, each decay.
# What the code around the rules does, the compiled loops too, is tested with these; what the rules
# do, with all.
_OF_A_SHAPE = _first_of_each(
    lambda m: (len(m.slots), len(m.scalars), m.rate is None, m.from_sums)
) | _first_of_each(lambda m: m.decay)
EACH_SHAPE = [name for name in KERNELS if name in _OF_A_SHAPE]


def in_turn(names, *choices):
    """Give each name one of every list of choices, so that each choice meets many names.

    Each list runs through once while those before it stand still, as the digits of a counter: all
    combinations come up if there are as many names.
    """
    cases = []
    for k, name in enumerate(names):
        case = [name]
        for values in choices:
            values = list(values)
            k, digit = divmod(k, len(values))
            case.append(values[(digit + k) % len(values)])
        cases.append(tuple(case))
    return cases


def takes(name, prox):
    """Tell whether a method takes a map: dual averaging and FTRL refuse penalties."""
    return prox is None or not (METHODS[name].from_sums and prox.has_penalty)


# Those whose rate is a formula; the others' steps write the rates down.
RATED = [name for name, method in METHODS.items() if method.rate]
RATED_KERNELS = [name for name in KERNELS if METHODS[name].rate]

# Those that leave x where it is while there has been no gradient: no decay moves it, and it is not
# computed anew from sums, as by dual averaging, which measures from 0 or rounds.
STILL = [
    name
    for name, method in METHODS.items()
    if not (method.weight_decay or isinstance(method, ao.AdaGradDA | ao.FTRL))
]


def five(x, g, a, b, c, d, e, lr):
    a = a + g
    b = b + a
    c = c + b
    d = d + c
    e = e + d
    return x - lr * e, lr, (a, b, c, d, e)


@dataclass(frozen=True)
class FiveSlots(ao.Method):
    lr: float = 0.5
    slots = ("a", "b", "c", "d", "e")
    rule = staticmethod(five)

"""The method that matches each trajectory of the golden files, by library."""

from pathlib import Path

import adaptopt as ao

GOLDEN = Path(__file__).parent / "golden"

# These are the numbers of golden/make.py.
LR = ao.schedules.inverse_time(0.1, decay=0.01)
# torch's lr_decay divides the rate, which falls already.
LR_DECAYED = ao.schedules.inverse_time(LR, decay=0.02)
EPS = 1e-2

CASES = {
    "torch": {
        "sgd": ao.SGD(LR),
        "sgd-weight-decay": ao.SGD(LR, weight_decay=0.1),
        "sgd-momentum": ao.Momentum(LR, momentum=0.9),
        "sgd-dampening": ao.Momentum(LR, momentum=0.9, dampening=0.3),
        "sgd-nesterov": ao.Momentum(LR, momentum=0.9, nesterov=True),
        "sgd-momentum-weight-decay": ao.Momentum(LR, momentum=0.9, weight_decay=0.1),
        "sgd-maximize": ao.SGD(LR),
        "adagrad": ao.AdaGrad(LR, EPS),
        "adagrad-lr-decay": ao.AdaGrad(LR_DECAYED, EPS),
        "adagrad-initial": ao.AdaGrad(LR, EPS, initial_accumulator=0.5),
        "adagrad-weight-decay": ao.AdaGrad(LR, EPS, weight_decay=0.1),
        "adagrad-maximize": ao.AdaGrad(LR, EPS),
        "adagrad-all": ao.AdaGrad(LR_DECAYED, EPS, initial_accumulator=0.5, weight_decay=0.1),
        "rmsprop": ao.RMSProp(LR, 0.99, EPS),
        "rmsprop-alpha-0.9": ao.RMSProp(LR, 0.9, EPS),
        "rmsprop-weight-decay": ao.RMSProp(LR, 0.99, EPS, weight_decay=0.1),
        "rmsprop-momentum": ao.RMSProp(LR, 0.99, EPS, momentum=0.9),
        "rmsprop-centered": ao.RMSProp(LR, 0.99, EPS, centered=True),
        "rmsprop-centered-momentum": ao.RMSProp(LR, 0.99, EPS, momentum=0.9, centered=True),
        "rmsprop-momentum-weight-decay": ao.RMSProp(LR, 0.99, EPS, momentum=0.9, weight_decay=0.1),
        "rmsprop-maximize": ao.RMSProp(LR, 0.99, EPS),
        "rmsprop-all": ao.RMSProp(LR, 0.9, EPS, momentum=0.9, centered=True, weight_decay=0.1),
        "adadelta": ao.AdaDelta(LR, 0.9, EPS),
        "adadelta-rho-0.99": ao.AdaDelta(LR, 0.99, EPS),
        "adadelta-weight-decay": ao.AdaDelta(LR, 0.9, EPS, weight_decay=0.1),
        "adadelta-maximize": ao.AdaDelta(LR, 0.9, EPS),
        "adam": ao.Adam(LR, eps=EPS),
        "adam-betas": ao.Adam(LR, 0.5, 0.9, EPS),
        "adam-weight-decay": ao.Adam(LR, eps=EPS, weight_decay=0.1),
        "adam-decoupled": ao.Adam(LR, eps=EPS, weight_decay=0.1, decoupled=True),
        "adam-maximize": ao.Adam(LR, eps=EPS),
        "adamw": ao.AdamW(LR, eps=EPS),
        "adamw-weight-decay": ao.AdamW(LR, eps=EPS, weight_decay=0.1),
        "adamw-amsgrad": ao.AMSGrad(LR, eps=EPS, weight_decay=1e-2, decoupled=True),
        "adamw-maximize": ao.AdamW(LR, eps=EPS),
        "amsgrad": ao.AMSGrad(LR, eps=EPS),
        "amsgrad-betas": ao.AMSGrad(LR, 0.5, 0.9, EPS),
        "amsgrad-all": ao.AMSGrad(LR, eps=EPS, weight_decay=0.1),
        "adamax": ao.Adamax(LR, eps=EPS),
        "adamax-betas": ao.Adamax(LR, 0.5, 0.9, EPS),
        "adamax-weight-decay": ao.Adamax(LR, eps=EPS, weight_decay=0.1),
        "adamax-maximize": ao.Adamax(LR, eps=EPS),
        "nadam": ao.Nadam(LR, eps=EPS),
        "nadam-betas": ao.Nadam(LR, 0.5, 0.9, EPS),
        "nadam-momentum-decay": ao.Nadam(LR, eps=EPS, momentum_decay=0.1),
        "nadam-weight-decay": ao.Nadam(LR, eps=EPS, weight_decay=0.1),
        "nadam-decoupled": ao.Nadam(LR, eps=EPS, weight_decay=0.1, decoupled=True),
        "nadam-maximize": ao.Nadam(LR, eps=EPS),
    },
    "optax": {
        "sgd": ao.SGD(LR),
        "sgd-momentum": ao.Momentum(LR, momentum=0.9),
        "sgd-nesterov": ao.Momentum(LR, momentum=0.9, nesterov=True),
        "adagrad": ao.AdaGrad(LR, EPS, initial_accumulator=0.1, eps_inside=True),
        "adagrad-initial-0": ao.AdaGrad(LR, EPS, eps_inside=True),
        "adagrad-initial-2": ao.AdaGrad(LR, EPS, initial_accumulator=2.0, eps_inside=True),
        "adagrad-weight-decay": ao.AdaGrad(
            LR, EPS, initial_accumulator=0.1, eps_inside=True, weight_decay=0.1
        ),
        "rmsprop": ao.RMSProp(LR, 0.9, EPS, eps_inside=True),
        "rmsprop-eps-outside": ao.RMSProp(LR, 0.9, EPS),
        "rmsprop-initial": ao.RMSProp(LR, 0.9, EPS, eps_inside=True, initial_accumulator=1.0),
        "rmsprop-centered": ao.RMSProp(LR, 0.9, EPS, centered=True, eps_inside=True),
        "rmsprop-momentum": ao.RMSProp(LR, 0.9, EPS, momentum=0.9, eps_inside=True, lr_inside=True),
        "rmsprop-nesterov": ao.RMSProp(
            LR, 0.9, EPS, momentum=0.9, eps_inside=True, lr_inside=True, nesterov=True
        ),
        "rmsprop-centered-momentum": ao.RMSProp(
            LR, 0.9, EPS, momentum=0.9, centered=True, eps_inside=True, lr_inside=True
        ),
        "adadelta": ao.AdaDelta(LR, 0.9, EPS),
        "adadelta-weight-decay": ao.AdaDelta(LR, 0.99, EPS, weight_decay=0.1),
        "adam": ao.Adam(LR, eps=EPS),
        "adam-betas": ao.Adam(LR, 0.5, 0.9, EPS),
        "adam-eps-root": ao.Adam(LR, eps=EPS, eps_root=0.1),
        "adamw": ao.AdamW(LR, eps=EPS, weight_decay=1e-3),
        "adamw-weight-decay": ao.AdamW(LR, eps=EPS, eps_root=0.1, weight_decay=0.1),
        "adamax": ao.Adamax(LR, eps=EPS),
        "adamax-betas": ao.Adamax(LR, 0.5, 0.9, EPS),
        "adamaxw": ao.Adamax(LR, eps=EPS, weight_decay=0.1, decoupled=True),
        "nadam": ao.Nadam(LR, eps=EPS, momentum_decay=1e3),
        "nadam-betas": ao.Nadam(LR, 0.5, 0.9, EPS, momentum_decay=1e3),
        "nadam-eps-root": ao.Nadam(LR, eps=EPS, momentum_decay=1e3, eps_root=0.1),
        "nadamw": ao.Nadam(LR, eps=EPS, momentum_decay=1e3, weight_decay=0.1, decoupled=True),
        "amsgrad": ao.AMSGrad(LR, eps=EPS, corrected_max=True),
        "amsgrad-betas": ao.AMSGrad(LR, 0.5, 0.9, EPS, corrected_max=True),
        "amsgrad-eps-root": ao.AMSGrad(LR, eps=EPS, eps_root=0.1, corrected_max=True),
        "amsgrad-uncorrected": ao.AMSGrad(LR, eps=EPS, bias_correction=False),
    },
    "keras": {
        "sgd": ao.SGD(LR),
        "sgd-momentum": ao.Momentum(LR, momentum=0.9, lr_inside=True),
        "sgd-nesterov": ao.Momentum(LR, momentum=0.9, nesterov=True, lr_inside=True),
        "sgd-weight-decay": ao.SGD(LR, weight_decay=0.1, decoupled=True),
        "sgd-momentum-weight-decay": ao.Momentum(
            LR, momentum=0.9, lr_inside=True, weight_decay=0.1, decoupled=True
        ),
        "adagrad": ao.AdaGrad(LR, EPS, initial_accumulator=0.1, eps_inside=True),
        "adagrad-initial": ao.AdaGrad(LR, EPS, initial_accumulator=0.5, eps_inside=True),
        "adagrad-weight-decay": ao.AdaGrad(
            LR, EPS, initial_accumulator=0.1, eps_inside=True, weight_decay=0.1, decoupled=True
        ),
        "rmsprop": ao.RMSProp(LR, 0.9, EPS, eps_inside=True),
        "rmsprop-momentum": ao.RMSProp(LR, 0.9, EPS, momentum=0.9, eps_inside=True, lr_inside=True),
        "rmsprop-centered": ao.RMSProp(LR, 0.9, EPS, centered=True, eps_inside=True),
        "rmsprop-centered-momentum": ao.RMSProp(
            LR, 0.9, EPS, momentum=0.9, centered=True, eps_inside=True, lr_inside=True
        ),
        "rmsprop-weight-decay": ao.RMSProp(
            LR, 0.9, EPS, eps_inside=True, weight_decay=0.1, decoupled=True
        ),
        "adadelta": ao.AdaDelta(LR, 0.95, EPS),
        "adadelta-weight-decay": ao.AdaDelta(LR, 0.95, EPS, weight_decay=0.1, decoupled=True),
        "adam": ao.Adam(LR, eps=EPS, eps_hat=True),
        "adam-betas": ao.Adam(LR, 0.5, 0.9, EPS, eps_hat=True),
        "adam-weight-decay": ao.AdamW(LR, eps=EPS, eps_hat=True, weight_decay=0.1),
        "adamw": ao.AdamW(LR, eps=EPS, eps_hat=True, weight_decay=4e-3),
        "adamw-weight-decay": ao.AdamW(LR, eps=EPS, eps_hat=True, weight_decay=0.1),
        "adamw-amsgrad": ao.AMSGrad(LR, eps=EPS, eps_hat=True, weight_decay=4e-3, decoupled=True),
        "adamax": ao.Adamax(LR, eps=EPS, eps_inside=False),
        "adamax-betas": ao.Adamax(LR, 0.5, 0.9, EPS, eps_inside=False),
        "adamax-weight-decay": ao.Adamax(
            LR, eps=EPS, eps_inside=False, weight_decay=0.1, decoupled=True
        ),
        "nadam": ao.Nadam(LR, eps=EPS, momentum_decay=1.0),
        "nadam-betas": ao.Nadam(LR, 0.5, 0.9, EPS, momentum_decay=1.0),
        "nadam-weight-decay": ao.Nadam(
            LR, eps=EPS, momentum_decay=1.0, weight_decay=0.1, decoupled=True
        ),
        "amsgrad": ao.AMSGrad(LR, eps=EPS, eps_hat=True),
        "amsgrad-weight-decay": ao.AMSGrad(
            LR, eps=EPS, eps_hat=True, weight_decay=0.1, decoupled=True
        ),
    },
    "tensorflow1": {
        "adagrad": ao.AdaGrad(LR, eps=0.0, initial_accumulator=0.1),
        "adagrad-initial": ao.AdaGrad(LR, eps=0.0, initial_accumulator=0.5),
        "rmsprop": ao.RMSProp(LR, 0.9, EPS, eps_inside=True, initial_accumulator=1.0),
        "rmsprop-momentum": ao.RMSProp(
            LR,
            0.99,
            EPS,
            momentum=0.9,
            eps_inside=True,
            lr_inside=True,
            initial_accumulator=1.0,
        ),
        "rmsprop-centered": ao.RMSProp(
            LR, 0.9, EPS, centered=True, eps_inside=True, initial_accumulator=1.0
        ),
        "rmsprop-centered-momentum": ao.RMSProp(
            LR,
            0.99,
            EPS,
            momentum=0.9,
            centered=True,
            eps_inside=True,
            lr_inside=True,
            initial_accumulator=1.0,
        ),
        "adam": ao.Adam(LR, eps=EPS, eps_hat=True),
        "adam-betas": ao.Adam(LR, 0.5, 0.9, EPS, eps_hat=True),
    },
}

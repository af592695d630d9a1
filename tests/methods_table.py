"""Every method with every option, one row each: what holds for a method is tested for all."""

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
}

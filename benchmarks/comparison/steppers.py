"""Steps on arrays, by us and by the peers: each in its fastest documented form, from equal starts.

A stepper takes lists of starting arrays and two lists of gradients, one the negative of the other.
``flip`` switches to the other list, as a backward pass would leave it. ``step(calls)`` takes that
many steps, and ``result`` returns the parameters. Only ``step`` is timed.
"""

import numba
import numpy as np

import adaptopt as ao

from .limits import plain_steps
from .peers import Peer, deepspeed_optimizers, judge, largest_difference, why_missing
from .timing import Entry, stepping

LR, EPS, RHO = 1e-2, 1e-10, 0.9
BETAS = 0.9, 0.999
METHODS = {
    "AdaGrad": ao.AdaGrad(LR, eps=EPS),
    "RMSProp": ao.RMSProp(LR, rho=RHO, eps=EPS),
    "Adam": ao.Adam(LR, *BETAS, eps=EPS),
}
SLOTS = {"AdaGrad": 1, "RMSProp": 1, "Adam": 2}
BLOCK = 16_384  # elements of NumPy's blocks: five such arrays fit a cache of 512 KB


class Ours:
    """``ao.Optimizer`` on one array, or on a dict whose gradients lie in ``opt.grads``."""

    def __init__(self, method, starts, gradients, in_place=True, says=None, **options):
        self.says = says  # instead of the check, if the result is expected to differ
        self.alone = len(starts) == 1
        names = [f"p{k}" for k in range(len(starts))]
        self.gradients = [dict(zip(names, each, strict=True)) for each in gradients]
        start = {name: x.copy() for name, x in zip(names, starts, strict=True)}
        self.in_place = in_place and not self.alone
        self.opt = ao.Optimizer(start["p0"] if self.alone else start, METHODS[method], **options)

    def flip(self):
        self.gradients.reverse()
        self.used = self.gradients[0]["p0"] if self.alone else self.gradients[0]
        if self.in_place:
            for name, place in self.opt.grads.items():
                place[...] = self.used[name]
            self.used = self.opt.grads

    def step(self, calls):
        step, grads = self.opt.step, self.used
        for _ in range(calls):
            step(grads)

    def result(self):
        return [self.opt.params] if self.alone else list(self.opt.params.values())


class NumPy:
    """Ufuncs that write to existing arrays, in blocks that stay in the cache."""

    def __init__(self, method, starts, gradients):
        self.update = getattr(self, method.lower())
        self.params = [x.copy() for x in starts]
        slots = 2 if method == "Adam" else 1
        state = [[np.zeros(x.size, x.dtype) for _ in range(slots)] for x in starts]
        longest = min(max(x.size for x in starts), BLOCK)
        scratch = np.empty((2, longest), np.float32)
        # All views are made beforehand: only the ufuncs are timed.
        self.blocks = [
            [
                tuple(array[low : low + BLOCK] for array in (x.ravel(), g.ravel(), *slots))
                + tuple(row[: min(BLOCK, x.size - low)] for row in scratch)
                for x, g, slots in zip(self.params, each, state, strict=True)
                for low in range(0, x.size, BLOCK)
            ]
            for each in gradients
        ]
        self.t = 0

    def flip(self):
        self.blocks.reverse()

    def step(self, calls):
        update, blocks = self.update, self.blocks[0]
        for _ in range(calls):
            self.t += 1
            for arrays in blocks:
                update(*arrays)

    @staticmethod
    def adagrad(x, g, G, a, b):
        np.multiply(g, g, out=a)
        np.add(G, a, out=G)
        np.sqrt(G, out=a)
        np.add(a, np.float32(EPS), out=a)
        np.divide(g, a, out=a)
        np.multiply(a, np.float32(LR), out=a)
        np.subtract(x, a, out=x)

    @staticmethod
    def rmsprop(x, g, E, a, b):
        np.multiply(g, g, out=a)
        np.multiply(a, np.float32(1 - RHO), out=a)
        np.multiply(E, np.float32(RHO), out=E)
        np.add(E, a, out=E)
        np.sqrt(E, out=a)
        np.add(a, np.float32(EPS), out=a)
        np.divide(g, a, out=a)
        np.multiply(a, np.float32(LR), out=a)
        np.subtract(x, a, out=x)

    def adam(self, x, g, m, v, a, b):
        beta1, beta2 = BETAS
        np.multiply(m, np.float32(beta1), out=m)
        np.multiply(g, np.float32(1 - beta1), out=a)
        np.add(m, a, out=m)
        np.multiply(g, g, out=a)
        np.multiply(a, np.float32(1 - beta2), out=a)
        np.multiply(v, np.float32(beta2), out=v)
        np.add(v, a, out=v)
        np.multiply(v, np.float32(1 / (1 - beta2**self.t)), out=a)
        np.sqrt(a, out=a)
        np.add(a, np.float32(EPS), out=a)
        np.divide(m, a, out=a)
        np.multiply(a, np.float32(LR / (1 - beta1**self.t)), out=a)
        np.subtract(x, a, out=x)

    def result(self):
        return self.params


class Torch:
    """An optimizer of ``torch.optim``, or one with its interface; gradients lie in ``.grad``."""

    def __init__(self, method, starts, gradients, make=None, **flags):
        import torch

        torch.set_num_threads(numba.get_num_threads())
        names = {"AdaGrad": "Adagrad", "RMSProp": "RMSprop", "Adam": "Adam"}
        options = {
            "AdaGrad": {},
            "RMSProp": {"alpha": RHO},
            "Adam": {"betas": BETAS},
        }[method]
        self.params = [torch.nn.Parameter(torch.from_numpy(x.copy())) for x in starts]
        self.gradients = [[torch.from_numpy(g) for g in each] for each in gradients]
        make = make or getattr(torch.optim, names[method])
        self.opt = make(self.params, lr=LR, eps=EPS, **options, **flags)

    def flip(self):
        self.gradients.reverse()
        for parameter, gradient in zip(self.params, self.gradients[0], strict=True):
            parameter.grad = gradient

    def step(self, calls):
        step = self.opt.step
        for _ in range(calls):
            step()

    def result(self):
        return [parameter.detach().numpy() for parameter in self.params]


def _torch(**flags):
    return lambda *given: Torch(*given, **flags)


class Compiled(Torch):
    """The step of an optimizer of ``torch.optim``, compiled for these parameters."""

    def __init__(self, *given):
        import torch

        super().__init__(*given, foreach=True)
        torch.compiler.reset()  # torch silently stops compiling a function after a few times
        self.take = torch.compile(self.opt.step)

    def step(self, calls):
        take = self.take
        for _ in range(calls):
            take()


def _make_deepspeed(method, starts, gradients):
    return Torch(method, starts, gradients, make=deepspeed_optimizers()[method])


class Jax:
    """optax, jitted, with donated buffers of parameters and state. It waits at the end."""

    def __init__(self, method, starts, gradients):
        import jax
        import optax

        beta1, beta2 = BETAS
        transform = {
            "AdaGrad": lambda: optax.adagrad(LR, initial_accumulator_value=0.0, eps=EPS),
            "RMSProp": lambda: optax.rmsprop(LR, decay=RHO, eps=EPS),
            "Adam": lambda: optax.adam(LR, b1=beta1, b2=beta2, eps=EPS),
        }[method]()

        def update(params, state, grads):
            updates, state = transform.update(grads, state, params)
            return optax.apply_updates(params, updates), state

        self.wait = jax.block_until_ready
        self.update = jax.jit(update, donate_argnums=(0, 1))
        self.params = [jax.numpy.array(x, copy=True) for x in starts]
        self.gradients = [[jax.numpy.asarray(g) for g in each] for each in gradients]
        self.state = transform.init(self.params)

    def flip(self):
        self.gradients.reverse()

    def step(self, calls):
        update, params, state, grads = self.update, self.params, self.state, self.gradients[0]
        for _ in range(calls):
            params, state = update(params, state, grads)
        self.params, self.state = self.wait((params, state))

    def result(self):
        return [np.asarray(x) for x in self.params]


_TORCH = "state in huge pages (THP_MEM_ALLOC_ENABLE=1); the gradient lies in .grad"
PEERS = (
    Peer(
        "NumPy",
        "numpy",
        f"ufuncs with out=, nothing allocated, in blocks of {BLOCK:,} elements that stay in the "
        "cache; NumPy has no threads for this",
        "numpy",
        NumPy,
    ),
    Peer(
        "torch default",
        "torch",
        f"foreach=False: the loop over parameters; {_TORCH}",
        "torch",
        _torch(foreach=False),
    ),
    Peer("torch foreach", "torch", f"foreach=True; {_TORCH}", "torch", _torch(foreach=True)),
    Peer(
        "torch fused",
        "torch",
        f"fused=True: one kernel a parameter; RMSprop has none; {_TORCH}",
        "torch",
        _torch(fused=True),
        ("AdaGrad", "Adam"),
    ),
    Peer(
        "torch compiled",
        "torch",
        f"torch.compile(optimizer.step) with foreach=True, compiled anew for each size; {_TORCH}",
        "torch",
        Compiled,
    ),
    Peer(
        "JAX + optax",
        "optax",
        "jax.jit with donate_argnums for parameters and state; calls are queued, and waited for at "
        "the end of a series",
        "optax",
        Jax,
    ),
    Peer(
        "DeepSpeed",
        "deepspeed",
        "DeepSpeedCPUAdagrad and DeepSpeedCPUAdam(adamw_mode=False), built on this machine for its "
        "SIMD; it has no RMSprop, and the AdaGrad of 0.19.8 gives another result for the last n "
        "mod 16 elements",
        "deepspeed",
        _make_deepspeed,
        ("AdaGrad", "Adam"),
    ),
)


def entries(method, starts, gradients, ours, leave_out):
    """Return the candidates: ours, the installed peers that have the method, and plain kernels.

    ``ours`` holds other variants of ours by name, ``leave_out`` the reason for each peer that is
    not run. All take a few steps, and those whose result differs from ours are not timed.
    """
    made = {"adaptopt": Ours(method, starts, gradients), **ours}
    found = []
    for peer in PEERS:
        if method not in (peer.methods or METHODS) or why_missing(peer.needs) is not None:
            continue
        if peer.name in leave_out:
            found.append(Entry(peer.name, "peer", None, None, leave_out[peer.name]))
        else:
            made[peer.name] = peer.make(method, starts, [list(each) for each in gradients])
    timed = []
    for name, (check, same) in checked(made, "adaptopt").items():
        kind = "ours" if isinstance(made[name], Ours) else "peer"
        timed.append(Entry(name, kind, stepping(made[name]) if same else None, "adaptopt", check))
    x, g, opposite = (
        np.concatenate(each) if len(each) > 1 else each[0] for each in (starts, *gradients)
    )
    for name, stepper in plain_steps(SLOTS[method], x, [g, opposite]).items():
        timed.append(Entry(name, "limit", stepping(stepper), "adaptopt", "moves the same bytes"))
    return timed + found


def checked(made, reference, steps=3):
    """Take a few steps with each, and return for each the verdict and whether to time it."""
    for stepper in made.values():
        for _ in range(steps):
            stepper.flip()
            stepper.step(1)
    ours = made[reference].result()
    return {
        name: (stepper.says, True)
        if getattr(stepper, "says", None)
        else judge(largest_difference(stepper.result(), ours))
        for name, stepper in made.items()
    }

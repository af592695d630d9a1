"""The mathematics: one scalar function per optimizer, read like the paper's formula.

A rule takes one coordinate ``x``, its gradient ``g``, its state and the coefficients of the step;
it returns the new ``x``, the effective learning rate of the coordinate, and the new state.
``*_rate`` is that rate as a function of the new state. ``*_coefficients`` holds what is the same
for all coordinates of a step; it is evaluated once per step, in float64. So is ``*_carry``, before
it: it takes the scalars of a method, numbers that go through the run, to the next step.

Rules are plain functions without literals: a bare ``1`` or ``2.0`` would make Numba compute a
float32 kernel in float64.

A rate overflows to infinity if eps is tiny, or if there is none and the accumulator has faded. So a
rule multiplies by it with `times`: a zero gradient moves nothing.

``eps_in`` and ``eps_out`` are the two places of eps, inside and outside the root; one of them is
zero. ``lr_in`` and ``lr_out`` are the two places of the learning rate, inside and outside the
momentum buffer; one of them is one. Adding zero and multiplying by one are exact.
"""

from __future__ import annotations

from math import sqrt

__all__ = [
    "adadelta",
    "adadelta_coefficients",
    "adagrad",
    "adagrad_coefficients",
    "adagrad_da",
    "adagrad_da_coefficients",
    "adagrad_da_idle",
    "adagrad_da_rate",
    "adagrad_idle",
    "adagrad_norm_carry",
    "adagrad_norm_coefficients",
    "adagrad_rate",
    "adam",
    "adam_coefficients",
    "adam_rate",
    "adamax",
    "adamax_coefficients",
    "adamax_rate",
    "amsgrad",
    "amsgrad_coefficients",
    "amsgrad_rate",
    "clip",
    "coupled_decay",
    "coupled_decay_coefficients",
    "decoupled_decay",
    "decoupled_decay_coefficients",
    "ftrl",
    "ftrl_carry",
    "ftrl_coefficients",
    "ftrl_rate",
    "geometric",
    "momentum",
    "momentum_coefficients",
    "momentum_idle",
    "momentum_rate",
    "nadam",
    "nadam_carry",
    "nadam_coefficients",
    "nesterov",
    "nesterov_idle",
    "no_decay",
    "no_decay_coefficients",
    "rmsprop",
    "rmsprop_centered",
    "rmsprop_centered_idle",
    "rmsprop_centered_momentum",
    "rmsprop_centered_momentum_idle",
    "rmsprop_centered_nesterov",
    "rmsprop_centered_nesterov_idle",
    "rmsprop_coefficients",
    "rmsprop_idle",
    "rmsprop_momentum",
    "rmsprop_momentum_idle",
    "rmsprop_nesterov",
    "rmsprop_nesterov_idle",
    "rmsprop_rate",
    "sgd",
    "sgd_rate",
    "soft",
    "stays",
    "times",
]

# mypy: disable-error-code="no-untyped-def, no-untyped-call"
# Rules run on Python floats, in float32 kernels and in float64 kernels: they have no one type.


def over(lr, root):
    """Return ``lr / root``, and 0 if ``lr`` is 0: 0 over an accumulator that has faded is NaN."""
    return lr / root if lr else lr


def times(rate, g):
    """Return ``rate * g``, and 0 if ``g`` is 0: an infinite rate times 0 would be NaN."""
    return rate * g if g else g


# -- weight decay: what happens to (x, g) before the rule ------------------------------------------


def no_decay(x, g):
    """Leave the coordinate and its gradient as they are."""
    return x, g


def no_decay_coefficients(lr, weight_decay):
    """Return nothing."""
    return ()


def coupled_decay(x, g, weight_decay):
    """Add the gradient of ``weight_decay / 2 * x**2`` (L2 regularisation)."""
    return x, g + weight_decay * x


def coupled_decay_coefficients(lr, weight_decay):
    """Return the strength of the penalty."""
    return (weight_decay,)


def decoupled_decay(x, g, keep):
    """Shrink the coordinate itself, ``keep = 1 - lr * weight_decay`` (Loshchilov & Hutter 2019)."""
    return keep * x, g


def decoupled_decay_coefficients(lr, weight_decay):
    """Return what is kept of a coordinate."""
    return (1.0 - lr * weight_decay,)


# -- plain gradient descent ------------------------------------------------------------------------


def sgd_rate(lr):
    """One rate for all."""
    return lr


def sgd(x, g, lr):
    """Robbins & Monro (1951)."""
    return x - times(lr, g), lr, ()


def stays(k, x, *rest):
    """Without a gradient, nothing happens (no slots)."""
    return x, ()


# -- powers, for steps without a gradient ----------------------------------------------------------


def _double(n, power, total, block, block_sum):
    """Take in the lowest bit of ``n``."""
    odd = n & 1
    longer, further = power * block, total + power * block_sum
    power, total = longer if odd else power, further if odd else total
    return n >> 1, power, total, block * block, block_sum + block * block_sum


def _double_five_times(n, power, total, block, block_sum):
    n, power, total, block, block_sum = _double(n, power, total, block, block_sum)
    n, power, total, block, block_sum = _double(n, power, total, block, block_sum)
    n, power, total, block, block_sum = _double(n, power, total, block, block_sum)
    n, power, total, block, block_sum = _double(n, power, total, block, block_sum)
    return _double(n, power, total, block, block_sum)


def geometric(f, k):
    """Return ``f**k`` and ``f + f**2 + ... + f**k`` for 1 <= k < 2**20: no exp, no log.

    Nor is there a difference in it, in which digits would cancel where ``f`` is almost 1, nor a
    branch: all bits of ``k`` are gone through, so that many numbers are computed at once.
    """
    n, power, total, block, block_sum = _double_five_times(int(k), k / k, f - f, f, f)
    n, power, total, block, block_sum = _double_five_times(n, power, total, block, block_sum)
    n, power, total, block, block_sum = _double_five_times(n, power, total, block, block_sum)
    n, power, total, block, block_sum = _double_five_times(n, power, total, block, block_sum)
    return power, total


# -- momentum --------------------------------------------------------------------------------------


def momentum_coefficients(t, lr, mu, nesterov, dampening, lr_inside):
    """Place the learning rate; the first buffer is the gradient itself, whatever the dampening.

    So is every one without momentum, as in torch.
    """
    damped = 1.0 if mu == 0.0 else 1.0 - dampening
    share = 1.0 if t == 1 else damped
    lasting = damped * lr / (1.0 - mu)
    return (mu, share * lr, 1.0, lasting) if lr_inside else (mu, share, lr, lasting)


def momentum_rate(b, mu, lr_in, lr_out, lasting):
    """One rate for all: that along a gradient that lasts, once the ball has taken it up."""
    return lasting


def _heavy_ball(x, g, b, mu, lr_in, lr_out):
    b = mu * b + times(lr_in, g)
    return x - lr_out * b, b


def _look_ahead(x, g, b, mu, lr_in, lr_out):
    push = times(lr_in, g)
    b = mu * b + push
    return x - lr_out * (push + mu * b), b


def momentum(x, g, b, mu, lr_in, lr_out, lasting):
    """Polyak (1964): a heavy ball."""
    x, b = _heavy_ball(x, g, b, mu, lr_in, lr_out)
    return x, lasting, (b,)


def nesterov(x, g, b, mu, lr_in, lr_out, lasting):
    """Nesterov (1983) in the form of Sutskever et al. (2013): look one push ahead."""
    x, b = _look_ahead(x, g, b, mu, lr_in, lr_out)
    return x, lasting, (b,)


def _roll(k, x, b, mu, lr_out):
    """Move on along a buffer that nothing enters: ``mu + mu**2 + ... + mu**k`` times."""
    power, total = geometric(mu, k)
    return x - lr_out * (b * total), b * power


def momentum_idle(k, x, b, mu, lr_in, lr_out, lasting):
    """In k steps without a gradient, the ball rolls on."""
    x, b = _roll(k, x, b, mu, lr_out)
    return x, (b,)


def nesterov_idle(k, x, b, mu, lr_in, lr_out, lasting):
    """Nesterov's ball too, which is one push ahead."""
    x, b = _roll(k, x, b, mu, mu * lr_out)
    return x, (b,)


# -- AdaGrad ---------------------------------------------------------------------------------------


def adagrad_coefficients(t, lr, eps, initial_accumulator, eps_inside):
    """Place eps."""
    return (lr, eps, 0.0) if eps_inside else (lr, 0.0, eps)


def adagrad_rate(G, lr, eps_in, eps_out):
    """Effective rate of a coordinate whose squared gradients sum to ``G``."""
    return over(lr, sqrt(G + eps_in) + eps_out)


def adagrad(x, g, G, lr, eps_in, eps_out):
    """Duchi, Hazan & Singer (2011): divide by the root of all squared gradients so far."""
    G = G + g * g
    rate = adagrad_rate(G, lr, eps_in, eps_out)
    return x - times(rate, g), rate, (G,)


def adagrad_idle(k, x, G, *coefs):
    """Without a gradient, nothing happens."""
    return x, (G,)


# -- RMSProp ---------------------------------------------------------------------------------------


def rmsprop_coefficients(
    t, lr, rho, eps, mu, centered, eps_inside, nesterov, lr_inside, initial_accumulator
):
    """Place eps and the learning rate; average with weights that sum to one."""
    eps_in, eps_out = (eps, 0.0) if eps_inside else (0.0, eps)
    lr_in, lr_out = (lr, 1.0) if lr_inside else (1.0, lr)
    return rho, 1.0 - rho, mu, eps_in, eps_out, lr_in, lr_out, 1.0 / (1.0 - mu)


def _second_moment(g, E, rho, one_minus_rho):
    return rho * E + one_minus_rho * g * g


def _variance(g, V, m, rho, one_minus_rho):
    """``V = E - m**2`` in a form that is never negative, and the running mean ``m``."""
    d = g - m
    return rho * (V + one_minus_rho * d * d), rho * m + one_minus_rho * g


def _scale(E, eps_in, eps_out, lr_in):
    """Return what a gradient is multiplied by before it is stepped along or collected."""
    return over(lr_in, sqrt(E + eps_in) + eps_out)


def rmsprop_rate(E, *rest):
    """Effective rate of a coordinate whose running second moment (or variance) is ``E``."""
    eps_in, eps_out, lr_in, lr_out, gain = rest[-5:]
    return times(_scale(E, eps_in, eps_out, lr_in), lr_out) * gain


def rmsprop(x, g, E, rho, one_minus_rho, mu, eps_in, eps_out, lr_in, lr_out, gain):
    """Tieleman & Hinton (2012): AdaGrad that forgets the distant past."""
    E = _second_moment(g, E, rho, one_minus_rho)
    rate = times(_scale(E, eps_in, eps_out, lr_in), lr_out)
    return x - times(rate, g), rate, (E,)


def rmsprop_idle(k, x, E, rho, *rest):
    """In k steps without a gradient, ``E`` fades; ``x`` stays."""
    return x, (E * geometric(rho, k)[0],)


def _fade_variance(k, V, m, rho):
    """Return the variance and mean of gradients of which the last k were zero."""
    power = geometric(rho, k)[0]
    faded = power * m
    return power * (V + m * (m - faded)), faded


def rmsprop_momentum_idle(k, x, E, b, rho, one_minus_rho, mu, eps_in, eps_out, lr_in, lr_out, gain):
    """In k steps without a gradient, ``E`` fades and the ball rolls on."""
    x, b = _roll(k, x, b, mu, lr_out)
    return x, (E * geometric(rho, k)[0], b)


def rmsprop_nesterov_idle(k, x, E, b, rho, one_minus_rho, mu, eps_in, eps_out, lr_in, lr_out, gain):
    """Do the same with Nesterov's ball."""
    x, b = _roll(k, x, b, mu, mu * lr_out)
    return x, (E * geometric(rho, k)[0], b)


def rmsprop_centered_idle(k, x, V, m, rho, *rest):
    """In k steps without a gradient, variance and mean fade; ``x`` stays."""
    return x, _fade_variance(k, V, m, rho)


def rmsprop_centered_momentum_idle(
    k, x, V, m, b, rho, one_minus_rho, mu, eps_in, eps_out, lr_in, lr_out, gain
):
    """Variance and mean fade, and the ball rolls on."""
    x, b = _roll(k, x, b, mu, lr_out)
    V, m = _fade_variance(k, V, m, rho)
    return x, (V, m, b)


def rmsprop_centered_nesterov_idle(
    k, x, V, m, b, rho, one_minus_rho, mu, eps_in, eps_out, lr_in, lr_out, gain
):
    """Do the same with Nesterov's ball."""
    x, b = _roll(k, x, b, mu, mu * lr_out)
    V, m = _fade_variance(k, V, m, rho)
    return x, (V, m, b)


def rmsprop_momentum(x, g, E, b, rho, one_minus_rho, mu, eps_in, eps_out, lr_in, lr_out, gain):
    """RMSProp whose scaled gradients are collected in a heavy ball."""
    E = _second_moment(g, E, rho, one_minus_rho)
    scale = _scale(E, eps_in, eps_out, lr_in)
    x, b = _heavy_ball(x, g, b, mu, scale, lr_out)
    return x, times(scale, lr_out) * gain, (E, b)


def rmsprop_nesterov(x, g, E, b, rho, one_minus_rho, mu, eps_in, eps_out, lr_in, lr_out, gain):
    """RMSProp whose scaled gradients are collected in Nesterov's momentum."""
    E = _second_moment(g, E, rho, one_minus_rho)
    scale = _scale(E, eps_in, eps_out, lr_in)
    x, b = _look_ahead(x, g, b, mu, scale, lr_out)
    return x, times(scale, lr_out) * gain, (E, b)


def rmsprop_centered(x, g, V, m, rho, one_minus_rho, mu, eps_in, eps_out, lr_in, lr_out, gain):
    """Graves (2013), eq. 38-45: divide by the running standard deviation."""
    V, m = _variance(g, V, m, rho, one_minus_rho)
    rate = times(_scale(V, eps_in, eps_out, lr_in), lr_out)
    return x - times(rate, g), rate, (V, m)


def rmsprop_centered_momentum(
    x, g, V, m, b, rho, one_minus_rho, mu, eps_in, eps_out, lr_in, lr_out, gain
):
    """Graves (2013), eq. 38-45, whole: centered, with a heavy ball."""
    V, m = _variance(g, V, m, rho, one_minus_rho)
    scale = _scale(V, eps_in, eps_out, lr_in)
    x, b = _heavy_ball(x, g, b, mu, scale, lr_out)
    return x, times(scale, lr_out) * gain, (V, m, b)


def rmsprop_centered_nesterov(
    x, g, V, m, b, rho, one_minus_rho, mu, eps_in, eps_out, lr_in, lr_out, gain
):
    """Centered RMSProp with Nesterov's momentum."""
    V, m = _variance(g, V, m, rho, one_minus_rho)
    scale = _scale(V, eps_in, eps_out, lr_in)
    x, b = _look_ahead(x, g, b, mu, scale, lr_out)
    return x, times(scale, lr_out) * gain, (V, m, b)


# -- AdaDelta --------------------------------------------------------------------------------------


def adadelta_coefficients(t, lr, rho, eps):
    """Average with weights that sum to one."""
    return lr, rho, 1.0 - rho, eps


def adadelta(x, g, E, D, lr, rho, one_minus_rho, eps):
    """Zeiler (2012), Algorithm 1: steps in the units of x, by the root mean square of the last."""
    E = _second_moment(g, E, rho, one_minus_rho)
    # Two roots: the quotient of D and E underflows in float32 where that of their roots does not.
    scale = sqrt(D + eps) / sqrt(E + eps)
    u = times(scale, g)
    D = _second_moment(u, D, rho, one_minus_rho)
    return x - lr * u, times(scale, lr), (E, D)


# -- Adam and its kin: a mean of the gradients over a root mean square -----------------------------


def _correction(beta, t):
    """Return what makes the weights of a mean over t steps that started at zero sum to one."""
    return 1.0 / (1.0 - beta**t)


def _uncorrected(lr, c2, eps_root, eps):
    """Let the rate be ``lr / (sqrt(v + eps_in) + eps_out)`` for a ``v`` that is not corrected.

    A corrected one overflows in float32 from a first gradient of 2e19 on.
    """
    return lr / sqrt(c2), eps_root / c2, eps / sqrt(c2)


def _mean(g, m, beta, one_minus_beta):
    return beta * m + one_minus_beta * g


def adam_coefficients(t, lr, beta1, beta2, eps, eps_hat, eps_root):
    """Correct both means for their start at zero; eps-hat is added before that, so it grows too."""
    c1, c2 = _correction(beta1, t), _correction(beta2, t)
    lr, eps_in, eps_out = _uncorrected(lr, c2, eps_root, eps * sqrt(c2) if eps_hat else eps)
    return lr, beta1, 1.0 - beta1, beta2, 1.0 - beta2, c1, eps_in, eps_out


def adam_rate(m, v, lr, *rest):
    """Effective rate of a coordinate whose running second moment is ``v``; Nadam's is the same."""
    eps_in, eps_out = rest[-2:]
    return _scale(v, eps_in, eps_out, lr)


def adam(x, g, m, v, lr, beta1, one_minus_beta1, beta2, one_minus_beta2, c1, eps_in, eps_out):
    """Kingma & Ba (2015), Algorithm 1."""
    m = _mean(g, m, beta1, one_minus_beta1)
    v = _second_moment(g, v, beta2, one_minus_beta2)
    rate = _scale(v, eps_in, eps_out, lr)
    return x - times(rate, c1 * m), rate, (m, v)


def adamax_coefficients(t, lr, beta1, beta2, eps, eps_inside):
    """Correct the mean for its start at zero, and place eps: inside or outside the maximum."""
    eps_in, eps_out = (eps, 0.0) if eps_inside else (0.0, eps)
    return lr, beta1, 1.0 - beta1, beta2, _correction(beta1, t), eps_in, eps_out


def adamax_rate(m, u, lr, *rest):
    """Effective rate of a coordinate whose fading maximum is ``u``."""
    return over(lr, u + rest[-1])


def adamax(x, g, m, u, lr, beta1, one_minus_beta1, beta2, c1, eps_in, eps_out):
    """Kingma & Ba (2015), Algorithm 2: the largest gradient of late in the place of the root."""
    m = _mean(g, m, beta1, one_minus_beta1)
    faded, size = beta2 * u, abs(g) + eps_in
    # Where g is NaN the comparison is false and u becomes NaN; m stays NaN, and so does x.
    u = faded if faded > size else size
    rate = over(lr, u + eps_out)
    return x - times(rate, c1 * m), rate, (m, u)


def _nadam_momentum(t, beta1, momentum_decay):
    return beta1 * (1.0 - 0.5 * 0.96 ** (t * momentum_decay))


def nadam_carry(t, lr, beta1, beta2, eps, momentum_decay, eps_root, mu_product):
    """Multiply up the momenta of all steps so far."""
    return (mu_product * _nadam_momentum(t, beta1, momentum_decay),)


def nadam_coefficients(t, lr, beta1, beta2, eps, momentum_decay, eps_root, mu_product):
    """Weigh the mean by the next step's momentum and the gradient by what this step's leaves."""
    mu = _nadam_momentum(t, beta1, momentum_decay)
    mu_next = _nadam_momentum(t + 1, beta1, momentum_decay)
    c_m, c_g = mu_next / (1.0 - mu_product * mu_next), (1.0 - mu) / (1.0 - mu_product)
    lr, eps_in, eps_out = _uncorrected(lr, _correction(beta2, t), eps_root, eps)
    return lr, beta1, 1.0 - beta1, beta2, 1.0 - beta2, c_m, c_g, eps_in, eps_out


def nadam(
    x, g, m, v, lr, beta1, one_minus_beta1, beta2, one_minus_beta2, c_m, c_g, eps_in, eps_out
):
    """Dozat (2016), Algorithm 2: Adam that looks one push ahead."""
    m = _mean(g, m, beta1, one_minus_beta1)
    v = _second_moment(g, v, beta2, one_minus_beta2)
    rate = _scale(v, eps_in, eps_out, lr)
    return x - times(rate, c_m * m + c_g * g), rate, (m, v)


def amsgrad_coefficients(
    t, lr, beta1, beta2, eps, eps_hat, eps_root, corrected_max, bias_correction
):
    """Correct v before its maximum is taken, or the maximum: one of two factors is one."""
    c1, c2 = (_correction(beta1, t), _correction(beta2, t)) if bias_correction else (1.0, 1.0)
    before, after = (c2, 1.0) if corrected_max else (1.0, c2)
    lr, eps_in, eps_out = _uncorrected(lr, after, eps_root, eps * sqrt(c2) if eps_hat else eps)
    return lr, beta1, 1.0 - beta1, beta2, 1.0 - beta2, c1, before, eps_in, eps_out


def amsgrad_rate(m, v, v_max, lr, *rest):
    """Effective rate of a coordinate whose largest running second moment is ``v_max``."""
    eps_in, eps_out = rest[-2:]
    return _scale(v_max, eps_in, eps_out, lr)


def amsgrad(
    x, g, m, v, v_max,
    lr, beta1, one_minus_beta1, beta2, one_minus_beta2, c1, before, eps_in, eps_out,
):  # fmt: skip
    """Reddi, Kale & Kumar (2018), Algorithm 2: Adam that never forgets a large gradient."""
    m = _mean(g, m, beta1, one_minus_beta1)
    v = _second_moment(g, v, beta2, one_minus_beta2)
    v_now = before * v
    # Where v is NaN the comparison is false and v_max becomes NaN; v stays NaN.
    v_max = v_max if v_max > v_now else v_now
    rate = _scale(v_max, eps_in, eps_out, lr)
    return x - times(rate, c1 * m), rate, (m, v, v_max)


# -- dual averaging: the point anew from the sum of all gradients ----------------------------------


def clip(v, lo, hi):
    """Return the number of the interval [lo, hi] that is nearest to ``v``. A NaN stays a NaN."""
    v = lo if v < lo else v
    return hi if v > hi else v


def soft(v, threshold):
    """Move ``v`` by ``threshold`` towards zero, and no further."""
    return v - clip(v, -threshold, threshold)


def adagrad_da_coefficients(t, lr, eps, l1, l2):
    """Let the penalties grow with the number of gradients in the sum."""
    return lr, eps, lr * t * l1, lr * t * l2


def adagrad_da_rate(z, G, lr, eps, *penalties):
    """Effective rate of a coordinate whose squared gradients sum to ``G``."""
    return over(lr, sqrt(G) + eps)


def _averaged(z, H, lr, threshold, weight):
    return -soft(lr * z, threshold) / (H + weight)


def adagrad_da(x, g, z, G, lr, eps, threshold, weight):
    """Duchi, Hazan & Singer (2011), eq. 3: minimise the mean linear loss, penalty and distance."""
    z = z + g
    G = G + g * g
    H = sqrt(G) + eps
    return _averaged(z, H, lr, threshold, weight), over(lr, H), (z, G)


def adagrad_da_idle(k, x, z, G, lr, eps, threshold, weight):
    """Without gradients the penalties of the sum still grow: compute the point anew."""
    return _averaged(z, sqrt(G) + eps, lr, threshold, weight), (z, G)


# A smaller rate counts as 0: one over it, times a root or a point, would overflow in float32.
FTRL_LEAST_LR = 1e-20


def ftrl_carry(t, lr, beta, l1, l2, previous, current):
    """Keep one over the rate of this step and of the one before, which is 0 before the first.

    For a rate that counts as 0 the last one stays.
    """
    return current, 1.0 / lr if lr >= FTRL_LEAST_LR else current


def ftrl_coefficients(t, lr, beta, l1, l2, previous, current):
    """Return one over the rates, and what is the same in all steps."""
    return lr if lr >= FTRL_LEAST_LR else 0.0, previous, current, beta, l1, l2


def ftrl_rate(z, n, lr, previous, current, beta, *penalties):
    """Effective rate of a coordinate whose squared gradients sum to ``n``."""
    return over(lr, beta + sqrt(n))


def ftrl(x, g, z, n, lr, previous, current, beta, l1, l2):
    """McMahan et al. (2013), Algorithm 1: the sum of gradients, less what past points pull.

    At rate 0 the point rests, as it does in the limit, and no gradient enters ``z``.
    """
    H_before = (beta + sqrt(n)) * previous
    n = n + g * g
    root = beta + sqrt(n)
    H = root * current
    z = z + (g if lr else lr) - (H - H_before) * x
    return -soft(z, l1) / (H + l2) if lr else x, over(lr, root), (z, n)


# -- one rate for all, from the norm ---------------------------------------------------------------


def adagrad_norm_carry(t, lr, eps, initial_accumulator, G, squared_norm):
    """Sum up the squared norms of the gradients."""
    return (G + squared_norm,)


def adagrad_norm_coefficients(t, lr, eps, initial_accumulator, G):
    """Ward, Wu & Bottou (2019), Algorithm 1: one AdaGrad rate, with which to step as `sgd` does."""
    return (lr / (sqrt(G) + eps),)

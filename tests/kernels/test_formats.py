"""16-bit storage: what a pattern stands for, how it is rounded to, and the bits that round it."""

from itertools import pairwise

import ml_dtypes
import numpy as np
import pytest
from host_code import functions
from numba import types

from adaptopt.kernels import formats
from adaptopt.kernels.compile import compile_kernel

PATTERNS = np.arange(2**16, dtype=np.uint16)

FORMATS = {"bfloat16": ml_dtypes.bfloat16, "float16": np.float16}
FROM = {"bfloat16": formats.from_bfloat16, "float16": formats.from_float16}
NEAREST = {"bfloat16": formats.to_bfloat16, "float16": formats.to_float16}
STOCHASTIC = {
    "bfloat16": formats.to_bfloat16_stochastic,
    "float16": formats.to_float16_stochastic,
}
LARGEST = {"bfloat16": 0x7F7F, "float16": 0x7BFF}
INFINITY = {"bfloat16": 0x7F80, "float16": 0x7C00}

every_format = pytest.mark.parametrize("name", list(FORMATS))
uintp, u16, u32, f32 = types.uintp, types.uint16, types.uint32, types.float32


def make_decode(decode):
    def kernel(out, u):
        for i in range(uintp(out.size)):
            out[i] = decode(u[i])

    return kernel


def make_encode(encode):
    def kernel(out, v, random):
        for i in range(uintp(out.size)):
            out[i] = encode(v[i], random[i])

    return kernel


def make_draws(draw):
    def kernel(out, key):
        for i in range(uintp(out.size)):
            out[i] = draw(i, key)

    return kernel


def make_another(another):
    def kernel(out, random):
        for i in range(uintp(out.size)):
            out[i] = another(random[i])

    return kernel


def decoder(function):
    return compile_kernel(make_decode, (function,), types.void(f32[::1], u16[::1]))


def encoder(function):
    return compile_kernel(make_encode, (function,), types.void(u16[::1], f32[::1], u32[::1]))


def decoded(function, u):
    out = np.empty(u.size, np.float32)
    decoder(function)(out, u)
    return out


def encoded(function, v, random=None):
    out = np.empty(v.size, np.uint16)
    random = np.zeros(v.size, np.uint32) if random is None else random
    encoder(function)(out, np.ascontiguousarray(v), np.ascontiguousarray(random))
    return out


def draws(n, key):
    out = np.empty(n, np.uint32)
    compile_kernel(make_draws, (formats.draw,), types.void(u32[::1], u32))(out, key)
    return out


def other(random):
    out = np.empty_like(random)
    compile_kernel(make_another, (formats.another,), types.void(u32[::1], u32[::1]))(out, random)
    return out


def values(name):
    """Return all numbers of a format in float32, without its NaNs, in order."""
    every = PATTERNS.view(FORMATS[name]).astype(np.float32)
    return np.unique(every[~np.isnan(every)])


def midpoints(name):
    """Return the midpoints of neighbouring numbers, and the float32 numbers beside them."""
    finite = values(name)[1:-1].astype(np.float64)
    middle = ((finite[1:] + finite[:-1]) / 2).astype(np.float32)
    below, above = (np.nextafter(middle, np.float32(end)) for end in (-np.inf, np.inf))
    return np.concatenate([middle, below, above])


def patterns(n, seed):
    return np.random.default_rng(seed).integers(0, 2**32, n, dtype=np.uint32)


def assert_equal_patterns(name, u, expected):
    """Compare patterns; of NaNs, that they are NaN and their sign."""
    expected = expected.view(np.uint16)
    nan = (expected & 0x7FFF) > INFINITY[name]
    np.testing.assert_array_equal(u[~nan], expected[~nan])
    assert ((u[nan] & 0x7FFF) > INFINITY[name]).all()
    np.testing.assert_array_equal(u[nan] >> 15, expected[nan] >> 15)


def astype(name, v):
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        return v.astype(FORMATS[name])


# What a pattern stands for.


@every_format
def test_every_pattern_is_decoded(name):
    expected = PATTERNS.view(FORMATS[name]).astype(np.float32)
    np.testing.assert_array_equal(decoded(FROM[name], PATTERNS), expected)


@every_format
def test_decoding_keeps_the_sign_of_zero_and_nan(name):
    np.testing.assert_array_equal(np.signbit(decoded(FROM[name], PATTERNS)), PATTERNS >> 15 == 1)


# Rounding to nearest.


@every_format
def test_what_is_exact_is_stored_as_it_is(name):
    assert_equal_patterns(name, encoded(NEAREST[name], values(name)), astype(name, values(name)))


@every_format
def test_midpoints_go_to_even_and_their_neighbours_to_the_nearest(name):
    v = midpoints(name)
    assert_equal_patterns(name, encoded(NEAREST[name], v), astype(name, v))


@every_format
def test_any_float32_is_rounded_to_the_nearest(name):
    v = patterns(1_000_000, 0).view(np.float32)
    assert_equal_patterns(name, encoded(NEAREST[name], v), astype(name, v))


@every_format
def test_numbers_in_range_are_rounded_to_the_nearest(name):
    """Most of float32's patterns are beyond float16's."""
    exponents = np.random.default_rng(1).uniform(-26, 17, 1_000_000)
    v = (np.random.default_rng(2).choice([-1, 1], exponents.size) * 2.0**exponents).astype("f4")
    assert_equal_patterns(name, encoded(NEAREST[name], v), astype(name, v))


@pytest.mark.parametrize("rounding", [NEAREST, STOCHASTIC], ids=["nearest", "stochastic"])
@every_format
def test_a_nan_stays_a_quiet_nan_of_its_sign(name, rounding):
    payloads = np.array([1, 2**12, 2**15, 2**16, 2**22, 2**23 - 1], np.uint32) | 0x7F800000
    nan = np.concatenate([payloads, payloads | 0x80000000]).view(np.float32)
    u = encoded(rounding[name], nan, np.full(nan.size, 2**32 - 1, np.uint32))
    quiet = {"bfloat16": 0x7FC0, "float16": 0x7E00}[name]
    assert ((u & quiet) == quiet).all()
    np.testing.assert_array_equal(u >> 15, [0] * payloads.size + [1] * payloads.size)


# Rounding at random.


@every_format
def test_what_is_exact_never_moves(name):
    v = values(name)
    for random in (0, 1, 2**16, 2**31, 2**32 - 1):
        u = encoded(STOCHASTIC[name], v, np.full(v.size, random, np.uint32))
        assert_equal_patterns(name, u, astype(name, v))


@every_format
def test_only_the_two_neighbours_occur(name):
    finite = values(name)[1:-1]
    v, random = midpoints(name), patterns(3 * (finite.size - 1), 3)
    got = decoded(FROM[name], encoded(STOCHASTIC[name], v, random))
    above = np.searchsorted(finite, v)  # the first that is not less than v
    np.testing.assert_array_less(finite[above - 1], v)
    assert ((got == finite[above - 1]) | (got == finite[above])).all()


@every_format
def test_the_size_never_shrinks_as_the_bits_grow(name):
    v = np.concatenate([midpoints(name), patterns(100_000, 4).view(np.float32)])
    low, high = np.sort([patterns(v.size, 5), patterns(v.size, 6)], axis=0)
    size = [encoded(STOCHASTIC[name], v, random) & 0x7FFF for random in (low, high)]
    assert (size[0] <= size[1]).all()


@every_format
@pytest.mark.parametrize("v", [1.001, -3.1416, 0.1, 1000.7, 6.2e-5, 1e-5, -3.3e-7, 2e-8, 65000.1])
def test_the_mean_is_the_number(name, v):
    """To five standard errors; 2e-8 lies below float16's least number."""
    n = 1_000_000
    v = np.full(n, v, np.float32)
    got = decoded(FROM[name], encoded(STOCHASTIC[name], v, draws(n, 7))).astype(np.float64)
    assert got.std() > 0
    assert abs(got.mean() - v[0]) < 5 * got.std() / np.sqrt(n)


@every_format
def test_every_value_of_the_bits_together_has_no_bias(name):
    """Over all 2**16 upper halves of the random bits, the mean is the number itself."""
    v = np.float32(1.2345678)
    random = np.arange(2**16, dtype=np.uint32) << 16
    got = decoded(FROM[name], encoded(STOCHASTIC[name], np.full(2**16, v), random))
    assert got.mean(dtype=np.float64) == v


@every_format
def test_rounding_at_random_keeps_finite_numbers_finite(name):
    """An accumulator that is infinite once has stopped its parameter for good."""
    largest = PATTERNS[LARGEST[name] : LARGEST[name] + 1].view(FORMATS[name]).astype(np.float32)
    v = np.array([np.nextafter(largest[0], np.float32(np.inf)), np.finfo(np.float32).max])
    v = np.concatenate([v, -v]).astype(np.float32)
    u = encoded(STOCHASTIC[name], v, np.full(4, 2**32 - 1, np.uint32))
    assert u.tolist() == [LARGEST[name]] * 2 + [LARGEST[name] | 0x8000] * 2


@every_format
def test_rounding_at_random_keeps_infinity(name):
    v = np.array([np.inf, -np.inf], np.float32)
    u = encoded(STOCHASTIC[name], v, np.full(2, 2**32 - 1, np.uint32))
    assert u.tolist() == [INFINITY[name], INFINITY[name] | 0x8000]


def make_sum(decode, encode, draw):
    def kernel(sums, key):
        for i in range(uintp(sums.size)):
            sums[i] = encode(decode(sums[i]) + f32(1), draw(i, key))

    return kernel


def sums_of_ones(encode):
    """Return 4096 bfloat16 sums of 1000 ones each, every partial sum rounded."""
    parts = formats.from_bfloat16, encode, formats.draw
    add_one = compile_kernel(make_sum, parts, types.void(u16[::1], u32))
    sums = np.zeros(4096, np.uint16)
    for t in range(1000):
        add_one(sums, formats.step_key(0, t))
    return decoded(formats.from_bfloat16, sums).astype(np.float64)


def test_a_sum_of_ones_sticks_at_256_when_rounded_to_nearest():
    assert np.unique(sums_of_ones(formats.to_bfloat16)).tolist() == [256]


def test_a_sum_of_ones_grows_on_when_rounded_at_random():
    sums = sums_of_ones(formats.to_bfloat16_stochastic)
    assert abs(sums.mean() - 1000) < 5 * sums.std() / np.sqrt(sums.size)


# The random bits.


def make_hashed(draw):
    def kernel(out, i, key):
        for j in range(uintp(out.size)):
            out[j] = draw(i[j], key[j])

    return kernel


def hashed(i, key):
    """Evaluate draw for arrays of elements and keys."""
    out = np.empty(i.size, np.uint32)
    signature = types.void(u32[::1], types.uint64[::1], u32[::1])
    compile_kernel(make_hashed, (formats.draw,), signature)(out, i.astype(np.uint64), key)
    return out


def bit_rates(words):
    """Return how often each bit is set, the least significant first."""
    return np.array([(words >> np.uint32(bit) & 1).mean() for bit in range(32)])


KEYS = np.array([formats.step_key(3, t) for t in range(64)], np.uint32)
GRID = np.tile(np.arange(2048), KEYS.size), np.repeat(KEYS, 2048)


def test_every_bit_is_set_half_the_time():
    words = hashed(*GRID)
    assert abs(bit_rates(words) - 0.5).max() < 5 * 0.5 / np.sqrt(words.size)


@pytest.mark.parametrize("bit", range(26))
def test_a_bit_of_the_element_flips_half_of_the_upper_bits(bit):
    i, key = GRID
    flipped = hashed(i, key) ^ hashed(i ^ (1 << bit), key)
    assert abs(bit_rates(flipped)[16:] - 0.5).max() < (0.03 if bit < 22 else 0.08)


@pytest.mark.parametrize("bit", range(32))
def test_a_bit_of_the_key_flips_half_of_the_bits(bit):
    i, key = GRID
    flipped = hashed(i, key) ^ hashed(i, key ^ np.uint32(1 << bit))
    assert abs(bit_rates(flipped) - 0.5).max() < 0.03


def correlation(a, b):
    """Return the correlation of two streams of words, in standard errors."""
    a, b = (word / 2.0**32 - 0.5 for word in (a, b))
    return 12 * (a * b).sum() / np.sqrt(a.size)


def dependence(a, b):
    """Return how unevenly pairs fill 64 x 64 cells: chi-square, in standard errors."""
    counts = np.bincount((a >> 26) * 64 + (b >> 26), minlength=4096)
    expected = a.size / 4096
    return (((counts - expected) ** 2 / expected).sum() - 4095) / np.sqrt(2 * 4095)


def assert_independent(a, b):
    assert abs(correlation(a, b)) < 5
    assert abs(dependence(a, b)) < 5


@pytest.mark.parametrize("distance", [1, 2, 3, 8, 16, 64, 1024])
def test_neighbours_are_independent(distance):
    words = draws(1_000_000, formats.step_key(0, 1))
    assert_independent(words[:-distance], words[distance:])


@pytest.fixture(scope="module")
def steps():
    """Return the draws of 21 consecutive steps."""
    return [draws(1_000_000, formats.step_key(0, t)) for t in range(21)]


def test_no_consecutive_steps_are_correlated(steps):
    assert all(abs(correlation(*pair)) < 5 for pair in pairwise(steps))


def test_consecutive_steps_are_mostly_independent(steps):
    """Some keys lie where the sequence resembles itself."""
    assert np.median([abs(dependence(*pair)) for pair in pairwise(steps)]) < 2


def test_a_step_does_not_repeat_another_at_other_elements():
    """Keys start one sequence at places far apart."""
    first, second = (draws(100_000, formats.step_key(0, t)) for t in (1, 2))
    assert np.intersect1d(first, second).size < 20  # by chance: 2.3


def test_the_bits_of_the_next_slots_are_independent():
    first = draws(1_000_000, formats.step_key(0, 1))
    second = other(first)
    third = other(second)
    assert_independent(first, second)
    assert_independent(second, third)
    assert_independent(first, third)


def test_elements_keep_their_bits_wherever_a_kernel_starts():
    words = draws(1000, 5)
    assert [formats.draw(i, np.uint32(5)) for i in range(1000)] == words.tolist()


def test_every_step_of_a_seed_has_its_own_key():
    keys = {formats.step_key(0, t) for t in range(100_000)}
    assert len(keys) == 100_000


def test_seeds_have_different_keys():
    keys = {formats.step_key(seed, 1) for seed in (0, 1, 2, -1, 2**32, 2**33, 2**63)}
    assert len(keys) == 7


def test_keys_are_32_bit_python_numbers():
    keys = [formats.step_key(seed, t) for seed in (0, -1, 2**70) for t in (0, 1, 2**40)]
    assert all(type(key) is int and 0 <= key < 2**32 for key in keys)


@pytest.mark.parametrize("bit", range(32))
def test_a_bit_of_the_step_flips_half_of_its_key(bit):
    flipped = [formats.step_key(9, t) ^ formats.step_key(9, t ^ 1 << bit) for t in range(4096)]
    assert abs(bit_rates(np.array(flipped, np.uint32)) - 0.5).max() < 5 * 0.5 / np.sqrt(4096)


def test_no_draw_is_zero():
    assert formats.no_draw(3) == 0
    assert type(formats.no_draw(3)) is np.uint32


# What is stored as it is computed.


@pytest.mark.parametrize("v", [np.float32(0.1), np.float64(0.1)])
def test_full_width_is_left_alone(v):
    assert formats.unchanged(v) is v
    assert formats.keep(v, np.uint32(1)) is v


# In plain Python, and what it compiles to.


@every_format
def test_python_decodes_like_compiled_code(name):
    got = np.array([FROM[name](u) for u in PATTERNS])
    assert got.dtype == np.float32
    np.testing.assert_array_equal(got, decoded(FROM[name], PATTERNS))


@pytest.mark.parametrize("rounding", [NEAREST, STOCHASTIC], ids=["nearest", "stochastic"])
@every_format
def test_python_encodes_like_compiled_code(name, rounding):
    v = np.concatenate([patterns(2000, 8).view("f4"), midpoints(name)[::97], values(name)[::97]])
    random = patterns(v.size, 9)
    got = np.array([rounding[name](*pair) for pair in zip(v, random, strict=True)])
    assert got.dtype == np.uint16
    np.testing.assert_array_equal(got, encoded(rounding[name], v, random))


def test_python_derives_bits_like_compiled_code():
    random = patterns(1000, 10)
    assert [formats.another(word) for word in random] == other(random).tolist()


def without_instructions(v, random):
    return formats._encoded_half(v)


def test_float16_is_decoded_alike_without_an_instruction():
    got = decoded(formats._decoded_half, PATTERNS).view(np.uint32)
    np.testing.assert_array_equal(got, decoded(formats.from_float16, PATTERNS).view(np.uint32))


def test_float16_is_encoded_alike_without_an_instruction():
    v = np.concatenate([patterns(1_000_000, 11).view(np.float32), midpoints("float16")])
    got = encoded(without_instructions, v)
    np.testing.assert_array_equal(got, encoded(formats.to_float16, v))


@pytest.mark.usefixtures("no_cache")
@pytest.mark.skipif(not formats.INSTRUCTIONS, reason="no instruction for float16")
def test_float16_is_converted_by_instruction():
    (code,) = encoder(formats.to_float16).inspect_asm().values()
    assert "vcvtps2ph" in code
    (code,) = decoder(formats.from_float16).inspect_asm().values()
    assert "vcvtph2ps" in code


KERNELS = {
    **{f"from {name}": (decoder, FROM[name]) for name in FORMATS},
    **{f"to {name}": (encoder, NEAREST[name]) for name in FORMATS},
    **{f"at random to {name}": (encoder, STOCHASTIC[name]) for name in FORMATS},
    "from float16, no instruction": (decoder, formats._decoded_half),
    "to float16, no instruction": (encoder, without_instructions),
}


@pytest.mark.usefixtures("no_cache")
@pytest.mark.parametrize("kernel", KERNELS)
def test_conversions_are_vectors_of_32_bits(kernel):
    compile_, function = KERNELS[kernel]
    assert_vectors_of_32_bits(compile_(function))


@pytest.mark.usefixtures("no_cache")
def test_draws_are_vectors_of_32_bits():
    kernel = compile_kernel(make_draws, (formats.draw,), types.void(u32[::1], u32))
    assert_vectors_of_32_bits(kernel)


def assert_vectors_of_32_bits(kernel):
    code = "\n".join(functions(kernel))
    assert "x i32>" in code or "x float>" in code
    assert "x i64>" not in code
    assert "double" not in code

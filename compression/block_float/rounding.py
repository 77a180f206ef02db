"""Rounding to the elements of a format, on the bits of float32: exponents are read, never computed by a logarithm.

floor(log2(x)) in float32 is wrong at some powers of two and just below others, exp2 of an integer is not always exact,
and XLA's CPU backend flushes subnormals to zero where others keep them. Therefore exponents come from the bit pattern,
scales are made from bits and applied in two halves, and numbers below 2^-126 become zero on every backend.
All types are named, so that the results are the same under `jax_enable_x64`.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float32, Int32, Key

from compression.block_float import formats
from compression.block_float.formats import Rounding

BIAS, MANTISSA = 127, 23  # of float32
NOT_FINITE = 255  # exponent field of infinities and NaN


def magnitude_bits(x: Float32[Array, "*S"]) -> Int32[Array, "*S"]:
    """The bit pattern of |x|, in the order of |x|; infinity and NaN come last."""
    return jax.lax.bitcast_convert_type(x, jnp.int32) & 0x7FFFFFFF


def exponent(bits: Int32[Array, "*S"]) -> Int32[Array, "*S"]:
    """floor(log2 |x|) from the bits of |x|: -127 for zero and subnormals, 128 for infinity and NaN."""
    return (bits >> MANTISSA) - BIAS


def power_of_two(k: Int32[Array, "*S"]) -> Float32[Array, "*S"]:
    """2^k exactly, for -126 <= k <= 127."""
    return jax.lax.bitcast_convert_type((k + BIAS) << MANTISSA, jnp.float32)


def times(
    x: Float32[Array, "*#S"], k: Int32[Array, "*#S"], factor: Float32[Array, "*#S"] | float = 1.0
) -> Float32[Array, "*S"]:
    """x 2^k factor, for -252 <= k <= 254; with factor 1 it is exact unless it underflows or overflows."""
    half = k >> 1
    return x * power_of_two(half) * (power_of_two(k - half) * factor)


def without_subnormals(x: Float32[Array, "*S"]) -> Float32[Array, "*S"]:
    """x with zeros in place of numbers below 2^-126."""
    return jnp.where(magnitude_bits(x) >> MANTISSA == 0, 0.0, x)


def scaled(x: Float32[Array, "*S"], k: Int32[Array, "*#S"]) -> Float32[Array, "*S"]:
    """x 2^k, for -252 <= k <= 254, with zeros in place of subnormals."""
    return without_subnormals(times(x, k))


def to_integer(x: Float32[Array, "*S"], rounding: Rounding, key: Key[Array, ""] | None) -> Float32[Array, "*S"]:
    """x rounded to an integer: to the nearest one (ties to even, or away from 0), towards 0, or at random.

    Stochastic rounding takes one of the two neighbours, with x as the expectation.
    """
    if rounding == "even":
        return jnp.round(x)
    truncated = jnp.trunc(x)
    rest = jnp.abs(x - truncated)  # exact, where x + 1/2 would round
    if rounding == "truncate":
        return truncated
    if rounding == "away":
        outward = rest >= 0.5
    else:
        assert key is not None
        outward = rest > jax.random.uniform(key, x.shape, jnp.float32)
    return truncated + jnp.where(outward, jnp.sign(x), 0.0)


def to_element(
    x: Float32[Array, "*S"],
    element: formats.Integer | formats.Float,
    rounding: Rounding = "even",
    key: Key[Array, ""] | None = None,
) -> Float32[Array, "*S"]:
    """The element that x is rounded to, in the element's own units.

    A number that is too large becomes the largest element; where the element has infinity, it becomes infinity, unless
    rounding is towards 0.
    """
    if isinstance(element, formats.Integer):
        steps = to_integer(x * 2.0**-element.smallest_step, rounding, key)
        most = 2.0**element.magnitude - 1
        return jnp.clip(steps, -most, most) * 2.0**element.smallest_step
    octave = jnp.clip(exponent(magnitude_bits(x)), element.bottom_exponent, element.top_exponent)
    step = octave - element.mantissa
    rounded = scaled(to_integer(scaled(x, -step), rounding, key), step)
    clipped = jnp.clip(rounded, -element.largest, element.largest)
    if not element.overflows:
        return clipped
    infinite = jnp.isinf(x) if rounding == "truncate" else jnp.abs(rounded) > element.largest
    return jnp.where(infinite, jnp.sign(rounded) * jnp.inf, clipped)


def element_code(x: Float32[Array, "*S"], element: formats.Float) -> Int32[Array, "*S"]:
    """The bit pattern of a small float: sign, exponent field, mantissa."""
    bits = magnitude_bits(x)
    octave = exponent(bits)
    normal = (octave - element.bottom_exponent + 1) << element.mantissa
    normal += (bits >> (MANTISSA - element.mantissa)) & (2**element.mantissa - 1)
    subnormal = (jnp.abs(x) * 2.0**-element.smallest_step).astype(jnp.int32)
    code = jnp.where(octave < element.bottom_exponent, subnormal, normal)
    return code + (jnp.signbit(x).astype(jnp.int32) << (element.bits - 1))


def element_value(code: Int32[Array, "*S"], element: formats.Float) -> Float32[Array, "*S"]:
    """The element with this bit pattern."""
    half = 2 ** (element.bits - 1)
    values = jnp.array(element.positive(), jnp.float32)[code % half]
    return jnp.where(code >= half, -values, values)

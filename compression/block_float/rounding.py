"""Rounding to the elements of a format, on the bits of float32: exponents are read, never computed by a logarithm.

floor(log2(x)) in float32 is wrong at some powers of two and just below others, exp2 of an integer is not always exact,
and XLA's CPU backend flushes subnormals to zero while others keep them. So exponents come from the bit pattern,
scales are made from bits and applied in two halves, and what is smaller than 2^-126 is zero everywhere.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from compression.block_float import formats
from compression.block_float.formats import Rounding

BIAS, MANTISSA = 127, 23  # of float32
NOT_FINITE = 255  # exponent field of infinities and NaN


def magnitude_bits(x: Float[Array, "*S"]) -> Int[Array, "*S"]:
    """The bit pattern of |x|, which orders as |x| does; infinities and NaN come last."""
    return jax.lax.bitcast_convert_type(x, jnp.int32) & 0x7FFFFFFF


def exponent(bits: Int[Array, "*S"]) -> Int[Array, "*S"]:
    """floor(log2 |x|) from |x|'s bits, -127 for zero and subnormals, 128 for what is not finite."""
    return (bits >> MANTISSA) - BIAS


def power_of_two(k: Int[Array, "*S"]) -> Float[Array, "*S"]:
    """2^k exactly, -126 <= k <= 127."""
    return jax.lax.bitcast_convert_type((k + BIAS) << MANTISSA, jnp.float32)


def times(
    x: Float[Array, "*#S"], k: Int[Array, "*#S"], factor: Float[Array, "*#S"] | float = 1.0
) -> Float[Array, "*S"]:
    """x 2^k factor, -252 <= k <= 254, exact for factor 1 where it is neither subnormal nor too large."""
    half = k >> 1
    return x * power_of_two(half) * (power_of_two(k - half) * factor)


def without_subnormals(x: Float[Array, "*S"]) -> Float[Array, "*S"]:
    """What is below 2^-126 becomes zero."""
    return jnp.where(magnitude_bits(x) >> MANTISSA == 0, 0.0, x)


def scaled(x: Float[Array, "*S"], k: Int[Array, "*#S"]) -> Float[Array, "*S"]:
    """x 2^k, -252 <= k <= 254, subnormals zero."""
    return without_subnormals(times(x, k))


def to_integer(x: Float[Array, "*S"], rounding: Rounding, key: Key[Array, ""] | None) -> Float[Array, "*S"]:
    """The nearest whole number (ties to even, or away from 0), the next towards 0, or one of both neighbours at random
    with the value's own expectation."""
    if rounding == "even":
        return jnp.round(x)
    whole = jnp.trunc(x)
    rest = jnp.abs(x - whole)  # exact, where x + 1/2 would round
    if rounding == "truncate":
        return whole
    if rounding == "away":
        up = rest >= 0.5
    else:
        assert key is not None
        up = rest > jax.random.uniform(key, x.shape)
    return whole + jnp.where(up, jnp.sign(x), 0.0)


def to_element(
    x: Float[Array, "*S"],
    element: formats.Integer | formats.Float,
    rounding: Rounding = "even",
    key: Key[Array, ""] | None = None,
) -> Float[Array, "*S"]:
    """The element that x is rounded to, in the element's own units; what is too large becomes the largest one, or
    infinity where the element has it and rounding is not towards 0."""
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


def element_code(x: Float[Array, "*S"], element: formats.Float) -> Int[Array, "*S"]:
    """The bit pattern of a small float: sign, exponent field, mantissa."""
    bits = magnitude_bits(x)
    octave = exponent(bits)
    normal = (octave - element.bottom_exponent + 1) << element.mantissa
    normal += (bits >> (MANTISSA - element.mantissa)) & (2**element.mantissa - 1)
    subnormal = (jnp.abs(x) * 2.0**-element.smallest_step).astype(jnp.int32)
    code = jnp.where(octave < element.bottom_exponent, subnormal, normal)
    return code + (jnp.signbit(x).astype(jnp.int32) << (element.bits - 1))


def element_value(code: Int[Array, "*S"], element: formats.Float) -> Float[Array, "*S"]:
    """The element with this bit pattern."""
    half = 2 ** (element.bits - 1)
    values = jnp.array(element.positive())[code % half]
    return jnp.where(code >= half, -values, values)

"""What several kernels share: rounding, magnitudes by their bits, and `q16`."""

import triton.language as tl

from openledger.kernels.ops.triton.launch import kernel

INFINITE_BITS = tl.constexpr(0x7F800000)
TINY_BITS = tl.constexpr(0x0D800000)
"""2**-100. Magnitudes are ordered like their bits, and an integer maximum has no NaN to lose."""
HALF_EVEN = tl.constexpr(12582912.0)
"""1.5 * 2**23: adding it leaves no bits below one, and the addition rounds half to even."""


@kernel
def rint(x: tl.tensor) -> tl.tensor:
    """`x` of magnitude up to 2**22, rounded half to even."""
    return (x + HALF_EVEN) - HALF_EVEN


@kernel
def magnitude_bits(x: tl.tensor) -> tl.tensor:
    """The bits of |x|."""
    return x.to(tl.int32, bitcast=True) & 0x7FFFFFFF


@kernel
def q16_scale(top: tl.tensor) -> tl.tensor:
    """From the bits of max|x|: the scale, whether `q` can be other than 0, and whether there is a numeric fault."""
    fault = top >= INFINITE_BITS
    live = (top >= TINY_BITS) & (top < INFINITE_BITS)
    a = tl.where(live, top, 0).to(tl.float32, bitcast=True)
    scale = tl.where(live, tl.div_rn(a, 32639.0), 1.0)
    return scale, live, fault


@kernel
def clamped(x: tl.tensor, scale: tl.tensor, live: tl.tensor, top: tl.tensor) -> tl.tensor:
    """`rint(x / scale)` clamped to +-top as int32; 0 where not live."""
    q = rint(tl.div_rn(tl.where(live, x, 0.0), scale))
    return tl.minimum(tl.maximum(q, -top), top).to(tl.int32)


@kernel
def high_limb(q: tl.tensor) -> tl.tensor:
    """`hi` of a 16-bit integer; the low limb is `q - 256 * hi`."""
    return (q + 128) >> 8


@kernel
def row_limbs(
    x: tl.tensor, scale: tl.tensor, live: tl.tensor, limbs: tl.tensor, low: tl.tensor, at: tl.tensor, mask: tl.tensor
) -> None:
    """Store `q16` of a part of a row: limbs at `limbs` and `limbs + low`."""
    q = clamped(x, scale, live, 32639.0)
    hi = high_limb(q)
    tl.store(limbs + at, hi.to(tl.int8), mask=mask)
    tl.store(limbs + low + at, (q - hi * 256).to(tl.int8), mask=mask)

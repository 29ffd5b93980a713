"""A loop for host kernels that a compiler does not find by itself: sums that stay in vector registers.

Written in LLVM's own vectors, which become the instructions of whatever CPU this is; integers only, so no order shows.
"""

from typing import Any, Final

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

LANES: Final = 16
_SUMS: Final = 4
"""Vectors of a row that are summed side by side: what 32 registers, or 16 of half the width, hold with their operands."""


def _add_products(_typing: Any, weights: Any, values: Any, column: Any, width: Any, total: Any) -> Any:
    """`total[d] += sum over j of weights[j] * values[j, d]` for `width` columns from `column` on, a multiple of 16 and at
    most 64. `weights` [J] int32, `values` [J, D] int8, contiguous; `total` [D] int64; the sums of J terms fit int32."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        weight_array, value_array, total_array = (
            context.make_array(signature.args[at])(context, builder, arguments[at]) for at in (0, 1, 4)
        )
        rows, size = cgutils.unpack_tuple(builder, value_array.shape, 2)
        index = rows.type
        sums = ir.VectorType(ir.IntType(32), LANES)
        zeros = ir.Constant(sums, [0] * LANES)
        for part in range(_SUMS):
            wanted = builder.icmp_signed("==", arguments[3], ir.Constant(index, (part + 1) * LANES))
            with builder.if_then(wanted):
                held = [cgutils.alloca_once(builder, sums) for _ in range(part + 1)]
                for one in held:
                    builder.store(zeros, one)
                with cgutils.for_range(builder, rows) as loop:
                    weight = builder.load(builder.gep(weight_array.data, [loop.index]))
                    first = builder.insert_element(ir.Constant(sums, ir.Undefined), weight, ir.Constant(index, 0))
                    everywhere = builder.shuffle_vector(first, ir.Constant(sums, ir.Undefined), zeros)
                    row = builder.add(builder.mul(loop.index, size), arguments[2])
                    for at, one in enumerate(held):
                        place = builder.gep(value_array.data, [builder.add(row, ir.Constant(index, at * LANES))])
                        narrow = ir.VectorType(ir.IntType(8), LANES).as_pointer()
                        value = builder.sext(builder.load(builder.bitcast(place, narrow), align=1), sums)
                        builder.store(builder.add(builder.load(one), builder.mul(everywhere, value)), one)
                for at, one in enumerate(held):
                    place = builder.add(arguments[2], ir.Constant(index, at * LANES))
                    wide = ir.VectorType(ir.IntType(64), LANES)
                    into = builder.bitcast(builder.gep(total_array.data, [place]), wide.as_pointer())
                    added = builder.add(builder.load(into, align=8), builder.sext(builder.load(one), wide))
                    builder.store(added, into, align=8)
        return context.get_dummy_value()

    return types.void(weights, values, types.intp, types.intp, total), generate


add_products: Any = intrinsic(_add_products)

"""Block floating point: numbers that share an exponent, the products that such hardware makes, and models in a format.

    from compression.block_float import encode, decode, in_format, matmul, quantize

Names of formats are the keys of FORMATS; `find` knows further ones.
"""

import icl_synth  # noqa: F401  before anything imports tqdm: see there
from compression.block_float.block_model import LayerNoise, fine_tune, in_format, out_of_format, qsnr, report
from compression.block_float.block_packing import load, pack, save, unpack
from compression.block_float.datapath import Operations, Product, count_operations, integer_matmul
from compression.block_float.formats import FORMATS, Float, Format, Integer, bfp, find, fixed_point
from compression.block_float.plain import plain_matmul, plain_quantize
from compression.block_float.quantise import BlockFloat, carrier, decode, encode, matmul, quantize

__all__ = [
    "FORMATS",
    "BlockFloat",
    "Float",
    "Format",
    "Integer",
    "LayerNoise",
    "Operations",
    "Product",
    "bfp",
    "carrier",
    "count_operations",
    "decode",
    "encode",
    "find",
    "fine_tune",
    "fixed_point",
    "in_format",
    "integer_matmul",
    "load",
    "matmul",
    "out_of_format",
    "pack",
    "plain_matmul",
    "plain_quantize",
    "qsnr",
    "quantize",
    "report",
    "save",
    "unpack",
]

"""Greedy, sampled and assisted generation, each one compiled program for a whole batch.

`decoding.generate`, `decoding.compare` and `decoding.speedup` are modules, so the functions of the first two are not
handed out here: call `decoding.generate.generate` and `decoding.compare.compare`.
"""

from decoding import compare, generate, speedup
from decoding.assisted import Assisted, assisted_generate
from decoding.drafts import NGram, PromptLookup, first_layers, fit_ngram
from decoding.job import PAD
from decoding.readers import BayesReader, LSTMReader, Reader, TransformerReader, as_reader
from decoding.schedules import Schedule
from decoding.speedup import Costs, expected_tokens, optimal_num_draft, predicted_operations, predicted_speedup
from decoding.variants import in_bfloat16, in_int8, weight_bytes, widened

__all__ = [
    "PAD",
    "Assisted",
    "BayesReader",
    "Costs",
    "LSTMReader",
    "NGram",
    "PromptLookup",
    "Reader",
    "Schedule",
    "TransformerReader",
    "as_reader",
    "assisted_generate",
    "compare",
    "expected_tokens",
    "first_layers",
    "fit_ngram",
    "generate",
    "in_bfloat16",
    "in_int8",
    "optimal_num_draft",
    "predicted_operations",
    "predicted_speedup",
    "speedup",
    "weight_bytes",
    "widened",
]

"""In-context learning on synthetic documents: the world, the exact Bayes reader, the models and their training.

    from icl_synth import official_ginc, sample_documents, next_token_log_probs

The names below are public. Each is imported from its module when it is first asked for, so that `import icl_synth`
is cheap and starts no device.
"""

import importlib
import os
import sys
from typing import TYPE_CHECKING, Any

if sys.stderr is not None and not sys.stderr.isatty() and "ipykernel" not in sys.modules:
    # in a file or a pipe a progress bar prints a line a minute; tqdm reads these when it is imported
    os.environ.setdefault("TQDM_MININTERVAL", "60")
    os.environ.setdefault("TQDM_MAXINTERVAL", "60")

if TYPE_CHECKING:
    from icl_synth.bayes import concept_posterior, next_token_log_probs, prompt_log_probs, token_log_likelihoods
    from icl_synth.checkpoints import create, export, load
    from icl_synth.concept_hmm import ConceptHMM, WorldConfig, official_ginc, sample_concept_hmm
    from icl_synth.documents import sample_documents, stream_documents
    from icl_synth.estimates import estimate
    from icl_synth.evaluate import answers, compare_with_bayes, kl_to_bayes, token_losses
    from icl_synth.lstm import LSTM, LSTMConfig
    from icl_synth.prompts import Prompts, sample_prompts
    from icl_synth.transformer import Transformer, TransformerConfig

__all__ = [
    "LSTM",
    "ConceptHMM",
    "LSTMConfig",
    "Prompts",
    "Transformer",
    "TransformerConfig",
    "WorldConfig",
    "answers",
    "compare_with_bayes",
    "concept_posterior",
    "create",
    "estimate",
    "export",
    "kl_to_bayes",
    "load",
    "next_token_log_probs",
    "official_ginc",
    "prompt_log_probs",
    "sample_concept_hmm",
    "sample_documents",
    "sample_prompts",
    "stream_documents",
    "token_log_likelihoods",
    "token_losses",
]

_HOMES = {
    "bayes": ("concept_posterior", "next_token_log_probs", "prompt_log_probs", "token_log_likelihoods"),
    "checkpoints": ("create", "export", "load"),
    "concept_hmm": ("ConceptHMM", "WorldConfig", "official_ginc", "sample_concept_hmm"),
    "documents": ("sample_documents", "stream_documents"),
    "estimates": ("estimate",),
    "evaluate": ("answers", "compare_with_bayes", "kl_to_bayes", "token_losses"),
    "lstm": ("LSTM", "LSTMConfig"),
    "prompts": ("Prompts", "sample_prompts"),
    "transformer": ("Transformer", "TransformerConfig"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"icl_synth.{_HOME_OF[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

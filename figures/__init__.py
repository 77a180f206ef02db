"""Published figures, regenerated: each experiment computes rows, draws them beside the paper's, and judges claims."""

import icl_synth  # noqa: F401  before anything imports tqdm: see there

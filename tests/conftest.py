"""Every test sees eight virtual CPU devices, and public signatures are checked against their shapes."""

import jax
from jaxtyping import install_import_hook

jax.config.update("jax_num_cpu_devices", 8)
install_import_hook("icl_synth", "beartype.beartype")

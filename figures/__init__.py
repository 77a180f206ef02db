"""Published figures, regenerated: each fig_*.py computes rows, draws them beside the paper's values, and judges claims."""

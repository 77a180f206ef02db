"""Published figures, regenerated: each fig_*.py computes rows, draws them beside the paper's, and judges claims."""

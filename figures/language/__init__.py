"""A real language model.

SmolLM2-135M-Instruct, pruned, quantised, drafted for and prompted: which findings of the synthetic world carry over?
"""

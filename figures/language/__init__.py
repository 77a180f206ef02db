"""A real language model.

SmolLM2-135M, pruned, put in number formats, drafted for and prompted: which findings of the synthetic world carry over?
"""

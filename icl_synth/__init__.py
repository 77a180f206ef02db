"""In-context learning on synthetic documents: the world, the exact Bayes reference, the models and their training."""

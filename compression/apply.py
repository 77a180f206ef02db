"""python -m compression.apply: prune a trained model. The command lives in `compression.pruning.apply`."""

from compression.pruning.apply import main

if __name__ == "__main__":
    main()

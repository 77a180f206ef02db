"""The machinery of experiments: presets, runs, rows, claims, reports, style."""

"""Where a number comes from: the machine and the commit."""

import os
import subprocess
from pathlib import Path

import jax


def device() -> str:
    """The accelerators, or the number of cores and the processor's name."""
    first = jax.devices()[0]
    if first.platform != "cpu":
        return f"{jax.device_count()} x {first.device_kind}"
    about = Path("/proc/cpuinfo")
    lines = about.read_text().splitlines() if about.exists() else []
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return f"{os.cpu_count()} cores, {names[0] if names else 'CPU'}"


NUMBERS_COME_FROM = (":/*.py", ":/*.csv", ":/*.mplstyle", ":/*.safetensors", ":/*.txt", ":(top,exclude)figures/out")


def commit() -> str:
    """Short hash of the checkout, with a plus where files that decide a number have changes; "unknown" outside git."""

    def git(*words: str) -> str:
        here = Path(__file__).parent
        return subprocess.run(["git", *words], cwd=here, capture_output=True, text=True, check=True).stdout.strip()

    try:
        changed = git("status", "--porcelain", "--untracked-files=all", "--", *NUMBERS_COME_FROM)
        return git("rev-parse", "--short", "HEAD") + ("+" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"

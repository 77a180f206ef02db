"""python -m figures.restamp BEFORE [NAME ...]: keep recorded `small` rows that today's code would compute again.

BEFORE is a folder of `quick` rows made by the code as it was; those in figures/out/quick are made by today's, from the
same runs (`make reproduce` twice). Where both are equal bit for bit, the rows of `small` are taken for today's too:
their provenance keeps the commit that computed them and says, under "checked", at which commit that was shown. Rows
that hold seconds never are equal: such figures are stamped if they are named, with what differed.
"""

import argparse
import importlib
from pathlib import Path

import pandas as pd

from figures import record
from figures.__main__ import MODULES
from figures.recipes import RECIPES
from figures.sources import rows_hash
from icl_synth.provenance import commit


def differences(before: pd.DataFrame, after: pd.DataFrame) -> list[str]:
    """What differs between two tables of rows: quantities where they have them, else columns; none where nothing."""
    if list(before.columns) != list(after.columns) or len(before) != len(after):
        return ["columns or number of rows"]
    apart = (before != after) & ~(before.isna() & after.isna())
    if "quantity" in after:
        return sorted(set(after.quantity[apart.any(axis=1)]))
    return list(after.columns[apart.any(axis=0)])


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m figures.restamp", description=__doc__)
    parser.add_argument("before", type=Path, metavar="BEFORE", help="quick rows of the code as it was")
    parser.add_argument("names", nargs="*", choices=[*MODULES, []], metavar="NAME", help="figures that measure time")
    arguments = parser.parse_args()
    for name in MODULES:
        module, known = importlib.import_module(f"figures.{name}"), record.read_provenance(name, "small")
        older = arguments.before / f"{name}.csv"
        if record.state(name, module, RECIPES["quick"]) not in ("fresh", "to be drawn") or not older.exists():
            print(f"{name}: no rows to compare")
            continue
        differ = differences(pd.read_csv(older), record.read_rows(name, "quick"))
        said = f"differs in {', '.join(differ)}" if differ else "equal"
        if known and known["sources"] != (sources := rows_hash(module, RECIPES["small"])):
            if not differ or name in arguments.names:
                checked = {"commit": commit(), "differs": differ}
                record.write(name, "small", known | {"sources": sources, "checked": checked})
                said += ", stamped"
        print(f"{name}: {said}")


if __name__ == "__main__":
    main()

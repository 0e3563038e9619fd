"""Run benchmarks and print their figures: ``python -m benchmarks [NAME…] [--json FILE]``.

Every figure that depends on the machine stands beside a reference measured in the same run, as a ratio.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable

from benchmarks import (
    compiling,
    datapath,
    encoding,
    enforcing,
    flowcount,
    idle,
    installing,
    podadd,
    policycost,
    policywire,
    rulechange,
    truthtable,
)
from benchmarks.figures import Figure

BENCHMARKS: dict[str, Callable[[], list[Figure]]] = {
    "encoding": encoding.run,
    "compiling": compiling.run,
    "flowcount": flowcount.run,
    "rulechange": rulechange.run,
    "installing": installing.run,
    "enforcing": enforcing.run,
    "podadd": podadd.run,
    "idle": idle.run,
    "policywire": policywire.run,
    "datapath": datapath.run,
    "policycost": policycost.run,
    "truthtable": truthtable.run,
}


def main() -> int:
    """Exit code 2 for an unknown name."""
    parser = argparse.ArgumentParser(prog="benchmarks")
    parser.add_argument("names", nargs="*", help=", ".join(BENCHMARKS))
    parser.add_argument("--json", help="also write the figures to this file")
    options = parser.parse_args()
    unknown = [name for name in options.names if name not in BENCHMARKS]
    if unknown:
        parser.error(f"no benchmark is called {unknown[0]}; there are {', '.join(BENCHMARKS)}")
    figures = []
    for name in options.names or BENCHMARKS:
        print(f"\n{name}: {(sys.modules[BENCHMARKS[name].__module__].__doc__ or '').splitlines()[0]}")
        for figure in BENCHMARKS[name]():
            print(f"  {figure}", flush=True)
            figures.append({"benchmark": name, **figure._asdict()})
    if options.json:
        with open(options.json, "w") as file:
            json.dump(figures, file, indent=2)
    return 0


if __name__ == "__main__":
    sys.exit(main())

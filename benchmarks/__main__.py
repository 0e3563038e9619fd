"""Run benchmarks and print their figures: ``python -m benchmarks [NAME…] [--with PARAMETER=NUMBER[,NUMBER…]] [--json FILE]``.

Every figure that depends on the machine stands beside a reference measured in the same run, as a ratio.
"""

from __future__ import annotations

import argparse
import inspect
import json
import sys
from collections.abc import Callable

from benchmarks import (
    churn,
    compiling,
    connections,
    datapath,
    encoding,
    enforcing,
    flowcount,
    idle,
    installing,
    memberwire,
    podadd,
    policycost,
    policywire,
    rulechange,
    snat,
    spread,
    truthtable,
)
from benchmarks.figures import Figure

BENCHMARKS: dict[str, Callable[..., list[Figure]]] = {
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
    "spread": spread.run,
    "memberwire": memberwire.run,
    "connections": connections.run,
    "churn": churn.run,
    "snat": snat.run,
}


def main() -> int:
    """Exit code 2 for an unknown name, or a parameter that none of the benchmarks has."""
    parser = argparse.ArgumentParser(prog="benchmarks")
    parser.add_argument("names", nargs="*", help=", ".join(BENCHMARKS))
    parser.add_argument("--json", help="also write the figures to this file")
    parser.add_argument("--with", dest="given", action="append", default=[], type=_parameter, help="as minutes=1")
    options = parser.parse_args()
    unknown = [name for name in options.names if name not in BENCHMARKS]
    if unknown:
        parser.error(f"no benchmark is called {unknown[0]}; there are {', '.join(BENCHMARKS)}")
    names = options.names or list(BENCHMARKS)
    known = {name: inspect.signature(BENCHMARKS[name]).parameters for name in names}
    for given, _ in options.given:
        if not any(given in parameters for parameters in known.values()):
            there = sorted({each for parameters in known.values() for each in parameters})
            parser.error(f"{', '.join(names)}: there is no parameter {given}; there are {', '.join(there) or 'none'}")
    figures = []
    for name in names:
        print(f"\n{name}: {(sys.modules[BENCHMARKS[name].__module__].__doc__ or '').splitlines()[0]}")
        for figure in BENCHMARKS[name](**{given: value for given, value in options.given if given in known[name]}):
            print(f"  {figure}", flush=True)
            figures.append({"benchmark": name, **figure._asdict()})
    if options.json:
        with open(options.json, "w") as file:
            json.dump(figures, file, indent=2)
    return 0


def _parameter(text: str) -> tuple[str, tuple[float, ...]]:
    name, _, values = text.partition("=")
    return name, tuple(float(each) if "." in each else int(each) for each in values.split(","))


if __name__ == "__main__":
    sys.exit(main())

"""Speed of one training step in both backends against hand-written loops and other libraries, as
one table.

    python benchmarks/step.py [--batch-sizes 32 128 512]

Runs `step_pyro.py` and `step_numpyro.py`, which say what is compared and how; the columns are
milliseconds per step, the median ratio of our time to theirs, the target of that ratio, the seconds
to the first step (compilation included) and the memory peak of a process that does nothing else.
Exit status 1 when a target is missed.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

from dgm_core.results import format_table

COLUMNS = ["backend", "batch", "system", "ms", "ratio", "target", "first_step_s", "peak_mb"]


def main() -> int:
    """Run both halves and print their rows."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[32, 128, 512])
    arguments = parser.parse_args()
    rows, missed = [], False
    for half in ("step_pyro.py", "step_numpyro.py"):
        command = [
            sys.executable,
            str(Path(__file__).with_name(half)),
            "--json",
            "--batch-sizes",
            *map(str, arguments.batch_sizes),
        ]
        process = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
        lines = process.stdout.splitlines()
        if process.returncode not in (0, 1) or not lines:
            print(f"{half} failed with exit status {process.returncode}.", file=sys.stderr)
            return process.returncode or 2
        rows += json.loads(lines[-1])
        missed |= process.returncode == 1
    print(format_table([{name: row.get(name) for name in COLUMNS} for row in rows], COLUMNS))
    print(f"Targets: {'MISSED' if missed else 'kept'}.")
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())

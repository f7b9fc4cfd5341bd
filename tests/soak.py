"""The random user for as long as you like: each seed is a machine and its commands, checked after each of them.

    python tests/soak.py --seconds 3600 [--seed N] [--steps N] [--out DIR]

What breaks is shortened and kept as DIR/SEED.mem with what it broke; the exit code is 1 then. The first seed is the time
unless it is given, so that each run goes where none was.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "properties"))
from random_user import fault_of, play, shorten


def one(seed: int, steps: int, out: Path) -> bool:
    """Play one seed; return whether all held."""
    try:
        play(seed, steps)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001
        lines = error.__notes__[0].splitlines()[1:]
        fewer = shorten(lines)
        out.mkdir(parents=True, exist_ok=True)
        path = out / f"{seed}.mem"
        what = fault_of(fewer) or f"{type(error).__name__}: {error}"
        path.write_text("\n".join([f"# seed {seed}: {' '.join(what.split())}", *fewer]) + "\n")
        print(f"seed {seed}: {path}: {what}", flush=True)
        return False
    return True


def main() -> int:
    """Play seeds until the time is over."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=3600)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--out", type=Path, default=Path("build/soak"))
    args = parser.parse_args()
    end, bad, count = time.monotonic() + args.seconds, 0, 0
    while time.monotonic() < end:
        bad += not one(args.seed + count, args.steps, args.out)
        count += 1
        if count % 500 == 0:
            print(f"{count} machines of {args.steps} commands, {bad} broken", flush=True)
    print(f"{count} machines of {args.steps} commands from seed {args.seed} on, {bad} broken")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())

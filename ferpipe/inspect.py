"""List the content of a model file without loading it: ``python -m ferpipe.inspect``."""

import argparse
import sys
from hashlib import file_digest
from pathlib import Path
from typing import Any

from ferpipe.io.card import plain_text, read_card
from ferpipe.io.format1 import MOVED
from ferpipe.io.pickle_names import names_in
from ferpipe.io.unpickler import refusal

__all__ = ["main"]

_LONGEST = 300


def main(arguments: list[str] | None = None) -> int:
    """Run the program; return its exit status."""
    options = _parser().parse_args(arguments)
    try:
        return _print(Path(options.model).expanduser(), frozenset(options.trusted))
    except (ValueError, OSError) as error:
        print(f"error: {plain_text(str(error))}", file=sys.stderr)
        return 2


def _print(path: Path, trusted: frozenset[str]) -> int:
    if not path.is_file():
        raise FileNotFoundError(f"{path}: there is no such model file.")
    problems = []
    size = path.stat().st_size
    print(f"{path}: {size:,} bytes")
    try:
        card = read_card(path)
        with path.open("rb") as file:
            if file_digest(file, "sha256").hexdigest() != card["sha256"]:
                problems.append("the hash of the file is not the hash on its card.")
        _print_card(card)
    except (ValueError, OSError) as error:
        problems.append(str(error))
    names, damage = names_in(path)
    refused = 0
    for name in names:
        reason = None if name in trusted else refusal(name)
        refused += reason is not None
        word = "refused " if reason else "trusted " if name in trusted else "admitted"
        moved = f" -> {MOVED[name]}" if name in MOVED else ""
        print(f"  {word}  {plain_text(name)[:_LONGEST]}{moved}")
    if damage:
        problems.append(f"the file cannot be read to its end: {damage}")
    if refused:
        problems.append(f"{refused} names are not on the reviewed list.")
    for problem in problems:
        print(f"error: {path}: {plain_text(problem)}", file=sys.stderr)
    return 2 if problems else 0


def _print_card(card: dict[str, Any]) -> None:
    for name, value in card.items():
        if isinstance(value, dict):
            value = ", ".join(f"{key} {inner}" for key, inner in value.items())
        elif isinstance(value, list):
            value = ", ".join(map(str, value))
        lines = plain_text(str(value)).splitlines() or [""]
        print(f"  {name}: {lines[0][:_LONGEST]}{' …' if lines[1:] else ''}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m ferpipe.inspect",
        description="List the content of a model file, without loading it or importing the "
        "names in it. Status 0: ferpipe.load admits all names; 2: it refuses the file.",
    )
    parser.add_argument(
        "model", help="a saved model (.joblib), with its card in the same folder"
    )
    parser.add_argument(
        "--trusted",
        action="append",
        default=[],
        metavar="NAME",
        help="a name to trust; may be given more than once",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())

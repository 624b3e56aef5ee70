"""The card that lies beside whatever is trained: data, terms, protocol, scores, command."""

import json
import platform
from collections.abc import Mapping, Sequence
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Any

__all__ = ["write_card"]


def write_card(
    folder: Path | str,
    files: Sequence[str],
    *,
    what: str,
    data: str,
    terms: str,
    protocol: str,
    scores: Mapping[str, Any],
    command: str,
    recipe: Any,
    packages: Sequence[str],
) -> Path:
    """Write ``card.json`` beside files that were trained.

    Parameters
    ----------
    folder : str or path
        Holds the files.
    files : list of str
        Their names.
    what : str
        What they are.
    data, terms : str
        What they were trained on, and what that allows.
    protocol : str
        How the scores were obtained.
    scores : dict
        What they are worth.
    command : str
        What trains them again.
    recipe : dict
        How they were trained.
    packages : list of str
        Packages on which the outcome depends.

    Returns
    -------
    path : Path
        Of the card.
    """
    folder = Path(folder)
    contents = {name: (folder / name).read_bytes() for name in files}
    card = {
        "what": what,
        "data": data,
        "terms": terms,
        "protocol": protocol,
        "scores": scores,
        "command": command,
        "recipe": recipe,
        "bytes": {name: len(content) for name, content in contents.items()},
        "sha256": {name: sha256(content).hexdigest() for name, content in contents.items()},
        "versions": {
            "python": platform.python_version(),
            **{name: version(name) for name in packages},
        },
    }
    path = folder / "card.json"
    path.write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8")
    return path

"""The JSON: sections by name, each with its own date, machine and versions."""

import json
import os
from pathlib import Path

SCHEMA = 1


def read(path):
    """Return the stored results, or an empty structure if there is no file."""
    path = Path(path)
    return json.loads(path.read_text()) if path.exists() else {"schema": SCHEMA, "sections": {}}


def merge(path, piece, note=None):
    """Add new sections to the file. Results for other numbers of threads are kept."""
    found = read(path)
    for name, section in piece.items():
        threads = {contest["case"]["threads"] for contest in section["contests"]}
        before = found["sections"].get(name)
        if before is not None and before["settings"] == section["settings"]:
            kept = [c for c in before["contests"] if c["case"]["threads"] not in threads]
            section["contests"] = kept + section["contests"]
            section["took"] += before["took"] * bool(kept)
        section["contests"].sort(key=lambda c: -c["case"]["threads"])
        found["sections"][name] = section | ({"note": note} if note else {})
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_suffix(".new")
    new.write_text(json.dumps(found, indent=1) + "\n")
    os.replace(new, path)

"""Read a file of JSON, without what it takes to write one safely (`run_folder`, which imports torch)."""

import json
from pathlib import Path
from typing import Any


def read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))

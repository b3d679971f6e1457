"""README.md as an index page shows it: relative links and pictures lead to the repository."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface


class AbsoluteLinks(MetadataHookInterface):
    def update(self, metadata: dict[str, Any]) -> None:
        """Fill in `readme`, which pyproject.toml calls dynamic."""
        text = Path(self.root, "README.md").read_text(encoding="utf-8")
        source = metadata["urls"]["Source"]
        text = re.sub(r"\]\((?!https?:|#)", f"]({source}/blob/main/", text)
        text = re.sub(r'(src|srcset)="(?!https?:)', rf'\1="{source}/raw/main/', text)
        metadata["readme"] = {"content-type": "text/markdown", "text": text}

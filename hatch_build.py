"""The package's metadata that depends on where the project lives: its addresses, and the links of README on PyPI."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

#: Where the project lives, such as "https://forge.example/owner/name"; the only place that says so. Empty until it is
#: known: README then reads without links to files, and the package names no address.
ADDRESS = ""

#: A link or picture of README: optional "!", its text, its target, which is no address and no anchor.
TO_A_FILE = re.compile(r"(!?)\[([^\]]*)\]\((?!https?://|#)([^)]+)\)")


class ReleaseMetadata(MetadataHookInterface):
    PLUGIN_NAME = "custom"

    def update(self, metadata: dict[str, Any]) -> None:
        text = (Path(self.root) / "README.md").read_text(encoding="utf-8")
        metadata["readme"] = {"content-type": "text/markdown", "text": with_addresses(text, ADDRESS)}
        if ADDRESS:
            metadata["urls"] = {
                "Source": ADDRESS,
                "Documentation": f"{ADDRESS}/blob/main/docs/index.md",
                "Changelog": f"{ADDRESS}/blob/main/CHANGELOG.md",
                "Issues": f"{ADDRESS}/issues",
            }


def with_addresses(text: str, address: str) -> str:
    """Return README as PyPI shows it: links to files lead to the address, or are plain text where there is none."""

    def replace(link: re.Match[str]) -> str:
        picture, words, target = link.groups()
        if address:
            return f"{picture}[{words}]({address}/{'raw' if picture else 'blob'}/main/{target})"
        return "" if picture else words

    return TO_A_FILE.sub(replace, text)

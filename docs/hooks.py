"""A page that is a file of the root, whose links lead out of docs/: what mkdocs makes of it."""

from pathlib import Path
from typing import Any

MARK = "--8<-- "


def on_page_markdown(markdown: str, config: Any, **_others: Any) -> str:
    """The text of a page; of one that only names a file of the root, that file's text.

    In such a file a link to "docs/labelling.md" is right, here it is "labelling.md".
    """
    if not markdown.startswith(MARK):
        return markdown
    name = markdown.removeprefix(MARK).strip().strip('"')
    text = (Path(config.config_file_path).parent / name).read_text(encoding="utf-8")
    return text.replace("](docs/", "](")

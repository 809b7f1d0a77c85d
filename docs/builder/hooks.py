"""What MkDocs calls when it builds the site: it adds the pages that are made, and mends links out of `docs/`."""

import posixpath
import re
import sys
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[2]
SOURCES = ROOT / "workflow_scripts"
sys.path[:0] = [str(SOURCES), str(ROOT / "docs")]

from builder import commands, items, library, notebooks  # noqa: E402

COPIED = {
    "reference/settings.md": "config/README.md",
    "contributing.md": "CONTRIBUTING.md",
    "changelog.md": "CHANGELOG.md",
}
"""Pages that are files of the project, by address."""
ATTACHED = (
    "config/config.yaml",
    "config/models.tsv",
    "config/editors.tsv",
    "config/datasets.tsv",
    "config/published.csv",
    "config/facts/country_language.yaml",
    "docs/tutorial.ipynb",
)
"""Files that pages link to; they stand in the site below `files/`."""
ELSEWHERE = (
    {path: address for address, path in COPIED.items()}
    | {path: f"files/{path}" for path in ATTACHED}
    | {
        "docs/tutorial.ipynb": "tutorial.md",
        "workflow_scripts/knowcirc": "reference/library/index.md",
        "workflow_scripts/knowcirc/commands": "reference/commands/index.md",
        "workflow_scripts/knowcirc/items/figures.py": "reference/results/figures.md",
        "workflow_scripts/knowcirc/items/tables.py": "reference/results/tables.md",
    }
)
"""Where what lies in the project stands in the site; every module has a page besides (`in_site`)."""
PICTURES = "results/reference"


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Put the pages of commands and of the library into the navigation."""
    place(config.nav, {"Commands": commands.navigation(), "Library": library.navigation(SOURCES / "knowcirc")})
    return config


def place(entries: list, found: dict[str, list]) -> None:
    """Replace the lists of the navigation that have a name in `found`."""
    for entry in entries:
        if isinstance(entry, dict):
            for title, below in entry.items():
                if title in found:
                    entry[title] = found[title]
                elif isinstance(below, list):
                    place(below, found)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are made, the notebooks with their pictures, and the files that pages link to."""
    together = ROOT / PICTURES / "all"
    found = sorted((ROOT / PICTURES).rglob("*.png"))
    pictures = {("all_" if path.is_relative_to(together) else "") + path.stem: path for path in found}
    addresses = {name: f"pictures/{name}.png" for name in pictures}
    made = {
        **{address: (ROOT / path).read_text("utf-8") for address, path in COPIED.items()},
        **commands.pages(),
        **items.pages(ROOT / "rules/captions", addresses),
        **library.pages(SOURCES / "knowcirc"),
    }
    for notebook in sorted((ROOT / "docs").glob("*.ipynb")):
        made[f"{notebook.stem}.md"], shown = notebooks.page(notebook)
        for name, content in shown.items():
            files.append(File.generated(config, name, content=content))
    for address, text in made.items():
        files.append(File.generated(config, address, content=text))
    for name, path in pictures.items():
        files.append(File.generated(config, f"{items.FOLDER}/{addresses[name]}", abs_src_path=str(path)))
    for path in ATTACHED:
        files.append(File.generated(config, f"files/{path}", abs_src_path=str(ROOT / path)))
    return files


MODULE = re.compile(r"workflow_scripts/knowcirc/((\w+)/\w+)\.py")


def in_site(path: str) -> str | None:
    """The address of a file or folder of the project, where the site has a page of it or the file itself."""
    module = MODULE.fullmatch(path)
    if path in ELSEWHERE or module is None:
        return ELSEWHERE.get(path)
    return f"reference/{'' if module[2] == 'commands' else 'library/'}{module[1]}.md"


LINK = re.compile(r"(?<=\]\()(?!https?:|#)([^)#\s]+)")


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Lead links to files of the project, which hold on a repository's pages, to where these are in the site."""
    own = page.file.src_uri
    origin = {"reference/settings.md": "config/README.md"}.get(own, own if own in COPIED else f"docs/{own}")

    def led(found: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(posixpath.dirname(origin), found[1]))
        address = in_site(target)
        if address is None:
            if own in COPIED and target.startswith("docs/"):  # a link of a file in the root to a page
                return posixpath.relpath(target.removeprefix("docs/"), posixpath.dirname(own) or ".")
            return found[1]
        if address == own and target in ATTACHED:  # a notebook's page leads to the notebook
            address = f"files/{target}"
        return posixpath.relpath(address, posixpath.dirname(own) or ".")

    return LINK.sub(led, markdown)


LOADED = re.compile(r"<(?:script|img|iframe|source)\b[^>]*\bsrc=[\"']?(?:https?:)?//[^>]*>")
STYLED = re.compile(
    r"<link\b(?=[^>]*\brel=[\"']?(?:stylesheet|preload|preconnect|icon))[^>]*\bhref=[\"']?(?:https?:)?//[^>]*>"
)


def on_post_page(output: str, page: Page, config: MkDocsConfig) -> str:
    """Make sure that a page can be read without asking another host for scripts, styles, fonts or pictures.

    Raises:
        PluginError: if it cannot.
    """
    if found := LOADED.search(output) or STYLED.search(output):
        raise PluginError(f"{page.file.src_uri} loads from another host: {found[0]}")
    return output

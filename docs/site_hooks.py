"""What the documentation site has besides the files of docs/: README as its home, the files beside README, the examples
that pages link to, and a list of the decisions. Links between them are those that work in a checkout.
"""

import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]
BESIDE = ("CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md")
LINK = re.compile(r"(\]\(|src=\")(?!https?:|#)([^)\"]+)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the files that are not in docs/."""
    decisions = sorted((ROOT / "docs" / "decisions").glob("[0-9]*.md"))
    listed = [f"- [{path.read_text().splitlines()[0].removeprefix('# ')}]({path.name})" for path in decisions]
    texts = {"index.md": (ROOT / "README.md").read_text(), "decisions/index.md": "# Decisions\n\n" + "\n".join(listed)}
    texts |= {name: (ROOT / name).read_text() for name in BESIDE}
    for name, text in texts.items():
        files.append(File.generated(config, name, content=text))
    for path in (ROOT / "examples").glob("**/*"):
        if path.is_file() and "__pycache__" not in path.parts:
            files.append(File.generated(config, path.relative_to(ROOT).as_posix(), abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turns links of a checkout into those of the site."""
    outside = page.file.src_uri in ("index.md", *BESIDE)

    def turned(match: re.Match[str]) -> str:
        start, target = match.groups()
        if outside:
            target = "decisions/index.md" if target == "docs/decisions/" else target.removeprefix("docs/")
            target = {"LICENSE": "index.md", "README.md": "index.md"}.get(target, target)
        return start + target.replace("../examples/", "examples/")

    return LINK.sub(turned, markdown)

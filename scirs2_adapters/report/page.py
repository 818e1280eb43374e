"""The page: HTML that needs nothing beside itself. Figures are in it as data."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from html import escape
from string import Template

from .section import Section

PAGE = Template("""\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>scirs2 on this machine</title>
<style>
body { font: 16px/1.5 system-ui, sans-serif; color: #1c2430; max-width: 64rem; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; font-size: 0.875rem; margin: 1rem 0; }
th, td { padding: 0.2rem 0.8rem 0.2rem 0; border-bottom: 1px solid #dfe5ec; text-align: left; }
.number { text-align: right; }
.wide { overflow-x: auto; }
img { max-width: 100%; height: auto; display: block; margin: 1rem 0; }
pre { background: #f4f6f9; padding: 0.8rem; overflow-x: auto; font-size: 0.8125rem; }
.missing { border-left: 4px solid #8fa3b5; padding-left: 0.8rem; }
.failed { border-left: 4px solid #d6572b; padding-left: 0.8rem; }
</style>
</head>
<body>
<h1>scirs2 on this machine</h1>
<p>$written. What else ran on the machine at the time is in these numbers, too.</p>
<nav><ul>
$contents
</ul></nav>
$sections
<h2 id="machine">The machine</h2>
$facts
</body>
</html>
""")


def page(sections: Sequence[Section], pictures: Mapping[str, bytes], facts: Mapping[str, str], written: str) -> str:
    """The whole text. `pictures` are PNG files by the names of the figures."""
    names = [*((s.name, s.title) for s in sections), ("machine", "The machine")]
    return PAGE.substitute(
        written=escape(written),
        contents="\n".join(f'<li><a href="#{name}">{escape(title)}</a></li>' for name, title in names),
        sections="\n".join(_section(section, pictures) for section in sections),
        facts=_table(("", ""), list(facts.items())),
    )


def _section(section: Section, pictures: Mapping[str, bytes]) -> str:
    parts = [f'<h2 id="{section.name}">{escape(section.title)}</h2>', f"<p>{escape(section.text)}</p>"]
    parts += [f'<p class="missing">Left out. {escape(sentence)}</p>' for sentence in section.left_out]
    parts += [f'<p class="failed">Failed. {escape(sentence)}</p>' for sentence in section.failed]
    parts += [_picture(pictures[name], text) for name, (_, text) in section.figures.items()]
    parts += [_table(section.head, section.rows)] if section.rows else []
    for name, program in section.programs.items():
        parts.append(f"<details><summary>{escape(name)}</summary><pre>{escape(program)}</pre></details>")
    return "\n".join(parts)


def _picture(picture: bytes, text: str) -> str:
    return f'<img alt="{escape(text)}" src="data:image/png;base64,{base64.b64encode(picture).decode()}">'


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table; columns of numbers are aligned on the right."""
    numbers = [all(map(_is_number, column)) for column in zip(*rows, strict=True)]
    lines = [_row("th", head, numbers)] if any(head) else []
    lines += [_row("td", row, numbers) for row in rows]
    return '<div class="wide"><table>\n' + "\n".join(lines) + "\n</table></div>"


def _is_number(cell: str) -> bool:
    """Whether a cell is a number, a percentage or the dash of what was not measured."""
    return cell == "-" or cell.replace(",", "").removesuffix("%").replace(".", "", 1).replace("e-", "").isdigit()


def _row(tag: str, cells: Sequence[str], numbers: Sequence[bool]) -> str:
    kinds = [' class="number"' if number else "" for number in numbers]
    return "<tr>" + "".join(f"<{tag}{k}>{escape(c)}</{tag}>" for k, c in zip(kinds, cells, strict=True)) + "</tr>"

"""A page of text, tables and figures, as Markdown and as one HTML file that needs nothing beside it."""

import base64
import html
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

STYLE = """
body { font: 15px/1.55 system-ui, sans-serif; color: #1d232a; max-width: 920px; margin: 2.5rem auto; padding: 0 1.2rem }
h1 { font-size: 1.55rem; line-height: 1.25; margin-bottom: .4rem } h2 { font-size: 1.12rem; margin: 2.2rem 0 .5rem }
table { border-collapse: collapse; margin: .8rem 0; font-size: .87rem; font-variant-numeric: tabular-nums }
th, td { text-align: right; padding: .26rem .75rem; border-bottom: 1px solid #e4e7eb; white-space: nowrap }
th { color: #5b6672; font-weight: 600 } th:first-child, td:first-child { text-align: left; padding-left: 0 }
.scroll { overflow-x: auto } img { width: 100%; height: auto; margin: .3rem 0 } p { max-width: 74ch }
code { font: .92em ui-monospace, monospace; background: #f2f4f6; padding: .05em .3em; border-radius: 3px }
details { margin: .5rem 0 } summary { cursor: pointer; color: #3b4754 }
"""


class Heading(NamedTuple):
    text: str


class Text(NamedTuple):
    """A paragraph; `code` is set as such."""

    text: str


class Grid(NamedTuple):
    """A table of text; with a summary it is folded away where that can be done."""

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    summary: str = ""


class Picture(NamedTuple):
    """NAME.png and NAME.svg beside the page, and what they show."""

    name: str
    shows: str


Block = Heading | Text | Grid | Picture


def markdown(title: str, blocks: Sequence[Block]) -> str:
    """The page in Markdown; figures are links to the PNG files beside it."""
    parts = [f"# {title}"]
    for block in blocks:
        match block:
            case Heading(text):
                parts.append(f"## {text}")
            case Text(text):
                parts.append(text)
            case Picture(name, shows):
                parts.append(f"![{shows}]({name}.png)")
            case Grid(columns, rows, summary):
                lines = [columns, ["---", *["---:"] * (len(columns) - 1)], *rows]
                table = "\n".join(
                    f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines
                )
                folded = f"<details><summary>{summary}</summary>\n\n{table}\n\n</details>"
                parts.append(folded if summary else table)
    return "\n\n".join(parts) + "\n"


def html_page(title: str, blocks: Sequence[Block], folder: Path) -> str:
    """The page in HTML with style and figures inside it; `folder` holds the SVG files."""
    parts = []
    for block in blocks:
        match block:
            case Heading(text):
                parts.append(f"<h2>{marked(text)}</h2>")
            case Text(text):
                parts.append(f"<p>{marked(text)}</p>")
            case Picture(name, shows):
                data = base64.b64encode((folder / f"{name}.svg").read_bytes()).decode()
                parts.append(f'<img alt="{html.escape(shows)}" src="data:image/svg+xml;base64,{data}">')
            case Grid(columns, rows, summary):
                table = f'<div class="scroll">{html_table(columns, rows)}</div>'
                parts.append(f"<details><summary>{marked(summary)}</summary>{table}</details>" if summary else table)
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{html.escape(title)}</title><style>{STYLE}</style></head>\n<body>\n"
        f"<h1>{marked(title)}</h1>\n" + "\n".join(parts) + "\n</body>\n</html>\n"
    )


def html_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    head = "".join(f"<th>{marked(cell)}</th>" for cell in columns)
    body = "".join(f"<tr>{''.join(f'<td>{marked(cell)}</td>' for cell in row)}</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def marked(text: str) -> str:
    """Text for HTML: `code`, **strong** and *emphasis* set as such."""
    escaped = re.sub(r"\*\*([^*]+)\*\*", r"<strong>\1</strong>", html.escape(text))
    escaped = re.sub(r"`([^`]+)`", r"<code>\1</code>", escaped)
    return re.sub(r"(?<![\w*])\*([^*\s][^*]*)\*(?!\w)", r"<em>\1</em>", escaped)

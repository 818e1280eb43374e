"""What the API pages make of docstrings: examples become blocks of code. mkdocs.yml names this file."""

import re

import griffe

#: The lines of an example: from a prompt to the next empty line.
EXAMPLE = re.compile(r"^( *)(>>> .*(?:\n *\S.*)*)", re.MULTILINE)


class Examples(griffe.Extension):
    """Fences the examples of every docstring."""

    def on_object(self, *, obj: griffe.Object, loader: griffe.GriffeLoader, **unused: object) -> None:
        if obj.docstring:
            obj.docstring.value = EXAMPLE.sub(r"\n\1```pycon\n\1\2\n\1```", obj.docstring.value)

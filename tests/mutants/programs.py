"""Tells a mutant that broke a guarantee from one that broke the program. Pure.

A change that calls a function with an argument too many is "killed" by whatever test comes that way first: the
TypeError shows that the line was run and proves nothing of the guarantee. Such a mutant has to be written anew.
"""

import re
from collections.abc import Iterable
from typing import Final

__all__ = ["does_not_compile", "signs_of_no_program"]

_COLOUR: Final = re.compile(r"\x1b\[[0-9;]*m")
_MARGIN: Final = r"^[E|\s]*"
"""What stands before an exception: pytest's E, the bars of a group."""

_PYTHON: Final = re.compile(
    _MARGIN
    + r"""(
    (?:NameError|UnboundLocalError|ImportError|ModuleNotFoundError|SyntaxError|IndentationError|TabError):\ .*
    | TypeError:\ .*(?:
        takes\ .*\barguments?\b
        | missing\ (?:\d+\ )?required\b
        | unexpected\ keyword\ argument
        | invalid\ keyword\ argument
        | multiple\ values\ for
        | extra\ positional\ arguments
        | expected\ (?:at\ most\ |at\ least\ |exactly\ )?\d+\ (?:positional\ )?arguments?\b
      ).*
    | AttributeError:\ (?:partially\ initialized\ )?module\ '(?:tidings|tidings_client|tests)\b.*
    )$""",
    re.MULTILINE | re.VERBOSE | re.IGNORECASE,
)
_ATTRIBUTE: Final = re.compile(
    _MARGIN + r"(AttributeError: (?:type object )?'(\w+)'(?: object)? has no attribute .*)$", re.MULTILINE
)
_CLASS: Final = re.compile(r"^\s*class (\w+)", re.MULTILINE)

# The client hands on what its own code throws as the text of an error, so these stand anywhere.
_JAVASCRIPT: Final = re.compile(
    r"""(
    \bReferenceError\b.*
    | \bSyntaxError\b(?!.*\bJSON\b)(?:\ \[.*?\])?:\ .*
    | [\w.$#]+\ is\ not\ (?:defined|a\ function|a\ constructor)\b.*
    | Assignment\ to\ constant\ variable.*
    | \bERR_MODULE_NOT_FOUND\b.*
    )$""",
    re.MULTILINE | re.VERBOSE,
)


def does_not_compile(file: str, source: str) -> str:
    """Why this text of a Python file is none; "" if it is one, or another kind of file."""
    if not file.endswith(".py"):
        return ""
    try:
        compile(source, file, "exec", dont_inherit=True)
    except SyntaxError as error:
        return f"line {error.lineno}: {error.msg}"
    return ""


def signs_of_no_program(output: str, file: str, source: str) -> list[str]:
    """The lines by which a failed test tells that what it ran is no program.

    These are exceptions of Python or JavaScript about names, imports, syntax and the number of arguments, wherever they
    were caught or logged; about an attribute only if a module of ours lacks it, or an object of a class of the changed
    file. That None has no such attribute is not among them: None may well be the broken answer.

    Args:
        output: All that the test printed, also what it captured.
        file: The one that was changed.
        source: Its text with the change.
    """
    text = _COLOUR.sub("", output).replace("\\n", "\n")  # a log in JSON has the lines of a traceback in one
    if file.endswith(".js"):
        return _unique(match[0].strip() for match in _JAVASCRIPT.finditer(text))
    ours = set(_CLASS.findall(source))
    lines = [match[1] for match in _PYTHON.finditer(text)]
    lines += [match[1] for match in _ATTRIBUTE.finditer(text) if match[2] in ours]
    return _unique(lines)


def _unique(lines: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(lines))

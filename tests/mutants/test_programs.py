"""A mutant that is no program is told from one that broke a guarantee."""

import pytest

from tests.mutants.programs import does_not_compile, signs_of_no_program

SOURCE = "class Router:\n    pass\n"


@pytest.mark.parametrize(
    "line",
    [
        "TypeError: Window.append() takes 5 positional arguments but 6 were given",
        "TypeError: append() takes exactly one argument (2 given)",
        "TypeError: Router.__init__() missing 1 required positional argument: 'window'",
        "TypeError: Missing required argument 'x'",
        "TypeError: send() got an unexpected keyword argument 'now'",
        "TypeError: f() got multiple values for argument 'a'",
        "TypeError: range expected at least 1 argument, got 0",
        "NameError: name 'positon' is not defined",
        "UnboundLocalError: cannot access local variable 'end' where it is not associated with a value",
        "ModuleNotFoundError: No module named 'tidings.gatway'",
        "ImportError: cannot import name 'Windw' from 'tidings.gateway.window'",
        "SyntaxError: invalid syntax",
        "AttributeError: module 'tidings.gateway.native' has no attribute 'drian'",
        "AttributeError: 'Router' object has no attribute '_windw'",
    ],
)
def test_what_says_that_it_is_none(line: str) -> None:
    shown = f"    def test_x():\n>       route()\nE       {line}\n\ncode.py:7: Error\n"
    in_a_log = (
        f"ERROR    asyncio:base.py:1 Task exception was never retrieved\nTraceback (most recent call last):\n{line}\n"
    )
    in_json = '{"event": "failed", "exception": "Traceback (most recent call last):\\n  …\\n' + line + '"}'
    in_a_group = f"  +-+---------------- 1 ----------------\n    | Traceback (most recent call last):\n    | {line}\n"
    for output in (shown, in_a_log, in_a_group, f"\x1b[31mE   {line}\x1b[0m"):
        assert signs_of_no_program(output, "code.py", SOURCE) == [line], output
    assert len(signs_of_no_program(in_json, "code.py", SOURCE)) == 1


@pytest.mark.parametrize(
    "line",
    [
        "AssertionError: assert ['first', 'again'] == ['first']",
        "TimeoutError",
        "TypeError: 'NoneType' object is not iterable",
        "TypeError: argument of type 'NoneType' is not iterable",
        "TypeError: unsupported operand type(s) for +: 'int' and 'str'",
        "AttributeError: 'NoneType' object has no attribute 'cursor'",
        "AttributeError: 'Event' object has no attribute 'cursor'",
        "KeyError: 'NameError: no'",
        "Failed: DID NOT RAISE <class 'TypeError'>",
    ],
)
def test_what_may_well_be_a_broken_guarantee(line: str) -> None:
    assert signs_of_no_program(f"E       {line}\n", "code.py", SOURCE) == []


@pytest.mark.parametrize(
    ("line", "sign"),
    [
        ("  ReferenceError [Error]: cursr is not defined", "ReferenceError [Error]: cursr is not defined"),
        ("  + 'intake.welcom is not a function'", "intake.welcom is not a function"),
        ("SyntaxError: Unexpected token ')'", "SyntaxError: Unexpected token ')'"),
        ("TypeError: Assignment to constant variable.", "Assignment to constant variable."),
        ("  code: 'ERR_MODULE_NOT_FOUND'", "ERR_MODULE_NOT_FOUND"),
    ],
)
def test_the_same_of_javascript(line: str, sign: str) -> None:
    (found,) = signs_of_no_program(f"{line}\n", "code.js", "")
    assert found.startswith(sign)


@pytest.mark.parametrize(
    "line",
    [
        "  AssertionError [ERR_ASSERTION]: Expected values to be strictly deep-equal:",
        """SyntaxError: Expected property name or '}' in JSON at position 1""",
        "TypeError: Cannot read properties of undefined (reading 'at')",
    ],
)
def test_and_what_is_none_of_it(line: str) -> None:
    assert signs_of_no_program(f"{line}\n", "code.js", "") == []


def test_a_text_that_is_no_python_is_known_without_running_it() -> None:
    assert does_not_compile("code.py", "def f(:\n") == "line 1: invalid syntax"
    assert does_not_compile("code.py", SOURCE) == ""
    assert does_not_compile("code.js", "const a = 1;") == ""

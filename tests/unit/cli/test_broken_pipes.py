"""A pipe that broke: our output, which is no fault, or something else."""

import subprocess
import sys

SCRIPT = """
import click
from tidings.cli import main

@click.command()
@click.option("--own", is_flag=True)
def breaks(own):
    if own:
        raise BrokenPipeError(32, "Broken pipe")
    while True:
        click.echo("x" * 1_000)

main._Lazy.get_command = lambda *_: breaks
main.cli()
"""


def test_a_command_whose_output_nobody_reads_any_more_ends_in_silence() -> None:
    process = subprocess.Popen([sys.executable, "-c", SCRIPT, "breaks"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.read(10) == b"x" * 10
    process.stdout.close()
    assert process.stderr is not None
    assert (process.wait(30), process.stderr.read()) == (0, b"")
    process.stderr.close()


def test_a_pipe_of_the_commands_own_that_breaks_is_an_error() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT, "breaks", "--own"], capture_output=True, check=False)
    assert done.returncode == 1
    assert b"a connection broke" in done.stderr

"""The command line: the verbs of `verbs/` put together, and what becomes of their errors.

Exit status: 0 complete, 1 finished with missing answers, 2 wrong usage or bad input (one line on
stderr, no traceback).
"""

import os
import sys
from typing import Annotated, Any

import typer
import typer.core

from mmneedle import __version__
from mmneedle.errors import UserError
from mmneedle.verbs import (
    cross,
    data,
    figures,
    leaderboard,
    passkey,
    reader,
    run,
    score,
    statistics,
    sweep,
    text,
    viewer,
)


class _Verbs(typer.core.TyperGroup):
    """Lists the verbs by what they are for, each with all of its line."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write a section for each part of the work."""
        for title, names in _PARTS.items():
            with formatter.section(title):
                formatter.write_dl(
                    [(name, self.commands[name].get_short_help_str(200)) for name in names]
                )


_PARTS = {
    "Try it": ("demo",),
    "Make a data set": ("fetch", "draw", "build", "build-text", "show"),
    "Ask a model": ("estimate", "run", "passkey", "sweep"),
    "Read its answers": ("score", "effective", "twins", "reader", "findings", "compare"),
    "Make pages and tables": ("report", "text-report", "leaderboard", "figures", "view"),
    "Plan samples, share results": ("plan", "convergence", "submit"),
}

app = typer.Typer(
    name="mmneedle",
    cls=_Verbs,
    help="Needles in long multimodal haystacks: build, run, score, report.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def main() -> None:
    """Run the command line and leave with its exit status."""
    for word in sys.argv[1:]:
        if any("\ud800" <= char <= "\udfff" for char in word):
            _fail(f"{word!a}: holds bytes that are no UTF-8 text")
    try:
        status = app(prog_name="mmneedle", standalone_mode=False)
        sys.stdout.flush()
    except typer.TyperException as error:  # wrong usage
        # Its context knows the verb: "mmneedle build".
        verb = getattr(getattr(error, "ctx", None), "command_path", "mmneedle")
        message = error.format_message()
        if message.startswith("Usage: "):  # a verb was left out: its help, as it is
            print(message, file=sys.stderr)
            sys.exit(2)
        _fail(f"{message.replace('Value error, ', '')} (see {verb} --help)")
    except UserError as error:
        _fail(str(error))
    except (BrokenPipeError, SystemExit) as error:
        # The reader of our output has gone (| head); what it wanted, it has. Typer turns that
        # into a SystemExit.
        if not isinstance(error, BrokenPipeError) and not isinstance(
            error.__context__, BrokenPipeError
        ):
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 0
    except OSError as error:
        _fail(f"{error.filename or 'file system'}: {error.strerror or error}")
    except typer.Abort:
        _fail("stopped")
    sys.exit(status if isinstance(status, int) else 0)


def _fail(message: str) -> None:
    line = " ".join(message.split())
    print(f"mmneedle: {line}", file=sys.stderr)
    sys.exit(2)


@app.callback(invoke_without_command=True)
def _version(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        print(f"mmneedle {__version__}")
        raise typer.Exit


data.add(app)
run.add(app)
score.add(app)
statistics.add(app)
leaderboard.add(app)
reader.add(app)
viewer.add(app)
text.add(app)
passkey.add(app)
figures.add(app)
cross.add(app)
sweep.add(app)

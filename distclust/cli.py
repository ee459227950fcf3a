"""The command line: ``distclust run | plan | validate JOB.yaml`` and ``distclust example``.

Owns arguments, what goes to the screen, and exit codes:

====== =========================================================
0      done
1      an unexpected failure
2      bad configuration: the job file, an option, the output
3      bad input data
4      the cluster, its storage, or a timeout
5      partial result
130    interrupted (SIGINT); 143 by SIGTERM
====== =========================================================

Results go to standard output, progress and the one message of an error to standard error.
"""

from __future__ import annotations

import contextlib
import json
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, NoReturn, cast

import typer
from rich.console import Console

from distclust import __version__
from distclust.errors import ConfigError, DistclustError
from distclust.runner.interrupt import Interrupted

if TYPE_CHECKING:
    from distclust.engine.events import Listener
    from distclust.runner.spec import JobSpec

__all__ = ["app", "main"]

PLAIN_WIDTH = 120  # of tables in a log or a pipe

app = typer.Typer(
    name="distclust",
    help="Cluster Parquet data on this machine, a Ray cluster or a Dask cluster.",
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)

Job = Annotated[Path, typer.Argument(help="Job file (YAML).", show_default=False)]
Overrides = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Override a key of the job: backend.name=ray.",
        show_default=False,
    ),
]
Debug = Annotated[bool, typer.Option("--debug", help="Show tracebacks of errors.")]


def _version(wanted: bool) -> None:
    if wanted:
        _say(f"distclust {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    pass


@app.command()
def run(
    job: Job,
    set_: Overrides = None,
    events: Annotated[
        Path | None, typer.Option(help="Also write every event to this file, as JSON lines.")
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="Show no progress.")] = False,
    debug: Debug = False,
) -> None:
    """Run a job: fit, label every row, write the output."""
    with _reporting(debug) as outcome:
        from distclust.runner.report import report_headline, report_places, report_table
        from distclust.runner.run import run_job

        spec = _load(job, set_)
        outcome.status = spec.output.status
        with _listeners(quiet, events) as listeners:
            report = run_job(spec, listeners)
        _say(report_headline(report))
        _screen().print(report_table(report))
        _say(report_places(report))


@app.command()
def plan(
    job: Job,
    set_: Overrides = None,
    json_: Annotated[bool, typer.Option("--json", help="Print JSON; sizes in bytes.")] = False,
    debug: Debug = False,
) -> None:
    """Show partitions, memory and traffic of a job, without running it."""
    with _reporting(debug):
        from distclust.runner.plan import check_job, make_plan, open_input, plan_view

        spec = _load(job, set_)
        manifest = open_input(spec)
        check_job(spec, manifest)
        planned = make_plan(spec, manifest)
        if json_:
            typer.echo(json.dumps(planned.as_dict(), indent=1))
        else:
            _screen().print(plan_view(planned))


@app.command()
def validate(job: Job, set_: Overrides = None, debug: Debug = False) -> None:
    """Check a job file, its input's footers and its output, without running it."""
    with _reporting(debug):
        from distclust.runner.run import validate_job

        manifest = validate_job(_load(job, set_))
        _say(
            f"{job} is valid: {manifest.n_rows:,} rows in {len(manifest.files)} files, "
            f"{manifest.n_features} features ({manifest.dtype})"
        )


@app.command()
def example(
    name: Annotated[str, typer.Argument(help="pixels, digits, iris or wine.")],
    directory: Annotated[Path, typer.Argument(help="Where to write the Parquet files.")],
    debug: Debug = False,
) -> None:
    """Write a real data set that comes with scikit-learn, as Parquet."""
    with _reporting(debug):
        from distclust.runner.examples import write_example

        files = write_example(name, directory)
        _say(f"wrote {len(files)} Parquet files of {name!r} to {directory}")


def main() -> None:
    """Entry point of the ``distclust`` command."""
    app()


class _Outcome:
    """Where to leave the last word on a job, once its spec is known."""

    status: str | None = None

    def write(self, exit_code: int, message: str) -> None:
        if self.status is None:
            return
        from distclust.runner.status import write_status

        try:
            write_status(self.status, exit_code, message)
        except OSError as error:
            _complain(f"warning: output.status cannot be written: {error}")


@contextlib.contextmanager
def _reporting(debug: bool) -> Iterator[_Outcome]:
    """Turn every way a command can end into one message and an exit code."""
    outcome = _Outcome()
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _warn  # type: ignore[assignment]  # takes any arguments
            yield outcome
    except DistclustError as error:
        _fail(outcome, error, error.exit_code, debug)
    except Interrupted as error:
        _fail(outcome, error, error.exit_code, debug)
    except KeyboardInterrupt as error:
        _fail(outcome, error, 130, debug)
    except Exception as error:
        _fail(outcome, error, DistclustError.exit_code, debug)
    else:
        outcome.write(0, "complete")


def _fail(outcome: _Outcome, error: BaseException, code: int, debug: bool) -> NoReturn:
    from distclust.runner.secrets import scrub

    text = "\n".join([str(error), *getattr(error, "__notes__", ())]).strip()
    if not isinstance(error, DistclustError | Interrupted):
        text = f"{type(error).__name__}: {text}".rstrip(": ")
        if isinstance(error, Exception):
            text = f"unexpected {text}; run again with --debug for the traceback"
    message = scrub(text)
    if debug:
        _complain(scrub(_traceback(error)))
    _complain(f"error: {message}")
    outcome.write(code, message)
    raise typer.Exit(code) from None


def _warn(message: Warning | str, *_place: object) -> None:
    _complain(f"warning: {message}")


def _traceback(error: BaseException) -> str:
    import traceback

    remote = getattr(error, "remote_traceback", "")
    return "".join(traceback.format_exception(error)) + (f"\n{remote}" if remote else "")


def _load(job: Path, overrides: list[str] | None) -> JobSpec:
    from distclust.runner.spec import load_job

    return load_job(job, overrides or ())


@contextlib.contextmanager
def _listeners(quiet: bool, events: Path | None) -> Iterator[list[Listener]]:
    from distclust.engine.events import JsonLines
    from distclust.runner.progress import shown_on

    with contextlib.ExitStack() as stack:
        listeners: list[Listener] = []
        if not quiet:
            listeners.append(stack.enter_context(shown_on(Console(stderr=True))))
        if events is not None:
            try:
                events.parent.mkdir(parents=True, exist_ok=True)
                stream = stack.enter_context(events.open("w", encoding="utf-8"))
            except OSError as error:
                raise ConfigError(f"--events: {error}") from error
            listeners.append(JsonLines(cast("IO[str]", _Scrubbed(stream))))
        yield listeners


class _Scrubbed:
    """A text stream that no secret passes."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream

    def write(self, text: str) -> None:
        from distclust.runner.secrets import scrub

        self._stream.write(scrub(text))

    def flush(self) -> None:
        self._stream.flush()


def _screen() -> Console:
    return Console(width=None if sys.stdout.isatty() else PLAIN_WIDTH)


def _say(text: str) -> None:
    _screen().print(text, markup=False, highlight=False, soft_wrap=True)


def _complain(text: str) -> None:
    Console(stderr=True).print(text, markup=False, highlight=False, soft_wrap=True)

"""The command line that both backends share: `python -m pyro_dgm fit vae`,
`python -m numpyro_dgm fit vae`.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from dgm_core.cli.arguments import UsageError, build_parser, read_arguments
from dgm_core.cli.backend import Backend
from dgm_core.cli.running import compare, evaluate, fit, report, sample, show
from dgm_core.data import DataError
from dgm_core.training.checkpoint import CheckpointError

__all__ = ["Backend", "UsageError", "build_parser", "main"]

_COMMANDS = {
    "fit": fit,
    "evaluate": evaluate,
    "sample": sample,
    "compare": compare,
    "report": report,
    "list": show,
}


def main(backend: Backend, argv: Sequence[str] | None = None) -> int:
    """Run a command and return the exit status.

    0 when all went well; 2 with one line on stderr for what the user can put right (flags, data,
    files); 1 with one line when training met numbers that are not finite; 130 after Ctrl-C.
    Anything else is our fault and shows its traceback.

    Args:
        backend: what the command line needs of `pyro_dgm` or `numpyro_dgm`; see `Backend`.
        argv: the words after the program's name; None takes those of this process.
    """
    try:
        arguments = read_arguments(backend.name, sys.argv[1:] if argv is None else argv)
        _COMMANDS[arguments.command](backend, arguments)
    except (UsageError, DataError, CheckpointError, OSError, UnicodeError) as error:
        return _complain(backend.name, error, status=2)
    except (OverflowError, ZeroDivisionError):
        raise
    except ArithmeticError as error:
        return _complain(backend.name, error, status=1)
    except KeyboardInterrupt:
        return _complain(
            backend.name,
            "interrupted; the same command with --resume goes on from the last epoch.",
            status=130,
        )
    except Exception as error:
        if not _is_out_of_memory(error):
            raise
        message = "there is not enough memory for these sizes; take smaller ones"
        return _complain(backend.name, f"{message} ({str(error)[:200]}).", status=2)
    return 0


def _is_out_of_memory(error: Exception) -> bool:
    """Whether an error says so, in the words of Python, numpy, torch or JAX."""
    words = ("allocate memory", "out of memory", "RESOURCE_EXHAUSTED", "Unable to allocate")
    return isinstance(error, MemoryError) or any(word in str(error) for word in words)


def _complain(name: str, message: object, status: int) -> int:
    line = f"{name}: {' '.join(str(message).split())}"
    print(line.encode(errors="backslashreplace").decode(), file=sys.stderr)
    return status

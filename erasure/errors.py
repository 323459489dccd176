"""A user's mistake ends in one clear line and exit code 2, never in a traceback."""

import contextlib
import errno
import sys
from collections.abc import Callable, Iterator
from typing import NoReturn

_OUTSIDE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)  # a full or read-only disk is no bug either
INTERRUPTED = 130  # what a shell reports for a program stopped with Ctrl-C


class UserError(Exception):
    """A mistake that the user can put right; its message is one line that says how."""


@contextlib.contextmanager
def about(file) -> Iterator[None]:
    """A UserError of the block that does not name `file` leaves it with the name in front."""
    try:
        yield
    except UserError as error:
        raise UserError(str(error) if str(file) in str(error) else f"{file}: {error}") from None


def run(main: Callable[[], int | None]) -> NoReturn:
    """Call a script's `main` and leave the process with the exit code that fits.

    0 or what `main` returned; 2 after a `UserError`, a file that is missing, in the way, of the wrong kind or forbidden,
    or a full disk; 130 after Ctrl-C.
    """
    try:
        code = main() or 0
    except UserError as error:
        code = _complain(str(error))
    except OSError as error:
        kinds = (FileNotFoundError, FileExistsError, IsADirectoryError, NotADirectoryError, PermissionError)
        if not isinstance(error, kinds) and error.errno not in _OUTSIDE:
            raise
        code = _complain(f"{error.strerror}: {error.filename}" if error.filename else str(error))
    except KeyboardInterrupt:
        print("\nstopped; the same command goes on from here", file=sys.stderr)
        code = INTERRUPTED
    sys.exit(code)


def stopped(kept: bool) -> int:
    """Say what a run that was interrupted left, and how it goes on; returns its exit code."""
    print(f"stopped: {'add --resume to the same command to go on' if kept else 'nothing saved'}", file=sys.stderr)
    return INTERRUPTED


def _complain(message: str) -> int:
    print("error: " + " ".join(message.split()), file=sys.stderr)
    return 2

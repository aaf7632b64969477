"""Exceptions that end a command with one sentence: a user's mistake, or a signal."""

import signal


class UserError(Exception):
    """One sentence that names the value and the choices; ends a command with exit code 2."""


class Stopped(Exception):
    """The command stopped cleanly after a signal; ends it with exit code 128 + signal.

    Args:
      number: number of the signal.
      where: where the command stopped, and what the same command does next.
    """

    def __init__(self, number: int, where: str) -> None:
        super().__init__(f"stopped by {signal.Signals(number).name} {where}")
        self.exit_code = 128 + number

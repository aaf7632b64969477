"""The one kind of error that is the user's to mend."""


class UserError(Exception):
    """One sentence that names the value and the choices; ends a command with exit code 2."""

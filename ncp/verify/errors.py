"""What can go wrong, with the exit code it comes to."""

from __future__ import annotations


class VerifyError(Exception):
    """Something could not be done; the text is for people. ``exit_code`` is 2 where what was asked for is at fault."""

    exit_code = 1


class Refused(VerifyError):
    """A file or an option is at fault; the text names the field, its value and what is allowed."""

    exit_code = 2


class NotRealised(VerifyError):
    """The cluster did not come to be as it should in time; the text says what is missing where."""

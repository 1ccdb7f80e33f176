"""What makes an interpreter one that is not copied."""

from __future__ import annotations


class Unfit(Exception):
    """This interpreter, or this machine, has something that is not understood: it is booted in each sandbox then."""

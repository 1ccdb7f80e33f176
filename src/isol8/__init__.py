"""isol8 runs code nobody should trust, each time in a sandbox nobody used before."""

__version__ = "0.1.0"

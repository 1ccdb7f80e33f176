"""Copies of an interpreter that has booted: see theory in `script.py`."""

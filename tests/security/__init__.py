"""Attacks on the native engine through the real HTTP server: what hostile programs and callers try, and what stops it.

`containment.py` holds the checks that `test_meta.py` repeats on servers that lack one layer, where they must fail.
"""

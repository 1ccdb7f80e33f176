"""Thin, typed bindings to the Linux kernel. The only place where ctypes is used.

Standard library only, and no `typing`, `dataclasses` or `enum` in the modules the zygote loads: every page
a zygote holds is copied into, or faulted in by, every sandbox forked from it.
"""

"""Packages on a real server: from the real registries, and from indexes that the tests make."""

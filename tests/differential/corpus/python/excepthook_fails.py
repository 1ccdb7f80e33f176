import sys


def hook(kind, value, tb):
    raise TypeError("the hook fails too")


sys.excepthook = hook
{}["missing"]

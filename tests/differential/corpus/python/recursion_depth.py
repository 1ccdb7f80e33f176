import sys


def count(n):
    global deepest
    deepest = n
    count(n + 1)


try:
    count(0)
except RecursionError as error:
    print(deepest, error)


def even(n):
    return odd(n - 1)


def odd(n):
    return even(n - 1)


sys.setrecursionlimit(120)
try:
    repr(eval("[" * 90 + "]" * 90))
    even(0)
except RecursionError:
    import traceback

    traceback.print_exc()
class Deep:
    def __repr__(self):
        return repr(self)


sys.setrecursionlimit(5000)
repr(Deep())

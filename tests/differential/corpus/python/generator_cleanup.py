import sys


def generator():
    try:
        yield 1
    finally:
        print("closed", sys.is_finalizing())


g = generator()
next(g)


class Manager:
    def __enter__(self):
        return self

    def __exit__(self, kind, value, tb):
        print("exit with", kind)


with Manager():
    raise SystemExit(2)

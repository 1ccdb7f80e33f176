import sys


def fail(kind):
    raise kind("one of several")


errors = []
for kind in (ValueError, TypeError, OSError):
    try:
        fail(kind)
    except Exception as caught:
        errors.append(caught)
sys.stderr.flush()
raise ExceptionGroup("several", [errors[0], ExceptionGroup("nested", errors[1:])])

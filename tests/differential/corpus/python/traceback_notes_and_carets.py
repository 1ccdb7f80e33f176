error = ValueError("with notes")
error.add_note("first note")
error.add_note("second\nnote")


def f(x):
    return (x.a.b
            .c)


try:
    f(type("T", (), {"a": None})())
except AttributeError as cause:
    raise error from cause

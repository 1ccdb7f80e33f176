def outer(n):
    return inner(n) + 1


def inner(n):
    values = {"a": 1}
    return values["b"] / n


print("before")
outer(0)

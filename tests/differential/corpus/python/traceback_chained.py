class Broken(Exception):
    def __str__(self):
        return "broken: " + " ".join(map(str, self.args))


def first():
    try:
        int("x")
    except ValueError as error:
        raise Broken(1, 2) from error


try:
    first()
except Broken:
    raise RuntimeError("while dealing with it")

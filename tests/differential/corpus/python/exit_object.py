import sys


class Thing:
    def __repr__(self):
        return "repr of it"

    def __str__(self):
        return "text of it"


sys.exit(Thing())

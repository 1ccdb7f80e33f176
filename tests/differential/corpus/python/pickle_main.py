import pickle
import subprocess
import sys
from collections import namedtuple

Pair = namedtuple("Pair", "a b")


class Thing:
    def __init__(self, n):
        self.n = n

    def __eq__(self, other):
        return self.n == other.n


def function():
    return "function"


if __name__ == "__main__":
    data = pickle.dumps([Thing(1), Pair(1, 2), function, Thing])
    print(b"__main__" in data, pickle.loads(data)[0] == Thing(1), pickle.loads(data)[2]() , pickle.loads(data)[1:])
    open("data", "wb").write(data)
    done = subprocess.run([sys.executable, "-c", "import pickle; pickle.load(open('data', 'rb'))"], capture_output=True, text=True)
    print(done.stderr.splitlines()[-1])
    pickle.dumps(lambda: 0)

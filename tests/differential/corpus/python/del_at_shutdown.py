import sys


class Resource:
    def __init__(self, name):
        self.name = name
        self.itself = self if name == "cycle" else None

    def __del__(self):
        print("del", self.name, sys is not None, __name__)


a = Resource("global a")
b = Resource("global b")
_c = Resource("private")
cycle = Resource("cycle")
del cycle
sys.kept = Resource("kept by sys")
Resource("at once")
print("end of file")

import code
import pdb
import sys
import timeit

pdb.set_trace()
value = 42
print(value)

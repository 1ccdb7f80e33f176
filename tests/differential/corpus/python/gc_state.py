import gc
import sys

print("garbage found at start:", gc.collect())

print(gc.isenabled(), gc.get_threshold(), gc.get_debug(), gc.callbacks, gc.get_freeze_count(), gc.garbage)
print(sys.getallocatedblocks() > 0)


class Node:
    pass


node = Node()
node.me = node
del node
print(gc.collect() >= 1)
import tracemalloc

print(tracemalloc.is_tracing())

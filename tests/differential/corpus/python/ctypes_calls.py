import ctypes
import ctypes.util

libc = ctypes.CDLL(None)
libc.strlen.argtypes = [ctypes.c_char_p]
print(libc.strlen(b"four"), ctypes.util.find_library("c"), ctypes.sizeof(ctypes.c_long))


@ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_int), ctypes.POINTER(ctypes.c_int))
def compare(a, b):
    return a[0] - b[0]


values = (ctypes.c_int * 5)(5, 3, 1, 4, 2)
libc.qsort(values, 5, ctypes.sizeof(ctypes.c_int), compare)
print(list(values))
libc.printf(b"through the buffer of C\n")
print("Python's")

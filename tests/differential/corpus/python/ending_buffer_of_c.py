import ctypes

ctypes.CDLL(None).printf(b"in the buffer of the C library\n")
print("end of file")

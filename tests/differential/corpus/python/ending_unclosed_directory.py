import os
import warnings

warnings.simplefilter("always")
entries = os.scandir("/")
next(entries)
print("end of file")

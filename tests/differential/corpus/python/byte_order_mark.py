print("byte order mark")
import sys
print(open(__file__, "rb").read(3))

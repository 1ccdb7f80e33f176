import sys

print(sys.flags, sys.warnoptions, sys.path[1])
import warnings

warnings.warn("becomes an error")

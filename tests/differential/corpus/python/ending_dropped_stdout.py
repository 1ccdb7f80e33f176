import os
import sys

sys.stdout.write("first, ")
sys.stdout = sys.__stdout__ = None
os.write(1, b"then this\n")

import sys

print(sys.stdin.isatty(), sys.stdin.encoding, sys.stdin.errors, sys.stdin.name, sys.stdin.mode)
print(repr(sys.stdin.read()))
print(repr(sys.stdin.buffer.read()))
input("? ")

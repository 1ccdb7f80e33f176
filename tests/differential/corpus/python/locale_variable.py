import locale
import sys

print(sys.stdout.encoding, sys.flags.utf8_mode, locale.setlocale(locale.LC_ALL, ""), sys.stdin.errors)
print("\xe9")

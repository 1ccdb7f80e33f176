import locale
import sys
import unicodedata

print("ünïcödé", "日本語", "🙂", "e\u0301", "\u202eabc")
print(sys.stdout.encoding, sys.stdout.errors, sys.stderr.encoding, sys.stderr.errors)
print(sys.getfilesystemencoding(), sys.getfilesystemencodeerrors(), sys.getdefaultencoding(), sys.flags.utf8_mode)
print(locale.getpreferredencoding(False), locale.setlocale(locale.LC_ALL), locale.getlocale(), locale.getencoding())
print(unicodedata.name("🙂"), "ß".upper(), "İ".lower().encode())
open("naïve-файл", "w").write("x")
print(sorted(__import__("os").listdir(".")))
print("\ud800")

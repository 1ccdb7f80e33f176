import subprocess
import sys

if len(sys.argv) > 1:
    print("child", sys.argv[1:], sys.path[0], __name__)
    raise SystemExit(3)
print(subprocess.run([sys.executable, __file__, "a b", "c"], capture_output=True, text=True))
print(subprocess.run([sys.executable, "-m", "main", "x"], capture_output=True, text=True))
print(subprocess.run([sys.executable, "-c", "import sys; print(sys.flags)"], capture_output=True, text=True))

import sys

for number in range(12000):
    print(number, "x" * 20)
    if number % 4 == 0:
        print("err", number, file=sys.stderr)
sys.stdout.write("é" * 100_000)

import multiprocessing
import sys

print("module level", __name__, flush=True)


def work(number):
    if number == 2:
        raise ValueError("in a child")
    return number, __name__, sys.argv, sys.flags.no_site


if __name__ == "__main__":
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        print(pool.map(work, [0, 1]))
        pool.apply(work, (2,))

import os
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool


def square(n):
    return n * n


def die(_):
    os._exit(3)


if __name__ == "__main__":
    with ProcessPoolExecutor(max_workers=2) as pool:
        print(list(pool.map(square, range(5))))
    with ProcessPoolExecutor(max_workers=1) as pool:
        try:
            pool.submit(die, 0).result()
        except BrokenProcessPool as error:
            print(error)

import ctypes
import multiprocessing
from multiprocessing import shared_memory


def add(counter, name):
    block = shared_memory.SharedMemory(name=name)
    with counter.get_lock():
        counter.value += 1
        block.buf[counter.value] = counter.value
    block.close()


if __name__ == "__main__":
    counter = multiprocessing.Value(ctypes.c_int, 0)
    block = shared_memory.SharedMemory(create=True, size=16)
    processes = [multiprocessing.Process(target=add, args=(counter, block.name)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    print(counter.value, bytes(block.buf[:5]))
    block.close()
    block.unlink()

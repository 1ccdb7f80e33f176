import multiprocessing
import os


def work(queue, number):
    queue.put((number, __name__, multiprocessing.current_process().name, os.getppid() == PARENT))


PARENT = os.getpid()
if __name__ == "__main__":
    print(multiprocessing.get_start_method(), multiprocessing.current_process(), multiprocessing.parent_process())
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    processes = [context.Process(target=work, args=(queue, n)) for n in range(3)]
    for process in processes:
        process.start()
    print(sorted(queue.get() for _ in processes))
    for process in processes:
        process.join()
        print(process.name, process.exitcode)

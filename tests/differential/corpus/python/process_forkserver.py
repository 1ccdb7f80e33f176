import multiprocessing

print("module level", __name__, flush=True)


class Value:
    def __init__(self, n):
        self.n = n


def work(value, connection):
    connection.send((type(value).__module__, value.n, multiprocessing.get_start_method()))
    connection.close()


if __name__ == "__main__":
    multiprocessing.set_start_method("forkserver")
    mine, theirs = multiprocessing.Pipe()
    process = multiprocessing.Process(target=work, args=(Value(5), theirs))
    process.start()
    print(mine.recv())
    process.join()
    print(process.exitcode)

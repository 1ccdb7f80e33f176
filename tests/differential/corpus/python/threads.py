import threading

results = {}
local = threading.local()
barrier = threading.Barrier(4)


def work(number):
    local.value = number
    barrier.wait()
    results[number] = local.value * threading.current_thread().daemon + number


threads = [threading.Thread(target=work, args=(n,), name=f"worker-{n}") for n in range(4)]
print(threading.current_thread(), threading.active_count(), threading.main_thread() is threading.current_thread())
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(sorted(results.items()), threading.active_count())
print(threading.Thread(target=print).name, threading.get_ident() == threading.main_thread().ident)
print(threading.get_native_id() == __import__("os").getpid())

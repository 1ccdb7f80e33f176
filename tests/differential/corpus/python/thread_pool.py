from concurrent.futures import ThreadPoolExecutor, as_completed

with ThreadPoolExecutor(max_workers=3) as pool:
    print(list(pool.map(lambda n: n * n, range(10))))
    futures = [pool.submit(divmod, 7, n) for n in (0, 2)]
    print(sorted(repr(f.exception() or f.result()) for f in as_completed(futures)))

import asyncio
import contextvars

variable = contextvars.ContextVar("variable", default="unset")


async def work(number):
    variable.set(number)
    await asyncio.sleep(0.01 * number)
    if number == 3:
        raise RuntimeError("three")
    return number, variable.get()


async def main():
    print(type(asyncio.get_running_loop()).__name__, asyncio.current_task().get_name())
    print(await asyncio.gather(*(work(n) for n in range(5)), return_exceptions=True))
    process = await asyncio.create_subprocess_exec("echo", "from child", stdout=asyncio.subprocess.PIPE)
    print(await process.communicate(), process.returncode)
    server = await asyncio.start_server(lambda r, w: (w.write(b"served"), w.close()), "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    print(await reader.read())
    writer.close()
    server.close()
    async with asyncio.TaskGroup() as group:
        group.create_task(work(3))


print(variable.get())
asyncio.run(main())

import asyncio


async def never():
    await asyncio.Future()


async def fails():
    raise ValueError("nobody retrieves this")


async def main():
    fails()
    task = asyncio.ensure_future(fails())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    del task
    asyncio.ensure_future(never())


asyncio.run(main())
print("ended")

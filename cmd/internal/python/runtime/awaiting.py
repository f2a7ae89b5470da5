# Awaits what a function has returned, for a request that calls a function.

from . import own


def awaited(v):
    asyncio = own("asyncio")

    async def wait():
        return await v

    loop = v.get_loop() if asyncio.isfuture(v) else None  # a future can only be awaited where it belongs
    if loop is None or loop.is_closed():
        return asyncio.run(wait())
    return loop.run_until_complete(v)

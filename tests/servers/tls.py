"""Ends TLS before a platform, as a proxy does, and passes every byte on.

Arguments: certificate file, key file, the port to pass on to. Prints its own.
"""

import asyncio
import ssl
import sys

CERTIFICATE, KEY, INSIDE = sys.argv[1:]


async def pass_on(reader, writer):
    try:
        inside_reader, inside_writer = await asyncio.open_connection("127.0.0.1", INSIDE)
    except OSError:
        writer.close()
        return
    await asyncio.gather(pump(reader, inside_writer), pump(inside_reader, writer))


async def pump(reader, writer):
    """One way; its end, or a broken connection, ends the other side."""
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    except OSError:
        pass
    finally:
        writer.close()


async def main():
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTIFICATE, KEY)
    server = await asyncio.start_server(pass_on, "127.0.0.1", 0, ssl=context)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


asyncio.run(main())

# pip install "mcp>=2"
import asyncio
import webbrowser
from urllib.parse import parse_qsl, urlsplit

from mcp import Client
from mcp.client.auth import AuthorizationCodeResult, OAuthClientProvider
from mcp.client.sse import sse_client
from mcp.shared.auth import OAuthClientMetadata

URL = "https://project.example/mcp"


class Memory:
    """Keeps what it is given for as long as the program runs; keep it in a file to sign in once."""

    tokens = client = None

    async def get_tokens(self):
        return self.tokens

    async def set_tokens(self, tokens):
        self.tokens = tokens

    async def get_client_info(self):
        return self.client

    async def set_client_info(self, client_info):
        self.client = client_info


async def main():
    answer = asyncio.get_running_loop().create_future()

    async def signed_in(reader, writer):
        target = (await reader.readline()).split()[1].decode()
        writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nYou can close this page.")
        writer.close()
        if urlsplit(target).path == "/callback" and not answer.done():
            answer.set_result(dict(parse_qsl(urlsplit(target).query)))

    async def open_browser(url):
        print("Sign in at", url)
        webbrowser.open(url)

    async def callback():
        query = await answer
        if "code" not in query:
            raise SystemExit(query.get("error_description", query))
        return AuthorizationCodeResult(**{name: query.get(name) for name in ("code", "state", "iss")})

    listener = await asyncio.start_server(signed_in, "127.0.0.1", 0)
    port = listener.sockets[0].getsockname()[1]
    auth = OAuthClientProvider(
        server_url=URL,
        client_metadata=OAuthClientMetadata(
            client_name="My program", redirect_uris=[f"http://127.0.0.1:{port}/callback"]
        ),
        storage=Memory(),
        redirect_handler=open_browser,
        callback_handler=callback,
    )
    async with listener:
        async with Client(sse_client(URL, auth=auth)) as client:
            for tool in (await client.list_tools()).tools:
                print(tool.name)


asyncio.run(main())

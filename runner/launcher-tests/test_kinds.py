"""Every kind of server answers initialize, tools/list and a call at /mcp and /mcp/, with the real packages."""

import unittest

from support import Project

FASTMCP = """
    from fastmcp import FastMCP
    mcp = FastMCP("greeter")

    @mcp.tool
    def greet(name: str) -> str:
        return f"Hello, {name}!"
"""
SDK1 = FASTMCP.replace("from fastmcp", "from mcp.server.fastmcp").replace("@mcp.tool", "@mcp.tool()")
SDK2 = SDK1.replace("fastmcp import FastMCP", "mcpserver import MCPServer").replace("FastMCP(", "MCPServer(")
LOWLEVEL1 = """
    import mcp.types as types
    from mcp.server.lowlevel import Server
    server = Server("greeter")

    @server.list_tools()
    async def list_tools():
        return [types.Tool(name="greet", inputSchema={"type": "object"})]

    @server.call_tool()
    async def call_tool(name, arguments):
        return [types.TextContent(type="text", text=f"Hello, {arguments['name']}!")]
"""
LOWLEVEL2 = """
    import mcp_types as types
    from mcp.server.lowlevel import Server

    async def list_tools(context, params):
        return types.ListToolsResult(tools=[types.Tool(name="greet", input_schema={"type": "object"})])

    async def call_tool(context, params):
        text = f"Hello, {params.arguments['name']}!"
        return types.CallToolResult(content=[types.TextContent(type="text", text=text)])

    server = Server("greeter", on_list_tools=list_tools, on_call_tool=call_tool)
"""
MOUNTED = """
    from starlette.applications import Starlette
    from starlette.routing import Mount
    sub = mcp.http_app(path=%r)
    web = Starlette(routes=[Mount(%r, app=sub)], lifespan=sub.lifespan)
"""
BARE = """
    async def application(scope, receive, send):
        if scope["type"] != "http":
            raise RuntimeError("no lifespan here")
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]})
        await send({"type": "http.response.body", "body": b'{"jsonrpc":"2.0","id":1,"result":{}}'})
"""


class Kinds(Project):
    def check(self, package, code, kind, entrypoint=""):
        self.write_file("main.py", code)
        instance, line = self.serve(package, entrypoint)
        self.assertEqual(line["kind"], kind)
        self.assertEqual(line["port"], instance.port)
        self.assertEqual(instance.tools("/mcp"), ["greet"])
        self.assertEqual(instance.tools("/mcp/"), ["greet"])
        self.assertEqual(instance.call("greet", name="you"), "Hello, you!")
        self.assertEqual(instance.stop(), 0, instance.log())
        return instance, line

    def test_fastmcp_2(self):
        instance, _ = self.check("fastmcp==2.14.7", FASTMCP, "fastmcp")
        prepared = instance.phase("prepare")
        self.assertEqual(prepared["packages"], {"fastmcp": "2.14.7", "mcp": "1.30.0"})
        self.assertEqual(prepared["skipped"], {})

    def test_fastmcp_3(self):
        self.check("fastmcp==3.4.10", FASTMCP, "fastmcp")

    def test_fastmcp_4(self):
        self.check("fastmcp==4.1.2", FASTMCP, "fastmcp")

    def test_sdk_1(self):
        instance, _ = self.check("mcp==1.30.0", SDK1, "sdk1")
        self.assertEqual(instance.phase("prepare")["skipped"], {})

    def test_sdk_1_beside_fastmcp_3(self):
        self.check("fastmcp==3.4.10", SDK1, "sdk1")

    def test_sdk_2(self):
        instance, _ = self.check("mcp==2.3.0", SDK2, "sdk2")
        self.assertEqual(instance.phase("prepare")["skipped"], {})

    def test_sdk_2_beside_fastmcp_4(self):
        self.check("fastmcp==4.1.2", SDK2, "sdk2")

    def test_low_level_1(self):
        self.check("mcp==1.30.0", LOWLEVEL1, "lowlevel")

    def test_low_level_2(self):
        self.check("mcp==2.3.0", LOWLEVEL2, "lowlevel")

    def test_web_application_with_the_server_at_its_usual_place(self):
        code = FASTMCP + MOUNTED % ("/mcp", "/")
        _, line = self.check("fastmcp==4.1.2", code, "asgi", "main.py:web")
        self.assertIsNone(line["notice"])

    def test_web_application_mounted_at_mcp(self):
        self.check("fastmcp==3.4.10", FASTMCP + MOUNTED % ("/", "/mcp"), "asgi", "main.py:web")

    def test_web_application_with_a_doubled_path(self):
        code = FASTMCP + MOUNTED % ("/mcp", "/mcp")
        _, line = self.check("fastmcp==2.14.7", code, "asgi", "main.py:web")
        self.assertIn("/mcp/mcp", line["notice"])

    def test_bare_asgi_function(self):
        self.write_file("main.py", BARE)
        instance, line = self.serve("mcp==1.30.0", "main.py:application")
        self.assertEqual(line["kind"], "asgi")
        status, _, _ = instance.post({"jsonrpc": "2.0", "id": 1, "method": "ping"})
        self.assertEqual(status, 200)

    def test_modern_protocol_needs_no_handshake(self):
        self.write_file("main.py", FASTMCP)
        instance, _ = self.serve("fastmcp==4.1.2")
        meta = {
            "io.modelcontextprotocol/protocolVersion": "2026-07-28",
            "io.modelcontextprotocol/clientCapabilities": {},
        }
        request = {"jsonrpc": "2.0", "id": 1, "method": "server/discover", "params": {"_meta": meta}}
        status, _, answer = instance.post(
            request, headers={"MCP-Protocol-Version": "2026-07-28", "Mcp-Method": "server/discover"}
        )
        self.assertEqual(status, 200)
        self.assertIn("2026-07-28", answer["result"]["supportedVersions"])


if __name__ == "__main__":
    unittest.main()

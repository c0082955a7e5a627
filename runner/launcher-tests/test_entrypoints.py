"""How an entrypoint is found, imported and looked up: what serves."""

import json
import unittest

from support import Project

# The cheapest environment to start; what is tested here does not depend on the kind of server.
PACKAGE = "mcp==2.3.0"
SERVER = """
    from mcp.server.mcpserver import MCPServer
    {name} = MCPServer("named")

    @{name}.tool()
    def where() -> str:
        return __name__
"""
FACTORY = """
    from mcp.server.mcpserver import MCPServer

    {define} create():
        made = MCPServer("made")

        @made.tool()
        def hello() -> str:
            return "hello"

        return made
"""


class Entrypoints(Project):
    def test_default_file_and_object(self):
        self.write_file("server.py", SERVER.format(name="mcp"))
        instance, line = self.serve(PACKAGE)
        self.assertEqual((line["object"], line["file"], line["notice"]), ("mcp", "server.py", None))
        # Its own name, so that other modules that import it get the same server; never __main__.
        self.assertEqual(instance.call("where"), "server")

    def test_main_is_preferred_to_server(self):
        self.write(main_py=SERVER.format(name="app"), server_py="raise RuntimeError")
        self.assertEqual(self.serve(PACKAGE)[1]["object"], "app")

    def test_only_file_of_the_project(self):
        self.write(weather_py=SERVER.format(name="mcp"), test_weather_py="raise RuntimeError")
        self.assertEqual(self.serve(PACKAGE)[1]["file"], "weather.py")

    def test_unusual_name_is_served_with_a_notice(self):
        self.write(main_py=SERVER.format(name="weather"))
        _, line = self.serve(PACKAGE)
        self.assertEqual(line["object"], "weather")
        self.assertIn("weather", line["notice"])

    def test_named_object(self):
        self.write(main_py=SERVER.format(name="one") + SERVER.format(name="mcp"))
        self.assertEqual(self.serve(PACKAGE, "main.py:one")[1]["object"], "one")

    def test_attribute_of_an_object(self):
        self.write(main_py=SERVER.format(name="mcp") + "\n    class Holder:\n        inner = mcp\n")
        self.assertEqual(self.serve(PACKAGE, "main.py:Holder.inner")[1]["object"], "Holder.inner")

    def test_factory(self):
        self.write(main_py=FACTORY.format(define="def"))
        instance, line = self.serve(PACKAGE, "main.py:create")
        self.assertEqual(instance.phase("factory")["object"], "create")
        self.assertEqual((line["kind"], instance.tools()), ("sdk2", ["hello"]))

    def test_async_factory_shares_the_loop_of_the_server(self):
        code = FACTORY.format(define="async def") + """
    import asyncio
    original = create

    async def create():
        made, loop = await original(), asyncio.get_running_loop()

        @made.tool()
        async def same_loop() -> str:
            return str(asyncio.get_running_loop() is loop)

        return made
"""
        self.write(main_py=code)
        instance, _ = self.serve(PACKAGE, "main.py:create")
        self.assertEqual(instance.call("same_loop"), "True")

    def test_factory_may_run_a_loop_of_its_own(self):
        code = FACTORY.format(define="async def") + "\n    import asyncio\n    def build():\n        return asyncio.run(create())\n"
        self.write(main_py=code)
        self.assertEqual(self.serve(PACKAGE, "main.py:build")[0].tools(), ["hello"])

    def test_loop_at_import(self):
        self.write(main_py="import asyncio\nasyncio.run(asyncio.sleep(0))\n" + _flat(SERVER.format(name="mcp")))
        self.serve(PACKAGE)

    def test_src_layout_and_relative_imports(self):
        self.write_file("src/weather/__init__.py", "")
        self.write_file("src/weather/tools.py", "GREETING = 'hi'\n")
        self.write_file("src/weather/server.py", "from .tools import GREETING\n" + _flat(SERVER.format(name="mcp")))
        for entrypoint in ("src/weather/server.py", "weather.server:mcp", "src/weather/server.py:mcp"):
            with self.subTest(entrypoint):
                instance, _ = self.serve(PACKAGE, entrypoint)
                self.assertEqual(instance.call("where"), "weather.server")

    def test_sibling_modules_and_circular_imports_share_the_server(self):
        self.write_file("service/tools.py", "from main import mcp\n@mcp.tool()\ndef extra() -> str:\n    return 'x'\n")
        self.write_file("service/main.py", SERVER.format(name="mcp") + "\n    import tools\n")
        instance, _ = self.serve(PACKAGE, "service/main.py")
        self.assertEqual(instance.tools(), ["extra", "where"])

    def test_file_that_bears_a_package_s_name(self):
        self.write(mcp_py=SERVER.format(name="mcp"))
        instance, _ = self.serve(PACKAGE, "mcp.py")
        self.assertEqual(instance.call("where"), "server_module")

    def test_file_beside_the_launcher_does_not_shadow(self):
        code = "import environment\nassert environment.MINE\n" + _flat(SERVER.format(name="mcp"))
        self.write(environment_py="MINE = True", main_py=code)
        self.serve(PACKAGE)

    def test_current_directory_is_the_project(self):
        self.write_file("data/config.json", "{}")
        self.write(main_py="open('data/config.json').close()\n" + _flat(SERVER.format(name="mcp")))
        self.serve(PACKAGE)


class SelfStarting(Project):
    def test_run_at_module_level_is_skipped(self):
        for package, run in (
            (PACKAGE, "mcp.run()"),
            (PACKAGE, "mcp.run(transport='streamable-http')"),
            ("fastmcp==2.14.7", "mcp.run(transport='http', port=1)"),
            ("fastmcp==4.1.2", "import asyncio; asyncio.run(mcp.run_async(transport='http'))"),
        ):
            with self.subTest(package=package, run=run):
                code = _flat(SERVER.format(name="mcp")) + run + "\n"
                if package.startswith("fastmcp"):
                    code = code.replace("mcp.server.mcpserver", "fastmcp").replace("MCPServer", "FastMCP")
                self.write(main_py=code)
                instance, line = self.serve(package)
                self.assertIn("skipped", line["notice"])
                self.assertEqual(instance.tools(), ["where"])

    def test_main_that_runs_a_local_server(self):
        code = FACTORY.format(define="def") + "\n    def main():\n        create().run(transport='streamable-http')\n"
        self.write(main_py=code)
        self.assertEqual(self.serve(PACKAGE, "main.py:main")[0].tools(), ["hello"])

    def test_main_that_runs_a_web_application(self):
        code = FACTORY.format(define="def") + """
    import uvicorn

    def main():
        uvicorn.run(create().streamable_http_app(), port=1)

    async def late():
        await uvicorn.Server(uvicorn.Config(create().streamable_http_app(), port=1)).serve()
"""
        self.write(main_py=code)
        for name in ("main", "late"):
            with self.subTest(name):
                instance, line = self.serve(PACKAGE, "main.py:" + name)
                # The application was made for loopback, whose Host guard would refuse the public host.
                self.assertEqual((line["kind"], instance.tools()), ("asgi", ["hello"]))

    def test_command_line_main_over_standard_input_and_output(self):
        code = """
            import sys, anyio, mcp.types as types
            from mcp.server.lowlevel import Server
            from mcp.server.stdio import stdio_server

            def main():
                app = Server("stdio")

                @app.list_tools()
                async def list_tools():
                    return [types.Tool(name="greet", inputSchema={"type": "object"})]

                @app.call_tool()
                async def call_tool(name, arguments):
                    print("called")
                    return [types.TextContent(type="text", text="hi")]

                async def serve():
                    async with stdio_server() as streams:
                        await app.run(streams[0], streams[1], app.create_initialization_options())

                anyio.run(serve)
                sys.exit(0)
        """
        self.write(main_py=code)
        instance, line = self.serve("mcp==1.30.0", "main.py:main")
        self.assertEqual(line["kind"], "lowlevel")
        # Serving standard output closes it; prints must still reach the log.
        self.assertEqual(instance.call("greet"), "hi")
        instance.stop()
        self.assertIn("called", instance.log())


class Surroundings(Project):
    def test_variables_come_from_the_file_and_cannot_move_the_server(self):
        path = self.app / "variables.json"
        path.write_text(json.dumps({"API_KEY": "k", "PORT": "1", "BERTH_X": "1", "NO_COLOR": "mine"}))
        self.write(main_py="import os\nVALUES = dict(os.environ)\n" + _flat(SERVER.format(name="mcp")) + """
@mcp.tool()
def values() -> str:
    return repr([VALUES.get(name) for name in ("API_KEY", "BERTH_X", "NO_COLOR", "COLUMNS", "BERTH_VARIABLES_FILE")])
""")
        instance, _ = self.serve(PACKAGE, BERTH_VARIABLES_FILE=str(path))
        self.assertEqual(instance.call("values"), "['k', None, 'mine', '200', None]")
        with open(f"/proc/{instance.process.pid}/environ") as environ:
            self.assertNotIn("API_KEY", environ.read())

    def test_deployment_section_of_fastmcp_json(self):
        deployment = {"env": {"GREETING": "hi ${WHO} ${NONE}"}, "cwd": "work", "args": ["--fast"], "port": 1}
        self.write_file("fastmcp.json", json.dumps({"source": {"path": "main.py"}, "deployment": deployment}))
        self.write_file("work/here.txt", "")
        self.write(main_py="import os, sys\nSEEN = (os.environ['GREETING'], os.listdir(), sys.argv[1:])\n"
                   + _flat(SERVER.format(name="mcp")) + "\n@mcp.tool()\ndef seen() -> str:\n    return repr(SEEN)\n")
        instance, _ = self.serve(PACKAGE, "main.py", BERTH_FASTMCP_JSON="fastmcp.json", WHO="you")
        self.assertEqual(instance.call("seen"), "('hi you ${NONE}', ['here.txt'], ['--fast'])")

    def test_unfinished_line_before_a_report(self):
        self.write(main_py="print('half a line', end='')\n" + _flat(SERVER.format(name="mcp")))
        instance, _ = self.serve(PACKAGE)
        self.assertIn("half a line", instance.log())

    def test_exit_hooks_run_after_sigterm(self):
        self.write(main_py="import atexit\natexit.register(print, 'tidied up')\n" + _flat(SERVER.format(name="mcp")))
        instance, _ = self.serve(PACKAGE)
        self.assertEqual(instance.stop(), 0)
        self.assertIn("tidied up", instance.log())


def _flat(code):
    return "\n".join(line[4:] for line in code.splitlines()) + "\n"


if __name__ == "__main__":
    unittest.main()

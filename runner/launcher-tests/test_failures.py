"""Every failure ends in one `fail` line that says where and why."""

import json
import unittest

from support import Project

PACKAGE = "mcp==2.3.0"
SERVER = "from mcp.server.mcpserver import MCPServer\nmcp = MCPServer('x')\n"


class Failures(Project):
    def check(self, expected, entrypoint="", package=PACKAGE, **environment):
        line = self.fail_line(package, entrypoint, **environment)
        self.assertEqual({name: line[name] for name in expected}, expected, line)
        return line

    def test_no_usual_file(self):
        self.write(one_py="", two_py="")
        line = self.check({"step": "entrypoint", "exception": None, "candidates": ["one.py", "two.py"]})
        self.assertIn("main.py nor server.py", line["message"])

    def test_missing_file_names_those_that_are_there(self):
        self.write(app__api_py=SERVER)
        line = self.check({"step": "entrypoint", "exception": None, "candidates": ["app/api.py"]}, "main.py:mcp")
        self.assertIn("'main.py' does not exist", line["message"])

    def test_file_outside_the_project(self):
        self.check({"step": "entrypoint", "exception": None}, "../../etc/passwd.py")

    def test_missing_module(self):
        self.check({"step": "entrypoint", "exception": None}, "nowhere.server:mcp")

    def test_malformed(self):
        for entrypoint in ("main.py:", "a b", "main.py:mcp()", ":mcp", "main.py:1"):
            self.write(main_py=SERVER)
            if entrypoint == "main.py:":
                continue
            with self.subTest(entrypoint):
                self.check({"step": "entrypoint", "exception": None}, entrypoint)

    def test_wrong_name_lists_candidates(self):
        self.write(main_py=SERVER + "other = MCPServer('y')\ndef create_server():\n    return mcp\n")
        line = self.check(
            {"step": "object", "exception": None, "candidates": ["mcp", "other", "create_server"]}, "main.py:serverr"
        )
        self.assertIn("no object named 'serverr'", line["message"])

    def test_no_server_but_a_factory(self):
        self.write(main_py="def create_server():\n    return None\n")
        line = self.check({"step": "object", "exception": None, "candidates": ["create_server"]})
        self.assertIn("main.py:create_server", line["message"])

    def test_server_that_only_a_function_or_the_main_guard_makes(self):
        self.write(main_py="from mcp.server.mcpserver import MCPServer\ndef weather():\n    mcp = MCPServer('x')\n    return mcp\n")
        self.check({"step": "object", "candidates": ["weather"]})
        self.write(main_py="from mcp.server.mcpserver import MCPServer\nif __name__ == '__main__':\n    mcp = MCPServer('x')\n")
        self.assertIn("only under if __name__", self.check({"step": "object", "candidates": []})["message"])

    def test_no_server_at_all(self):
        self.write(main_py="x = 1\n")
        self.assertIn("No server was found in main.py", self.check({"step": "object", "candidates": []})["message"])

    def test_several_unusual_names(self):
        self.write(main_py=SERVER.replace("mcp = ", "one = ") + "two = MCPServer('y')\n")
        self.check({"step": "object", "exception": None, "candidates": ["one", "two"]})

    def test_not_a_server(self):
        self.write(main_py="mcp = {}\nclass Server: pass\n")
        self.assertIn("is a dict", self.check({"step": "object"}, "main.py:mcp")["message"])
        self.assertIn("the class Server", self.check({"step": "object"}, "main.py:Server")["message"])

    def test_missing_module_of_the_code(self):
        self.write(main_py="import helper\n", helper_py="x = 1\nimport not_installed_anywhere\n")
        line = self.check(
            {"step": "import", "exception": "ModuleNotFoundError", "file": "helper.py", "line": 2,
             "code": "import not_installed_anywhere", "missing_variable": None}
        )
        self.assertIn("not_installed_anywhere", line["message"])

    def test_code_for_another_sdk(self):
        self.write(main_py="from mcp.server.fastmcp import FastMCP\n")
        line = self.check({"step": "import", "exception": "ModuleNotFoundError", "file": "main.py", "line": 1})
        self.assertIn("renamed to MCPServer", line["message"])

    def test_syntax_error(self):
        self.write(main_py="import helper\n", helper_py="def f(:\n    pass\n")
        self.check({"step": "import", "exception": "SyntaxError", "file": "helper.py", "line": 1, "code": "def f(:"})

    def test_error_in_a_library_names_the_project_s_line(self):
        self.write(main_py="import json\n\njson.loads('{')\n")
        self.check({"exception": "JSONDecodeError", "file": "main.py", "line": 3, "code": "json.loads('{')"})

    def test_missing_variable(self):
        self.write(main_py="import os\nKEY = os.environ['API_KEY']\n")
        self.check({"exception": "KeyError", "missing_variable": "API_KEY", "file": "main.py", "line": 2})

    def test_missing_variable_behind_another_error(self):
        self.write(main_py="""
            import os
            try:
                os.environ["API_KEY"]
            except KeyError as error:
                raise RuntimeError("no key") from error
        """)
        self.check({"exception": "RuntimeError", "missing_variable": "API_KEY", "line": 6})

    def test_key_of_another_mapping_is_no_variable(self):
        self.write(main_py="{}['API_KEY']\n")
        self.check({"exception": "KeyError", "missing_variable": None})

    def test_missing_settings(self):
        self.write(main_py="""
            from pydantic import Field
            from pydantic_settings import BaseSettings, SettingsConfigDict
            class Settings(BaseSettings):
                model_config = SettingsConfigDict(env_prefix="APP_")
                api_key: str
                token: str = Field(validation_alias="GITHUB_TOKEN")
                optional: int = 1
            Settings()
        """)
        self.check(
            {"exception": "ValidationError", "missing_variables": ["APP_API_KEY", "GITHUB_TOKEN"], "line": 9},
            package="fastmcp==4.1.2",
        )

    def test_exit_at_import(self):
        self.write(main_py="import sys\nsys.exit(3)\n")
        self.check({"step": "import", "exception": "SystemExit", "exit": 3, "line": 2, "code": "sys.exit(3)"})
        self.write(main_py="import sys\nsys.exit('API_KEY is not set')\n")
        self.check({"exception": "SystemExit", "exit": 1, "message": "API_KEY is not set"})

    def test_interrupted_import(self):
        self.write(main_py="raise KeyboardInterrupt\n")
        self.check({"step": "import", "exception": "KeyboardInterrupt", "line": 1})

    def test_failing_factories(self):
        self.write(main_py="""
            def wrong():
                return 1
            def nothing():
                pass
            def argued(name, size=1):
                pass
            def broken():
                return {}["x"]
            async def late():
                raise ValueError("late")
        """)
        self.assertIn("is an int", self.check({"step": "factory", "exception": None}, "main.py:wrong")["message"])
        self.assertIn("returned nothing", self.check({"step": "factory"}, "main.py:nothing")["message"])
        self.assertIn("(name)", self.check({"step": "factory", "exception": None}, "main.py:argued")["message"])
        self.check({"step": "factory", "exception": "KeyError", "line": 9}, "main.py:broken")
        self.check({"step": "factory", "exception": "ValueError", "line": 11}, "main.py:late")

    def test_failing_lifespan(self):
        for package, module, name in (
            ("mcp==2.3.0", "mcp.server.mcpserver", "MCPServer"),
            ("mcp==1.30.0", "mcp.server.fastmcp", "FastMCP"),
            ("fastmcp==2.14.7", "fastmcp", "FastMCP"),
            ("fastmcp==3.4.10", "fastmcp", "FastMCP"),
            ("fastmcp==4.1.2", "fastmcp", "FastMCP"),
        ):
            self.write(main_py=f"""
                from contextlib import asynccontextmanager
                from {module} import {name}
                @asynccontextmanager
                async def lifespan(server):
                    raise ConnectionError("no database")
                    yield
                mcp = {name}("x", lifespan=lifespan)
            """)
            if package == "mcp==1.30.0":
                # The SDK's own lifespan runs with each session, not with the server.
                continue
            with self.subTest(package):
                self.check({"step": "serve", "exception": "ConnectionError", "line": 6}, package=package)

    def test_port_in_use(self):
        self.write(main_py=SERVER)
        first, _ = self.serve(PACKAGE)
        line = self.check({"step": "serve", "exception": None}, PORT=str(first.port))
        self.assertIn(f"Port {first.port} could not be opened", line["message"])

    def test_bad_port(self):
        self.write(main_py=SERVER)
        self.check({"step": "serve", "exception": None}, PORT="eighty")

    def test_unreadable_variables(self):
        self.write(main_py=SERVER)
        self.check({"step": "import", "exception": None}, BERTH_VARIABLES_FILE="/nowhere.json")
        path = self.app / "variables.json"
        for text in ("{hunter2", '["hunter2"]', '{"A": 1}'):
            path.write_text(text)
            line = self.check({"exception": None}, BERTH_VARIABLES_FILE=str(path))
            self.assertNotIn("hunter2", json.dumps(line))

    def test_thread_of_the_project_does_not_hold_up_the_end(self):
        self.write(main_py="import threading\nthreading.Thread(target=threading.Event().wait).start()\n1 / 0\n")
        self.check({"exception": "ZeroDivisionError", "line": 3})

    def test_long_messages_stay_one_line(self):
        self.write(main_py="raise ValueError('x' * 100_000 + '\\n' * 10)\n")
        self.assertEqual(len(self.check({"exception": "ValueError"})["message"]), 2_000)

    def test_closed_output(self):
        self.write(main_py="import sys\nsys.stdout.close()\nsys.stderr.close()\n1 / 0\n")
        self.check({"exception": "ZeroDivisionError", "line": 4})


if __name__ == "__main__":
    unittest.main()

"""An MCP server by the official SDK, for test_agents.py: over standard streams, or over streamable HTTP on a port of
its own choice, which it prints.  mcp_server.py stdio | http | http-json"""
import os
import socket
import sys
import uuid

from mcp.server.mcpserver import MCPServer

server = MCPServer("test")
instance = str(uuid.uuid4())


@server.tool()
def add(a: int, b: int) -> int:
    """Adds two numbers."""
    return a + b


@server.tool()
def long_text(n: int) -> str:
    """A text of n bytes."""
    return "x" * n


@server.tool()
def fail() -> str:
    """Always fails."""
    raise ValueError("it went wrong")


@server.tool()
def who() -> str:
    """The process and what it was told."""
    return f"{instance} {os.environ.get('GREETING', '')}"


if sys.argv[1] == "stdio":
    server.run("stdio")
else:
    import uvicorn
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", int(sys.argv[2]) if len(sys.argv) > 2 else 0))
    listener.listen()
    print(listener.getsockname()[1], flush=True)
    app = server.streamable_http_app(json_response=sys.argv[1] == "http-json")
    uvicorn.Server(uvicorn.Config(app, log_level="error")).run(sockets=[listener])

"""Turns declared dependencies into an environment at /env. Standard library only; the tools are uv and Python."""

"""Installs a Node project's packages and runs its build script. Standard library only; the tools are Node's own."""

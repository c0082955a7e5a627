"""What `serve.py` (instances) and `environment.py` (builds) are made of. Standard library only, Python 3.10+."""

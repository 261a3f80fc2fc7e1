"""What benchmarks/targets.py is made of."""

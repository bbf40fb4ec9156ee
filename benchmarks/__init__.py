"""Side-by-side measurements, run from a checkout: `python -m benchmarks data`, `model`, ..."""

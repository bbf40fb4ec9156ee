"""Speed and memory benchmarks, run from a checkout: `python -m benchmarks data`, `model`, ..."""

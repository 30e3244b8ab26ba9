"""The statistics: pure functions over tables; `python -m evaluation` is their command."""

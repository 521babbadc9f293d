"""bench: how fast tinyflow is, beside its peers in the same run. `python -m bench --help`."""

"""read_data_sets, as the TensorFlow 1 tutorials import it."""

from tinyflow.datasets import DataSet, Datasets, read_data_sets

__all__ = ["DataSet", "Datasets", "read_data_sets"]

"""Data that comes with tinyflow, or that it knows how to fetch."""

from tinyflow.datasets.mnist import DataSet, Datasets, get_mnist, read_data_sets

__all__ = ["DataSet", "Datasets", "get_mnist", "read_data_sets"]

"""The MNIST tutorial's reader."""

from tinyflow.examples.tutorials.mnist import input_data

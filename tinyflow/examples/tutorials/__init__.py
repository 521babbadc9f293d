"""The tutorials' own modules."""

from tinyflow.examples.tutorials import mnist

"""What tensorflow.examples had."""

from tinyflow.examples import tutorials

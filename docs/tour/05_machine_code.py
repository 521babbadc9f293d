"""Lesson 5: from loops to machine code. Kernels are LLVM text, explicit in their vectors; a program is a list of them."""

from tinyflow.compiler.pipeline import build
from tinyflow.core.dtypes import float32
from tinyflow.ops import elementwise, leaf
from tinyflow.passes import pipeline
from tinyflow.runtime import machine
from tinyflow.runtime.target import current

a, b = leaf.placeholder(float32, (1000,), "a"), leaf.placeholder(float32, (1000,), "b")
made = build(pipeline.run([elementwise.relu(a * b + 3.0)]), {})
(code,) = made.codes
print(f"for {current().name}, {current().vector_bytes} bytes a vector:")
print(code.text)
assembly = machine.assembly(code.text)
body = [line for line in assembly.splitlines() if "mul" in line or "add" in line]
print("some of its instructions:", *body[:6], sep="\n")

# Kernels of one structure are one text, whatever the tensors are called: compiled once, kept on disk.
c, d = leaf.placeholder(float32, (1000,), "c"), leaf.placeholder(float32, (1000,), "d")
again = build(pipeline.run([elementwise.relu(c * d + 3.0)]), {})
assert again.codes[0].text == code.text

"""Control flow in the graph: Switch sends data to one of two sides, the other is dead; Merge passes on whichever is alive."""
import numpy as np

import tinyflow as tf

x = tf.placeholder(tf.float32, [], name="x")
y = tf.placeholder(tf.float32, [], name="y")
z = tf.placeholder(tf.float32, [], name="z")
result = tf.cond(x < y, lambda: tf.add(x, z), lambda: tf.square(y))
dx, dy, dz = tf.gradients(result, [x, y, z])

sess = tf.Session()
for values in ({x: 1.0, y: 2.0, z: 10.0}, {x: 3.0, y: 2.0, z: 10.0}):
    got = sess.run([result, dx, dy, dz], feed_dict=values)
    print({k.op.name: v for k, v in values.items()}, "->", dict(zip(("cond", "dx", "dy", "dz"), map(float, got))))
    taken = values[x] < values[y]
    want = [values[x] + values[z], 1.0, 0.0, 1.0] if taken else [values[y] ** 2, 0.0, 2 * values[y], 0.0]
    assert np.allclose(got, want)

print("made of:", ", ".join(op.name for op in tf.get_default_graph().get_operations() if op.type in ("Switch", "Merge")))

# The side not taken is not computed: its index would be out of range.
table = tf.constant(np.arange(4, dtype=np.float32))
place = tf.placeholder(tf.int32, [], name="place")
safe = tf.cond(place < 4, lambda: tf.gather(table, place), lambda: tf.constant(-1.0))
print("in range:", sess.run(safe, {place: 2}), " out of range:", sess.run(safe, {place: 7}))
assert sess.run(safe, {place: 7}) == -1.0

# What a dead tensor says when it is fetched
inside = []
tf.cond(x < y, lambda: inside.append(tf.add(x, 1.0)) or inside[0], lambda: y)
try:
    sess.run(inside[0], {x: 3.0, y: 2.0})
except Exception as error:
    print(f"{type(error).__name__}: {error}")
else:
    raise AssertionError("a dead tensor was fetched")

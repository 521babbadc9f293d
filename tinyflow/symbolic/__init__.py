"""Define, then run: graphs, sessions, and the names of TensorFlow 1."""

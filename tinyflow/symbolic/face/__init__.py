"""The namespaces of tf, as lists of names: tf.nn, tf.train, tf.layers and so on."""

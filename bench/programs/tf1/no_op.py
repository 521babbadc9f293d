"""A run of nothing."""

import tensorflow.compat.v1 as tf


def make(weights):
    with tf.Graph().as_default():
        nothing = tf.no_op()
        sess = tf.Session()

    def step():
        sess.run(nothing)
        return 0.0

    return step

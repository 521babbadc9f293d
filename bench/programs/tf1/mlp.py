"""A multilayer perceptron under Adam."""

import tensorflow.compat.v1 as tf


def dense(x, weight, bias):
    return tf.matmul(x, tf.Variable(weight.T)) + tf.Variable(bias)


def make(weights):
    with tf.Graph().as_default():
        x = tf.placeholder(tf.float32, [None, 784])
        labels = tf.placeholder(tf.int64, [None])
        h = tf.nn.relu(dense(x, *weights[0:2]))
        h = tf.nn.relu(dense(h, *weights[2:4]))
        logits = dense(h, *weights[4:6])
        loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits))
        # TensorFlow adds epsilon before it corrects for the start, PyTorch after: this is its 1e-8 at the first step
        train = tf.train.AdamOptimizer(1e-3, epsilon=3.2e-10).minimize(loss)
        sess = tf.Session()
        sess.run(tf.global_variables_initializer())
    fetches = [loss, train]

    def step(batch_xs, batch_ys):
        return sess.run(fetches, feed_dict={x: batch_xs, labels: batch_ys})[0]

    return step

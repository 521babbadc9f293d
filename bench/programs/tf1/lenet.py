"""A small convolutional network under Adam. Images and kernels come as PyTorch lays them out."""

import tensorflow.compat.v1 as tf


def conv(x, weight, bias):
    kernel = tf.Variable(weight.transpose(2, 3, 1, 0))
    h = tf.nn.relu(tf.nn.conv2d(x, kernel, strides=[1, 1, 1, 1], padding="SAME") + tf.Variable(bias))
    return tf.nn.max_pool(h, ksize=[1, 2, 2, 1], strides=[1, 2, 2, 1], padding="SAME")


def dense(x, weight, bias):
    return tf.matmul(x, tf.Variable(weight.T)) + tf.Variable(bias)


def make(weights):
    with tf.Graph().as_default():
        x = tf.placeholder(tf.float32, [None, 1, 28, 28])
        labels = tf.placeholder(tf.int64, [None])
        h = conv(tf.reshape(x, [-1, 28, 28, 1]), *weights[0:2])
        h = conv(h, *weights[2:4])
        # PyTorch's rows go channel by channel, these go pixel by pixel
        flat = weights[4].reshape(1024, 64, 7, 7).transpose(0, 2, 3, 1).reshape(1024, 7 * 7 * 64)
        h = tf.nn.relu(dense(tf.reshape(h, [-1, 7 * 7 * 64]), flat, weights[5]))
        logits = dense(h, *weights[6:8])
        loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits))
        # TensorFlow adds epsilon before it corrects for the start, PyTorch after: this is its 1e-8 at the first step
        train = tf.train.AdamOptimizer(1e-3, epsilon=3.2e-10).minimize(loss)
        sess = tf.Session()
        sess.run(tf.global_variables_initializer())
    fetches = [loss, train]

    def step(batch_xs, batch_ys):
        return sess.run(fetches, feed_dict={x: batch_xs, labels: batch_ys})[0]

    return step

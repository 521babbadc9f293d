"""The lecture's program: logistic regression on digits, written in the symbolic style."""
import tinyflow as tf
from tinyflow.datasets import get_mnist
# Create the model
x = tf.placeholder(tf.float32, [None, 784])
W = tf.Variable(tf.zeros([784, 10]))
y = tf.nn.softmax(tf.matmul(x, W))
# Define loss and optimizer
y_ = tf.placeholder(tf.float32, [None, 10])
cross_entropy = tf.reduce_mean(-tf.reduce_sum(y_ * tf.log(y), reduction_indices=[1]))
# Update rule
learning_rate = 0.5
W_grad = tf.gradients(cross_entropy, [W])[0]
train_step = tf.assign(W, W - learning_rate * W_grad)
# Training Loop
sess = tf.Session()
sess.run(tf.initialize_all_variables())
mnist = get_mnist(flatten=True, onehot=True)
for i in range(1000):
    batch_xs, batch_ys = mnist.train.next_batch(100)
    sess.run(train_step, feed_dict={x: batch_xs, y_:batch_ys})

# How well it has learnt, on digits it has not seen: all 10,000 at once, another batch size than in training
correct = tf.equal(tf.argmax(y, 1), tf.argmax(y_, 1))
accuracy = tf.reduce_mean(tf.cast(correct, tf.float32))
score = sess.run(accuracy, feed_dict={x: mnist.test.images, y_: mnist.test.labels})
print(f"accuracy on {mnist.test.num_examples} test digits: {score:.4f}")
assert score >= 0.90

# A probability that underflows does not spoil the loss: log(softmax) is computed as log-softmax, forward and backward
sure = mnist.test.images[:100] * 1e4
loss, gradient = sess.run([cross_entropy, W_grad], feed_dict={x: sure, y_: mnist.test.labels[:100]})
print(f"loss where probabilities underflow: {loss:.1f}, its gradient is finite: {bool(abs(gradient).max() < float('inf'))}")
assert 0 < loss < float("inf") and abs(gradient).max() < float("inf")

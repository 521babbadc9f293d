"""The imperative style: the graph is made on the fly, and differentiated when backward is called."""
import tinyflow.torch as torch
from tinyflow.datasets import get_mnist

# A step of a recurrent network
W_h = torch.randn(20, 20, requires_grad=True)
W_x = torch.randn(20, 10, requires_grad=True)
x = torch.randn(1, 10)
prev_h = torch.randn(1, 20)
i2h = torch.mm(W_x, x.t())
h2h = torch.mm(W_h, prev_h.t())
next_h = (i2h + h2h).tanh()
loss = next_h.sum()
loss.backward()
print("gradients of the recurrent step:", tuple(W_h.grad.shape), tuple(W_x.grad.shape))
slope = 1 - next_h * next_h
assert torch.allclose(W_x.grad, slope @ x, atol=1e-6)
assert torch.allclose(W_h.grad, slope @ prev_h, atol=1e-6)

# A square
x = torch.tensor([3.], requires_grad=True)
y = torch.tensor([2.])
z = x - y
loss = torch.square(z)
loss.backward()
print(x.grad)
assert str(x.grad) == "tensor([2.])"

# The digits
mnist = get_mnist(flatten=True, onehot=True)
W = torch.zeros(784, 10, requires_grad=True)
for i in range(1000):
    batch_xs, batch_ys = mnist.train.next_batch(100)
    y = torch.softmax(torch.from_numpy(batch_xs) @ W, dim=1)
    loss = -(torch.from_numpy(batch_ys) * y.log()).sum(dim=1).mean()
    loss.backward()
    with torch.no_grad():
        W -= 0.5 * W.grad
    W.grad = None

guess = (torch.from_numpy(mnist.test.images) @ W).argmax(dim=1)
truth = torch.from_numpy(mnist.test.labels).argmax(dim=1)
score = (guess == truth).float().mean().item()
print(f"accuracy on {mnist.test.num_examples} test digits: {score:.4f}")
assert score >= 0.90
